//! What a power cut leaves behind: chosen from a seed, by the rules of real disks at their worst.
//!
//! * What was synced stays.
//! * Unsynced writes survive or vanish per 512-byte sector, in any order; the writes to one sector
//!   keep their order. Rarely a sector is torn: part new and part old, or, where a write covered
//!   all of it, garbage. (Bytes that no write touched are never harmed.)
//! * Unsynced changes of one file's length survive as some first ones of them; what lies past the
//!   length that survived is lost, and a length may survive without the bytes.
//! * Unsynced changes of names survive or vanish one by one; those to one name keep their order.
//!
//! Always: a choice depends on the seed, the inode or ordinal, and the offset; on nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::image::Image;
use super::{Disk, Inode, SimDisk};

/// Bytes a disk writes at once.
const SECTOR: u64 = 512;

/// An unsynced change of a file.
#[derive(Clone, Debug)]
pub(super) struct Effect {
    /// The operation that made it.
    pub(super) ordinal: u64,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Data { offset: u64, bytes: Arc<[u8]> },
    Zeros { offset: u64, len: u64 },
    Length { from: u64, to: u64 },
}

impl What {
    /// The bytes that it touches.
    pub(super) fn range(&self) -> (u64, u64) {
        match self {
            Self::Data { offset, bytes } => (*offset, offset + bytes.len() as u64),
            Self::Zeros { offset, len } => (*offset, offset + len),
            // A cut leaves zeros for a later extension to show; an extension touches nothing.
            Self::Length { from, to } => (*to, *from.max(to)),
        }
    }

    /// Overlays what of it falls into the sector at `start`.
    fn overlay(&self, sector: &mut [u8; SECTOR as usize], start: u64) {
        let (from, to) = self.range();
        let (first, last) = (from.max(start), to.min(start + SECTOR));
        let target = &mut sector[(first - start) as usize..(last - start) as usize];
        match self {
            Self::Data { bytes, .. } => {
                target.copy_from_slice(&bytes[(first - from) as usize..(last - from) as usize]);
            }
            Self::Zeros { .. } | Self::Length { .. } => target.fill(0),
        }
    }

    fn covers(&self, start: u64) -> bool {
        let (from, to) = self.range();
        from <= start && start + SECTOR <= to
    }
}

/// An unsynced change of the directory.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) ordinal: u64,
    pub(super) kind: NameChangeKind,
}

#[derive(Clone, Debug)]
pub(super) enum NameChangeKind {
    /// By `create` or `link`.
    Add {
        name: String,
        inode: u64,
    },
    Rename {
        from: String,
        to: String,
        inode: u64,
    },
    Remove {
        name: String,
    },
}

impl NameChangeKind {
    pub(super) fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Add { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Remove { name } => {
                names.remove(name);
            }
        }
    }

    fn touches(&self, other: &str) -> bool {
        match self {
            Self::Add { name, .. } | Self::Remove { name } => name == other,
            Self::Rename { from, to, .. } => from == other || to == other,
        }
    }

    fn names(&self) -> [&str; 2] {
        match self {
            Self::Add { name, .. } | Self::Remove { name } => [name, name],
            Self::Rename { from, to, .. } => [from, to],
        }
    }
}

/// How much survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Nothing,
    Everything,
    /// So many of 256.
    Some(u64),
    /// Everything before this operation, and half of the rest in any order.
    Tail(u64),
}

/// What survives or vanishes together.
#[derive(Clone, Copy, Debug)]
enum Grain {
    Sector,
    Page,
    Operation,
}

/// The dice of one power cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    seed: u64,
    mood: Mood,
    grain: Grain,
}

