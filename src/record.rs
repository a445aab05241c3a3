//! Every durable fact the broker can state, and its bytes in a frame of the log.
//!
//! Owns the numbers of the record kinds (explicit, never reused) and the layout of each, all
//! little-endian. A record carries everything its `apply` changes: replay needs no lookup.
//! Leaves frames, checksums and positions to `wal`.

use crate::broker::delta::{Entry, Place};
use crate::ids::{Lsn, Millis, QueueId};

/// A durable fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A life of the broker begins: what was lent to consumers has come back.
    Started {
        /// The epoch of this life.
        epoch: u64,
        /// When.
        at: Millis,
    },
    /// The store was restored from a backup of another: whatever is in it may have been delivered
    /// there since. Stands before the first `Started` of the new store.
    Restored {
        /// When.
        at: Millis,
    },
    /// A queue came into being.
    QueueCreated {
        /// Its identity.
        queue: QueueId,
        /// Its name.
        name: Box<str>,
        /// When.
        at: Millis,
    },
    /// An empty queue is gone.
    QueueDeleted {
        /// Which.
        queue: QueueId,
    },
    /// A message entered a queue; its content is the payload of the frame.
    Sent {
        /// Where.
        queue: QueueId,
        /// Its place there.
        place: Place,
        /// When.
        at: Millis,
        /// When it is no longer wanted.
        expires: Option<Millis>,
        /// A consumer was waiting: it counts as lent from the start.
        lent: bool,
    },
    /// Messages are about to leave for consumers.
    Lent {
        /// From where.
        queue: QueueId,
        /// The rank they have.
        rank: u8,
        /// All up to this sequence number may have been delivered.
        through: u64,
    },
    /// Messages came back from a consumer.
    Returned {
        /// Where.
        queue: QueueId,
        /// Each as it is now, its count raised.
        entries: Vec<(Place, Entry)>,
    },
    /// Messages left a queue for good.
    Removed {
        /// From where.
        queue: QueueId,
        /// Why.
        cause: Cause,
        /// Which.
        gone: Vec<Gone>,
    },
    /// A message left one queue and a message about it entered another, as one fact; the new
    /// content is the payload of the frame.
    Moved {
        /// From where.
        from: QueueId,
        /// Which.
        gone: Gone,
        /// Where to.
        to: QueueId,
        /// Its place there.
        place: Place,
        /// When.
        at: Millis,
    },
    /// Messages left one queue and entered another as they were: their payloads stay where they
    /// are. Each keeps its rank and takes the next sequence number.
    Transferred {
        /// From where.
        from: QueueId,
        /// Where to.
        to: QueueId,
        /// The sequence number of the first there.
        first: u64,
        /// The old place of each, and the entry as it is from now on.
        entries: Vec<(Place, Entry)>,
    },
}

/// Why messages left a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A consumer accepted them.
    Accepted,
    /// Their time was over.
    Expired,
    /// An operator emptied the queue.
    Purged,
}

/// A message that is gone, with what its segment loses by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Its place.
    pub place: Place,
    /// Its birth.
    pub birth: Lsn,
    /// Bytes it kept alive.
    pub size: u32,
}

impl Gone {
    /// The end of an entry.
    #[must_use]
    pub fn of(place: Place, entry: &Entry) -> Self {
        Self { place, birth: entry.birth, size: entry.size }
    }
}

/// Bytes with a good checksum that are no record this version knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A kind from a newer version, or no kind at all.
    #[error("record kind {0} is unknown to this version")]
    UnknownKind(u16),
    /// Too short, too long, or a value out of its range.
    #[error("a record of kind {0} is malformed")]
    Malformed(u16),
}

const STARTED: u16 = 1;
// 2 was never written.
const QUEUE_CREATED: u16 = 3;
const QUEUE_DELETED: u16 = 4;
const SENT: u16 = 5;
const LENT: u16 = 6;
const RETURNED: u16 = 7;
const REMOVED: u16 = 8;
const MOVED: u16 = 9;
const TRANSFERRED: u16 = 20;

const RESTORED: u16 = 32;

const FLAG_LENT: u8 = 1;

impl Record {
    /// The number of its kind.
    #[must_use]
    pub fn kind(&self) -> u16 {
        match self {
            Self::Started { .. } => STARTED,
            Self::Restored { .. } => RESTORED,
            Self::QueueCreated { .. } => QUEUE_CREATED,
            Self::QueueDeleted { .. } => QUEUE_DELETED,
            Self::Sent { .. } => SENT,
            Self::Lent { .. } => LENT,
            Self::Returned { .. } => RETURNED,
            Self::Removed { .. } => REMOVED,
            Self::Moved { .. } => MOVED,
            Self::Transferred { .. } => TRANSFERRED,
        }
    }

    /// Whether it makes room rather than taking it: such records may use the reserve of a full
    /// disk, because refusing them would keep the disk full.
    #[must_use]
    pub fn clears(&self) -> bool {
        !matches!(self, Self::Sent { .. } | Self::QueueCreated { .. } | Self::Transferred { .. })
    }

