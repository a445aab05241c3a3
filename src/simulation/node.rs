//! A broker without threads: the real engine, log, index and helpers, one step at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::backup::Source;
use crate::broker::Limits;
use crate::broker::command::MessageId;
use crate::broker::delta::{Due, Entry, Operation, Phase, PieceAt, Place, QueueRow};
use crate::broker::policy::{Limit, Pattern, Policies, WhenFull};
use crate::broker::redelivery::{Ending, Redelivery};
use crate::engine::{
    CompactStep, Compactor, DiskWatch, Engine, Input, Job, Load, ParkLimits, Settings, StopError,
    Store, StoreError, Turn, judge, open_store, read_later, read_operations, read_outcome,
    read_page, read_pieces, read_producers,
};
use crate::ids::{Millis, NoteId, QueueId, UploadId};
use crate::io::Storage;
use crate::io::sim::{Fault, SimDisk};
use crate::limits;
use crate::message::{Content, large_bytes};
use crate::mutant::{self, Mutant};
use crate::store::index::Index;
use crate::wal::{self, Group, Log, ReadAhead, Reader, Room, RoomStep};

use super::again::{FoundAgain, again_of};
use super::bodies::{Claims, number_of_large};
use super::branches::number_of_xid;
use super::kept::{KEEPS_AT_MOST, PATTERN, TOPIC};
use super::uneven::Uneven;

/// Small enough that segments turn over and checkpoints come often.
pub(super) fn options() -> wal::Options {
    wal::Options {
        segment_size: 128 << 10,
        batch_bytes_max: 96 << 10,
        gather_bytes_max: 192 << 10,
        ready_segments: 2,
        spare_segments_max: 2,
        reserve_bytes: 128 << 10,
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        limits: Limits { resident: 16, topic_backlog: 8, ..Limits::default() },
        cache_bytes: 8 << 10,
        window_bytes: 4 << 10,
        windows_bytes: 12 << 10,
        checkpoint_bytes: 48 << 10,
        checkpoint_changes: 60,
        checkpoint_millis: 300,
        compaction_bytes: u64::MAX,
        index_bytes: 1 << 20,
        policies: Arc::new(policies()),
        park: ParkLimits { messages: 6, bytes: 30_000, bytes_of_all: 60_000 },
        ..Settings::default()
    }
}

/// How the name of a queue begins in which something waits to be published.
pub(super) const WAITING: &str = "scheduled-publications://";

/// The first of the clients' queues.
pub(super) const LIMITED: &str = "a";

/// What it may hold: a send beyond it waits.
pub(super) const HELD_AT: Limit = Limit { messages: 12, bytes: 60_000, when_full: WhenFull::Hold };

fn policies() -> Policies {
    let swept = Limit { messages: 30, bytes: u64::MAX, when_full: WhenFull::DropOldest };
    let dead = Limit { messages: 4, bytes: u64::MAX, when_full: WhenFull::Refuse };
    let kept = Limit { messages: KEEPS_AT_MOST, bytes: u64::MAX, when_full: WhenFull::Refuse };
    let read = Limit { messages: KEEPS_AT_MOST + 5, ..kept };
    let topic = format!("topic://{TOPIC}");
    let caught = format!("topic://{PATTERN}");
    let readers = format!("queue://Consumer.*.{TOPIC}");
    let limits = [
        ("queue://a", HELD_AT),
        ("queue://swept", swept),
        ("queue://DLQ.b", dead),
        (&*topic, kept),
        (&*caught, kept),
        (&*readers, read),
    ];
    let pattern = |name: &str| Pattern::parse(name).expect("a pattern");
    let limits = limits.map(|(name, limit)| (pattern(name), limit));
    let policies = Policies::new(limits.into(), WhenFull::Refuse).expect("each is named once");
    let one = Redelivery { maximum: RETURNS_OF_A, ..Redelivery::none() };
    let other = Redelivery {
        maximum: RETURNS_OF_B,
        delay: 40,
        backoff: 2,
        delay_max: 100,
        dead_letters: "DLQ.".into(),
        expired: Ending::DeadLetter,
        non_persistent: Ending::DeadLetter,
    };
    let rules = vec![(pattern("queue://a"), one), (pattern("queue://b"), other)];
    policies.with_redelivery(rules, Redelivery::none()).expect("each is named once")
}

