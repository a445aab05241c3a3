//! What the tests share: a store on a simulated disk, opened, written and opened again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::Lsn;
use crate::io::sim::SimDisk;
use crate::wal::{
    Admission, Appended, Class, Log, Opened, Options, PackId, Packer, PastPack, Reader, Recovered,
    RecoveryError, ReplayPoint, Room, RoomStep, TailVerdict, claim,
};

pub(crate) const SEGMENT: u64 = 64 << 10;

pub(crate) struct Bench {
    pub(crate) log: Arc<Log>,
    pub(crate) room: Room,
    pub(crate) reader: Reader,
    pub(crate) packer: Packer,
    pub(crate) packs: Vec<PastPack>,
    pub(crate) tail: TailVerdict,
    pub(crate) recovered: Vec<Recovered>,
}

pub(crate) fn options() -> Options {
    Options { batch_bytes_max: 16 << 10, ..Options::small(SEGMENT) }
}

/// A payload that can be told from every other.
pub(crate) fn payload(number: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number as usize * 31 + at * 7 + at / 251) as u8).collect()
}

pub(crate) fn try_open(
    disk: &SimDisk,
    from: Option<ReplayPoint>,
    live: &BTreeMap<u64, u64>,
) -> Result<Bench, RecoveryError> {
    try_open_packed(disk, from, live, &BTreeMap::new())
}

/// The same where the live frames of some segments lie in packs.
pub(crate) fn try_open_packed(
    disk: &SimDisk,
    from: Option<ReplayPoint>,
    live: &BTreeMap<u64, u64>,
    packed: &BTreeMap<u64, PackId>,
) -> Result<Bench, RecoveryError> {
    let nonce = u128::from(disk.fingerprint()) << 64 | u128::from(disk.operations() + 1);
    let claim = claim(Arc::new(disk.clone()), options(), nonce).expect("nobody else claims");
    let mut recovery = claim.recover(from)?;
    let mut recovered = Vec::new();
    while let Some(record) = recovery.next()? {
        recovered.push(record);
    }
    let progress = recovery.progress();
    assert_eq!(progress.done, progress.total);
    let Opened { log, room, reader, packer, packs, tail, .. } = recovery.finish(live, packed)?;
    Ok(Bench { log, room, reader, packer, packs, tail, recovered })
}

/// Opens a store whose whole log is replayed.
pub(crate) fn open(disk: &SimDisk) -> Bench {
    try_open(disk, None, &BTreeMap::new()).expect("a store that opens")
}

impl Bench {
    pub(crate) fn make_room(&mut self) {
        while self.room.step().expect("a disk with room") == RoomStep::Worked {}
    }

    /// Appends a frame whose payload tells its number, and lets the log roll where it must.
    pub(crate) fn append(&mut self, number: u64, payload_len: usize) -> Appended {
        let record = number.to_le_bytes();
        let bytes = Log::frame_bytes(record.len(), payload_len);
        if self.log.admit(bytes, Class::Clear) != Admission::Yes {
            self.make_room();
        }
        let placed = self.log.append(1, &record, &payload(number, payload_len));
        self.log.submit();
        placed
    }

    /// Makes everything gathered durable.
    pub(crate) fn commit(&mut self) -> Lsn {
        self.log.submit();
        let mut group = self.log.take().expect("something was appended");
        let result = group.write().and_then(|()| group.sync());
        self.log.complete(group, result).expect("a disk that works")
    }

    pub(crate) fn write_unsynced(&mut self) {
        self.log.submit();
        self.log.take().expect("something was appended").write().expect("a disk that works");
    }

    pub(crate) fn numbers(&self) -> Vec<u64> {
        numbers(&self.recovered)
    }
}

pub(crate) fn numbers(recovered: &[Recovered]) -> Vec<u64> {
    let number = |r: &Recovered| u64::from_le_bytes(r.record[..].try_into().expect("8 bytes"));
    recovered.iter().map(number).collect()
}
