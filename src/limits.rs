//! Every bound that is not a setting, in one place, with its unit and reason.

/// Commands one engine turn takes from the inbox at most.
pub const TURN_COMMANDS_MAX: usize = 256;

/// What one engine turn does at most, in the effort of touching one message in memory (a fraction
/// of a microsecond), and one step more: bounds the turn's length.
pub const TURN_EFFORT_MAX: usize = COMMAND_EFFORT * TURN_COMMANDS_MAX;

/// Microseconds after which a turn takes nothing more, however little it has done: with the step
/// that is under way, and with what follows by itself, it is over within a millisecond.
pub const TURN_MICROS: u64 = 400;

/// Microseconds for each of the parts that follow a turn's commands, however long these took.
pub const TURN_MICROS_LEFT: u64 = TURN_MICROS / 8;

/// How much a turn does between two looks at the clock: some tens of microseconds.
pub const LOOK_EFFORT: usize = if cfg!(test) { 2 } else { 16 } * COMMAND_EFFORT;

/// What is left at least of a turn's effort for what follows by itself, however many commands came.
pub const TURN_EFFORT_LEFT: usize = TURN_EFFORT_MAX / 8;

/// What deciding, logging and answering a command takes.
pub const COMMAND_EFFORT: usize = 4;

/// What a queue takes that comes into being: its names and numbers lie in many places.
pub const QUEUE_EFFORT: usize = 8;

/// What more it takes to settle one of more deliveries than [`LOANS_NEAR`] that is named alone:
/// they may be named in any order, and then each lies, in all that knows it, where nobody has just
/// been.
pub const FAR_EFFORT: usize = 2 * COMMAND_EFFORT;

/// What an outcome takes for a message that a transaction has settled: these were named in any
/// order.
pub const TAKEN_EFFORT: usize = COMMAND_EFFORT;

/// Deliveries of one subscription of which all is still near.
pub const LOANS_NEAR: usize = if cfg!(test) { 8 } else { 4096 };

/// What a look into the broker takes, and what is done for a command in parts beside its facts.
pub const PART_EFFORT: usize = 256;

/// What handing one answer or delivery to its connection takes.
pub const RELEASE_EFFORT: usize = 2;

/// What looking through one chunk of what waits for a connection's window takes, in answers and
/// deliveries handed out.
pub const READY_SIFTED_STEPS: usize = 256;

/// Sends that have waited for room and are tried again in one turn at most.
pub const TURN_UNPARKED_MAX: usize = 256;

/// Confirmations of one connection that may wait for a send that waits for room: the sends of a
/// producer by default (`limits.held_messages`), and acknowledgements behind them. Fewer than a
/// session waits for before it stops reading, or it might never read the acknowledgement that makes
/// room.
pub const HELD_ANSWERS_MAX: usize = 1280;

const _: () = assert!(HELD_ANSWERS_MAX < SESSION_RECEIPTS_MAX);
const _: () = assert!(HELD_ANSWERS_MAX * RECEIPT_NAME_BYTES_MAX < SESSION_RECEIPT_BYTES_MAX);

/// Changes that the index has taken and that are dropped at once.
pub const FORGET_AT_ONCE: usize = 512;

/// The rest between two such times.
pub const FORGET_REST_MICROS: u64 = 100;

/// Bytes of one destination name at most.
pub const DESTINATION_NAME_BYTES_MAX: usize = 1024;

/// Messages one record names at most: bounds the length of a record and of its `apply`.
pub const RECORD_ENTRIES_MAX: usize = 1024;

/// Requests of which the queues are looked at before the first is decided.
pub const SENDS_AHEAD: usize = 32;
/// Where fewer wait, none is.
pub const SENDS_AHEAD_MIN: usize = 8;

/// Durable subscriptions that have ended and whose messages go, at once.
pub const REMNANTS_AT_ONCE: usize = if cfg!(test) { 2 } else { 16 };

/// Messages one step of background work (returns, expiry, sweeps) handles at most. Unit tests do
/// with so few messages that only a small step leaves some for the next.
pub const STEP_MESSAGES_MAX: usize = if cfg!(test) { 8 } else { 256 };

/// Operations of a transaction that get their outcome, or are written with its vote, in one step.
/// What it has settled was named in any order, and each is known in several places.
pub const OUTCOMES_A_STEP: usize = if cfg!(test) { 8 } else { 64 };