const RETURNS_OF_A: u32 = 3;
const RETURNS_OF_B: u32 = 2;

/// Where messages of a queue are set apart, and after how many returns.
pub(super) fn dead_letters_of(queue: &str) -> Option<(&'static str, u32)> {
    match queue {
        "a" => Some(("ActiveMQ.DLQ", RETURNS_OF_A)),
        "b" => Some(("DLQ.b", RETURNS_OF_B)),
        _ => None,
    }
}

/// All queues where messages are set apart.
pub(super) const DEAD_LETTERS: [&str; 2] = ["ActiveMQ.DLQ", "DLQ.b"];

pub(super) struct Node {
    pub(super) engine: Engine,
    pub(super) log: Arc<Log>,
    pub(super) room: Room,
    pub(super) reader: Reader,
    ahead: ReadAhead,
    pub(super) index: Arc<Index>,
    pub(super) disk: Arc<DiskWatch>,
    pub(super) compactor: Compactor,
    pub(super) inputs: VecDeque<Input>,
    pub(super) jobs: VecDeque<Job>,
    pub(super) source: Source,
    pub(super) store: u128,
    writing: Option<Writing>,
}

/// What the log thread is doing.
enum Writing {
    Taken(Group),
    Written(Group),
    Synced(Group),
}

/// A durable message as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) queue: String,
    pub(super) place: Place,
    pub(super) returns: u32,
    pub(super) redelivered: bool,
    /// A branch that has no outcome has settled it.
    pub(super) held: bool,
}

/// What a store holds, by the name each message carries in its content.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) messages: BTreeMap<u64, Found>,
    /// What comes again and again.
    pub(super) again: BTreeMap<u64, FoundAgain>,
    /// Large bodies of which pieces are still to be given back.
    pub(super) uploads: usize,
    /// Bytes of the log that are needed.
    pub(super) live: u64,
    pub(super) queues: Vec<String>,
    /// Branches that have voted.
    pub(super) prepared: BTreeSet<u64>,
    /// The limited queue holds more than sends can bring it to.
    pub(super) over_limit: Option<String>,
    /// What durable subscriptions keep, by the names of their queues: how often each is there.
    pub(super) kept: BTreeMap<(String, u64), usize>,
}

impl Node {
    pub(super) fn open(disk: &SimDisk, nonce: u64, now: Millis) -> Result<Self, StoreError> {
        // A full disk refuses in some lives and holds in others, at its end or before.
        let when_disk_full = if nonce & 1 == 0 { WhenFull::Refuse } else { WhenFull::Hold };
        let disk_reserve = if nonce & 2 == 0 { 0 } else { 64 << 10 };
        let settings = settings();
        // So few that clients wait for what they have not settled.
        let limits = Limits { loans: 12, loans_of_all: 40, ..settings.limits };
        let settings = Settings { limits, when_disk_full, disk_reserve, ..settings };
        let mut node = Self::open_with(disk, nonce, now, &settings)?;
        node.engine.watch(Arc::new(Uneven::new(nonce)));
        Ok(node)
    }

    pub(super) fn open_with(
        disk: &SimDisk,
        nonce: u64,
        now: Millis,
        settings: &Settings,
    ) -> Result<Self, StoreError> {
        let storage: Arc<dyn Storage> = Arc::new(disk.clone());
        let nonce = u128::from(nonce) << 64 | 0x5EED;
        let store = open_store(&storage, options(), settings, nonce, now, &mut |_| {})?;
        let source = Source::running(&store, &storage);
        let Store { engine, log, room, reader, index, compactor, report, disk, .. } = store;
        let store = report.store_id;
        let (inputs, jobs) = (VecDeque::new(), VecDeque::new());
        let ahead = ReadAhead::new(reader.clone());
        let writing = None;
        Ok(Self {
            engine,
            log,
            room,
            reader,
            ahead,
            index,
            disk,
            compactor,
            inputs,
            jobs,
            source,
            store,
            writing,
        })
    }