impl Weather {
    /// `oldest` and `newest`: the operations with something unsynced.
    pub(super) fn new(seed: u64, oldest: u64, newest: u64) -> Self {
        let roll = mix(seed, 0, 0);
        let mood = match roll % 8 {
            0 => Mood::Nothing,
            1 => Mood::Everything,
            2 | 3 => Mood::Some(128),
            4 => Mood::Some(24),
            5 => Mood::Some(232),
            _ => Mood::Tail(newest - (roll >> 32) % 8.min(newest - oldest + 1)),
        };
        let grain = match (roll >> 8) % 4 {
            0 | 1 => Grain::Sector,
            2 => Grain::Page,
            _ => Grain::Operation,
        };
        Self { seed, mood, grain }
    }

    pub(super) fn nothing_survives() -> Self {
        Self { seed: 0, mood: Mood::Nothing, grain: Grain::Sector }
    }

    fn keeps(&self, ordinal: u64, dice: u64) -> bool {
        match self.mood {
            Mood::Nothing => false,
            Mood::Everything => true,
            Mood::Some(of_256) => dice % 256 < of_256,
            Mood::Tail(from) => ordinal < from || dice.is_multiple_of(2),
        }
    }

    /// Of `choices`, a number of first ones that survive: `bounds.0` to `bounds.1` of them.
    fn first_ones(&self, ordinals: &[u64], bounds: (usize, usize), dice: u64) -> usize {
        let (mut low, high) = bounds;
        if let Mood::Tail(from) = self.mood {
            low = ordinals.partition_point(|&ordinal| ordinal < from).clamp(low, high);
        }
        if low == high || (self.mood == Mood::Nothing) {
            low
        } else if self.keeps(ordinals[high - 1], dice) {
            high
        } else {
            low + ((dice >> 16) % (high - low) as u64) as usize
        }
    }

    /// The file as it is found.
    pub(super) fn file(&self, inode: u64, durable: &Image, pending: &[Effect]) -> Image {
        let mut found = durable.clone();
        if pending.is_empty() || self.mood == Mood::Nothing {
            return found;
        }
        let lengths = self.surviving_lengths(inode, pending);
        let size = lengths.size.unwrap_or(durable.len());
        found.set_len(found.len().max(size));
        for (start, effects) in by_sector(pending) {
            if start < size {
                self.sector(inode, start, &effects, &lengths, &mut found);
            }
        }
        found.set_len(size);
        found
    }

    /// A file system's journal keeps the order of length changes, so some first ones survive.
    fn surviving_lengths(&self, inode: u64, pending: &[Effect]) -> Lengths {
        let changes: Vec<(u64, u64)> = pending
            .iter()
            .filter_map(|effect| match effect.what {
                What::Length { to, .. } => Some((effect.ordinal, to)),
                _ => None,
            })
            .collect();
        let ordinals: Vec<u64> = changes.iter().map(|change| change.0).collect();
        let dice = mix(self.seed, inode, u64::MAX);
        let kept = self.first_ones(&ordinals, (0, changes.len()), dice);
        Lengths {
            size: changes[..kept].last().map(|change| change.1),
            lost_from: ordinals.get(kept).copied().unwrap_or(u64::MAX),
        }
    }

    fn sector(
        &self,
        inode: u64,
        start: u64,
        effects: &[&Effect],
        lengths: &Lengths,
        found: &mut Image,
    ) {
        let ordinals: Vec<u64> = effects.iter().map(|effect| effect.ordinal).collect();
        let grain = match self.grain {
            Grain::Sector => start,
            Grain::Page => start / 4096,
            Grain::Operation => ordinals[ordinals.len() - 1],
        };
        let dice = mix(self.seed, inode, grain);
        // A cut that survived took the bytes before it; one that vanished let no later byte in.
        let mut bounds = (0, effects.len());
        for (index, effect) in effects.iter().enumerate() {
            if let What::Length { .. } = effect.what {
                if effect.ordinal < lengths.lost_from {
                    bounds.0 = index + 1;
                } else {
                    bounds.1 = bounds.1.min(index);
                }
            }
        }
        let kept = self.first_ones(&ordinals, bounds, dice);
        let mut sector = [0; SECTOR as usize];
        found.read(&mut sector, start);
        for effect in &effects[..kept] {
            effect.what.overlay(&mut sector, start);
        }
        if kept < bounds.1 && mix(dice, 1, start).is_multiple_of(32) && self.tears() {
            tear(&mut sector, start, &effects[kept].what, mix(dice, 2, start));
        }
        found.write(&sector, start);
    }

