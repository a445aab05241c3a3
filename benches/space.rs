//! What a store takes on the disk, against what lives in it.
//!
//! A: one message that nobody consumes, and much traffic through another queue. B: a million
//! messages of 200 bytes that stay, each confirmed before the next is sent, so that each lies alone
//! in a padded block of the log. C: the same store after a purge. Each is measured two checkpoints
//! after the traffic has stopped, with everything there is in the directory.
//!
//! Nothing but space is measured, so nothing is synced: a million confirmations would take half an
//! hour otherwise, and the faster the log grows, the harder it is for compaction to keep up.

mod support;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use escrowmq::broker::command::{Command, Confirm, Outcome, Output, Request, Which};
use escrowmq::engine::{self, Connection, NO_TOKEN, Running, Settings};
use escrowmq::ids::{SubscriptionId, Tag};
use escrowmq::io::real::{DirStorage, SystemClock};
use escrowmq::io::{Clock, File, Storage};
use escrowmq::message::{BodyKind, Content, Destination, Durability, Message, Priority};
use escrowmq::schedule::When;
use escrowmq::wal;
use support::Size;
use support::process::fresh_dir;
use support::report::{Goal, Series, figures, headline, verdict};

/// Bytes of a message's record in the log: queue, place, times, flags.
const ENVELOPE_BYTES: u64 = 34;
const SMALL_BODY: usize = 200;
const LARGE_BODY: usize = 64 << 10;
const OUTSTANDING: usize = 64;

/// How much is sent, and how the broker is set.
struct Scale {
    options: wal::Options,
    settings: Settings,
    traffic_bytes: u64,
    messages: u64,
    /// How long the store has after two checkpoints: none, but where a test shares its machine.
    grace: Duration,
}

impl Scale {
    fn of(size: Size) -> Self {
        if size.is_full() {
            return Self {
                options: wal::Options::default(),
                settings: Settings::default(),
                traffic_bytes: 10 << 30,
                messages: 1_000_000,
                grace: Duration::from_secs(1),
            };
        }
        let checkpoint_bytes = 1 << 20;
        Self {
            // The index and its reserve have a least size of their own, as much as three of 1 MiB.
            options: wal::Options::small(2 << 20),
            settings: Settings { checkpoint_bytes, checkpoint_millis: 200, ..Settings::default() },
            traffic_bytes: 48 << 20,
            messages: 2_000,
            grace: Duration::from_secs(60),
        }
    }

    fn segments(&self, count: u64) -> u64 {
        count * self.options.segment_size
    }
}

pub(crate) fn main() {
    let Some(size) = Size::asked("space") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let scale = Scale::of(size);
    headline("space: the store on the disk against what lives in it", 1);
    runtime.block_on(pinned(&scale));
    runtime.block_on(staying(&scale));
}

/// A.
async fn pinned(scale: &Scale) {
    let dir = fresh_dir();
    let running = open(dir.path(), scale);
    let lone = send("lone", SMALL_BODY);
    confirmed(&running.handle().connect().expect("a connection"), &lone, 1, 1).await;
    let connection = running.handle().connect().expect("a connection");
    let through = send("through", LARGE_BODY);
    let consumer = Consumer::new(&running, "through").await;
    let count = scale.traffic_bytes / LARGE_BODY as u64;
    tokio::join!(confirmed(&connection, &through, count, OUTSTANDING), consumer.accept(count));
    measure("A: one message, and traffic past it", dir.path(), scale, 1);
    running.handle().stop();
    running.join().expect("a clean end");
}

/// B and C.
async fn staying(scale: &Scale) {
    let dir = fresh_dir();
    let running = open(dir.path(), scale);
    let connection = running.handle().connect().expect("a connection");
    confirmed(&connection, &send("staying", SMALL_BODY), scale.messages, 1).await;
    measure("B: messages that stay", dir.path(), scale, scale.messages);
    let purge = request(Command::Purge { queue: "staying".into() });
    confirmed(&connection, &purge, 1, 1).await;
    measure("C: after their purge", dir.path(), scale, 0);
    running.handle().stop();
    running.join().expect("a clean end");
}

fn open(data: &Path, scale: &Scale) -> Running {
    let storage = DirStorage::open_or_create(data).expect("a data directory");
    let storage: Arc<dyn Storage> = Arc::new(Unsynced(Arc::new(storage)));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let nonce = SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_nanos();
    let (options, settings, now) = (scale.options.clone(), &scale.settings, clock.wall());
    let store = engine::open_store(&storage, options, settings, nonce, now, &mut |_| {});
    engine::start(store.expect("a new store"), clock).expect("threads")
}

/// A disk on which every sync is done already.
#[derive(Debug)]
struct Unsynced<T: ?Sized>(Arc<T>);