    pub(super) fn turn(&mut self, now: Millis) -> Result<Turn, StopError> {
        let mut jobs = Vec::new();
        let turn = self.engine.turn(now, &mut self.inputs, &mut jobs)?;
        // However much is asked: a turn, what its parts may do beyond it, and one step of each.
        let effort = self.engine.effort();
        assert!(effort < 2 * limits::TURN_EFFORT_MAX, "a turn did as much as {effort} messages");
        for job in jobs {
            match job {
                // Anything may come between two of them.
                Job::Loads(loads) => {
                    self.jobs.extend(loads.into_iter().map(|load| Job::Loads(vec![load])));
                }
                other => self.jobs.push_back(other),
            }
        }
        Ok(turn)
    }

    /// Runs until nothing moves; gives what the engine waits for then.
    pub(super) fn rest(&mut self, now: Millis) -> Option<Millis> {
        loop {
            let turn = self.turn(now).unwrap();
            let mut moved = false;
            while self.log_step() || self.room_step() || self.compact_step() {
                moved = true;
            }
            moved |= self.job_step(0) || !self.inputs.is_empty();
            if let (Turn::Idle(deadline), false) = (turn, moved) {
                let passed = deadline.is_some_and(|deadline| deadline <= now);
                assert!(!passed, "it would wake for {deadline:?} again and again");
                return deadline;
            }
        }
    }

    /// Everything that was appended becomes durable, whether or not somebody waits for it.
    pub(super) fn write_all(&mut self) {
        self.log.submit();
        while self.log_step() {}
    }

    /// One step of the log thread; true if it did something.
    pub(super) fn log_step(&mut self) -> bool {
        self.writing = match self.writing.take() {
            None => match self.log.take() {
                None => return false,
                Some(group) => Some(Writing::Taken(group)),
            },
            Some(Writing::Taken(mut group)) => match group.write() {
                Ok(()) => Some(Writing::Written(group)),
                Err(error) => {
                    let _ = self.log.complete(group, Err(error));
                    None
                }
            },
            Some(Writing::Written(group)) => match group.sync() {
                Ok(()) => Some(Writing::Synced(group)),
                Err(error) => {
                    let _ = self.log.complete(group, Err(error));
                    None
                }
            },
            Some(Writing::Synced(group)) => {
                let _ = self.log.complete(group, Ok(()));
                None
            }
        };
        true
    }

    /// One step of the maker of segments; true if it did something.
    pub(super) fn room_step(&mut self) -> bool {
        match self.room.step() {
            Ok(RoomStep::Worked) => true,
            Ok(RoomStep::Idle) => false,
            Ok(RoomStep::NoSpace) => {
                self.log.retry_room();
                false
            }
            // The next step begins anew.
            Err(_) => false,
        }
    }

    /// One job of the threads beside the engine, from the middle of the queue if `which` says so.
    pub(super) fn job_step(&mut self, which: usize) -> bool {
        if self.jobs.is_empty() {
            self.disk.look();
            return false;
        }
        let job = self.jobs.remove(which % self.jobs.len()).expect("in range");
        match job {
            Job::Page(request) => self.inputs.push_back(match read_page(&self.index, request) {
                Ok(page) => Input::Page(page),
                Err(error) => Input::Failed(error),
            }),
            Job::Pieces(request) => {
                self.inputs.push_back(match read_pieces(&self.index, request) {
                    Ok(page) => Input::Pieces(page),
                    Err(error) => Input::Failed(error),
                });
            }
            Job::Later(request) => {
                self.inputs.push_back(match read_later(&self.index, request) {
                    Ok(page) => Input::Later(page),
                    Err(error) => Input::Failed(error),
                });
            }
            Job::Producers(request) => {
                self.inputs.push_back(match read_producers(&self.index, request) {
                    Ok(page) => Input::Producers(page),
                    Err(error) => Input::Failed(error),
                });
            }
            Job::Operations(request) => {
                self.inputs.push_back(match read_operations(&self.index, request) {
                    Ok(page) => Input::Operations(page),
                    Err(error) => Input::Failed(error),
                });
            }
            Job::Outcome(request) => {
                self.inputs.push_back(match read_outcome(&self.index, request) {
                    Ok(page) => Input::Outcome(page),
                    Err(error) => Input::Failed(error),
                });
            }
            Job::Content(request) => {
                let content = self.ahead.read(request.birth, request.size);
                self.inputs.push_back(Input::Content(request, content));
            }
            Job::Select(request) => self.inputs.push_back(judge(request, &mut self.ahead)),
            Job::Loads(loads) => {
                let read = |load: Load| Input::Loaded(load, self.ahead.read(load.birth, load.size));
                self.inputs.extend(loads.into_iter().map(read));
            }
            Job::Peek(_) | Job::Join(_) => {}
            Job::Forget(delta) => drop(delta),
            Job::Checkpoint(job) => {
                let result = self.index.commit(&job.delta, job.replay);
                self.disk.look();
                self.inputs.push_back(Input::Checkpointed(result));
            }
            Job::Compact(ordinals) => {
                let step = self.compactor.begin(&ordinals);
                self.compact_on(step);
            }
            Job::Retire(dead) => {
                self.log.retire(&dead.segments);
                self.log.retire_packs(&dead.packs);
            }
        }
        true
    }

