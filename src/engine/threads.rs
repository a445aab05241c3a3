//! The threads of a running broker: the engine, the log, the maker of segments, the reader, the
//! judge by selectors, the checkpointer and the compactor. Each runs the steps of one part; none
//! holds a rule.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::broker::SelectRequest;
use crate::broker::delta::Delta;
use crate::broker::fact::{
    ContentRequest, LaterPage, LaterRequest, OperationsPage, OperationsRequest, Page, PageRequest,
    PiecesPage, PiecesRequest, ProducersPage, ProducersRequest,
};
use crate::broker::xa::{OutcomePage, OutcomeRequest};
use crate::engine::driver::{Driver, Helpers};
use crate::engine::forget::forget;
use crate::engine::inbox::{Handle, Inbox};
use crate::engine::mailbox::Closed;
use crate::engine::select::judge;
use crate::engine::{
    CheckpointJob, CompactStep, Compactor, DiskWatch, Input, Join, Load, Peek, StopError, Store,
};
use crate::io::Clock;
use crate::limits;
use crate::store::index::{CommitError, Index, IndexError};
use crate::wal::{Fence, Group, Log, ReadAhead, Reader, Room, RoomStep, Wake};

/// A broker at work.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    engine: JoinHandle<Result<(), StopError>>,
    log: Arc<Log>,
    others: Vec<JoinHandle<()>>,
}

/// Work for one of the threads beside the engine.
#[derive(Debug)]
pub(crate) enum Read {
    Page(PageRequest),
    Pieces(PiecesRequest),
    Later(LaterRequest),
    Producers(ProducersRequest),
    Content(ContentRequest),
    Operations(OperationsRequest),
    Outcome(OutcomeRequest),
    Loads(Vec<Load>),
    Peek(Peek),
    Join(Join),
}

/// Work for the checkpointer.
#[derive(Debug)]
pub(crate) enum Merge {
    Checkpoint(CheckpointJob),
    /// To be dropped: so much that it would keep the engine.
    Forget(Arc<Delta>),
}

/// Starts the threads of a recovered store.
///
/// # Errors
/// Where the system gives no threads.
pub fn start(store: Store, clock: Arc<dyn Clock>) -> Result<Running, StopError> {
    let Store { engine, log, room, reader, compactor, fence, index, disk, .. } = store;
    let (reads, to_read) = channel();
    let (questions, to_judge) = channel();
    let (checkpoints, to_checkpoint) = channel();
    let (plans, to_compact) = channel();
    let helpers = Helpers { reads, questions, checkpoints, plans };
    let driver = Driver::new(engine, Arc::clone(&log), clock, fence.clone(), helpers);
    let driver = Arc::new(driver);
    let mut others = Vec::new();
    let mut spawn = |name: &'static str, body: Box<dyn FnOnce(&Driver) + Send>| {
        let alarm = Alarm { name, driver: Arc::clone(&driver) };
        let body = move || body(&alarm.driver);
        Builder::new().name(name.to_owned()).spawn(body).map(|thread| others.push(thread))
    };
    let (l, f) = (Arc::clone(&log), fence.clone());
    let write = move |driver: &Driver| write_log(&l, &f, driver);
    spawn("log", Box::new(write)).map_err(StopError::Thread)?;
    let l = Arc::clone(&log);
    let make = move |driver: &Driver| make_room(room, &l, &driver.inbox);
    spawn("room", Box::new(make)).map_err(StopError::Thread)?;
    let other = reader.clone();
    let judge = move |driver: &Driver| judge_all(&to_judge, other, &driver.inbox);
    spawn("select", Box::new(judge)).map_err(StopError::Thread)?;
    let x = Arc::clone(&index);
    let read = move |driver: &Driver| read(&to_read, &x, reader, &driver.inbox);
    spawn("reader", Box::new(read)).map_err(StopError::Thread)?;
    let checkpoint =
        move |driver: &Driver| checkpoint(&to_checkpoint, &index, &fence, &disk, driver);
    spawn("checkpoint", Box::new(checkpoint)).map_err(StopError::Thread)?;
    let l = Arc::clone(&log);
    let compact = move |driver: &Driver| compact(&to_compact, compactor, &l, &driver.inbox);
    spawn("compact", Box::new(compact)).map_err(StopError::Thread)?;
    let (d, l) = (Arc::clone(&driver), Arc::clone(&log));
    let turns = move || {
        let result = catch_unwind(AssertUnwindSafe(|| d.run()));
        let result = result.unwrap_or(Err(StopError::Panic("engine")));
        if let Err(error) = &result {
            tracing::error!(%error, "the broker has stopped");
        }
        let why = if result.is_ok() { Closed::Stopping } else { Closed::Failed };
        d.inbox.close(why);
        d.dismiss(why);
        l.close();
        result
    };
    let engine = Builder::new().name("engine".to_owned()).spawn(turns);
    let engine = engine.map_err(StopError::Thread)?;
    Ok(Running { handle: Handle::new(driver), engine, log, others })
}

