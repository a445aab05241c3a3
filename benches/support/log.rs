//! A group-committed log without a broker: the crate's own, with a thread that writes and syncs it
//! and one that makes its segments.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use escrowmq::io::Storage;
use escrowmq::io::real::DirStorage;
use escrowmq::wal::{Admission, Class, Log, Opened, Options, Room, RoomStep, Wake, claim};

use super::crowd::Done;

/// A running log.
#[derive(Debug)]
pub(crate) struct BareLog {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    log: Arc<Log>,
    /// Held by whoever appends: one admission counts until the next append.
    appending: Mutex<()>,
    /// More is durable, or there is more room.
    changed: Condvar,
}

impl BareLog {
    pub(crate) fn open(dir: &Path) -> Self {
        let storage: Arc<dyn Storage> =
            Arc::new(DirStorage::open_or_create(dir).expect("a data directory"));
        let nonce = SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_nanos();
        let claimed = claim(storage, Options::default(), nonce).expect("a new log");
        let mut recovery = claimed.recover(None).expect("nothing to recover");
        assert!(recovery.next().expect("nothing to recover").is_none());
        let nothing = (BTreeMap::new(), BTreeMap::new());
        let opened = recovery.finish(&nothing.0, &nothing.1).expect("a new log");
        let Opened { log, room, .. } = opened;
        let (appending, changed) = (Mutex::new(()), Condvar::new());
        let shared = Arc::new(Shared { log, appending, changed });
        let (writer, maker) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads =
            vec![thread::spawn(move || write(&writer)), thread::spawn(move || make(room, &maker))];
        Self { shared, threads }
    }

    /// So many threads append records of `bytes`, each its next when the one before is durable.
    pub(crate) fn append(&self, threads: usize, bytes: usize, turn: Duration) -> Done {
        let (began, payload) = (Instant::now(), vec![b'x'; bytes]);
        let appender = || {
            let mut messages = 0;
            while began.elapsed() < turn {
                self.shared.append_durably(&payload);
                messages += 1;
            }
            messages
        };
        let messages = thread::scope(|scope| {
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(appender)).collect();
            all.into_iter().map(|one| one.join().expect("no panic")).sum()
        });
        Done { messages, elapsed: began.elapsed() }
    }

    pub(crate) fn close(self) {
        self.shared.log.close();
        self.threads.into_iter().for_each(|thread| thread.join().expect("a clean end"));
    }
}

impl Shared {
    fn append_durably(&self, payload: &[u8]) {
        const RECORD: [u8; 64] = [1; 64];
        let bytes = Log::frame_bytes(RECORD.len(), payload.len());
        let mut appending = self.appending.lock().expect("no panic holds it");
        while self.log.admit(bytes, Class::Clear) != Admission::Yes {
            appending = self.changed.wait(appending).expect("no panic holds it");
        }
        let lsn = self.log.append(1, &RECORD, payload).lsn;
        self.log.submit();
        while self.log.durable() <= lsn {
            appending = self.changed.wait(appending).expect("no panic holds it");
        }
    }

    /// Wakes all who wait; whoever has looked and not begun to wait has the lock.
    fn tell(&self) {
        drop(self.appending.lock().expect("no panic holds it"));
        self.changed.notify_all();
    }
}

fn write(shared: &Shared) {
    while shared.log.wait() == Wake::Work {
        let Some(mut group) = shared.log.take() else { continue };
        let result = group.write().and_then(|()| group.sync());
        shared.log.complete(group, result).expect("a disk that works");
        shared.tell();
    }
}

/// Segments are never needed again: there is no store that could need them.
fn make(mut room: Room, shared: &Shared) {
    let in_use = || shared.log.appended().0 / shared.log.segment_size();
    let mut first = in_use();
    while room.wait() == Wake::Work {
        while room.step().expect("a disk with room") == RoomStep::Worked {}
        // What was written last may not be durable.
        let dead: Vec<u64> = (first..in_use().saturating_sub(1)).collect();
        first += dead.len() as u64;
        shared.log.retire(&dead);
        shared.tell();
    }
}