/// Messages one request for a move takes at most; a longer move is several.
pub const MOVE_MESSAGES_MAX: u64 = 8192;

/// Subscriptions that end in one step at most, when their connection does.
pub const STEP_ENDS_MAX: usize = if cfg!(test) { 1 } else { 32 };

/// Subscriptions of a topic that get a message in one step at most; one with more takes several.
pub const PUBLISH_STEP: usize = if cfg!(test) { 1 } else { 64 };

/// Patterns from which consumers read at most: bounds what one name costs to look up, and how many
/// lines one message stands in.
pub const WILDCARDS_MAX: usize = if cfg!(test) { 16 } else { 2048 };

/// Parts of such a pattern at most.
pub const WILDCARD_PARTS_MAX: usize = 32;

/// Messages that wait in the log for those who keep a topic or listen to it; with more, further
/// publishers wait. One transaction may bring any number.
pub const LINE_MAX: u64 = if cfg!(test) { 64 } else { 1 << 20 };

/// Messages that stand in the line of one topic at most; further publishers wait.
pub const PUBLICATIONS_MAX: usize = if cfg!(test) { 8 } else { 1024 };

/// What handing a published message to one subscription takes.
pub const PUBLISH_EFFORT: usize = 2;

/// Durable subscriptions of one topic at most, with those of patterns that catch it: a publication
/// reaches all of them in one record.
pub const HELD_OF_TOPIC_MAX: usize = 1024;

/// Bytes of the name of a durable subscription at most, and of its client's.
pub const HELD_NAME_BYTES_MAX: usize = 1024;

/// Lines of its topic of which a new durable subscription knows what was published before it.
pub const HELD_LINES_MAX: usize = 64;

/// Bytes of the selector of a durable subscription at most.
pub const HELD_SELECTOR_BYTES_MAX: usize = 8 << 10;

/// Queues one page of a list names at most.
pub const LIST_QUEUES_MAX: usize = 128;

/// Subscriptions of a queue that are shown to an operator at most.
pub const SHOW_CONSUMERS_MAX: usize = 100;

/// Characters of a subscription's selector that are shown to an operator.
pub const SHOW_SELECTOR_CHARACTERS: usize = 200;

/// Bytes of non-persistent content in one page of a browse at most, and one message.
pub const BROWSE_BYTES_MAX: usize = 1 << 20;

/// Places that one look at index and deltas passes at most, those of messages that are gone
/// included.
pub const OVERLAY_PLACES_MAX: usize = 1024;

/// Rows of queues that a checkpoint takes in one turn at most.
pub const FREEZE_ROWS_MAX: usize = if cfg!(test) { 1 } else { 512 };

/// How long a queue rests at least between two searches for expired messages beyond its window.
pub const SCAN_REST_MILLIS: u64 = 30_000;

/// How long a queue rests for each page that such a search has read: a few percent of a disk's
/// time at most go into searching.
pub const SCAN_PAGE_MILLIS: u64 = 5;

/// Large bodies that one connection may send at a time.
pub const STAGES_MAX: usize = 16;

/// Bodies of which no message knows any more and whose pieces are not given back yet: beyond it
/// nothing is expired or purged for a while.
pub const DEAD_UPLOADS_MAX: usize = 4096;

/// Where messages are set apart that came back too often or expired, if no rule says otherwise.
pub const DEAD_LETTER_QUEUE: &str = "ActiveMQ.DLQ";

/// How long a message that is to be set apart waits when there is no room for it.
pub const DEAD_RETRY_MILLIS: u64 = if cfg!(test) { 50 } else { 60_000 };

/// Delayed messages that wait in memory, the soonest; the others are in the index.
pub const DELAYED_WINDOW: usize = if cfg!(test) { 8 } else { 4096 };

/// Of these, how many are read at once: they lie anywhere in the index, and others wait meanwhile.
pub const DELAYED_PAGE: usize = if cfg!(test) { 4 } else { 256 };

/// Messages that come again and again, in the whole store: what there is to say of each is in
/// memory, some 300 bytes.
pub const REPEATED_MAX: usize = if cfg!(test) { 64 } else { 100_000 };

/// Of these, how many are read at once because their time has come.
pub const OCCURRENCES_AT_ONCE: usize = if cfg!(test) { 2 } else { 16 };

