//! What ends a STOMP connection with an ERROR frame, in words for the peer.

use std::time::Duration;

use bytes::BytesMut;

use crate::broker::command::Refusal;
use crate::message::Destination;
use crate::protocol::stomp::{Command, DecodeError, FrameEncoder, Version};
use crate::schedule::PlanError;
use crate::selector::SelectorError;

/// Why a session said ERROR. Its text is the frame's `message` header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes are not STOMP.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Another frame came before CONNECT.
    #[error("the first frame must be CONNECT or STOMP, not {command}")]
    NotConnected {
        /// The frame.
        command: Command,
    },
    /// CONNECT came a second time.
    #[error("the connection is connected already")]
    ConnectedAlready,
    /// None of the client's versions is spoken here.
    #[error(
        "the header accept-version is {offered:?}, but the versions supported are {}",
        Version::ALL
    )]
    NoCommonVersion {
        /// What the client speaks.
        offered: String,
    },
    /// No CONNECT in time.
    #[error("no CONNECT frame came within {within:?}")]
    ConnectTimeout {
        /// The time there was.
        within: Duration,
    },
    /// The client is not let in.
    #[error("{why}")]
    Denied {
        /// Why.
        why: String,
    },
    /// Nobody has decided in time whether to let the client in.
    #[error("the login took longer than {within:?}: connect again later")]
    LoginTimeout {
        /// The time there was.
        within: Duration,
    },
    /// The client's heart-beats stopped.
    #[error("nothing was received for {silence:?}, against the heart-beats agreed")]
    Silent {
        /// For how long nothing came.
        silence: Duration,
    },
    /// A frame that only servers send.
    #[error("{command} is a frame of servers, which a client may not send")]
    ServerFrame {
        /// The frame.
        command: Command,
    },
    /// A header that the frame needs is not there.
    #[error("{command} needs the header {header}")]
    MissingHeader {
        /// The frame.
        command: Command,
        /// The header.
        header: &'static str,
    },
    /// A header's value is not one of its values.
    #[error("the header {header} is {value:?}, but must be {expected}")]
    BadHeader {
        /// The header.
        header: &'static str,
        /// The beginning of its value.
        value: String,
        /// Its values.
        expected: &'static str,
    },
    /// What a SEND says of when its message is to be delivered is nothing.
    #[error("the headers AMQ_SCHEDULED_ say when to deliver the message, but {0}")]
    Schedule(PlanError),
    /// BEGIN with the name of a transaction that has not ended.
    #[error("the header transaction is {name:?}, which has begun already and not ended")]
    TransactionExists {
        /// The name.
        name: String,
    },
    /// No transaction has that name.
    #[error(
        "the header transaction is {name:?}, which names no transaction that this connection has \
         begun and not ended"
    )]
    NoSuchTransaction {
        /// The name.
        name: String,
    },
    /// A header asks for something that cannot be done yet, and to ignore it would do harm.
    #[error("{what} (the header {header}) are not supported yet")]
    Unsupported {
        /// The header.
        header: &'static str,
        /// What it asks for.
        what: &'static str,
    },
    /// SUBSCRIBE as ActiveMQ's browsers do: to ignore that would take what is to be looked at.
    #[error(
        "this broker does not browse over STOMP (the header browser): `escrowmq queue browse` \
         shows a queue, and so does a browser over OpenWire"
    )]
    Browser,
    /// SUBSCRIBE to what only the connection that has made it may read, and STOMP makes none.
    #[error("{destination} is a temporary destination of another connection")]
    Temporary {
        /// The destination.
        destination: Destination,
    },
    /// SUBSCRIBE with a selector that is none.
    #[error("{0} (the header selector)")]
    Selector(#[from] SelectorError),
    /// SUBSCRIBE with the name of a living subscription.
    #[error("the header id is {id:?}, which names a subscription that exists already")]
    SubscriptionExists {
        /// The name.
        id: String,
    },
    /// As many subscriptions as there may be.
    #[error("the connection has {limit} subscriptions, which is the limit")]
    TooManySubscriptions {
        /// The limit.
        limit: usize,
    },
    /// The selectors of a connection are long enough together.
    #[error("the selectors of the connection's subscriptions may have {limit} bytes together")]
    SelectorsTooLong {
        /// The limit.
        limit: usize,
    },
    /// No subscription has that name.
    #[error("the header {header} is {value:?}, which names no subscription of this connection")]
    NoSuchSubscription {
        /// The header.
        header: &'static str,
        /// Its value.
        value: String,
    },
    /// ACK or NACK of what is not outstanding.
    #[error("the header {header} is {value:?}, which names no message that waits to be settled")]
    NotOutstanding {
        /// The header.
        header: &'static str,
        /// Its value.
        value: String,
    },
    /// ACK or NACK where none is wanted.
    #[error("{command} on a subscription with ack:auto, whose messages are settled when sent")]
    SettledBySending {
        /// The frame.
        command: Command,
    },
    /// The broker refused what a frame asked.
    #[error("{asked} was refused: {refusal}")]
    Refused {
        /// The frame.
        asked: &'static str,
        /// Why.
        refusal: Refusal,
    },
    /// COMMIT asked what became of a commit that has not happened.
    #[error("nothing was committed under this commit-id, and nothing ever will be")]
    NotCommitted,
    /// COMMIT asked what became of a commit that may be forgotten.
    #[error(
        "nothing was committed under this commit-id in the last {seconds} seconds, and nothing \
         ever will be; whether something was before is not known any more"
    )]
    OutcomeForgotten {
        /// The commits of so long are remembered.
        seconds: u64,
    },
    /// The broker ended a subscription.
    #[error("the subscription {id:?} has ended: {reason}")]
    Cancelled {
        /// The client's name for it.
        id: String,
        /// Why.
        reason: &'static str,
    },
    /// The broker has ended.
    #[error("{why}")]
    BrokerGone {
        /// Why.
        why: String,
    },
    /// A stored message cannot be read.
    #[error("the message {message} cannot be read from the store")]
    Unreadable {
        /// Its id.
        message: String,
    },
}

