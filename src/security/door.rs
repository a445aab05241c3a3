//! Logins: the file of users, read again when it has changed, and passwords verified a few at a
//! time.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use crate::security::Principal;
use crate::security::users::{self, Users, UsersError};

/// Where connections say who they are.
#[derive(Debug)]
pub struct Door {
    path: PathBuf,
    known: Mutex<Known>,
    /// Verified where there is no such user, so that the time taken does not tell.
    nobody: Users,
}

#[derive(Debug)]
struct Known {
    users: Arc<Users>,
    /// Of the file as it was read last, whether it was understood or not.
    changed: Option<SystemTime>,
}

/// Why somebody is not let in; the peer is told no more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No user name came.
    #[error("this broker wants a user name and a password")]
    NoName,
    /// No such user, or another password.
    #[error("the user name or the password is wrong")]
    Wrong,
}

/// Why the file of users cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// It cannot be read.
    #[error("the file of users {path} cannot be read: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not understood.
    #[error("the file of users {path}, {source}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: UsersError,
    },
    /// The system has no randomness.
    #[error("no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

impl Door {
    /// With the users of that file, which is read again whenever it has changed.
    ///
    /// # Errors
    /// [`DoorError`]: where the file cannot be read or is not understood now.
    pub fn open(path: &Path) -> Result<Self, DoorError> {
        let changed = changed(path);
        let users = Arc::new(read(path)?);
        let nobody = users::with_user("", NOBODY, &users::hash(b"")?, &[]);
        let nobody = Users::parse(&nobody).expect("made here");
        let known = Mutex::new(Known { users, changed });
        Ok(Self { path: path.to_owned(), known, nobody })
    }

    /// Lets somebody in by name and password. Takes tens of milliseconds of a processor: not for a
    /// thread that others wait for.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn login(&self, name: Option<&str>, password: &[u8]) -> Result<Principal, Denied> {
        let name = name.filter(|name| !name.is_empty()).ok_or(Denied::NoName)?;
        // Whatever the file says: a client that was given no password must not find a way in.
        if password.is_empty() {
            return Err(Denied::Wrong);
        }
        let users = self.users();
        match users.get(name).filter(|user| user.has_password()) {
            Some(user) if user.verify(password) => Ok(user.principal().clone()),
            Some(_) => Err(Denied::Wrong),
            None => {
                let _ = self.nobody.get(NOBODY).expect("put there").verify(password);
                Err(Denied::Wrong)
            }
        }
    }

    /// Lets somebody in by the name in a certificate that was verified.
    ///
    /// # Errors
    /// [`Denied::Wrong`]: no user has that name.
    pub fn recognise(&self, name: &str) -> Result<Principal, Denied> {
        let users = self.users();
        users.get(name).map(|user| user.principal().clone()).ok_or(Denied::Wrong)
    }

    /// The users as the file has them now, or as it had them when it was last understood: a mistake
    /// in it must not lock everybody out.
    fn users(&self) -> Arc<Users> {
        let now = changed(&self.path);
        let mut known = self.known.lock().expect("no panic holds it");
        if known.changed != now {
            known.changed = now;
            match read(&self.path) {
                Ok(users) => {
                    tracing::info!(path = %self.path.display(), "users read again");
                    known.users = Arc::new(users);
                }
                Err(error) => tracing::error!(%error, "users stay as they were"),
            }
        }
        Arc::clone(&known.users)
    }
}

const NOBODY: &str = "nobody";

fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

fn read(path: &Path) -> Result<Users, DoorError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| DoorError::Read { path: path.to_owned(), source })?;
    Users::parse(&text).map_err(|source| DoorError::Parse { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_counts_from_the_next_login_and_a_broken_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let put = |text: &str, second: u64| {
            std::fs::write(&path, text).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second);
            std::fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        let line =
            |password: &[u8]| users::with_user("", "ann", &users::hash(password).unwrap(), &[]);
        put(&line(b"one"), 1);
        let door = Door::open(&path).unwrap();
        assert!(door.login(Some("ann"), b"one").is_ok());
        put(&line(b"two"), 2);
        assert_eq!(door.login(Some("ann"), b"one"), Err(Denied::Wrong));
        assert!(door.login(Some("ann"), b"two").is_ok());
        put("nonsense", 3);
        assert!(door.login(Some("ann"), b"two").is_ok());
        assert_eq!(door.login(Some("bob"), b"two"), Err(Denied::Wrong));
        assert_eq!(door.login(None, b"two"), Err(Denied::NoName));
        assert_eq!(door.login(Some(""), b"two"), Err(Denied::NoName));
        assert!(Door::open(&path).unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn an_empty_password_opens_nothing_even_where_the_file_has_the_hash_of_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let line = users::with_user("", "ann", &users::hash(b"").unwrap(), &[]);
        std::fs::write(&path, users::with_user(&line, "cert", "-", &[])).unwrap();
        let door = Door::open(&path).unwrap();
        for name in ["ann", "cert", "bob"] {
            assert_eq!(door.login(Some(name), b""), Err(Denied::Wrong), "{name}");
        }
        assert_eq!(door.login(None, b""), Err(Denied::NoName));
    }
}
