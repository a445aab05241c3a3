//! Who may come in, and what they may do then.
//!
//! Owns the file of users and their passwords ([`users`]), who may do what with which destination
//! ([`access`]), and the one place where that is asked of every request ([`guard`]). Always: what
//! is not allowed reaches the broker as a refusal in its place, so that answers keep their order
//! and a transaction that lacks a part cannot be committed. Leaves to others: how a wire says who
//! it is (`session`), certificates and sockets (`server`).

pub mod access;
mod door;
pub mod guard;
pub mod users;

use std::fmt;
use std::sync::Arc;

pub use door::{Denied, Door, DoorError};

/// Who a connection speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The name of the user.
    pub name: Arc<str>,
    /// What else rights may be given to; the user's name need not be among them.
    pub groups: Arc<[Box<str>]>,
}

impl Principal {
    /// Whether a right given to `grantee` is one of this user: it is the user's name, one of the
    /// groups, or `*`.
    #[must_use]
    pub fn is(&self, grantee: &str) -> bool {
        grantee == "*"
            || grantee == &*self.name
            || self.groups.iter().any(|group| grantee == &**group)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
