//! What connections are told of durable subscriptions.

use std::sync::Arc;

/// Whose a durable subscription is, and what that calls it.
pub type KeptName = (Arc<str>, Arc<str>);

/// A durable subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptInfo {
    /// Whose it is.
    pub client: Arc<str>,
    /// What that calls it.
    pub name: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
}

/// Some durable subscriptions, in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPage {
    /// Those that the asker may know.
    pub kept: Vec<KeptInfo>,
    /// Where the next page begins, if there is one.
    pub next: Option<KeptName>,
}
