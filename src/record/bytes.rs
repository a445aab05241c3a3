//! The little-endian numbers of records, and what many kinds say alike of messages.

use super::{Cause, Form, Gone, Record};
use crate::broker::delta::{Entry, Place};
use crate::ids::{Body, Lsn, Millis, QueueId};

/// Set in the size of a payload that several entries may hold.
const SHARED: u32 = 1 << 31;

pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Zero stands for never: the year 1970 is over.
    pub(super) fn time(&mut self, value: Option<Millis>) {
        self.u64(value.map_or(0, |at| at.0));
    }

    /// Rank u8, seq u64.
    pub(super) fn place(&mut self, place: Place) {
        self.0.push(place.rank);
        self.u64(place.seq);
    }

    /// Birth u64, size u32 (its highest bit is set where others may hold the payload too), at u64,
    /// expires u64, returns u32.
    pub(super) fn entry(&mut self, entry: &Entry) {
        self.u64(entry.birth.0);
        self.size(entry.size, entry.shared);
        self.u64(entry.at.0);
        self.time(entry.expires);
        self.u32(entry.returns);
    }

    /// Place and entry of each.
    pub(super) fn entries(&mut self, form: Form, entries: &[(Place, Entry)]) {
        for (place, entry) in entries {
            self.place(*place);
            self.entry(entry);
            self.upload(form, entry.upload);
            self.late(form, entry.due, entry.note);
        }
    }

    /// Place, birth u64, size u32 as of an entry.
    pub(super) fn gone(&mut self, gone: &Gone) {
        self.place(gone.place);
        self.u64(gone.birth.0);
        self.size(gone.size, gone.shared);
    }

    fn size(&mut self, size: u32, shared: bool) {
        debug_assert!(size < SHARED, "no frame is so large");
        self.u32(size | if shared { SHARED } else { 0 });
    }

    /// Only in the kinds that say it: u64, zero is none.
    pub(super) fn upload(&mut self, form: Form, upload: Option<Body>) {
        if form >= Form::Large {
            self.u64(Body::word_of(upload));
        }
    }
}

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn millis(&mut self) -> Option<Millis> {
        self.u64().map(Millis)
    }

    pub(super) fn time(&mut self) -> Option<Option<Millis>> {
        self.u64().map(|at| (at != 0).then_some(Millis(at)))
    }

    pub(super) fn queue(&mut self) -> Option<QueueId> {
        self.u64().map(QueueId)
    }

    pub(super) fn rank(&mut self) -> Option<u8> {
        self.u8().filter(|rank| *rank <= 9)
    }

    pub(super) fn place(&mut self) -> Option<Place> {
        Some(Place { rank: self.rank()?, seq: self.u64()? })
    }

    pub(super) fn upload(&mut self, form: Form) -> Option<Option<Body>> {
        if form >= Form::Large { self.u64().and_then(Body::from_word) } else { Some(None) }
    }

    fn size(&mut self) -> Option<(u32, bool)> {
        self.u32().map(|size| (size & !SHARED, size & SHARED != 0))
    }

    pub(super) fn entry(&mut self, form: Form) -> Option<Entry> {
        let birth = Lsn(self.u64()?);
        let (size, shared) = self.size()?;
        Some(Entry {
            birth,
            size,
            at: self.millis()?,
            expires: self.time()?,
            returns: self.u32()?,
            upload: self.upload(form)?,
            due: self.due(form)?,
            note: self.note(form)?,
            // What a record tells of is held by no transaction any more.
            held: false,
            shared,
        })
    }

    pub(super) fn gone(&mut self, form: Form) -> Option<Gone> {
        let (place, birth) = (self.place()?, Lsn(self.u64()?));
        let (size, shared) = self.size()?;
        Some(Gone {
            place,
            birth,
            size,
            shared,
            upload: self.upload(form)?,
            due: self.due(form)?,
            note: self.note(form)?,
        })
    }

    pub(super) fn started(&mut self) -> Option<Record> {
        Some(Record::Started { epoch: self.u64()?, at: self.millis()? })
    }

    pub(super) fn queue_created(&mut self) -> Option<Record> {
        let (queue, at) = (self.queue()?, self.millis()?);
        let name = std::str::from_utf8(std::mem::take(&mut self.0)).ok()?;
        Some(Record::QueueCreated { queue, name: name.into(), at })
    }

    pub(super) fn lent(&mut self) -> Option<Record> {
        Some(Record::Lent { queue: self.queue()?, rank: self.rank()?, through: self.u64()? })
    }

    pub(super) fn returned(&mut self, form: Form) -> Option<Record> {
        Some(Record::Returned { queue: self.queue()?, entries: self.entries(form)? })
    }

    pub(super) fn entries(&mut self, form: Form) -> Option<Vec<(Place, Entry)>> {
        let mut entries = Vec::new();
        while !self.0.is_empty() {
            entries.push((self.place()?, self.entry(form)?));
        }
        Some(entries)
    }

    pub(super) fn transferred(&mut self, form: Form) -> Option<Record> {
        Some(Record::Transferred {
            from: self.queue()?,
            to: self.queue()?,
            first: self.u64()?,
            entries: self.entries(form)?,
        })
    }

    pub(super) fn removed(&mut self, form: Form) -> Option<Record> {
        let queue = self.queue()?;
        let cause = match self.u8()? {
            1 => Cause::Accepted,
            2 => Cause::Expired,
            3 => Cause::Purged,
            4 => Cause::Returned,
            _ => return None,
        };
        let mut gone = Vec::new();
        while !self.0.is_empty() {
            gone.push(self.gone(form)?);
        }
        Some(Record::Removed { queue, cause, gone })
    }

    pub(super) fn moved(&mut self, form: Form) -> Option<Record> {
        let (from, mut gone) = (self.queue()?, self.gone(Form::Small)?);
        let (to, place, at) = (self.queue()?, self.place()?, self.millis()?);
        gone.upload = self.upload(form)?;
        let upload = self.upload(form)?;
        (gone.due, gone.note) = (self.due(form)?, self.note(form)?);
        Some(Record::Moved { from, gone, to, place, at, upload })
    }
}