    /// One step of compaction; true if it did something.
    pub(super) fn compact_step(&mut self) -> bool {
        let step = self.compactor.step();
        self.compact_on(step)
    }

    fn compact_on(&mut self, step: CompactStep) -> bool {
        match step {
            CompactStep::Idle => return false,
            CompactStep::Worked(_) => {}
            CompactStep::Done(input) => {
                if let Input::Compacted(Some(compacted)) = &input {
                    // Nothing is damaged here, so every live byte must be found.
                    assert!(compacted.left.is_empty(), "not understood: {compacted:?}");
                }
                self.inputs.push_back(input);
            }
        }
        true
    }

    /// Lets transactions that have their outcome come to their end.
    pub(super) fn end_transactions(&mut self, now: Millis) -> Result<(), String> {
        for _ in 0..10_000 {
            let (left, _) = self.engine.broker().transactions(&BTreeMap::new());
            if left.values().all(|row| row.phase == Phase::Prepared) {
                // What else has happened meanwhile must not be undone by a crash.
                self.write_all();
                return Ok(());
            }
            self.turn(now).map_err(|error| error.to_string())?;
            self.log_step();
            self.room_step();
            self.job_step(0);
        }
        Err("a transaction does not end".to_owned())
    }

    /// Everything durable in the store, each message read from the log, and the store's own
    /// bookkeeping compared with it.
    pub(super) fn contents(&self) -> Result<Contents, String> {
        let broker = self.engine.broker();
        if !broker.counts_windows() {
            return Err("the places in windows are counted wrongly".to_owned());
        }
        let mut contents = Contents::default();
        let mut live: BTreeMap<u64, u64> = BTreeMap::new();
        let mut shared = BTreeMap::new();
        let in_index = self.pieces_in_index()?;
        let mut bodies = Claims::of(broker.all_pieces(&in_index));
        bodies.count(options().segment_size, &mut live);
        let branches = self.branches(&mut live, &mut bodies, &mut contents)?;
        let mut seen = Late { notes: branches.notes.clone(), ..Late::default() };
        for (id, row) in broker.rows() {
            let rows = self.index.page(id, None, usize::MAX).map_err(|e| e.to_string())?;
            let entries = broker.entries(id, &rows);
            if entries.len() as u64 != row.depth {
                return Err(format!("{} says {} and has {}", row.name, row.depth, entries.len()));
            }
            let bytes: u64 = entries.iter().map(|(_, entry)| entry.charge()).sum();
            let staged = branches.staged.get(&id).copied().unwrap_or_default();
            check_units(row, staged, &entries)?;
            if bytes != row.bytes {
                return Err(format!("{} says {} bytes and has {bytes}", row.name, row.bytes));
            }
            if &*row.name == LIMITED && (row.depth > HELD_AT.messages || bytes > HELD_AT.bytes) {
                contents.over_limit = Some(format!("it holds more than its limit: {row:?}"));
            }
            contents.queues.push(row.name.to_string());
            if entries.iter().filter(|(_, it)| it.due.is_some()).count() as u64 != row.delayed {
                return Err(format!("{} says {} are delayed", row.name, row.delayed));
            }
            for (place, entry) in entries {
                if entry.held != branches.held.contains(&(id, place)) {
                    let name = &row.name;
                    return Err(format!("{place:?} in {name} is held by nobody, or should be"));
                }
                seen.see(id, place, entry);
                if entry.shared {
                    shared.entry(entry.birth).or_insert((0, entry.size)).0 += 1;
                } else {
                    let lies = live.entry(entry.birth.0 / options().segment_size);
                    *lies.or_default() += u64::from(entry.size);
                }
                match entry.shared || row.name.starts_with(WAITING) {
                    true => self.find_kept(row, &entry, &mut bodies, &mut contents)?,
                    false => self.find(id, row, place, &entry, &mut bodies, &mut contents)?,
                }
            }
        }
        self.check_names()?;
        let (open, dead) = broker.uploads();
        if let Some(upload) = open.first() {
            return Err(format!("{upload} is still open"));
        }
        bodies.check(&dead, broker.bodies())?;
        contents.uploads = dead.len();
        self.check_shares(&shared, &mut live)?;
        contents.live = live.values().sum();
        if live != broker.live() {
            return Err(format!("live bytes are {:?} and should be {live:?}", broker.live()));
        }
        self.check_late(&seen).map(|()| contents)
    }

