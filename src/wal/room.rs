//! Room ahead: segments made before they are needed, dead ones taken back.
//!
//! Owns segments that are not in use: half-made ones under a temporary name, spares, and the dead,
//! dead packs among them.
//! Every step is one short piece of work, so that a simulator can interleave it and a disk in use
//! is not held up. A failure here is no failure of the log: a full disk is a refusal, and what was
//! half made goes away.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::io::blocks::Blocks;
use crate::io::{File, Storage};
use crate::wal::claim::remove;
use crate::wal::format::{BLOCK_BYTES, SegmentHeader};
use crate::wal::log::{Dead, Log, Wake};
use crate::wal::names;
use crate::wal::reader::{Catalog, Removed};
use crate::wal::segment::{Expected, Segment};

/// Zeros go to a new file in pieces of this size: large enough to be quick, small enough for a
/// commit to slip in between.
const FILL_BYTES: usize = 1 << 20;

/// How often those are looked for who still read a dead file: it only takes room meanwhile.
const READERS_MOMENT: Duration = Duration::from_millis(500);

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomStep {
    /// There is nothing to do.
    Idle,
    /// Something was done; there may be more.
    Worked,
    /// The disk is full. The next step tries again; waiting for a cause to do so is the caller's.
    NoSpace,
}

/// The maker of segments. One thread steps it.
#[derive(Debug)]
pub struct Room {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) log: Arc<Log>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) store: u128,
    pub(crate) nonce: u128,
    pub(crate) making: Option<Making>,
    /// Dead files still to be taken back.
    pub(crate) dying: Vec<Dead>,
    /// Spare files whose names are durable, as (epoch, ordinal) of their last life.
    pub(crate) spares: Vec<(u64, u64)>,
    /// Names of files that a step has failed with: nobody needs them, and they are to be removed.
    pub(crate) leftovers: Vec<String>,
}

/// A segment being zero-filled.
#[derive(Debug)]
pub(crate) struct Making {
    temporary: String,
    header: SegmentHeader,
    file: Arc<dyn File>,
    filled: u64,
    zeros: Blocks,
}

impl Room {
    /// Blocks until there is something to do, or the log has ended; for a moment only, where all
    /// that is left to do is a dead file that someone still reads.
    pub fn wait(&self) -> Wake {
        let moment = (!self.dying.is_empty()).then_some(READERS_MOMENT);
        self.log.wait_room(self.spares.len(), moment)
    }

    /// Takes dead segments back, in later steps. Only for ordinals whose death is durable in the
    /// index, by an owner that has looked for a later claim since.
    pub fn retire(&mut self, ordinals: &[u64]) {
        self.log.retire(ordinals);
    }

    /// Does one piece of work.
    ///
    /// # Errors
    ///
    /// What the disk said, but for a full disk. Nothing that is in use was touched; the next step
    /// begins anew.
    pub fn step(&mut self) -> io::Result<RoomStep> {
        let retired = self.log.retired();
        self.dying.extend(retired);
        if self.log.wanted().closed {
            return Ok(RoomStep::Idle);
        }
        match self.step_inner() {
            Err(e) if e.kind() == io::ErrorKind::StorageFull => {
                self.give_up();
                self.log.found_full();
                Ok(RoomStep::NoSpace)
            }
            // Whatever keeps segments from being made, senders are refused and not kept waiting.
            Err(e) => {
                self.give_up();
                self.log.found_full();
                Err(e)
            }
            done => done,
        }
    }

    fn step_inner(&mut self) -> io::Result<RoomStep> {
        let storage = &self.storage;
        // What cannot be removed now is tried again; it keeps no segment from being made.
        self.leftovers.retain(|name| remove(&**storage, name).is_err());
        // The dead first: they may be what the next segment is made of.
        if self.bury()? {
            return Ok(RoomStep::Worked);
        }
        if self.making.is_some() {
            self.make_on()?;
            return Ok(RoomStep::Worked);
        }
        let wanted = self.log.wanted();
        if self.spares.len() > wanted.spares {
            let (epoch, ordinal) = self.spares.remove(0);
            let spare = names::spare(epoch, ordinal);
            let removed = remove(&*self.storage, &spare);
            return self.or_left_over(&[spare], removed).map(|()| RoomStep::Worked);
        }
        if !wanted.segment {
            return Ok(RoomStep::Idle);
        }
        match self.spares.pop() {
            Some((epoch, ordinal)) => self.make_from_spare(&names::spare(epoch, ordinal))?,
            None => self.make_begin()?,
        }
        Ok(RoomStep::Worked)
    }