/// Bytes of the record of an occurrence at most.
pub const OCCURRENCE_RECORD_BYTES_MAX: usize = 256;

/// How long one waits whose occurrence finds no room.
pub const OCCURRENCE_RETRY_MILLIS: u64 = if cfg!(test) { 50 } else { 5_000 };

/// Such messages in one answer to an operator.
pub const LIST_SCHEDULES_MAX: usize = 128;

/// Where messages go whose payload cannot be read any more.
pub const DAMAGED_QUEUE: &str = "ActiveMQ.DLQ.Damaged";

/// Payloads read ahead of one connection's window at most: of small messages so many that the
/// reader has more to do while those that it has brought are handed out.
pub const LOADS_AHEAD_MAX: usize = 1024;

/// Reads from the disk that are told of together at most: to wake the engine takes as long as to
/// read dozens of small messages.
pub const READS_AT_ONCE: usize = 128;

/// Bytes of payloads for one connection that are read into one allocation at most. It lives as
/// long as any of them, so this is what one small message may keep in memory.
pub const LOADS_TOGETHER_BYTES_MAX: usize = 16 << 10;

/// Pieces of a large body read ahead of its connection's window.
pub const STREAM_LOADS_AHEAD: usize = 2;

/// This part of a connection's window holds pieces of a large body that wait for the socket, or a
/// piece where that is larger; the rest is for those read ahead.
pub const STREAM_WINDOW_SHARE: usize = 4;

/// Places of pieces read at once for a delivery.
pub const STREAM_PLACES_MAX: usize = 64;

/// Bytes of a message's content up to which a whole body is one record, its head not counted.
/// What is larger comes and goes in pieces.
pub const WHOLE_BODY_BYTES_MAX: usize = 256 << 10;

/// Bytes of one piece of a large body.
pub const PIECE_BYTES: usize = 64 << 10;

/// Bytes of a large body that a session holds, or has given to the engine without an answer: the
/// rest waits in the socket.
pub const UPLOAD_BYTES_MAX: usize = 256 << 10;

/// Bytes of content that count as another command when a turn is measured.
pub const COMMAND_BYTES: usize = 4 << 10;

/// Bytes of requests that may wait for the engine, over all connections; a larger request waits
/// until it is alone.
pub const INBOX_BYTES_MAX: usize = 8 << 20;

/// Bytes of log that gather while a sync runs, and so the largest single write but for one larger
/// frame: two milliseconds of a fast disk.
pub const GATHER_BYTES_MAX: usize = 4 << 20;

/// Changes that may gather in memory, and bytes of log, while a checkpoint runs, in multiples of
/// what makes the next one due: beyond it, requests wait for the checkpoint.
pub const CHECKPOINTS_AHEAD_MAX: usize = 4;

/// What a request is taken to cost beside its content.
pub const REQUEST_OVERHEAD_BYTES: usize = 256;

/// Turns that a thread runs on the side when it brings news; what is left is the engine's own.
pub const TURNS_ON_THE_SIDE_MAX: usize = 4;

/// Steps of background work in one turn at most.
pub const TURN_STEPS_MAX: usize = 1024;

/// Steps of background work after one command at most; what is left waits for the turn's end.
pub const COMMAND_STEPS_MAX: usize = 16;

/// What a frame may cost beside itself where it begins a batch: padding and a header.
pub const BATCH_EXTRA_BYTES: usize = 4096 + 64;

/// Bytes of log that one step of background work may need: its records name at most
/// [`RECORD_ENTRIES_MAX`] messages.
pub const STEP_LOG_BYTES_MAX: usize = 64 << 10;

/// How long the engine sleeps at most: bounds how late it sees that the clock was set.
pub const SLEEP_MILLIS_MAX: u64 = 60_000;

/// How long what nobody waits for stays in memory before it goes to the disk by itself: longer than
/// a client takes from one operation of a transaction to the next.
pub const LINGER_MILLIS: u64 = 5;

/// How often the room on the disk is looked at.
pub const DISK_LOOK_MILLIS: u64 = 1000;

/// Segments that a start may need room for: the copies of two, where a crash left both unproven,
/// and the first of its own.
pub const START_SEGMENTS: u64 = 3;

/// How often a full disk is tried again.
pub const FULL_RETRY_MILLIS: u64 = 500;