    fn pieces_in_index(&self) -> Result<BTreeMap<(UploadId, u32), PieceAt>, String> {
        let mut in_index = BTreeMap::new();
        let each = self.index.each_piece(&mut |key, piece| {
            in_index.insert(key, piece);
        });
        each.map(|()| in_index).map_err(|e| e.to_string())
    }

    pub(super) fn check_names(&self) -> Result<(), String> {
        let names = self.index.names().map_err(|error| error.to_string())?;
        // Who forgets them is to be caught by what comes of it.
        let forgets = mutant::is(Mutant::ForgetNames);
        if !forgets && !self.engine.broker().names_agree(&names) {
            return Err("the names in memory are not those of the index and its changes".to_owned());
        }
        let producers = self.index.producers(None, usize::MAX).map_err(|e| e.to_string())?;
        let staged = self.index.numbered().map_err(|error| error.to_string())?;
        let forgets = mutant::is(Mutant::ForgetNumbers);
        let producers = producers.into_iter().collect();
        if !forgets && !self.engine.broker().producers_agree(&producers, &staged) {
            return Err("the producers in memory are not those of the index".to_owned());
        }
        Ok(())
    }

    /// What is delayed is waited for, and what was set apart has its notes.
    fn check_late(&self, seen: &Late) -> Result<(), String> {
        let Late { delayed, notes } = seen;
        let broker = self.engine.broker();
        let in_index = self.index.delayed(Due::START, usize::MAX).map_err(|e| e.to_string())?;
        if broker.all_delayed(&in_index) != *delayed {
            return Err(format!("not all that is delayed is waited for: {delayed:?}"));
        }
        if broker.notes() != *notes {
            return Err(format!("notes are {:?} and should be {notes:?}", broker.notes()));
        }
        Ok(())
    }

    /// Messages that are delayed.
    pub(super) fn delayed(&self) -> u64 {
        self.engine.broker().rows().values().map(|row| row.delayed).sum()
    }

    /// What prepared branches have done, each message read from the log.
    fn branches(
        &self,
        live: &mut BTreeMap<u64, u64>,
        bodies: &mut Claims,
        contents: &mut Contents,
    ) -> Result<Branches, String> {
        let broker = self.engine.broker();
        let mut in_index = BTreeMap::new();
        let each = self.index.each_operation(&mut |key, operation| {
            in_index.insert(key, operation);
        });
        each.map_err(|error| error.to_string())?;
        let (left, operations) = broker.transactions(&in_index);
        if let Some((id, row)) = left.iter().find(|(_, row)| row.phase != Phase::Prepared) {
            return Err(format!("{id} is not over: {row:?}"));
        }
        contents.prepared = broker.prepared_xids().map(number_of_xid).collect();
        let mut branches = Branches::default();
        for ((id, _), operation) in operations {
            if !left.contains_key(&id) {
                return Err(format!("{id} is over, and has {operation:?}"));
            }
            match operation {
                Operation::Send { queue, entry, .. } | Operation::Keep { queue, entry, .. } => {
                    if let Some(note) = entry.note {
                        *branches.notes.entry(note).or_default() += 1;
                    }
                    *branches.staged.entry(queue).or_default() += 1;
                    *live.entry(entry.birth.0 / options().segment_size).or_default() +=
                        u64::from(entry.size);
                    let frame = self.reader.read(entry.birth, entry.size);
                    let frame = frame.map_err(|error| format!("{operation:?}: {error}"))?;
                    bodies.claim(&self.reader, &entry, &frame.payload)?;
                }
                Operation::Take { queue, place, .. } => {
                    branches.held.insert((queue, place));
                }
            }
        }
        Ok(branches)
    }

