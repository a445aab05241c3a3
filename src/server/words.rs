//! What an operator's tool and the broker say to each other about queues and branches, as lines
//! of JSON.
//!
//! Owns the shape of both directions; the same lines are what `--json` prints, so their fields are
//! for scripts to rely on. Times are milliseconds since 1970. Leaves to others: the socket and
//! who may use it (`admin`), what the words do (`operator`).

mod branches;

use serde::{Deserialize, Serialize};

use crate::broker::command::{Counters, MessageId, QueueInfo, ReaderInfo, ScheduleInfo, WhenFull};

pub use branches::{BranchLine, BranchState, BranchesEnd, QueueWork, XaAsk, shown};

/// What an operator can ask about queues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueAsk {
    /// All queues, by name.
    List,
    /// Everything about one.
    Show {
        /// Its name.
        queue: String,
    },
    /// Messages of one.
    Browse {
        /// Its name.
        queue: String,
        /// The first message shown: this one.
        from: Option<String>,
        /// Messages to pass over.
        skip: u64,
        /// Messages to show at most.
        count: u64,
        /// With their properties.
        properties: bool,
        /// With their bodies.
        body: bool,
    },
    /// Takes messages to another queue.
    Move {
        /// From where.
        from: String,
        /// Where to.
        to: String,
        /// So many at most, from the head.
        count: Option<u64>,
        /// These; all that wait if it names none.
        ids: Vec<String>,
    },
    /// What is delivered again and again.
    Schedules,
    /// Ends one of these.
    EndSchedule {
        /// Its number.
        id: u32,
    },
    /// Takes messages that were set apart back to where they came from.
    Retry {
        /// Where they are.
        queue: String,
        /// So many at most, from the head.
        #[serde(default)]
        count: Option<u64>,
        /// Only those that came from this queue.
        #[serde(default)]
        origin: Option<String>,
    },
}

/// A line of the broker's reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// A queue of a list.
    Queue(QueueLine),
    /// Everything about one.
    Details(Details),
    /// A message.
    Message(MessageLine),
    /// How far a move has come.
    Progress(Progress),
    /// A message that is delivered again and again.
    Schedule(ScheduleLine),
    /// So many messages were removed.
    Removed(u64),
    /// A branch of a global transaction.
    Branch(BranchLine),
    /// The end of a list of them.
    BranchesEnd(BranchesEnd),
}

/// A message that is delivered again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleLine {
    /// Its number.
    pub id: u32,
    /// Its queue.
    pub queue: String,
    /// What its occurrences have as their `scheduledJobId`.
    pub job: String,
    /// The next.
    pub next: u64,
    /// Times in UTC at which a series begins, if more than one does.
    pub cron: Option<String>,
    /// Milliseconds from there to the first; 0 stands for the period.
    pub delay: u64,
    /// Milliseconds from one to the next.
    pub period: u64,
    /// How often after the first; `None` is without end.
    pub repeat: Option<u32>,
    /// Of these, how many come after the next.
    pub left: Option<u32>,
}

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueLine {
    /// Its name.
    pub name: String,
    /// Messages that wait or are lent.
    pub depth: u64,
    /// Of these, how many are lent.
    pub lent: u64,
    /// Of these, how many are delayed.
    #[serde(default)]
    pub delayed: u64,
    /// Subscriptions.
    pub consumers: u64,
    /// When the oldest message that waits was sent, if known without reading the index.
    pub oldest: Option<u64>,
    /// Since the broker started: taken in.
    pub sent: u64,
    /// Handed out.
    pub delivered: u64,
    /// Handed out again.
    pub redelivered: u64,
    /// Accepted.
    pub acknowledged: u64,
    /// Given back.
    pub returned: u64,
    /// Expired.
    pub expired: u64,
    /// Removed by an operator.
    pub purged: u64,
    /// Non-persistent, and removed because they came back too often.
    pub discarded: u64,
    /// Set apart.
    pub dead_lettered: u64,
    /// Brought by an operator.
    pub moved_in: u64,
    /// Taken away by an operator.
    pub moved_out: u64,
}

