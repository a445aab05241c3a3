//! The packs in a survey: header, directory and frames of each that counts.
//!
//! Which packs count, only the index knows; without it every pack is shown that there is.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::{Finding, Item, Walk};
use crate::wal::damage::{Corruption, Damage, Part};
use crate::wal::error::RecoveryError;
use crate::wal::format::{BLOCK_BYTES, FRAME_HEADER_BYTES, Group, PackId};
use crate::wal::names::Name;
use crate::wal::pack::{self, Pack};
use crate::wal::replay::Progress;

impl Walk<'_> {
    /// Shows the packs; `total` is what the whole survey reads. Gives what they have of it.
    pub(super) fn packs(&mut self, names: &[Name], total: u64) -> ControlFlow<(), u64> {
        let there = names.iter().filter_map(|name| match name {
            Name::Pack(id) => Some(*id),
            _ => None,
        });
        let counting: BTreeSet<PackId> = match self.needed {
            Some(needed) => needed.packs.values().copied().collect(),
            None => there.collect(),
        };
        let mut done = 0;
        for id in counting {
            match Pack::open(self.storage, self.lineage.store_of(id.epoch), id) {
                Ok(pack) => {
                    self.pack(&pack, Progress { done, total })?;
                    done += pack.header.file_bytes();
                }
                Err(error) => self.problem(error)?,
            }
        }
        ControlFlow::Continue(done)
    }

    /// Bytes of all packs that there are, roughly what [`Walk::packs`] reads.
    pub(super) fn pack_bytes(&self, names: &[Name]) -> u64 {
        let size = |name: &Name| match name {
            Name::Pack(id) => {
                let file = self.storage.open(&crate::wal::names::pack(*id));
                file.and_then(|file| file.size()).unwrap_or_default()
            }
            _ => 0,
        };
        names.iter().map(size).sum()
    }

    fn pack(&mut self, pack: &Pack, progress: Progress) -> ControlFlow<()> {
        (self.visit)(Item::Pack { file: &pack.name, header: &pack.header })?;
        let read = self.pack_head(pack);
        self.read(pack, read)?;
        for number in 0..pack.header.directory_blocks {
            let groups = self.pack_directory(pack, number);
            let Some(groups) = self.read(pack, groups)?.flatten() else { continue };
            for group in groups {
                (self.progress)(Progress { done: progress.done + group.offset, ..progress });
                let shown = self.pack_group(pack, &group);
                self.read(pack, shown)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// What was read, or nothing and a problem where it could not be.
    fn read<T>(
        &mut self,
        pack: &Pack,
        result: std::io::Result<ControlFlow<(), T>>,
    ) -> ControlFlow<(), Option<T>> {
        match result {
            Ok(flow) => ControlFlow::Continue(Some(flow?)),
            Err(source) => {
                self.problem(RecoveryError::io(&pack.name, source))?;
                ControlFlow::Continue(None)
            }
        }
    }

    /// One good copy of the header is enough to read by; the other is told of all the same.
    fn pack_head(&mut self, pack: &Pack) -> std::io::Result<ControlFlow<()>> {
        let mut block = [0; BLOCK_BYTES];
        pack.file.read_at(&mut block, 0)?;
        let good = pack.header.encode();
        let bad = block.iter().zip(&good).position(|(found, good)| found != good);
        Ok(bad.map_or(ControlFlow::Continue(()), |at| {
            self.corrupt_pack(pack, at as u64, Corruption::Header)
        }))
    }

    fn pack_directory(
        &mut self,
        pack: &Pack,
        number: u32,
    ) -> std::io::Result<ControlFlow<(), Option<Vec<Group>>>> {
        let mut groups = None;
        for copy in 0..2 {
            match pack.directory_copy(number, copy)? {
                Some(good) => groups = Some(good),
                None => {
                    let at = pack.directory_offset(number, copy);
                    if self.corrupt_pack(pack, at, Corruption::Directory).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(groups))
    }

    fn pack_group(&mut self, pack: &Pack, group: &Group) -> std::io::Result<ControlFlow<()>> {
        let bytes = pack.group(group)?;
        let mut frames = Vec::new();
        let whole = pack::walk(pack.seed, &bytes, |at, view| frames.push((at, view)));
        let mut expected = 0;
        for (at, view) in frames {
            let (lsn, kind, payload_good) = (view.header.lsn, view.header.kind, view.payload_good);
            let offset = group.offset + at as u64;
            let payload_at = at + view.header.payload_at();
            let record = &bytes[at + FRAME_HEADER_BYTES..payload_at];
            let payload = &bytes.slice(payload_at..payload_at + view.header.payload_len as usize);
            let item = Item::Packed { offset, lsn, kind, record, payload, payload_good };
            if (self.visit)(item).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if !payload_good {
                let file = pack.name.clone();
                let damage = Damage { file, offset, lsn, part: Part::Payload };
                if self.problem(damage).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if at == expected {
                expected = at + view.header.frame_len();
            }
        }
        // Once for a group: where the first frame should be that is not there.
        Ok(match whole {
            true => ControlFlow::Continue(()),
            false => self.corrupt_pack(pack, group.offset + expected as u64, Corruption::Structure),
        })
    }

    fn corrupt_pack(&mut self, pack: &Pack, offset: u64, reason: Corruption) -> ControlFlow<()> {
        self.problem(Finding::Corrupt { file: pack.name.clone(), offset, reason })
    }
}