impl Storage for Unsynced<DirStorage> {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(Unsynced(self.0.open(name)?)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(Unsynced(self.0.create(name)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.link(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        self.0.free()
    }
}

impl File for Unsynced<dyn File> {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_size(size)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until two checkpoints have come by time, and tells what is on the disk then.
fn measure(what: &str, data: &Path, scale: &Scale, messages: u64) {
    let content = content(SMALL_BODY).len() as u64;
    let live = messages * (content + ENVELOPE_BYTES);
    let allowed = live as f64 * 1.3 + scale.segments(6) as f64;
    let stopped = Instant::now();
    let before = taken(data);
    let two = Duration::from_millis(2 * scale.settings.checkpoint_millis);
    std::thread::sleep(two);
    while taken(data) as f64 > allowed && stopped.elapsed() < two + scale.grace {
        std::thread::sleep(Duration::from_millis(100));
    }
    let after = taken(data);
    let mib = |bytes: u64| series(bytes as f64 / f64::from(1 << 20));
    figures(&format!("{what}: live"), "MiB", &mib(live));
    figures("  the store when the traffic stopped", "MiB", &mib(before));
    figures("  the store two checkpoints later", "MiB", &mib(after));
    for (kind, bytes) in by_kind(data) {
        figures(&format!("    of which {kind}"), "MiB", &mib(bytes));
    }
    figures("  the store / live", "ratio", &series(after as f64 / live.max(1) as f64));
    let of_allowed = after as f64 / allowed;
    verdict("  the store / (1.3 live + 6 segments)", &series(of_allowed), Goal::AtMost(1.0));
    // Space is no matter of a busy machine: the small sizes count as well.
    assert!(of_allowed <= 1.0, "{what}: {after} bytes for {live} that live");
}

fn series(value: f64) -> Series {
    let mut series = Series::default();
    series.push(value);
    series
}

fn taken(data: &Path) -> u64 {
    by_kind(data).into_iter().map(|(_, bytes)| bytes).sum()
}

/// Bytes on the disk, by the beginning of the files' names.
fn by_kind(data: &Path) -> Vec<(String, u64)> {
    let mut kinds = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(data).expect("the data directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = name.split(['-', '.']).next().unwrap_or_default().to_owned();
        // A file may go between the listing and the look.
        let bytes = entry.metadata().map_or(0, |file| file.blocks() * 512);
        *kinds.entry(kind).or_insert(0) += bytes;
    }
    kinds.into_iter().collect()
}

fn content(body: usize) -> bytes::Bytes {
    let body = vec![b'x'; body].into();
    Content { kind: BodyKind::Bytes, properties: Vec::new(), body }.encode()
}

fn send(queue: &str, body: usize) -> Request {
    let (durability, priority) = (Durability::Persistent, Priority::DEFAULT);
    let message = Message {
        durability,
        priority,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content: content(body),
    };
    request(Command::Send { to: Destination::Queue(queue.into()), message })
}

fn request(command: Command) -> Request {
    Request { token: NO_TOKEN, confirm: Confirm::Always, command }
}

/// Asks the same `count` times, with so many outstanding, and waits for every yes.
async fn confirmed(connection: &Connection, request: &Request, count: u64, window: usize) {
    let (mut asked, mut done, mut outputs) = (0, 0, Vec::new());
    while done < count {
        let more = (window as u64 - (asked - done)).min(count - asked);
        if more > 0 {
            let requests = vec![request.clone(); more as usize];
            connection.submit(requests).await.expect("the engine runs");
            asked += more;
        }
        connection.receive(&mut outputs).await.expect("the engine runs");
        for output in outputs.drain(..) {
            assert!(matches!(output, Output::Answer { result: Ok(_), .. }), "{output:?}");
            done += 1;
        }
    }
}

/// Accepts everything it gets.
struct Consumer {
    connection: Connection,
}

const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);

impl Consumer {
    async fn new(running: &Running, queue: &str) -> Self {
        let connection = running.handle().connect().expect("a connection");
        let from = Destination::Queue(queue.into());
        let prefetch = 2 * OUTSTANDING as u32;
        let subscribe =
            Command::Subscribe { subscription: SUBSCRIPTION, from, prefetch, selector: None };
        confirmed(&connection, &request(subscribe), 1, 1).await;
        Self { connection }
    }

    async fn accept(&self, count: u64) {
        let (mut accepted, mut outputs) = (0, Vec::new());
        while accepted < count {
            self.connection.receive(&mut outputs).await.expect("the engine runs");
            let (mut window, mut last) = (0, None);
            for output in outputs.drain(..) {
                window += Connection::window_bytes(&output);
                let Output::Delivery(delivery) = output else { panic!("{output:?}") };
                last = Some(delivery.tag);
                accepted += 1;
            }
            self.connection.written(window);
            if let Some(tag) = last {
                self.connection.submit(vec![settle(tag)]).await.expect("the engine runs");
            }
        }
    }
}

fn settle(tag: Tag) -> Request {
    let (which, outcome) = (Which::Through(tag), Outcome::Accepted);
    let command = Command::Settle { subscription: SUBSCRIPTION, which, outcome };
    Request { token: NO_TOKEN, confirm: Confirm::RefusalOnly, command }
}