    /// Bytes it takes at most, cheaply known.
    #[must_use]
    pub fn size_max(&self) -> usize {
        const FIXED: usize = 64;
        match self {
            Self::QueueCreated { name, .. } => FIXED + name.len(),
            Self::Returned { entries, .. } | Self::Transferred { entries, .. } => {
                FIXED + entries.len() * 41
            }
            Self::Removed { gone, .. } => FIXED + gone.len() * 21,
            _ => FIXED,
        }
    }

    /// Appends its bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer(out);
        match self {
            Self::Started { epoch, at } => {
                w.u64(*epoch);
                w.u64(at.0);
            }
            Self::Restored { at } => w.u64(at.0),
            Self::QueueCreated { queue, name, at } => {
                w.u64(queue.0);
                w.u64(at.0);
                w.0.extend_from_slice(name.as_bytes());
            }
            Self::QueueDeleted { queue } => w.u64(queue.0),
            Self::Sent { queue, place, at, expires, lent } => {
                w.u64(queue.0);
                w.place(*place);
                w.u64(at.0);
                w.time(*expires);
                w.0.push(if *lent { FLAG_LENT } else { 0 });
            }
            Self::Lent { queue, rank, through } => {
                w.u64(queue.0);
                w.0.push(*rank);
                w.u64(*through);
            }
            Self::Returned { queue, entries } => {
                w.u64(queue.0);
                w.entries(entries);
            }
            Self::Removed { queue, cause, gone } => {
                w.u64(queue.0);
                w.0.push(match cause {
                    Cause::Accepted => 1,
                    Cause::Expired => 2,
                    Cause::Purged => 3,
                });
                gone.iter().for_each(|gone| w.gone(gone));
            }
            Self::Moved { from, gone, to, place, at } => {
                w.u64(from.0);
                w.gone(gone);
                w.u64(to.0);
                w.place(*place);
                w.u64(at.0);
            }
            Self::Transferred { from, to, first, entries } => {
                w.u64(from.0);
                w.u64(to.0);
                w.u64(*first);
                w.entries(entries);
            }
        }
    }

    /// The inverse of [`Record::encode`].
    ///
    /// # Errors
    /// Where the bytes are not exactly those of a record of this kind.
    pub fn decode(kind: u16, bytes: &[u8]) -> Result<Self, RecordError> {
        let mut r = Reader(bytes);
        let record = Self::read(kind, &mut r)?.ok_or(RecordError::Malformed(kind))?;
        if r.0.is_empty() { Ok(record) } else { Err(RecordError::Malformed(kind)) }
    }

    /// `Ok(None)` where the bytes end early or hold a value out of range.
    fn read(kind: u16, r: &mut Reader<'_>) -> Result<Option<Self>, RecordError> {
        Ok(match kind {
            STARTED => r.started(),
            RESTORED => r.millis().map(|at| Self::Restored { at }),
            QUEUE_CREATED => r.queue_created(),
            QUEUE_DELETED => r.u64().map(|queue| Self::QueueDeleted { queue: QueueId(queue) }),
            SENT => r.sent(),
            LENT => r.lent(),
            RETURNED => r.returned(),
            REMOVED => r.removed(),
            MOVED => r.moved(),
            TRANSFERRED => r.transferred(),
            other => return Err(RecordError::UnknownKind(other)),
        })
    }
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Zero stands for never: the year 1970 is over.
    fn time(&mut self, value: Option<Millis>) {
        self.u64(value.map_or(0, |at| at.0));
    }

    /// Rank u8, seq u64.
    fn place(&mut self, place: Place) {
        self.0.push(place.rank);
        self.u64(place.seq);
    }

    /// Birth u64, size u32, at u64, expires u64, returns u32.
    fn entry(&mut self, entry: &Entry) {
        self.u64(entry.birth.0);
        self.u32(entry.size);
        self.u64(entry.at.0);
        self.time(entry.expires);
        self.u32(entry.returns);
    }

    /// Place and entry of each.
    fn entries(&mut self, entries: &[(Place, Entry)]) {
        for (place, entry) in entries {
            self.place(*place);
            self.entry(entry);
        }
    }

    /// Place, birth u64, size u32.
    fn gone(&mut self, gone: &Gone) {
        self.place(gone.place);
        self.u64(gone.birth.0);
        self.u32(gone.size);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn millis(&mut self) -> Option<Millis> {
        self.u64().map(Millis)
    }

    fn time(&mut self) -> Option<Option<Millis>> {
        self.u64().map(|at| (at != 0).then_some(Millis(at)))
    }

    fn queue(&mut self) -> Option<QueueId> {
        self.u64().map(QueueId)
    }

    fn rank(&mut self) -> Option<u8> {
        self.u8().filter(|rank| *rank <= 9)
    }

    fn place(&mut self) -> Option<Place> {
        Some(Place { rank: self.rank()?, seq: self.u64()? })
    }

    fn entry(&mut self) -> Option<Entry> {
        Some(Entry {
            birth: Lsn(self.u64()?),
            size: self.u32()?,
            at: self.millis()?,
            expires: self.time()?,
            returns: self.u32()?,
        })
    }

    fn gone(&mut self) -> Option<Gone> {
        Some(Gone { place: self.place()?, birth: Lsn(self.u64()?), size: self.u32()? })
    }

    fn started(&mut self) -> Option<Record> {
        Some(Record::Started { epoch: self.u64()?, at: self.millis()? })
    }

    fn queue_created(&mut self) -> Option<Record> {
        let (queue, at) = (self.queue()?, self.millis()?);
        let name = std::str::from_utf8(std::mem::take(&mut self.0)).ok()?;
        Some(Record::QueueCreated { queue, name: name.into(), at })
    }

    fn sent(&mut self) -> Option<Record> {
        Some(Record::Sent {
            queue: self.queue()?,
            place: self.place()?,
            at: self.millis()?,
            expires: self.time()?,
            lent: match self.u8()? {
                0 => false,
                FLAG_LENT => true,
                _ => return None,
            },
        })
    }

    fn lent(&mut self) -> Option<Record> {
        Some(Record::Lent { queue: self.queue()?, rank: self.rank()?, through: self.u64()? })
    }

    fn returned(&mut self) -> Option<Record> {
        Some(Record::Returned { queue: self.queue()?, entries: self.entries()? })
    }

    fn entries(&mut self) -> Option<Vec<(Place, Entry)>> {
        let mut entries = Vec::new();
        while !self.0.is_empty() {
            entries.push((self.place()?, self.entry()?));
        }
        Some(entries)
    }

    fn transferred(&mut self) -> Option<Record> {
        Some(Record::Transferred {
            from: self.queue()?,
            to: self.queue()?,
            first: self.u64()?,
            entries: self.entries()?,
        })
    }

    fn removed(&mut self) -> Option<Record> {
        let queue = self.queue()?;
        let cause = match self.u8()? {
            1 => Cause::Accepted,
            2 => Cause::Expired,
            3 => Cause::Purged,
            _ => return None,
        };
        let mut gone = Vec::new();
        while !self.0.is_empty() {
            gone.push(self.gone()?);
        }
        Some(Record::Removed { queue, cause, gone })
    }

    fn moved(&mut self) -> Option<Record> {
        Some(Record::Moved {
            from: self.queue()?,
            gone: self.gone()?,
            to: self.queue()?,
            place: self.place()?,
            at: self.millis()?,
        })
    }
}

