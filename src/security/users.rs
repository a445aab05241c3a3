//! The file of users: a line for each, `NAME:HASH` or `NAME:HASH:GROUP,GROUP`.
//!
//! HASH is an argon2 password hash as text (`$argon2id$...`), or `-` for a user that comes with a
//! certificate alone. Empty lines and those that begin with `#` are kept and mean nothing. Always:
//! a file with one line that is not understood is refused as a whole, by the number of that line.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::limits;
use crate::security::Principal;

/// All users, by name.
#[derive(Clone, Debug, Default)]
pub struct Users(BTreeMap<Arc<str>, User>);

/// One of them.
#[derive(Clone, Debug)]
pub struct User {
    principal: Principal,
    /// `None` where no password opens.
    hash: Option<Box<str>>,
}

/// Why a text is no file of users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct UsersError {
    /// Counts from 1.
    pub line: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

/// Why a name cannot be that of a user or a group.
pub const NAME_RULE: &str = "a name has 1 to 128 bytes, none of them a colon, a comma, a star, \
                             a space or a control character";

/// Whether that can be the name of a user or a group.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, ':' | ',' | '*');
    (1..=limits::USER_NAME_BYTES_MAX).contains(&name.len())
        && name.chars().all(plain)
        && !name.starts_with('#')
}

impl Users {
    /// Reads such a file.
    ///
    /// # Errors
    /// The first line that is not understood, or names a user twice.
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        let mut users = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let wrong = |reason| UsersError { line: index + 1, reason };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let user = User::parse(line).map_err(wrong)?;
            if users.insert(Arc::clone(&user.principal.name), user).is_some() {
                return Err(wrong("this user stands in an earlier line too"));
            }
        }
        Ok(Self(users))
    }

    /// The user of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&User> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.0.values()
    }
}

impl User {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| is_name(name)).ok_or(NAME_RULE)?;
        let hash = fields.next().ok_or("after the name comes a colon and a password hash")?;
        let groups = fields.next().unwrap_or_default();
        if fields.next().is_some() {
            return Err("there are more than three fields");
        }
        let hash = match hash {
            "-" => None,
            hash => Some(checked(hash)?.into()),
        };
        let groups = groups.split(',').filter(|group| !group.is_empty());
        let groups: Vec<Box<str>> = groups.map(Into::into).collect();
        if !groups.iter().all(|group| is_name(group)) {
            return Err(NAME_RULE);
        }
        Ok(Self { principal: Principal { name: name.into(), groups: groups.into() }, hash })
    }

    /// Who that is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Whether a password opens at all.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.hash.is_some()
    }

    /// Whether that is the password. Takes tens of milliseconds, and the memory that the hash says.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        let hash = self.hash.as_deref().and_then(|hash| PasswordHash::new(hash).ok());
        hash.is_some_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
    }
}

/// A hash that can be verified at a bounded cost.
fn checked(hash: &str) -> Result<&str, &'static str> {
    let parsed = PasswordHash::new(hash);
    let parsed = parsed.map_err(|_| {
        "the password hash is not understood: it is made by \
                                     `escrowmq user set`, and begins with $argon2"
    })?;
    let params = Params::try_from(&parsed).map_err(|_| "the password hash is none of argon2")?;
    if Algorithm::try_from(parsed.algorithm.as_str()).is_err() {
        return Err("the password hash is none of argon2");
    }
    // What logins may cost is bounded by this and by how many run at once.
    if params.m_cost() > limits::HASH_KIB_MAX || params.t_cost() > limits::HASH_PASSES_MAX {
        return Err("the password hash takes more than 64 MiB or 10 passes");
    }
    Ok(hash)
}

/// The hash of a password with random salt, with the costs that OWASP recommends: 19 MiB, 2 passes.
///
/// # Errors
/// When the system has no randomness.
pub fn hash(password: &[u8]) -> Result<String, getrandom::Error> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::default());
    let hash = argon2.hash_password_with_salt(password, &salt);
    Ok(hash.expect("the parameters and the salt are in range").to_string())
}

/// The text of a file of users with that user in it; its line is replaced where there is one, and
/// every other line is as it was.
#[must_use]
pub fn with_user(text: &str, name: &str, hash: &str, groups: &[String]) -> String {
    let mut line = format!("{name}:{hash}");
    if !groups.is_empty() {
        let _ = write!(line, ":{}", groups.join(","));
    }
    let mut found = false;
    let mut out = String::new();
    for old in text.lines() {
        let is_it = is_line_of(old, name);
        found |= is_it;
        out.push_str(if is_it { &line } else { old });
        out.push('\n');
    }
    if !found {
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// The text without that user; `None` where there is none of that name.
#[must_use]
pub fn without_user(text: &str, name: &str) -> Option<String> {
    let left: String =
        text.lines().filter(|line| !is_line_of(line, name)).flat_map(|line| [line, "\n"]).collect();
    text.lines().any(|line| is_line_of(line, name)).then_some(left)
}

fn is_line_of(line: &str, name: &str) -> bool {
    line.trim().split_once(':').is_some_and(|(found, _)| found == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_let_in_by_the_password_and_by_no_other() {
        let text = with_user("# ours\n", "ann", &hash(b"s3cret").unwrap(), &["desk".to_owned()]);
        let users = Users::parse(&text).unwrap();
        let ann = users.get("ann").unwrap();
        assert!(ann.verify(b"s3cret"));
        assert!(!ann.verify(b"S3cret") && !ann.verify(b""));
        assert!(ann.principal().is("desk") && ann.principal().is("ann"));
        assert!(ann.principal().is("*") && !ann.principal().is("other"));
        assert!(users.get("bob").is_none());
    }

    #[test]
    fn a_user_without_a_password_is_let_in_by_none() {
        let users = Users::parse("ann:-").unwrap();
        assert!(!users.get("ann").unwrap().verify(b"-"));
        assert!(!users.get("ann").unwrap().verify(b""));
    }

    #[test]
    fn other_lines_stay_as_they_were() {
        let text = "# a\nann:-\n\nbob:-:x\n";
        assert_eq!(with_user(text, "ann", "-", &["g".to_owned()]), "# a\nann:-:g\n\nbob:-:x\n");
        assert_eq!(with_user(text, "cy", "-", &[]), "# a\nann:-\n\nbob:-:x\ncy:-\n");
        assert_eq!(without_user(text, "bob").unwrap(), "# a\nann:-\n\n");
        assert_eq!(without_user(text, "cy"), None);
    }

    #[test]
    fn a_line_that_is_not_understood_is_named_by_its_number() {
        let big = "$argon2id$v=19$m=9000000,t=2,p=1$c2FsdHNhbHRzYWx0$\
                   aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g";
        for (line, part) in [
            ("ann".to_owned(), "a colon"),
            ("ann:plain".to_owned(), "not understood"),
            ("a b:-".to_owned(), "a name has"),
            ("ann:-:x:y".to_owned(), "three fields"),
            ("ann:-:*".to_owned(), "a name has"),
            ("bob:-".to_owned(), "earlier line"),
            (format!("ann:{big}"), "64 MiB"),
        ] {
            let error = Users::parse(&format!("bob:-\n{line}\n")).unwrap_err();
            assert_eq!(error.line, 2);
            assert!(error.to_string().contains(part), "{line}: {error}");
        }
    }
}