    fn tears(&self) -> bool {
        matches!(self.mood, Mood::Some(_) | Mood::Tail(_)) && matches!(self.grain, Grain::Sector)
    }

    /// The directory as it is found.
    pub(super) fn names(
        &self,
        durable: &BTreeMap<String, u64>,
        pending: &[NameChange],
    ) -> BTreeMap<String, u64> {
        let dice = |change: &NameChange| mix(self.seed, u64::MAX, change.ordinal);
        let mut survives: Vec<bool> =
            pending.iter().map(|change| self.keeps(change.ordinal, dice(change))).collect();
        // What was done to a name before must be there for the next to be possible: without this,
        // a rename could leave its file with neither name, or with both.
        for later in (0..pending.len()).rev() {
            if survives[later] {
                for name in pending[later].kind.names() {
                    let earlier = pending[..later].iter().rposition(|c| c.kind.touches(name));
                    if let Some(earlier) = earlier {
                        survives[earlier] = true;
                    }
                }
            }
        }
        let mut names = durable.clone();
        for (change, _) in pending.iter().zip(survives).filter(|(_, survives)| *survives) {
            change.kind.apply(&mut names);
        }
        names
    }
}

impl Disk {
    /// The disk after a power cut of this kind.
    pub(super) fn found_after(&self, weather: Weather) -> SimDisk {
        let names = weather.names(&self.durable_names, &self.pending_names);
        let mut inodes = BTreeMap::new();
        for (name, inode) in &names {
            let file = &self.inodes[inode];
            let found = weather.file(*inode, &file.durable, &file.pending);
            let name = name.clone();
            let found = Inode { name, durable: found.clone(), now: found, ..Inode::default() };
            inodes.insert(*inode, found);
        }
        SimDisk(Arc::new(Mutex::new(Disk {
            durable_names: names.clone(),
            names,
            inodes,
            last_inode: self.last_inode,
            capacity: self.capacity,
            lying_syncs: self.lying_syncs.clone(),
            lying_sync_dir: self.lying_sync_dir,
            ..Disk::default()
        })))
    }
}

/// Which changes of a file's length survived.
struct Lengths {
    size: Option<u64>,
    /// The operation of the first that did not.
    lost_from: u64,
}

/// The effects on each sector, in their order.
fn by_sector(pending: &[Effect]) -> BTreeMap<u64, Vec<&Effect>> {
    let mut sectors: BTreeMap<u64, Vec<&Effect>> = BTreeMap::new();
    for effect in pending {
        let (from, to) = effect.what.range();
        let mut start = from - from % SECTOR;
        while start < to {
            sectors.entry(start).or_default().push(effect);
            start += SECTOR;
        }
    }
    sectors
}

/// The power went while this sector was being written.
fn tear(sector: &mut [u8; SECTOR as usize], start: u64, what: &What, dice: u64) {
    if what.covers(start) && dice.is_multiple_of(2) {
        for (index, chunk) in sector.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *chunk = mix(dice, 3, index as u64).to_le_bytes();
        }
    } else {
        let mut after = *sector;
        what.overlay(&mut after, start);
        let cut = (dice >> 8) as usize % sector.len();
        sector[..cut].copy_from_slice(&after[..cut]);
    }
}

/// A number that depends on all three and looks like chance (the finaliser of splitmix64).
pub(super) fn mix(seed: u64, a: u64, b: u64) -> u64 {
    let mut z = seed;
    for word in [a, b] {
        z = (z ^ word).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
    }
    z
}