/// Everything about a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// What a list says.
    #[serde(flatten)]
    pub queue: QueueLine,
    /// Bytes it holds, as its limit counts them.
    pub bytes: u64,
    /// Messages that transactions without an outcome have sent to it.
    #[serde(default)]
    pub staged: u64,
    /// Of those in it, how many such transactions have settled.
    #[serde(default)]
    pub held: u64,
    /// Messages it may hold; none without a limit.
    pub limit_messages: Option<u64>,
    /// Bytes it may hold; none without a limit.
    pub limit_bytes: Option<u64>,
    /// What becomes of a send beyond that: `hold`, `refuse` or `drop-oldest`.
    pub when_full: WhenFull,
    /// Its subscriptions: the first hundred.
    pub readers: Vec<ReaderLine>,
    /// Deliveries a subscription may have outstanding at most.
    pub limit_prefetch: u32,
    /// Messages that wait in memory at most.
    pub limit_resident: u64,
    /// Bytes of a message at most.
    pub limit_message_bytes: u64,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderLine {
    /// Its connection, as the log names it.
    pub connection: String,
    /// Its number on that connection.
    pub subscription: String,
    /// Deliveries it may have outstanding.
    pub prefetch: u32,
    /// Deliveries it has outstanding.
    pub outstanding: u64,
    /// When the message was sent that it has held longest.
    pub oldest: Option<u64>,
    /// Which messages it wants, if not all: the beginning of its selector.
    #[serde(default)]
    pub selector: Option<String>,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageLine {
    /// Its name: the end of the `message-id` that clients see.
    pub id: String,
    /// 0 to 9.
    pub priority: u8,
    /// Whether it outlives the process.
    pub persistent: bool,
    /// A consumer holds it.
    pub lent: bool,
    /// A transaction or branch that has no outcome yet has settled it.
    pub settled: bool,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// How often it came back.
    pub returns: u32,
    /// When the broker took it.
    pub at: u64,
    /// When it is no longer wanted.
    pub expires: Option<u64>,
    /// It is delayed until then.
    pub due: Option<u64>,
    /// Bytes: of its body where that is large, else of its frame in the log, or of its content
    /// where that lives in memory alone.
    pub bytes: u64,
    /// Its properties in order, if they were asked for.
    pub properties: Option<Vec<(String, String)>>,
    /// Its body, if it was asked for.
    pub body: Option<BodyLine>,
    /// Why its content, or its body, is not shown.
    pub problem: Option<String>,
}

/// A body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyLine {
    /// As it is.
    Text(String),
    /// Bytes, as two hex digits each.
    Hex(String),
}

/// How far a move has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Messages moved so far, durably.
    pub moved: u64,
    /// Messages that stay though they were asked for.
    pub stayed: u64,
    /// Nothing more follows.
    pub done: bool,
}

impl From<&QueueInfo> for QueueLine {
    fn from(info: &QueueInfo) -> Self {
        let QueueInfo { name, depth, lent, delayed, consumers, oldest, counters } = info;
        let Counters {
            sent,
            delivered,
            redelivered,
            acknowledged,
            returned,
            expired,
            purged,
            discarded,
            dead_lettered,
            moved_in,
            moved_out,
        } = *counters;
        Self {
            name: name.to_string(),
            depth: *depth,
            lent: *lent,
            delayed: *delayed,
            consumers: *consumers as u64,
            oldest: oldest.map(|at| at.0),
            sent,
            delivered,
            redelivered,
            acknowledged,
            returned,
            expired,
            purged,
            discarded,
            dead_lettered,
            moved_in,
            moved_out,
        }
    }
}

impl From<&ScheduleInfo> for ScheduleLine {
    fn from(info: &ScheduleInfo) -> Self {
        let ScheduleInfo { id, queue, message, plan, next, left } = info;
        Self {
            id: id.get(),
            queue: queue.to_string(),
            job: MessageId::Durable(*message).to_string(),
            next: next.0,
            cron: plan.cron.map(|cron| cron.to_string()),
            delay: plan.delay,
            period: plan.period,
            repeat: plan.repeat,
            left: *left,
        }
    }
}

impl From<&ReaderInfo> for ReaderLine {
    fn from(reader: &ReaderInfo) -> Self {
        Self {
            connection: reader.connection.to_string(),
            subscription: reader.subscription.to_string(),
            prefetch: reader.prefetch,
            outstanding: reader.outstanding as u64,
            oldest: reader.oldest.map(|at| at.0),
            selector: reader.selector.as_deref().map(str::to_owned),
        }
    }
}
