//! What programs that embed a broker see when disks, power and the broker itself fail.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use escrowmq::ids::Millis;
use escrowmq::io::sim::{Fault, SimClock, SimDisk};
use escrowmq::io::{Clock, File, Storage};
use escrowmq::{Destination, Ended, RecvError, SendError, SettleError, SubscribeError};
use tokio::time::timeout;

use super::{drain, next, on_disk, orders, small, story};

#[test]
fn a_power_cut_under_a_broker_takes_nothing_that_it_confirmed() {
    let disk = SimDisk::new();
    let after = story(async {
        let broker = on_disk(&disk).open().await.unwrap();
        let connection = broker.connect().unwrap();
        connection.send(orders(), "acknowledged").await.unwrap();
        connection.send(orders(), "received").await.unwrap();
        connection.send(orders(), "waiting").await.unwrap();
        let mut consumer = connection.subscribe(orders()).await.unwrap();
        next(&mut consumer).await.acknowledge().await.unwrap();
        let received = next(&mut consumer).await;
        let after = disk.snapshot_crash(7);
        drop(received);
        after
    });
    story(async {
        let broker = on_disk(&after).open().await.unwrap();
        let connection = broker.connect().unwrap();
        let mut consumer = connection.subscribe(orders()).await.unwrap();
        let again = next(&mut consumer).await;
        assert_eq!((again.text(), again.is_redelivered()), (Some("received"), true));
        assert_eq!(next(&mut consumer).await.text(), Some("waiting"));
    });
}

#[test]
fn a_store_that_fails_is_told_to_everyone_and_the_program_lives_on() {
    let disk = SimDisk::new();
    story(async {
        let broker = on_disk(&disk).open().await.unwrap();
        let connection = broker.connect().unwrap();
        connection.send(orders(), "confirmed").await.unwrap();
        let mut waiting = connection.subscribe(Destination::queue("empty")).await.unwrap();
        let mut consumer = connection.subscribe(orders()).await.unwrap();
        let held = next(&mut consumer).await;
        let waits = tokio::spawn(async move { waiting.recv().await.unwrap_err() });

        disk.fail_at(disk.operations(), Fault::Persistent);
        let error = connection.send(orders(), "lost").await.unwrap_err();
        assert!(matches!(error, SendError::Ended(Ended::Failed(_))), "{error:?}");
        let told = waits.await.unwrap();
        assert!(matches!(told, RecvError::Ended(Ended::Failed(_))), "{told:?}");
        let told = held.acknowledge().await.unwrap_err();
        assert!(matches!(told, SettleError::Ended(Ended::Failed(_))), "{told:?}");
        let told = connection.subscribe(orders()).await.unwrap_err();
        assert!(matches!(told, SubscribeError::Ended(Ended::Failed(_))), "{told:?}");
        assert!(matches!(broker.connect(), Err(Ended::Failed(_))));
        let why = broker.failed().await.to_string();
        assert!(why.contains("a restart finds what is durable"), "{why}");
        assert_eq!(broker.close().await.unwrap_err().to_string(), why);
    });
    // The next one finds what was confirmed.
    let disk = disk.snapshot_crash(1);
    story(async {
        let broker = on_disk(&disk).open().await.unwrap();
        let found = drain(&broker.connect().unwrap(), &orders()).await;
        assert_eq!(found.first().map(String::as_str), Some("confirmed"));
        broker.close().await.unwrap();
    });
}

#[test]
fn a_panic_inside_the_broker_ends_the_broker_and_not_whoever_called_it() {
    let clock = BrokenClock::default();
    story(async {
        let disk: Arc<dyn Storage> = Arc::new(SimDisk::new());
        let builder = small(Path::new("nowhere")).storage(disk).clock(Arc::new(clock.clone()));
        let broker = builder.open().await.unwrap();
        let connection = broker.connect().unwrap();
        connection.send(orders(), "confirmed").await.unwrap();
        let mut consumer = connection.subscribe(Destination::queue("empty")).await.unwrap();
        clock.broken.store(true, Ordering::Relaxed);
        let error = connection.send(orders(), "lost").await.unwrap_err();
        assert!(matches!(error, SendError::Ended(Ended::Failed(_))), "{error:?}");
        let error = consumer.recv().await.unwrap_err();
        assert!(matches!(error, RecvError::Ended(Ended::Failed(_))), "{error:?}");
        let why = broker.close().await.unwrap_err().to_string();
        assert!(why.contains("has panicked"), "{why}");
    });
}