/// What a non-persistent message, or one held for a subscriber of a topic, is taken to cost beside
/// its content.
pub const VOLATILE_OVERHEAD_BYTES: u64 = 384;

/// What a persistent message takes in the log beside its content, at most: the head of its frame,
/// its record and padding.
pub const STORED_OVERHEAD_BYTES: u64 = 112;

/// What more it takes where it says when it is handed out.
pub const SCHEDULED_OVERHEAD_BYTES: u64 = 64;

/// Places in a queue's window that it may have though all windows together are full.
pub const QUEUE_WINDOW_MIN: usize = 16;

/// Places in the window of a queue that has no consumer: enough for the first deliveries to one who
/// comes, while the rest is read.
pub const LONE_WINDOW: usize = 64;

/// One subscriber of a topic may hold this part of the memory for non-persistent messages.
pub const TOPIC_SHARE: u64 = 16;

/// Open files kept for the store, the listeners and the system; the others are for connections.
pub const FILES_RESERVED: usize = 256;

/// Room made for one read from a socket.
pub const READ_BYTES: usize = 16 << 10;

/// Bytes a connection that ends still reads, and throws away, so that its peer gets to read.
pub const LAST_WORDS_READ_MAX: u64 = 1 << 20;

/// How long the broker waits for its connections to end.
pub const SERVER_END_MILLIS: u64 = 5_000;

/// How long a connection that ends may take to read what is still to be said.
pub const LAST_WORDS_MILLIS: u64 = 2_000;

/// Bytes of one row of the index at most, where it has no fixed size: a destination name and some
/// hundred bytes beside it.
pub const INDEX_ROW_BYTES_MAX: u64 = 64 * 1024;

/// Requests a STOMP session holds for the engine before it stops reading: one engine turn's worth.
pub const SESSION_REQUESTS_MAX: usize = 256;

/// Bytes of message content a session holds for the engine before it stops reading.
pub const SESSION_REQUEST_BYTES_MAX: usize = 1 << 20;

/// Bytes a session holds for the socket before it takes no further input or output.
pub const SESSION_OUT_BYTES_MAX: usize = 1 << 20;

/// Receipts a peer may wait for before the session stops reading.
pub const SESSION_RECEIPTS_MAX: usize = 2048;

/// Bytes of the receipts' names a peer may wait for before the session stops reading.
pub const SESSION_RECEIPT_BYTES_MAX: usize = 704 << 10;

/// Bytes of one receipt's name.
pub const RECEIPT_NAME_BYTES_MAX: usize = 512;

/// Subscriptions of one connection.
pub const SESSION_SUBSCRIPTIONS_MAX: usize = 1024;

/// Bytes of the name a peer gives a subscription.
pub const SUBSCRIPTION_NAME_BYTES_MAX: usize = 1024;

/// Deliveries outstanding on one subscription: a larger prefetch counts as this, since the session
/// remembers each.
pub const PREFETCH_MAX: u32 = 32_767;

/// Deliveries outstanding on one subscription whose client says that it has seen them and wants
/// more: a transaction may take so many.
pub const CREDIT_MAX: u32 = 1_000_000;

/// Deliveries of queues outstanding on one connection, over all of its subscriptions: with more,
/// they wait for each other.
pub const CONNECTION_LOANS_MAX: usize = CREDIT_MAX as usize;

/// Of these, how many every connection may have, however many there are in all.
pub const CONNECTION_LOANS_MIN: usize = if cfg!(test) { 2 } else { 64 };

/// Subscriptions that wait for others of their connection are looked at when it has this part
/// fewer outstanding than it may: not at each acknowledgement.
pub const LOANS_REST_PART: usize = 8;

/// Bytes of a user's or a group's name.
pub const USER_NAME_BYTES_MAX: usize = 128;

/// Memory that verifying one password may take, in KiB.
pub const HASH_KIB_MAX: u32 = 64 << 10;

/// Passes over that memory.
pub const HASH_PASSES_MAX: u32 = 10;

/// Passwords that are verified at the same time; others wait.
pub const LOGINS_MAX: usize = 2;

/// Rights that a connection remembers to have looked up.
pub const KNOWN_RIGHTS_MAX: usize = 256;

/// Bytes of a frame's headers before the connection is greeted.
pub const GREETING_HEAD_BYTES_MAX: usize = 8 << 10;