    fn find(
        &self,
        id: QueueId,
        row: &QueueRow,
        place: Place,
        entry: &Entry,
        bodies: &mut Claims,
        contents: &mut Contents,
    ) -> Result<(), String> {
        let frame = self.reader.read(entry.birth, entry.size);
        let frame = frame.map_err(|error| format!("{id} {place:?}: {error}"))?;
        let number = bodies.claim(&self.reader, entry, &frame.payload)?;
        if again_of(&frame.payload).is_some() {
            let found = contents.again.entry(number).or_default();
            match self.engine.broker().occurrences_left(entry) {
                Some(left) => found.left += left as usize,
                None => drop(found.there.insert(MessageId::Durable(entry.birth))),
            }
            return Ok(());
        }
        let found = Found {
            queue: row.name.to_string(),
            place,
            returns: entry.returns,
            redelivered: self.engine.broker().may_be_seen(id, place, entry),
            held: entry.held,
        };
        match contents.messages.insert(number, found) {
            None => Ok(()),
            Some(other) => Err(format!("message {number} is there twice: {place:?}, {other:?}")),
        }
    }
}

/// Ends the use of a disk that nobody looks at any more, before its broker is dropped: to close an
/// index takes longer than to open it, and the dead close nothing.
pub(super) fn abandon(disk: &SimDisk) {
    disk.fail_at(disk.operations(), Fault::PowerOff);
    let _ = disk.sync_dir();
}

/// What a queue's row says of transactions that have no outcome.
fn check_units(row: &QueueRow, staged: u64, entries: &[(Place, Entry)]) -> Result<(), String> {
    if row.staged != staged {
        return Err(format!("{} waits for {staged} messages, not {}", row.name, row.staged));
    }
    let held = entries.iter().filter(|(_, entry)| entry.held).count() as u64;
    if row.held != held {
        return Err(format!("{} says {} are held, and {held} are", row.name, row.held));
    }
    Ok(())
}

/// What prepared branches have done.
#[derive(Default)]
struct Branches {
    /// Messages that they have sent, or will put back.
    staged: BTreeMap<QueueId, u64>,
    held: BTreeSet<(QueueId, Place)>,
    /// Notes of messages that they have sent to be delivered later.
    notes: BTreeMap<NoteId, u64>,
}

/// What entries say of delays and notes.
#[derive(Default)]
struct Late {
    delayed: BTreeMap<Due, Entry>,
    notes: BTreeMap<NoteId, u64>,
}

impl Late {
    fn see(&mut self, queue: QueueId, place: Place, entry: Entry) {
        if let Some(at) = entry.due {
            self.delayed.insert(Due { at, queue, place }, entry);
        }
        if let Some(note) = entry.note {
            *self.notes.entry(note).or_default() += 1;
        }
    }
}

/// The number that a message of a simulated client carries.
pub(super) fn number_of(content: &bytes::Bytes) -> Result<u64, String> {
    if large_bytes(content).is_some() {
        return number_of_large(content);
    }
    let content = Content::decode(content.clone()).map_err(|error| error.to_string())?;
    let number = content.property("number").ok_or("nobody sent this")?;
    let number: u64 = number.parse().map_err(|_| "nobody sent this")?;
    // The body is made from the number, so that a mix of two messages is noticed.
    let good = content.body.iter().all(|byte| *byte == number as u8);
    if good { Ok(number) } else { Err(format!("the body of message {number} is another's")) }
}
