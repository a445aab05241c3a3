//! How a peer says who it is, whatever its wire.

use std::fmt;

/// A user name and a password, as the peer gave them. Shown without the password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub name: Option<String>,
    /// The password; empty where none was given.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("name", &self.name).finish_non_exhaustive()
    }
}