/// Bytes of one request to the admin socket at most: a word, escaped destination
/// names, and the ids of some thousand messages.
pub const ADMIN_REQUEST_BYTES_MAX: u64 = 64 << 10;

/// Operators served at once; more wait in line. Some may only look at a page for long.
pub const ADMIN_CONNECTIONS_MAX: usize = 32;

/// Queues with lines of their own on the page of metrics: bounds what a monitor must keep.
pub const METRICS_QUEUES_MAX: usize = 50;

/// Connections to the page of metrics served at once; more are closed.
pub const METRICS_CONNECTIONS_MAX: usize = 32;

/// How long one connection to the page of metrics may take in all.
pub const METRICS_PEER_MILLIS: u64 = 10_000;

/// Bytes of a request for the page of metrics at most.
pub const METRICS_REQUEST_BYTES_MAX: u64 = 8 << 10;

/// How long the page of metrics waits for what only the index knows.
pub const METRICS_INDEX_MILLIS: u64 = 1_000;

/// How long an operator's tool may take to say what it wants; and to read on, where it is told of a
/// backup, or the broker stops.
pub const ADMIN_PEER_MILLIS: u64 = 10_000;

/// How long an operator's tool may read nothing of a reply: a person behind it looks at the last
/// page. It takes one of [`ADMIN_CONNECTIONS_MAX`] places meanwhile.
pub const ADMIN_READ_MILLIS: u64 = if cfg!(test) { 50 } else { 600_000 };

/// Seconds over which `queue show` takes rates at most: with more it looks like one that hangs.
pub const RATE_SECONDS_MAX: f64 = 3600.0;

/// Transactions of one connection that have not ended, at most.
pub const TRANSACTIONS_MAX: usize = 256;
/// Destinations to which one transaction sends at most, and producers that count in it: its commit
/// looks at all of them in one step, a fraction of a microsecond each.
pub const TRANSACTION_WIDTH_MAX: usize = if cfg!(test) { 16 } else { 1024 };
/// Non-persistent messages that one transaction sends in memory; further ones are stored like
/// persistent ones, so that its end is short.
pub const TRANSACTION_VOLATILE_MAX: usize = STEP_MESSAGES_MAX;
/// Bytes of persistent messages that it publishes in memory on topics that nobody keeps, the last
/// one beyond; further ones are stored, and those before them with them in one step.
pub const TRANSACTION_UNKEPT_BYTES_MAX: u64 = 1 << 20;
/// Operations of small transactions kept in memory, so that these end with one record. With more,
/// new transactions end like large ones.
pub const OPERATIONS_RESIDENT_MAX: usize = 100_000;
/// Branches of global transactions that wait for their managers at most; and as many that an
/// operator has decided.
pub const BRANCHES_MAX: usize = if cfg!(test) { 10_000 } else { 100_000 };
/// Branches in one answer.
pub const BRANCHES_A_PAGE: usize = 256;
/// Operations of a branch that are looked at in one step.
pub const GLIMPSE_OPERATIONS: usize = 256;
/// Operations of a branch that are looked at for an operator: more are counted and not broken down.
pub const BRANCH_SHOWN_OPERATIONS: u64 = 4096;
/// Destinations of a branch that an operator is shown.
pub const BRANCH_SHOWN_QUEUES: usize = 50;
/// How long nothing is said of what an operator has just been warned of: what happens meanwhile
/// shares a line.
pub const WARNING_QUIET_MILLIS: u64 = 60_000;
/// Bytes kept of what a branch's client calls itself.
pub const BRANCH_CLIENT_BYTES_MAX: usize = 256;
/// How long a branch may take to vote at most, whatever its manager says: a year.
pub const BRANCH_MILLIS_MAX: u64 = 365 * 24 * 3_600_000;
/// How long a branch whose work is undone waits for its manager to hear of that at most: afterwards
/// it is told that there is none, which is a no as well.
pub const BROKEN_BRANCH_MILLIS: u64 = 60_000;
/// Outcomes of branches that are forgotten together, about: so many, or those of so long.
pub const OUTCOMES_A_MARK: u64 = 1000;
/// How long that is.
pub const OUTCOME_MARK_MILLIS: u64 = 600_000;
/// So many of them at most, then every second is left out; even, so that the newest stays.
pub const OUTCOME_MARKS_MAX: usize = 2048;
/// Bytes of messages that one step of a vote makes durable, and one message.
pub const KEPT_BYTES_A_STEP: usize = 256 << 10;
/// What a name against repetitions is taken to cost in memory.
pub const NAME_BYTES: u64 = 200;
/// Bytes that names or numbers may take which transactions without an outcome have used, beside
/// what those that are settled may: these make no room for them.
pub fn pending_bytes(settled: u64) -> u64 {
    settled / 2
}
/// How long names that are old enough to be forgotten wait for others, so that they go together.
pub const FORGET_REST_MILLIS: u64 = 60_000;
/// Spans of numbers remembered of one producer at most: the window within which its repetitions
/// are told from what is new. At 64 numbers a span and more, however the numbers come. Unit tests
/// have less, so that the simulation comes to the end of the window.
pub const PRODUCER_SPANS_MAX: usize = if cfg!(test) { 8 } else { 32 };
/// What a producer that counts is taken to cost in memory, beside its spans.
pub const PRODUCER_BYTES: u64 = 240;
/// Producers that are read from the index at once.
pub const PRODUCERS_PAGE: usize = if cfg!(test) { 2 } else { 512 };
/// How long after a start that begins: whoever has waited for the broker comes first.
pub const PRODUCERS_REST_MILLIS: u64 = if cfg!(test) { 0 } else { 1_000 };
/// How long a producer is remembered whose connection was closed: until its client has surely
/// heard so, or has come back for the answer.
pub const PRODUCER_CLOSED_MILLIS: u64 = 60_000;
/// How exactly the time of a producer's last message is known while it is connected.
pub const PRODUCER_AT_MILLIS: u64 = 60_000;
/// Bytes of a client's name for a transaction at most.
pub const TRANSACTION_NAME_BYTES_MAX: usize = 512;