/// Tells the engine when its thread panics: without it the broker would stand still, or go on
/// without checkpoints, and nobody would know.
struct Alarm {
    name: &'static str,
    driver: Arc<Driver>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.driver.inbox.push(Input::Failed(StopError::Panic(self.name)));
        }
    }
}

impl Running {
    /// A way to the broker.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until the broker has ended, with everything durable if it ended well.
    ///
    /// # Errors
    /// Why it ended otherwise.
    pub fn join(self) -> Result<(), StopError> {
        let (result, leaving) = self.wait();
        let rest = leaving.join();
        result.and(rest)
    }

    /// Waits until the engine has ended: nothing more is confirmed, though a thread beside it may
    /// still be at its last step, which on a bad disk takes long.
    pub fn wait(self) -> (Result<(), StopError>, Leaving) {
        let result = self.engine.join().expect("a panic of the engine is a defect");
        (result, Leaving { log: self.log, others: self.others })
    }
}

/// The threads beside an engine that has ended.
#[derive(Debug)]
pub struct Leaving {
    log: Arc<Log>,
    others: Vec<JoinHandle<()>>,
}

impl Leaving {
    /// Waits until they have ended: nobody touches the store any more.
    ///
    /// # Errors
    /// Where the last words of the log did not get through.
    pub fn join(self) -> Result<(), StopError> {
        // A panic of one of these has ended the engine, which has said so.
        self.others.into_iter().for_each(|thread| drop(thread.join()));
        self.log.failure().map_or(Ok(()), |failure| Err(StopError::Log(failure)))
    }
}

fn write_log(log: &Log, fence: &Fence, driver: &Driver) {
    while log.wait() == Wake::Work {
        let Some(mut group) = log.take() else { continue };
        // The look comes after the sync and before any answer; the other way round, answers could
        // be lost to a new owner.
        let sync = |group: &Group| {
            let begun = driver.clock.monotonic();
            let result = group.sync();
            driver.gauges.syncs.add(driver.clock.monotonic().saturating_sub(begun));
            result
        };
        let result = group.write().and_then(|()| sync(&group)).and_then(|()| fence.check());
        let failed = log.complete(group, result).is_err();
        driver.bring_durable();
        if failed {
            return;
        }
    }
}

fn make_room(mut room: Room, log: &Log, inbox: &Inbox) {
    while room.wait() == Wake::Work {
        // It is told once of many dead files, and takes back one in a step.
        while make_room_step(&mut room, log, inbox) {}
    }
}

/// One step; false when there is nothing to do now, or it has to be tried again.
fn make_room_step(room: &mut Room, log: &Log, inbox: &Inbox) -> bool {
    match room.step() {
        Ok(RoomStep::Idle) => return false,
        Ok(RoomStep::Worked) => {
            inbox.wake();
            return true;
        }
        Ok(RoomStep::NoSpace) => {}
        // Nothing in use was touched; the log lives on what is ready.
        Err(error) => tracing::error!(%error, "making room for the log failed; trying again"),
    }
    inbox.wake();
    std::thread::sleep(Duration::from_millis(limits::FULL_RETRY_MILLIS));
    log.retry_room();
    false
}

