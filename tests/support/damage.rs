//! Damage on purpose: bits changed in the files of a store at rest.

use std::path::{Path, PathBuf};

use super::broker::Broker;

/// A store at rest with three messages, the second of which has lost a bit: its
/// directory, the file, and the byte in it.
#[track_caller]
pub(crate) fn store_with_a_damaged_message(data: &Path) -> (PathBuf, PathBuf, usize) {
    let broker = Broker::start(data);
    let mut stomp = broker.connect();
    for body in ["sound before", "a body to be damaged on the disk", "sound after"] {
        stomp.publish("/queue/damage", body).unwrap();
    }
    stomp.disconnect().unwrap();
    assert!(broker.terminate().success());
    let (file, offset) = flip_a_bit_of(data, b"a body to be damaged on the disk");
    (data.to_owned(), file, offset)
}

/// Changes one bit in the one place below `dir` where `needle` stands: the file, and the byte in
/// it.
#[track_caller]
pub(crate) fn flip_a_bit_of(dir: &Path, needle: &[u8]) -> (PathBuf, usize) {
    let mut places = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the store") {
        let path = entry.expect("an entry of the store").path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        let found = find(&bytes, needle);
        places.extend(found.map(|offset| (path, bytes, offset)));
    }
    assert_eq!(places.len(), 1, "the body should lie in one file");
    let (path, mut bytes, offset) = places.remove(0);
    let at = offset + 3;
    bytes[at] ^= 0x10;
    std::fs::write(&path, bytes).expect("write the damage");
    (path, at)
}

/// Where `needle` first stands.
pub(crate) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