impl Fault {
    /// A header's value that is none of its values.
    pub(super) fn bad_header(header: &'static str, value: &str, expected: &'static str) -> Self {
        Self::BadHeader { header, value: excerpt(value), expected }
    }

    /// What the peer might do about it; may be empty.
    fn hint(&self) -> &'static str {
        match self {
            Self::NotConnected { .. } | Self::ConnectTimeout { .. } => {
                "Send CONNECT with accept-version and host first.\n"
            }
            Self::BadHeader { header: "destination", .. } => {
                "A queue gives each message to one consumer and keeps it until then; a topic \
                 gives it to every subscriber of the moment.\n"
            }
            Self::NoSuchTransaction { .. } => {
                "BEGIN begins a transaction; COMMIT and ABORT end it, and so does the end of the \
                 connection.\n"
            }
            Self::Selector(_) => {
                "A selector is a condition on headers, as JMS has it: type = 'car' AND colour IN \
                 ('red', 'blue'). Headers are text; one that begins with \
                 convert_string_expressions: compares them with numbers, too.\n"
            }
            Self::NotCommitted => {
                "Do all of it again in a new transaction, with another commit-id.\n"
            }
            Self::OutcomeForgotten { .. } => {
                "Who began to commit within that time may do all of it again in a new \
                 transaction, with another commit-id; who did so before looks first whether it is \
                 there. The broker forgets the oldest for want of room: duplicates.ids and \
                 duplicates.memory.\n"
            }
            Self::Refused { refusal: Refusal::RollbackOnly { .. }, .. } => {
                "Nothing of the transaction has happened.\n"
            }
            Self::NotOutstanding { .. } => {
                "It was settled before, perhaps by a cumulative ACK (ack:client), or was never \
                 delivered on this connection. STOMP 1.2 settles by id, which is the ack header \
                 of MESSAGE; 1.1 by subscription and message-id; 1.0 by message-id.\n"
            }
            Self::SettledBySending { .. } => {
                "Subscribe with ack:client or ack:client-individual to acknowledge.\n"
            }
            Self::Refused { refusal, .. } if refusal.is_want_of_room() => {
                "What was confirmed before is safe. Try again later.\n"
            }
            _ => "",
        }
    }

    /// Writes the ERROR frame.
    pub(super) fn encode(
        &self,
        version: Option<Version>,
        receipt: Option<&str>,
        out: &mut BytesMut,
    ) {
        let mut frame = FrameEncoder::new(out, version, Command::Error).display("message", self);
        if let Some(receipt) = receipt {
            frame = frame.header("receipt-id", receipt);
        }
        if matches!(self, Self::NoCommonVersion { .. }) {
            frame = frame.header("version", Version::ALL);
        }
        let body = format!("{self}.\n{}The connection is closed.\n", self.hint());
        frame.header("content-type", "text/plain").body(body.as_bytes());
    }
}

/// The beginning of a peer's text, short enough to be said back.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}
