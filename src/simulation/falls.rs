//! Starts that are cut off, one after the other: a power cut inside a recovery, inside the next
//! recovery of what that left, and so on.
//!
//! Always: each cut falls at a storage operation of the start itself, before which something was
//! not synced, and loses or tears some of it. Leaves to others: what the next start must find.

use std::collections::BTreeMap;

use crate::ids::Millis;
use crate::io::sim::{Moment, SimDisk};

use super::node::{Node, abandon};
use super::random::Random;

/// Starts in a row that are cut off, at most; the next one must succeed.
pub(super) const DEEPEST: usize = 5;

/// How often a start was cut off as the n-th in a row, by what was about to happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Falls(BTreeMap<(usize, String), u64>);

impl Falls {
    pub(super) fn add(&mut self, other: &Self) {
        for (at, count) in &other.0 {
            *self.0.entry(at.clone()).or_default() += count;
        }
    }

    fn note(&mut self, depth: usize, label: String) {
        *self.0.entry((depth, label)).or_default() += 1;
    }

    /// Starts that were cut off as the n-th in a row.
    pub(super) fn at_depth(&self, depth: usize) -> u64 {
        self.of_depth(depth).map(|(_, count)| count).sum()
    }

    fn of_depth(&self, depth: usize) -> impl Iterator<Item = (&str, u64)> {
        let of_depth = self.0.iter().filter(move |((found, _), _)| *found == depth);
        of_depth.map(|((_, label), count)| (label.as_str(), *count))
    }

    /// Of those, the ones before an operation of this kind.
    pub(super) fn at(&self, depth: usize, label: &str) -> u64 {
        self.of_depth(depth).filter(|(found, _)| *found == label).map(|(_, count)| count).sum()
    }

    pub(super) fn print(&self) {
        let most = self.at_depth(1).max(1);
        for depth in 1..=DEEPEST {
            let count = self.at_depth(depth);
            let bar = "#".repeat((count * 40 / most) as usize);
            println!("cut off in {depth} starts in a row {count:8} {bar}");
        }
        let deepest: Vec<_> = self.of_depth(DEEPEST).collect();
        println!("the last of {DEEPEST} fell before: {deepest:?}");
    }
}

/// One start that was cut off.
pub(super) struct Fall {
    /// What a next start finds.
    pub(super) disk: SimDisk,
    /// Every moment of this start at which a cut could have lost something.
    pub(super) moments: Vec<Moment>,
}

/// Starts the store on a disk and cuts the power in the middle, as the `depth`-th in a row.
///
/// # Errors
/// Where the start fails by itself.
pub(super) fn fall(
    disk: &SimDisk,
    depth: usize,
    random: &mut Random,
    now: Millis,
    falls: &mut Falls,
    kind: impl Fn(&str) -> String,
) -> Result<Fall, String> {
    disk.start_moments();
    let node = Node::open(disk, random.next(), now).map_err(|e| format!("start: {e}"))?;
    // What happens once it serves is no recovery any more.
    let moments = disk.take_moments();
    abandon(disk);
    drop(node);
    let pick = random.below(moments.len() as u64) as usize;
    let Moment { label, disk } = &moments[pick];
    falls.note(depth, kind(label));
    let disk = disk.snapshot_crash(random.next());
    Ok(Fall { disk, moments })
}
