//! What every [`Storage`] promises, run on the real one and the simulated one alike.

use std::io::ErrorKind;

use super::Storage;
use super::blocks::{BLOCK, Blocks};
use super::real::DirStorage;
use super::sim::SimDisk;

fn on_each(check: impl Fn(&dyn Storage)) {
    let directory = tempfile::tempdir().unwrap();
    check(&DirStorage::open_or_create(directory.path()).unwrap());
    check(&SimDisk::new());
}

fn content(storage: &dyn Storage, name: &str) -> Vec<u8> {
    let file = storage.open(name).unwrap();
    let mut content = vec![0xAA; usize::try_from(file.size().unwrap()).unwrap()];
    file.read_at(&mut content, 0).unwrap();
    content
}

fn file(storage: &dyn Storage, name: &str, content: &[u8]) {
    storage.create(name).unwrap().write_at(content, 0).unwrap();
}

#[test]
fn what_was_written_is_read_back() {
    on_each(|storage| {
        let file = storage.create("a").unwrap();
        assert_eq!(file.size().unwrap(), 0);
        file.write_at(b"hello", 0).unwrap();
        file.write_at(b"world", 10_000).unwrap();
        file.sync().unwrap();
        let mut expected = vec![0; 10_005];
        expected[..5].copy_from_slice(b"hello");
        expected[10_000..].copy_from_slice(b"world");
        assert_eq!(content(storage, "a"), expected);
        let mut part = [0; 7];
        file.read_at(&mut part, 9_998).unwrap();
        assert_eq!(&part, b"\0\0world");
    });
}

#[test]
fn reading_past_the_end_is_an_unexpected_end() {
    on_each(|storage| {
        let file = storage.create("a").unwrap();
        file.write_at(b"hello", 0).unwrap();
        let kind = |offset, length| file.read_at(&mut vec![0; length], offset).unwrap_err().kind();
        assert_eq!(kind(0, 6), ErrorKind::UnexpectedEof);
        assert_eq!(kind(5, 1), ErrorKind::UnexpectedEof);
        assert_eq!(kind(5000, 1), ErrorKind::UnexpectedEof);
        file.read_at(&mut [], 5).unwrap();
    });
}

#[test]
fn a_file_cut_and_extended_again_shows_zeros_after_the_cut() {
    on_each(|storage| {
        let file = storage.create("a").unwrap();
        file.write_at(&[7; 9000], 0).unwrap();
        file.set_size(4100).unwrap();
        file.set_size(9000).unwrap();
        let content = content(storage, "a");
        assert_eq!(content.len(), 9000);
        assert!(content[..4100].iter().all(|&byte| byte == 7));
        assert!(content[4100..].iter().all(|&byte| byte == 0));
    });
}

#[test]
fn names_are_listed_sorted() {
    on_each(|storage| {
        for name in ["c", "a-1", "b"] {
            file(storage, name, b"");
        }
        storage.sync_dir().unwrap();
        assert_eq!(storage.list().unwrap(), ["a-1", "b", "c"]);
    });
}

#[test]
fn a_name_is_created_and_linked_once() {
    on_each(|storage| {
        file(storage, "a", b"one");
        file(storage, "b", b"two");
        assert_eq!(storage.create("a").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(storage.link("b", "a").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(content(storage, "a"), b"one");
    });
}

#[test]
fn a_missing_name_is_not_found() {
    on_each(|storage| {
        assert_eq!(storage.open("a").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(storage.remove("a").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(storage.rename("a", "b").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(storage.link("a", "b").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(storage.list().unwrap(), Vec::<String>::new());
    });
}

#[test]
fn a_rename_replaces_and_open_files_stay_good() {
    on_each(|storage| {
        file(storage, "a", b"one");
        file(storage, "b", b"two");
        let (a, b) = (storage.open("a").unwrap(), storage.open("b").unwrap());
        storage.rename("a", "b").unwrap();
        assert_eq!(storage.list().unwrap(), ["b"]);
        a.write_at(b"ONE", 0).unwrap();
        assert_eq!(content(storage, "b"), b"ONE");
        let mut replaced = [0; 3];
        b.read_at(&mut replaced, 0).unwrap();
        assert_eq!(&replaced, b"two");
    });
}

#[test]
fn a_link_is_a_second_name_of_the_same_file() {
    on_each(|storage| {
        file(storage, "a", b"one");
        storage.link("a", "b").unwrap();
        storage.open("a").unwrap().write_at(b"X", 0).unwrap();
        storage.remove("a").unwrap();
        assert_eq!(storage.list().unwrap(), ["b"]);
        assert_eq!(content(storage, "b"), b"Xne");
        // Renaming one name of a file over another name of the same file is no change (POSIX).
        storage.link("b", "c").unwrap();
        storage.rename("b", "c").unwrap();
        assert_eq!(storage.list().unwrap(), ["b", "c"]);
    });
}

#[test]
fn whole_blocks_are_written_like_any_bytes_and_seen_by_every_reader() {
    on_each(|storage| {
        let file = storage.create("a").unwrap();
        file.set_size(8 * BLOCK as u64).unwrap();
        file.write_at(&[1; 3 * BLOCK], 0).unwrap();
        // What was read before is not what is read afterwards.
        assert_eq!(content(storage, "a")[BLOCK], 1);
        let mut blocks = Blocks::new();
        blocks.grow(BLOCK + 10).fill(2);
        blocks.pad();
        file.write_blocks(&blocks, BLOCK as u64).unwrap();
        storage.rename("a", "b").unwrap();
        file.write_blocks(&blocks, 5 * BLOCK as u64).unwrap();
        file.sync().unwrap();
        let mut expected = vec![0; 8 * BLOCK];
        expected[..BLOCK].fill(1);
        for at in [BLOCK, 5 * BLOCK] {
            expected[at..at + BLOCK + 10].fill(2);
        }
        assert!(content(storage, "b") == expected);
    });
}

#[test]
fn blocks_that_are_not_whole_or_not_in_their_place_are_written_all_the_same() {
    on_each(|storage| {
        let file = storage.create("a").unwrap();
        let mut blocks = Blocks::new();
        blocks.grow(BLOCK + 10).fill(3);
        file.write_blocks(&blocks, 0).unwrap();
        blocks.pad();
        file.write_blocks(&blocks, 10).unwrap();
        let content = content(storage, "a");
        assert_eq!(content.len(), 2 * BLOCK + 10);
        assert!(content[..BLOCK + 20].iter().all(|byte| *byte == 3));
    });
}