fn read(reads: &Receiver<Read>, index: &Index, reader: Reader, inbox: &Inbox) {
    let mut reader = ReadAhead::new(reader);
    while let Ok(first) = reads.recv() {
        // Several are told of at once: the engine is woken once for them, and a turn sees them all.
        let more = std::iter::from_fn(|| reads.try_recv().ok());
        for read in std::iter::once(first).chain(more.take(limits::READS_AT_ONCE - 1)) {
            inbox.post(match read {
                Read::Page(request) => match until_room(|| read_page(index, request)) {
                    Ok(page) => Input::Page(page),
                    Err(error) => Input::Failed(error),
                },
                Read::Pieces(request) => match until_room(|| read_pieces(index, request)) {
                    Ok(page) => Input::Pieces(page),
                    Err(error) => Input::Failed(error),
                },
                Read::Later(request) => match until_room(|| read_later(index, request)) {
                    Ok(page) => Input::Later(page),
                    Err(error) => Input::Failed(error),
                },
                Read::Producers(request) => match until_room(|| read_producers(index, request)) {
                    Ok(page) => Input::Producers(page),
                    Err(error) => Input::Failed(error),
                },
                Read::Operations(request) => match until_room(|| read_operations(index, request)) {
                    Ok(page) => Input::Operations(page),
                    Err(error) => Input::Failed(error),
                },
                Read::Outcome(request) => {
                    match until_room(|| read_outcome(index, request.clone())) {
                        Ok(page) => Input::Outcome(page),
                        Err(error) => Input::Failed(error),
                    }
                }
                Read::Content(request) => {
                    let content = reader.read(request.birth, request.size);
                    Input::Content(request, content)
                }
                Read::Loads(loads) => {
                    load_all(&loads, &mut reader, inbox);
                    continue;
                }
                Read::Join(join) => {
                    let Join { transaction, after, mut glimpse, to } = join;
                    let limit = limits::GLIMPSE_OPERATIONS;
                    // What damage means, the start and the outcome say.
                    if let Ok(rows) = index.operations(transaction, after, limit) {
                        glimpse.join(&rows);
                        let _ = to.send(glimpse);
                    }
                    continue;
                }
                Read::Peek(Peek { birth, size, to }) => {
                    // Who has asked may be gone.
                    let _ = to.send(reader.read(birth, size));
                    continue;
                }
            });
        }
        inbox.rouse();
    }
}

/// Reads payloads, and tells of many at once: while these are handed out, it reads the next.
fn load_all(loads: &[Load], reader: &mut ReadAhead, inbox: &Inbox) {
    for some in loads.chunks(limits::READS_AT_ONCE) {
        let (mut inputs, mut rest) = (Vec::with_capacity(some.len()), some);
        while !rest.is_empty() {
            let (count, bytes) = together(rest);
            let (next, others) = rest.split_at(count);
            reader.share(if count > 1 { bytes } else { 0 });
            let read = |load: &Load| Input::Loaded(*load, reader.read(load.birth, load.size));
            inputs.extend(next.iter().map(read));
            rest = others;
        }
        inbox.post_all(inputs);
        inbox.rouse();
    }
}

/// How many of the first are read into one allocation, and their bytes: one thread frees what
/// another has allocated, for which the two wait for each other.
fn together(loads: &[Load]) -> (usize, usize) {
    let (mut count, mut bytes) = (1, loads[0].size as usize);
    for pair in loads.windows(2) {
        let more = bytes + pair[1].size as usize;
        if pair[0].key.0 != pair[1].key.0 || more > limits::LOADS_TOGETHER_BYTES_MAX {
            break;
        }
        (count, bytes) = (count + 1, more);
    }
    (count, bytes)
}

/// Judges messages by selectors, whoever asks first.
fn judge_all(questions: &Receiver<SelectRequest>, reader: Reader, inbox: &Inbox) {
    let mut reader = ReadAhead::new(reader);
    while let Ok(request) = questions.recv() {
        inbox.post(judge(request, &mut reader));
        inbox.rouse();
    }
}

/// A full disk may keep the index from being reopened: that passes.
fn until_room<T>(read: impl Fn() -> Result<T, StopError>) -> Result<T, StopError> {
    loop {
        match read() {
            Err(StopError::Index(IndexError::Full)) => {
                std::thread::sleep(Duration::from_millis(limits::FULL_RETRY_MILLIS));
            }
            other => return other,
        }
    }
}

/// Reads the piece of a queue that was asked for.
pub(crate) fn read_page(index: &Index, request: PageRequest) -> Result<Page, StopError> {
    let rows = index.page(request.queue, Some(request.after), request.limit);
    Ok(Page { request, rows: rows.map_err(StopError::Index)? })
}

/// Reads the delayed messages that were asked for.
pub(crate) fn read_later(index: &Index, request: LaterRequest) -> Result<LaterPage, StopError> {
    let rows = index.delayed(request.after, request.limit);
    Ok(LaterPage { request, rows: rows.map_err(StopError::Index)? })
}