/// Any bytes decode to a record that encodes to the same bytes, or to a clear no.
#[doc(hidden)]
pub fn fuzz_record(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    if let Ok(record) = Record::decode(u16::from(*kind), bytes) {
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(again, bytes, "a record has one form: {record:?}");
        assert_eq!(record.kind(), u16::from(*kind));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn every_kind() -> Vec<Record> {
        let place = Place { rank: 5, seq: 77 };
        let entry = Entry {
            birth: Lsn(4096),
            size: 120,
            at: Millis(9),
            expires: Some(Millis(11)),
            returns: 2,
        };
        let queue = QueueId(3);
        let gone = Gone::of(place, &entry);
        vec![
            Record::Started { epoch: 2, at: Millis(1) },
            Record::Restored { at: Millis(1) },
            Record::QueueCreated { queue, name: "orders".into(), at: Millis(2) },
            Record::QueueDeleted { queue },
            Record::Sent { queue, place, at: Millis(3), expires: None, lent: true },
            Record::Lent { queue, rank: 9, through: 4 },
            Record::Returned { queue, entries: vec![(place, entry), (place, entry)] },
            Record::Removed { queue, cause: Cause::Expired, gone: vec![gone, gone] },
            Record::Moved { from: queue, gone, to: QueueId(4), place, at: Millis(5) },
            Record::Transferred {
                from: queue,
                to: QueueId(4),
                first: 8,
                entries: vec![(place, entry), (place, entry)],
            },
        ]
    }

    #[test]
    fn every_kind_reads_back_as_it_was_written() {
        for record in every_kind() {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert!(bytes.len() <= record.size_max());
            assert_eq!(Record::decode(record.kind(), &bytes), Ok(record));
        }
    }

    #[test]
    fn a_record_cut_short_is_refused_or_another_whole_record() {
        for record in every_kind() {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            for end in 0..bytes.len() {
                if let Ok(shorter) = Record::decode(record.kind(), &bytes[..end]) {
                    let mut again = Vec::new();
                    shorter.encode(&mut again);
                    assert_eq!(again, bytes[..end]);
                }
            }
        }
    }

    #[test]
    fn an_unknown_kind_is_named() {
        assert_eq!(Record::decode(999, &[]), Err(RecordError::UnknownKind(999)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_one_record_in_its_one_form_or_none(data: Vec<u8>) {
            fuzz_record(&data);
        }
    }
}