/// Properties of one message of an embedding program.
pub const PROPERTIES_MAX: usize = 256;

/// Bytes of these, with six for each.
pub const PROPERTIES_BYTES_MAX: usize = 63 << 10;

/// Sends of one connection of an embedding program that may be unconfirmed; the next waits.
pub const UNCONFIRMED_SENDS_MAX: usize = 1024;

/// Pieces of one large body of an embedding program on their way to the disk.
pub const PIECES_AHEAD_MAX: usize = UPLOAD_BYTES_MAX / PIECE_BYTES;

/// Deliveries outstanding on a consumer of an embedding program that does not say.
pub const EMBEDDED_PREFETCH: u32 = 100;

/// How often the lock of a store is tried again that another broker has.
pub const LOCK_RETRY_MILLIS: u64 = 10;

/// Structures, maps and lists of OpenWire inside each other at most; honest ones have six.
pub const OPENWIRE_NESTING_MAX: usize = 32;

/// Bytes of memory that reading an OpenWire frame may take for its structures, however small it is.
pub const OPENWIRE_FRAME_ROOM: usize = 64 << 10;

/// And so many more for each byte of the frame: honest structures take less than that.
pub const OPENWIRE_ROOM_PER_BYTE: usize = 8;

/// Properties in an OpenWire peer's first frame at most.
pub const OPENWIRE_PROPERTIES_MAX: usize = 64;

/// Bytes of a frame before its client has said who it is.
pub const OPENWIRE_GREETING_BYTES_MAX: usize = 16 << 10;

/// Bytes of all frames together before its client has said who it is; honest ones have about one
/// KiB.
pub const OPENWIRE_GREETING_TOTAL_MAX: usize = 64 << 10;

const _: () = assert!(OPENWIRE_GREETING_BYTES_MAX <= OPENWIRE_GREETING_TOTAL_MAX);

/// Bytes that a frame may have beside the body of its message.
pub const OPENWIRE_FRAME_EXTRA: usize = 512 << 10;

/// Bytes that a message may have beside its body where both are read whole: with a whole body no
/// more than the log takes.
pub const OPENWIRE_WHOLE_EXTRA: usize = 48 << 10;

/// Bytes before the body of a large message.
pub const OPENWIRE_HEAD_BYTES_MAX: usize = 64 << 10;

/// How long a branch that a client begins which has come back may have begun before, from the first
/// that is heard of it. It says all of that at once and without awaiting an answer, but nothing
/// tells where it ends.
pub const OPENWIRE_AGAIN: std::time::Duration = std::time::Duration::from_secs(3);

