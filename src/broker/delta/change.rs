//! A change of an entry as it lies in memory.
//!
//! Hundreds of thousands of them wait for a checkpoint, each of a message that mostly is nothing
//! but where its payload lies: a place and an entry side by side would be 80 bytes, this is 48 and
//! has what few messages need beside itself.

use crate::broker::delta::{Entry, Place};
use crate::ids::{Body, DueTime, Lsn, Millis, NoteId};

/// A place and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Change {
    seq: u64,
    birth: Lsn,
    at: Millis,
    /// Means something where `is` has [`EXPIRES`].
    expires: Millis,
    rare: Option<Box<Rare>>,
    size: u32,
    rank: u8,
    is: u8,
}

/// What few messages have.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rare {
    upload: Option<Body>,
    due: Option<DueTime>,
    returns: u32,
    note: Option<NoteId>,
}

/// Bits of `is`. The entry is there; without it nothing else means anything.
const THERE: u8 = 1;
const HELD: u8 = 2;
const SHARED: u8 = 4;
const EXPIRES: u8 = 8;

impl Change {
    /// `None` is an entry that is gone.
    pub(super) fn new(Place { rank, seq }: Place, entry: Option<Entry>) -> Self {
        let Some(entry) = entry else {
            let (birth, at, expires) = (Lsn(0), Millis(0), Millis(0));
            return Self { seq, birth, at, expires, rare: None, size: 0, rank, is: 0 };
        };
        // Whole, so that what an entry gets later is not forgotten here.
        let Entry { birth, size, at, expires, returns, upload, due, note, held, shared } = entry;
        let rare = Rare { upload, due, returns, note };
        let rare = (rare != Rare::default()).then(|| Box::new(rare));
        let bit = |bit, set| if set { bit } else { 0 };
        let is = THERE | bit(HELD, held) | bit(SHARED, shared) | bit(EXPIRES, expires.is_some());
        Self { seq, birth, at, expires: expires.unwrap_or(Millis(0)), rare, size, rank, is }
    }

    pub(super) fn place(&self) -> Place {
        Place { rank: self.rank, seq: self.seq }
    }

    /// The entry as it is now, or `None` where it is gone.
    pub(super) fn entry(&self) -> Option<Entry> {
        let is = |bit| self.is & bit != 0;
        let Rare { upload, due, returns, note } = self.rare.as_deref().copied().unwrap_or_default();
        is(THERE).then(|| Entry {
            birth: self.birth,
            size: self.size,
            at: self.at,
            expires: is(EXPIRES).then_some(self.expires),
            returns,
            upload,
            due,
            note,
            held: is(HELD),
            shared: is(SHARED),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UploadId;
    use proptest::prelude::*;

    #[test]
    fn a_change_takes_48_bytes() {
        assert_eq!(size_of::<Change>(), 48);
    }

    prop_compose! {
        fn entry()(
            (birth, size, at) in any::<(u64, u32, u64)>(),
            expires in any::<Option<u64>>(),
            (returns, upload) in (0u32..3, proptest::option::of((1u64..1 << 40, 0u64..1 << 30))),
            (due, note) in any::<(Option<u64>, Option<u32>)>(),
            (held, shared) in any::<(bool, bool)>(),
        ) -> Entry {
            Entry {
                birth: Lsn(birth),
                size,
                at: Millis(at),
                expires: expires.map(Millis),
                returns,
                upload: upload.map(|(id, bytes)| Body::new(UploadId::new(id).unwrap(), bytes)),
                due: due.map(|at| DueTime::at(Millis(at))),
                note: note.and_then(NoteId::new),
                held,
                shared,
            }
        }
    }

    proptest! {
        #[test]
        fn a_change_says_all_of_its_entry(
            (rank, seq) in (0u8..10, any::<u64>()),
            entry in proptest::option::of(entry()),
        ) {
            let place = Place { rank, seq };
            let change = Change::new(place, entry);
            prop_assert_eq!((change.place(), change.entry()), (place, entry));
        }
    }
}
