//! Backups of a simulated broker, made in steps among everything else that happens.
//!
//! What a backup holds is checked like a crash at the moment when it began: the same promises, and
//! everything flagged as redelivered. A backup that was cut off, and a restore that was, must say
//! so themselves. Draws from a sequence of its own, so that it changes no choice of the others.

use std::sync::Arc;

use crate::backup::{Backup, RestoreError, Source, Step, restore};
use crate::engine::StoreError;
use crate::ids::Millis;
use crate::io::Storage;
use crate::io::sim::{Fault, SimDisk};
use crate::wal::ClaimError;

use super::model::Model;
use super::node::Node;
use super::random::Random;

/// Steps of the world between two backups, about.
const PAUSE: u64 = 300;

pub(super) struct Backups {
    random: Random,
    under_way: Option<UnderWay>,
    /// Backups that were restored and checked, and those that were cut off.
    pub(super) whole: u64,
    pub(super) cut_off: u64,
}

struct UnderWay {
    backup: Backup,
    /// It does a step in so many of the world: a slow one sees segments die.
    pace: u64,
    target: SimDisk,
    /// What was known when it began.
    before: Model,
}

impl Backups {
    pub(super) fn new(seed: u64) -> Self {
        let random = Random::new(seed ^ 0xBAC0_BAC0);
        Self { random, under_way: None, whole: 0, cut_off: 0 }
    }

    /// Begins a backup, or does a step of one. Where the disk may fail, so may a backup.
    pub(super) fn step(
        &mut self,
        source: &Source,
        model: &Model,
        now: Millis,
        may_fail: bool,
    ) -> Result<(), String> {
        let Some(UnderWay { backup, pace, .. }) = &mut self.under_way else {
            if self.random.one_in(PAUSE) {
                let target = SimDisk::new();
                let storage: Arc<dyn Storage> = Arc::new(target.clone());
                match Backup::begin(source, storage, now) {
                    Ok(backup) => {
                        let before = model.clone();
                        let pace = [1, 8, 64][self.random.below(3) as usize];
                        self.under_way = Some(UnderWay { backup, pace, target, before });
                    }
                    Err(_) if may_fail => {}
                    Err(error) => return Err(format!("a backup cannot begin: {error}")),
                }
            }
            return Ok(());
        };
        if !self.random.one_in(*pace) {
            return Ok(());
        }
        match backup.step() {
            Ok(Step::More(_)) => Ok(()),
            Ok(Step::Done(_)) => {
                let UnderWay { target, before, .. } = self.under_way.take().expect("just stepped");
                self.check(&target, &before, now)
            }
            Err(_) if may_fail => self.cut_off(),
            Err(error) => Err(format!("a backup failed: {error}")),
        }
    }

    /// The broker has ended in the middle, and the target's machine as well.
    pub(super) fn cut_off(&mut self) -> Result<(), String> {
        let Some(UnderWay { backup, target, .. }) = self.under_way.take() else { return Ok(()) };
        drop(backup);
        self.cut_off += 1;
        let crashed = target.snapshot_crash(self.random.next());
        match restore(&crashed, &SimDisk::new(), 1, &mut |_| {}) {
            Err(RestoreError::NotABackup | RestoreError::Unfinished) => Ok(()),
            other => Err(format!("a backup that was cut off gives {other:?}")),
        }
    }

    /// A whole backup survives a power cut, and restores to what was promised when it began.
    fn check(&mut self, target: &SimDisk, before: &Model, now: Millis) -> Result<(), String> {
        let crashed = target.snapshot_crash(self.random.next());
        let id = u128::from(self.random.next()) << 64 | 0xBAC0;
        self.cut_a_restore(&crashed, id, now)?;
        let disk = SimDisk::new();
        let restored = restore(&crashed, &disk, id, &mut |_| {});
        restored.map_err(|error| format!("a whole backup is refused: {error}"))?;
        let mut disk = disk.snapshot_crash(self.random.next());
        // A first life that is cut off must not keep the second from flagging.
        for life in 0..2 {
            if life == 0 {
                disk.fail_at(self.random.below(80), Fault::PowerOff);
                drop(Node::open(&disk, self.random.next(), now));
                disk = disk.snapshot_crash(self.random.next());
                continue;
            }
            let node = Node::open(&disk, self.random.next(), now);
            let mut node =
                node.map_err(|error| format!("a restored store does not start: {error}"))?;
            node.end_transactions(now)?;
            let contents = node.contents()?;
            before.check(&contents).map_err(|problem| format!("in a backup: {problem}"))?;
            if let Some((number, _)) = contents.messages.iter().find(|(_, m)| !m.redelivered) {
                return Err(format!("{number} was restored and is not flagged"));
            }
        }
        self.whole += 1;
        Ok(())
    }

    /// A restore that a power cut ends makes no store, or all of it.
    fn cut_a_restore(&mut self, backup: &SimDisk, id: u128, now: Millis) -> Result<(), String> {
        let disk = SimDisk::new();
        disk.fail_at(self.random.below(60), Fault::PowerOff);
        let whole = restore(backup, &disk, id, &mut |_| {}).is_ok();
        let crashed = disk.snapshot_crash(self.random.next());
        let empty = crashed.list().map_err(|error| error.to_string())?.is_empty();
        match Node::open(&crashed, self.random.next(), now) {
            Ok(_) if whole || empty => Ok(()),
            // Its last step may have come to be although nobody heard of it.
            Ok(node) if node.store == id => Ok(()),
            Ok(_) => Err("a restore that was cut off has made another store".to_owned()),
            Err(StoreError::Claim(ClaimError::Unfinished | ClaimError::NotAStore { .. }))
                if !whole =>
            {
                Ok(())
            }
            Err(error) => Err(format!("a restore that was cut off: {error}")),
        }
    }
}