/// How long after its first word a gap in the numbers of its commands still spoils a transaction.
/// Not for ever: threads that speak at once make gaps too, for a moment.
pub const OPENWIRE_AGAIN_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// Producers of one connection that have not been closed.
pub const SESSION_PRODUCERS_MAX: usize = 16_384;

/// Destinations together with others for which one of them counts, and ends at once.
pub const PRODUCER_COUNTS_MAX: usize = 16;

/// Messages that a browser sees in one step.
pub const BROWSER_STEP: usize = 64;

/// Advisories about what is there already that a new listener is told in one step.
pub const ADVISORIES_A_PAGE: usize = if cfg!(test) { 4 } else { 64 };

/// Messages that expired or were set apart of which listeners are still to be told at most; beyond
/// that they miss the newest.
pub const NOTICES_MAX: usize = if cfg!(test) { 12 } else { 512 };
/// Bytes of them at most, about.
pub const NOTICES_BYTES_MAX: u64 = 4 << 20;

/// How many of them are told of in one step.
pub const NOTICES_A_STEP: usize = 16;
/// Bytes of them in one step, about.
pub const NOTICES_STEP_BYTES: u64 = 64 << 10;

/// Consumers and durable subscriptions of another broker for which a bridge keeps the way open.
pub const BRIDGE_CONSUMERS_MAX: usize = 65_536;

/// Bytes that another broker is told of durable subscriptions when it lays a bridge, about.
pub const BRIDGE_TOLD_BYTES_MAX: usize = 4 << 20;

/// Bytes of a consumer in a frame, beside its names.
pub const CONSUMER_BYTES: usize = 128;

/// How long a consumer that does not want to wait waits for what is on its way.
pub const PULL_GRACE_MILLIS: u64 = 1_000;

/// How long the queue of a temporary destination rests that cannot be removed yet.
pub const GRAVE_REST_MILLIS: u64 = 100;

/// Branches of which a transaction manager hears at once: as many as an answer can name.
pub const OPENWIRE_RECOVERED_MAX: usize = 32_767;

/// Bytes that the marshalling cache of an OpenWire connection holds at most in one direction.
pub const OPENWIRE_CACHE_BYTES_MAX: usize = 512 << 10;

/// How many groups of a queue's messages can have owners of their own, about; as ActiveMQ has it.
pub const GROUP_BUCKETS: u16 = 1024;

/// Messages of a queue that are known to wait when more are looked at, to know their groups: others
/// wait behind so many whose consumers take none. Those of worse ranks do not count, so that no
/// more than so many of each rank are known, and a few.
pub const GROUPS_AHEAD_MAX: usize = if cfg!(test) { 32 } else { 4096 };

/// With fewer than this, more are looked at while these are handed out.
pub const GROUPS_AHEAD_FEW: usize = if cfg!(test) { 2 } else { 256 };

/// Messages of one queue that wait again and that some group of consumers with selectors has not
/// looked at; one that misses some looks through the whole queue again.
pub const SELECTED_RETURNS_MAX: usize = if cfg!(test) { 8 } else { 1024 };

/// Bytes of contents in memory that one question to a selector takes along, and one content; the
/// others are read from the log.
pub const SELECT_BYTES_MAX: usize = 1 << 20;

/// Bytes of the selectors of one connection's subscriptions, as they are written out: what they are
/// compiled to takes up to thirty times as much.
pub const SESSION_SELECTOR_BYTES_MAX: usize = 256 << 10;

/// Bytes of a selector's text at most.
pub const SELECTOR_BYTES_MAX: usize = 16 << 10;

/// Parentheses, signs and negations of a selector inside each other at most.
pub const SELECTOR_NESTING_MAX: usize = 64;

/// Levels of a selector's parts at most; sums without parentheses have one for each sign.
pub const SELECTOR_HEIGHT_MAX: usize = 256;

/// Values in one list of a selector at most.
pub const SELECTOR_LIST_MAX: usize = 1024;

/// Different names in one selector at most.
pub const SELECTOR_NAMES_MAX: usize = 64;

/// Steps that judging one message by a selector may take: about a tenth of a millisecond. Honest
/// ones take some dozen.
pub const SELECTOR_STEPS_MAX: usize = 64 << 10;