#[test]
fn whatever_operation_of_the_disk_fails_no_call_waits_for_ever() {
    for operation in 0..60 {
        let disk = SimDisk::new();
        disk.fail_at(operation, Fault::Persistent);
        story(async {
            let Ok(broker) = on_disk(&disk).open().await else { return };
            let connection = broker.connect();
            if let Ok(connection) = &connection {
                let _ = connection.send(orders(), "perhaps").await;
            }
            let _ = broker.close().await;
        });
    }
}

#[test]
fn a_connection_kept_from_an_earlier_broker_never_touches_the_store_again() {
    let disk = SimDisk::new();
    story(async {
        let broker = on_disk(&disk).open().await.unwrap();
        let old = broker.connect().unwrap();
        old.send(orders(), "one").await.unwrap();
        broker.close().await.unwrap();
        // It still has what its broker had of the store: an index, and ways to every file.
        let before = disk.operations();
        drop(old);
        assert_eq!(disk.operations(), before, "{}", disk.last_label());
        let broker = on_disk(&disk).open().await.unwrap();
        assert_eq!(drain(&broker.connect().unwrap(), &orders()).await, ["one"]);
        broker.close().await.unwrap();
    });
}

#[test]
fn dropping_everything_in_a_task_waits_for_nothing() {
    let disk = StuckDisk::default();
    story(async {
        let storage: Arc<dyn Storage> = Arc::new(disk.clone());
        let broker = small(Path::new("nowhere")).storage(storage).open().await.unwrap();
        let connection = broker.connect().unwrap();
        connection.send(orders(), "one").await.unwrap();
        let mut consumer = connection.subscribe(orders()).await.unwrap();
        let delivery = next(&mut consumer).await;
        disk.gate.close();
        // From here on no sync returns; a drop that waited for one would wait for ever.
        let receipt = connection.post(orders(), "two").await.unwrap();
        let closing = broker.close();
        drop((receipt, delivery, consumer, connection));
        assert!(timeout(Duration::ZERO, closing).await.is_err(), "closed before it is durable");
        disk.gate.open();
    });
}

/// A clock that panics when it is asked, once it is broken.
#[derive(Clone, Debug, Default)]
struct BrokenClock {
    clock: SimClock,
    broken: Arc<AtomicBool>,
}

impl Clock for BrokenClock {
    fn wall(&self) -> Millis {
        assert!(!self.broken.load(Ordering::Relaxed), "broken on purpose");
        self.clock.wall()
    }
    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}

/// Where whoever comes waits while it is closed.
#[derive(Debug, Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }
    fn open(&self) {
        *self.closed.lock().unwrap() = false;
        self.opened.notify_all();
    }
    fn pass(&self) {
        drop(self.opened.wait_while(self.closed.lock().unwrap(), |closed| *closed));
    }
}

/// A disk whose syncs wait for a gate.
#[derive(Clone, Debug, Default)]
struct StuckDisk {
    disk: SimDisk,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct StuckFile {
    file: Arc<dyn File>,
    gate: Arc<Gate>,
}

impl StuckDisk {
    fn behind_the_gate(&self, file: io::Result<Arc<dyn File>>) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(StuckFile { file: file?, gate: Arc::clone(&self.gate) }))
    }
}

impl Storage for StuckDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.behind_the_gate(self.disk.open(name))
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.behind_the_gate(self.disk.create(name))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.link(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.gate.pass();
        self.disk.sync_dir()
    }
    fn free(&self) -> io::Result<u64> {
        self.disk.free()
    }
}

impl File for StuckFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_size(size)
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(buf, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync()
    }
}
