//! The broker as a library: open a store, connect without a socket, send, receive, acknowledge.
//!
//! Owns what embedding programs see, and nothing of what it means: requests and outputs go through
//! the engine as those of any wire do. Always: no call blocks an async thread; a failure of the
//! store is told to every caller and ends nothing but the broker; a dropped future, delivery,
//! consumer, connection or broker leaves nothing stuck.

mod branch;
mod broker;
mod builder;
mod connection;
mod consumer;
mod consuming;
mod delivery;
mod durable;
mod error;
mod life;
mod link;
mod listen;
mod message;
mod outcome;
mod redelivery;
mod router;
mod transaction;
mod upload;
mod xa;

pub mod blocking;

pub use self::branch::{Branch, Suspended};
pub use self::broker::Broker;
pub use self::builder::{Builder, Limit};
pub use self::connection::{Connection, Receipt};
pub use self::consumer::Consumer;
pub use self::consuming::Consuming;
pub use self::delivery::{Delivery, MessageId, MessageIdError};
pub use self::durable::{Durable, Keeping};
pub use self::error::{
    BranchError, Ended, Failure, OpenError, OutcomeError, RecvError, Refusal, RefusalKind,
    SendError, SettingError, SettleError, StoreRefused, SubscribeError, TransactionError,
};
pub use self::message::Message;
pub use self::outcome::Outcome;
pub use self::redelivery::Redelivery;
pub use self::transaction::Transaction;
pub use self::xa::{RecoveredBranch, Recovery, Xa};
