//! EscrowMQ: a durable message broker, for programs to embed.
//!
//! ```
//! use escrowmq::{Broker, Destination};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! # runtime.block_on(async {
//! let broker = Broker::open(directory).await?;
//! let connection = broker.connect()?;
//! let orders = Destination::queue("orders");
//! connection.send(&orders, "a durable message").await?;
//! let mut consumer = connection.subscribe(&orders).await?;
//!
//! let order = consumer.recv().await?;
//! assert_eq!(order.text(), Some("a durable message"));
//! order.acknowledge().await?;
//! broker.close().await?;
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! - A [`Broker`] has a directory, and threads of its own. It needs no runtime: its futures run on
//!   any, and [`blocking`] is the same without futures.
//! - A [`Connection`] sends: [`send`](Connection::send) waits until a message is durable,
//!   [`post`](Connection::post) does not and gives a [`Receipt`].
//! - A [`Consumer`] receives: each [`Delivery`] is acknowledged, or goes back to its queue.
//! - A [`Transaction`] sends and acknowledges all or nothing; through [`Xa`] so do several brokers
//!   and databases together, in the [`Branch`]es of a global transaction.
//! - Who may lose an answer gives what he does an id, and it happens once however often he does it:
//!   [`Message::once`], [`Transaction::commit_as`].
//! - What fails says what is known: [`Ended`] means that what was not confirmed may have been done,
//!   everything else means that nothing has. No failure ends the process.
//! - [`Builder::listen`] opens the same broker to STOMP clients. They and this program exchange
//!   messages: properties are headers.
//!
//! `ARCHITECTURE.md` is the map of this crate. The other modules are public for the binary, the
//! benchmarks and the fuzzers only, and promise nothing.

#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod backup;
#[doc(hidden)]
pub mod broker;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod config;
mod embedded;
#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
pub mod identity;

pub mod ids;
#[doc(hidden)]
pub mod io;
#[doc(hidden)]
pub mod limits;
#[doc(hidden)]
pub mod message;
mod mutant;
#[doc(hidden)]
pub mod protocol;
#[doc(hidden)]
pub mod record;
#[doc(hidden)]
pub mod schedule;
#[doc(hidden)]
pub mod security;
#[doc(hidden)]
pub mod selector;
#[doc(hidden)]
pub mod server;
#[doc(hidden)]
pub mod session;
#[cfg(test)]
mod simulation;
#[doc(hidden)]
pub mod store;
#[doc(hidden)]
pub mod wal;

pub use embedded::{
    Branch, BranchError, Broker, Builder, Connection, Consumer, Consuming, Delivery, Durable,
    Ended, Failure, Keeping, Limit, Message, MessageId, MessageIdError, OpenError, Outcome,
    OutcomeError, Receipt, RecoveredBranch, Recovery, RecvError, Redelivery, Refusal, RefusalKind,
    SendError, SettingError, SettleError, StoreRefused, SubscribeError, Suspended, Transaction,
    TransactionError, Xa, blocking,
};

/// The examples of the front page of the project, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[doc(inline)]
pub use broker::policy::WhenFull;
#[doc(inline)]
pub use broker::xa::{Vote, XaError};
#[doc(inline)]
pub use ids::{BadXid, Xid};
#[doc(inline)]
pub use message::Destination;
#[doc(inline)]
pub use selector::{Problem, SelectorError};