    /// Takes back one dead file that nobody reads. Our own segments become spares; those of
    /// earlier owners go, because an owner that only sleeps may still write into them. Packs go,
    /// whoever made them: they have any size.
    fn bury(&mut self) -> io::Result<bool> {
        for index in 0..self.dying.len() {
            match self.dying[index] {
                Dead::Segment(ordinal) => match self.catalog.remove(ordinal) {
                    Removed::Pinned => continue,
                    Removed::Unknown => {
                        self.dying.swap_remove(index);
                    }
                    Removed::Yes(file) => {
                        self.dying.swap_remove(index);
                        self.bury_file(&file)?;
                    }
                },
                Dead::Pack(id) => {
                    if !self.catalog.remove_pack(id) {
                        continue;
                    }
                    self.dying.swap_remove(index);
                    let name = names::pack(id);
                    let removed = remove(&*self.storage, &name);
                    self.or_left_over(&[name], removed)?;
                }
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn bury_file(&mut self, file: &Expected) -> io::Result<()> {
        let Expected { epoch, ordinal, .. } = *file;
        let (name, spare) = (file.name(), names::spare(epoch, ordinal));
        if epoch != self.log.epoch() {
            let removed = remove(&*self.storage, &name);
            return self.or_left_over(&[name], removed);
        }
        let renamed = self.storage.rename(&name, &spare);
        // Before its header changes: else a crash could show the old name on new content.
        let durable = renamed.and_then(|()| self.storage.sync_dir());
        self.or_left_over(&[name, spare], durable)?;
        self.spares.push((epoch, ordinal));
        Ok(())
    }

    /// Remembers files that a step has failed with, so that they do not take room until the next
    /// start.
    fn or_left_over(&mut self, names: &[String], result: io::Result<()>) -> io::Result<()> {
        if result.is_err() {
            self.leftovers.extend_from_slice(names);
        }
        result
    }

    fn next_header(&self) -> SegmentHeader {
        let ordinal = self.log.next_ordinal();
        SegmentHeader {
            store: self.store,
            epoch: self.log.epoch(),
            ordinal,
            segment_size: self.log.options().segment_size,
            nonce: segment_nonce(self.nonce, self.log.epoch(), ordinal),
        }
    }

    fn make_begin(&mut self) -> io::Result<()> {
        self.making = Some(Making::begin(&*self.storage, self.next_header(), self.nonce)?);
        Ok(())
    }

    fn make_on(&mut self) -> io::Result<()> {
        let making = self.making.as_mut().expect("the caller looked");
        if !making.fill()? {
            return Ok(());
        }
        let making = self.making.take().expect("still there");
        let temporary = making.temporary.clone();
        match making.finish(&*self.storage) {
            Ok(segment) => {
                self.publish(segment);
                Ok(())
            }
            Err(e) => {
                // Best effort: a leftover is swept by the next owner.
                let _ = remove(&*self.storage, &temporary);
                Err(e)
            }
        }
    }

    /// Only the header is new: what is left of the earlier life fits no checksum of this one.
    fn make_from_spare(&mut self, spare: &str) -> io::Result<()> {
        let header = self.next_header();
        let file = self.storage.open(spare);
        let made = file.and_then(|file| head_and_name(&*self.storage, spare, header, file));
        match made {
            Ok(segment) => {
                self.publish(segment);
                Ok(())
            }
            // After a failed sync its content is not to be trusted: it goes. Under its new name it
            // is replaced by the next that is made.
            Err(error) => self.or_left_over(&[spare.to_owned()], Err(error)),
        }
    }

    fn publish(&mut self, segment: Segment) {
        let segment = Arc::new(segment);
        self.catalog.insert_open(&segment);
        self.log.made(segment);
    }

    fn give_up(&mut self) {
        if let Some(making) = self.making.take() {
            drop(making.file);
            // Best effort: a leftover is swept by the next owner, and by the next try.
            let _ = remove(&*self.storage, &making.temporary);
        }
    }
}

impl Making {
    pub(crate) fn begin(
        storage: &dyn Storage,
        header: SegmentHeader,
        nonce: u128,
    ) -> io::Result<Making> {
        let name = names::segment(header.epoch, header.ordinal);
        let temporary = names::temporary(&name, nonce);
        remove(storage, &temporary)?;
        let file = storage.create(&temporary)?;
        if let Err(e) = file.set_size(header.segment_size) {
            // Best effort, as above: the error is what counts.
            let _ = remove(storage, &temporary);
            return Err(e);
        }
        let zeros = Blocks::zeros(FILL_BYTES.min(header.segment_size as usize));
        Ok(Making { temporary, header, file, filled: 0, zeros })
    }

    /// Writes the next zeros; `true` when all are written. Allocated blocks alone are not enough:
    /// the first write into each would cost a journal commit at every sync.
    pub(crate) fn fill(&mut self) -> io::Result<bool> {
        let left = self.header.segment_size - self.filled;
        if left < self.zeros.len() as u64 {
            self.zeros = Blocks::zeros(left as usize);
        }
        self.file.write_blocks(&self.zeros, self.filled)?;
        self.filled += self.zeros.len() as u64;
        Ok(self.filled == self.header.segment_size)
    }

    pub(crate) fn finish(self, storage: &dyn Storage) -> io::Result<Segment> {
        assert_eq!(self.filled, self.header.segment_size);
        head_and_name(storage, &self.temporary, self.header, self.file)
    }

    pub(crate) fn temporary(&self) -> &str {
        &self.temporary
    }
}

/// Header, sync, name, directory: from the last step on the segment is one.
fn head_and_name(
    storage: &dyn Storage,
    from: &str,
    header: SegmentHeader,
    file: Arc<dyn File>,
) -> io::Result<Segment> {
    let block: [u8; BLOCK_BYTES] = header.encode();
    file.write_at(&block, 0)?;
    file.sync()?;
    let name = names::segment(header.epoch, header.ordinal);
    storage.rename(from, &name)?;
    storage.sync_dir()?;
    Ok(Segment::new(name, header, file))
}

/// A nonce that no other segment of any owner has, from the owner's random one.
pub(crate) fn segment_nonce(nonce: u128, epoch: u64, ordinal: u64) -> u64 {
    let mut mixed = 0;
    for part in [nonce as u64, (nonce >> 64) as u64, epoch, ordinal] {
        mixed = mix(mixed ^ part);
    }
    mixed
}

/// The finalizer of SplitMix64: every input bit reaches every output bit.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
