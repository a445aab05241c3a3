//! What goes wrong: the exceptions that clients are told, and the ends of connections.

use std::fmt;
use std::time::Duration;

use crate::broker::command::{Refusal, XaError};
use crate::protocol::openwire::{DecodeError, EncodeError, NegotiationError, Throwable};

/// An exception for the client: a class that its side knows, and words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    class: &'static str,
    message: String,
}

const JMS: &str = "javax.jms.JMSException";
const XA: &str = "javax.transaction.xa.XAException";
const ROLLED_BACK: &str = "javax.jms.TransactionRolledBackException";

impl Problem {
    fn new(class: &'static str, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// Something that JMS has no class for.
    pub(super) fn jms(message: impl Into<String>) -> Self {
        Self::new(JMS, message)
    }

    pub(super) fn destination(message: impl Into<String>) -> Self {
        Self::new("javax.jms.InvalidDestinationException", message)
    }

    pub(super) fn no_temporary(message: impl Into<String>) -> Self {
        Self::new("org.apache.activemq.DestinationDoesNotExistException", message)
    }

    pub(super) fn selector(message: impl Into<String>) -> Self {
        Self::new("javax.jms.InvalidSelectorException", message)
    }

    pub(super) fn client_id(message: impl Into<String>) -> Self {
        Self::new("javax.jms.InvalidClientIDException", message)
    }

    /// Somebody may not do what it wants.
    pub(super) fn security(message: impl Into<String>) -> Self {
        Self::new("java.lang.SecurityException", message)
    }

    /// A code of the XA specification. Clients find it at the end of the message.
    pub(super) fn xa(code: XaError) -> Self {
        Self::new(XA, format!("{code} xaErrorCode:{}", code.code()))
    }

    /// The same with a reason.
    pub(super) fn xa_because(code: XaError, because: &str) -> Self {
        Self::new(XA, format!("{code}, because {because} xaErrorCode:{}", code.code()))
    }

    /// A transaction of which a part was refused.
    pub(super) fn rollback_only(because: &str) -> Self {
        let code = XaError::RbRollback.code();
        let what = "COMMIT FAILED: Transaction marked rollback only";
        Self::new(XA, format!("{what}, because {because} xaErrorCode:{code}"))
    }

    /// A transaction was cut short by a failover, and its client begins it anew.
    pub(super) fn rolled_back(because: &str) -> Self {
        let what = "Transaction rolled back after failover";
        Self::new(ROLLED_BACK, format!("{what}, because {because}"))
    }

    /// What the broker says no with.
    pub(super) fn refused(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Xa(code) => Self::xa(*code),
            Refusal::RollbackOnly { because } => Self::rollback_only(&because.to_string()),
            Refusal::BadDestinationName { .. }
            | Refusal::ReservedName
            | Refusal::NoSuchKept { .. } => Self::destination(refusal.to_string()),
            Refusal::NotAllowed { .. } | Refusal::ForOperators => {
                Self::security(refusal.to_string())
            }
            refusal if refusal.is_want_of_room() => {
                Self::new("javax.jms.ResourceAllocationException", refusal.to_string())
            }
            refusal => Self::jms(refusal.to_string()),
        }
    }

    pub(super) fn to_throwable(&self) -> Throwable {
        Throwable::new(self.class, &self.message)
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

/// Why a session has closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client has said goodbye.
    Disconnected,
    /// Something is wrong.
    Fault(Fault),
}

/// What ended a session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Bytes that are no frame.
    #[error("{0}")]
    Decode(DecodeError),
    /// A frame that cannot be written for this peer.
    #[error("{0}")]
    Encode(EncodeError),
    /// There is no format that both speak.
    #[error("{0}")]
    Negotiation(NegotiationError),
    /// The client has not said in time who it is.
    #[error("no connection was begun within {within:?}")]
    ConnectTimeout {
        /// The time it had.
        within: Duration,
    },
    /// The client has said too much before it said who it is.
    #[error("more than {limit} bytes came before the connection was begun")]
    LongGreeting {
        /// Bytes that it may say.
        limit: usize,
    },
    /// Nothing came for too long.
    #[error("the peer was silent for too long")]
    Silent,
    /// A command that may not come now.
    #[error("a command of type {code} came before the connection was begun, or a second time")]
    Unexpected {
        /// The type code.
        code: u8,
    },
    /// The connection was refused.
    #[error("{why}")]
    Refused {
        /// Why.
        why: String,
    },
    /// The client has come back on another connection.
    #[error("its client came back on another connection")]
    Replaced,
    /// The broker has ended.
    #[error("{why}")]
    BrokerGone {
        /// Why.
        why: String,
    },
    /// A message cannot be read.
    #[error("the message {message} cannot be read")]
    Unreadable {
        /// Which.
        message: String,
    },
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("the client disconnected"),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}