/// Reads the producers that were asked for.
pub(crate) fn read_producers(
    index: &Index,
    request: ProducersRequest,
) -> Result<ProducersPage, StopError> {
    let rows = match request {
        ProducersRequest::Next { after, limit } => index.producers(after, limit),
        ProducersRequest::One(id) => {
            index.producer(id).map(|row| row.map(|row| (id, row)).into_iter().collect())
        }
    };
    Ok(ProducersPage { request, rows: rows.map_err(StopError::Index)? })
}

/// Lets whoever waits for a confirmation have the processor first. Only a wish: the system may
/// refuse it, and where threads have no priority of their own there is nothing to wish for.
fn stand_back() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
}

/// How much less a thread beside the engine counts than one that confirms: a tenth of it.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Reads where the pieces lie that were asked for.
pub(crate) fn read_pieces(index: &Index, request: PiecesRequest) -> Result<PiecesPage, StopError> {
    let rows = index.pieces(request.upload, request.after, request.limit);
    Ok(PiecesPage { request, rows: rows.map_err(StopError::Index)? })
}

/// Looks up the outcome that was asked for.
pub(crate) fn read_outcome(
    index: &Index,
    request: OutcomeRequest,
) -> Result<OutcomePage, StopError> {
    let row = index.outcome(&request.xid).map_err(StopError::Index)?;
    Ok(OutcomePage { request, row })
}

/// Reads the operations that were asked for.
pub(crate) fn read_operations(
    index: &Index,
    request: OperationsRequest,
) -> Result<OperationsPage, StopError> {
    let rows = index.operations(request.transaction, request.after, request.limit);
    Ok(OperationsPage { request, rows: rows.map_err(StopError::Index)? })
}

fn checkpoint(
    jobs: &Receiver<Merge>,
    index: &Index,
    fence: &Fence,
    disk: &DiskWatch,
    driver: &Driver,
) {
    stand_back();
    loop {
        let job = match jobs.recv_timeout(Duration::from_millis(limits::DISK_LOOK_MILLIS)) {
            Ok(Merge::Checkpoint(job)) => job,
            Ok(Merge::Forget(delta)) => {
                forget(delta);
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {
                if disk.look() {
                    driver.inbox.wake();
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let begun = driver.clock.monotonic();
        let owned = fence.check().map_err(|e| CommitError::Failed(IndexError::Io(e)));
        let result = owned.and_then(|()| index.commit(&job.delta, job.replay));
        if matches!(result, Err(CommitError::Full)) {
            std::thread::sleep(Duration::from_millis(limits::FULL_RETRY_MILLIS));
        }
        disk.look();
        if result.is_ok() {
            let now = driver.clock.monotonic();
            driver.gauges.checkpoint(now, now.saturating_sub(begun));
        }
        driver.inbox.push(Input::Checkpointed(result));
    }
}

/// Carries out plans, no faster than the settings allow, so that the disk is left to those who wait
/// for it.
pub(crate) fn compact(
    plans: &Receiver<Vec<u64>>,
    mut compactor: Compactor,
    log: &Log,
    inbox: &Inbox,
) {
    stand_back();
    while let Ok(ordinals) = plans.recv() {
        let mut step = compactor.begin(&ordinals);
        loop {
            match step {
                CompactStep::Idle => break,
                CompactStep::Worked(bytes) => std::thread::sleep(compactor.pause_after(bytes)),
                CompactStep::Done(input) => {
                    inbox.push(input);
                    break;
                }
            }
            if log.is_closed() {
                return compactor.give_up();
            }
            step = compactor.step();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ConnectionId, Lsn, SubscriptionId, Tag};

    #[test]
    fn only_what_one_connection_gets_is_read_together_and_no_more_than_a_bound() {
        let load = |connection, size| {
            let key = (ConnectionId(connection), SubscriptionId(1));
            Load { key, tag: Tag(1), birth: Lsn(0), size }
        };
        assert_eq!(together(&[load(1, 10)]), (1, 10));
        assert_eq!(together(&[load(1, 10), load(1, 20), load(2, 30)]), (2, 30));
        let most = u32::try_from(limits::LOADS_TOGETHER_BYTES_MAX).expect("it is small");
        assert_eq!(together(&[load(1, most - 1), load(1, 1), load(1, 1)]).0, 2);
        assert_eq!(together(&[load(1, most + 1), load(1, 1)]).0, 1, "a large one is by itself");
    }
}
