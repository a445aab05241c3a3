//! What is set aside for the index's own growth.

use super::*;
use crate::store::reserve::bytes;

#[test]
fn a_commit_that_a_full_disk_has_no_room_for_takes_it_from_the_reserve() {
    let disk = SimDisk::new();
    let (mut index, _) = open(&disk);
    index.keep_reserve(8 << 20);
    assert!(!index.has_reserve());
    let (mut state, mut helped) = (Model::default(), 0);
    for number in 1..=6 {
        index.restore_reserve();
        assert!(index.has_reserve());
        let change = delta(number, 20_000, &state);
        let before = index.stats().unwrap().file_bytes;
        disk.set_capacity(disk.used());
        index.commit(&change, replay(number)).expect("what is set aside is enough");
        let grew = index.stats().unwrap().file_bytes > before;
        assert_eq!(grew, !index.has_reserve(), "given back when it was needed, and only then");
        helped += u32::from(grew);
        state = state.after(&change, replay(number));
        index.restore_reserve();
        assert!(disk.free().unwrap() < 8 << 20 || index.has_reserve());
        disk.set_capacity(u64::MAX);
    }
    assert!(helped >= 2, "the file grew {helped} times");
    drop(index);
    assert_eq!(Model::of(&disk), state);
}

#[test]
fn an_index_that_has_become_nearly_empty_needs_no_reserve_of_its_size() {
    let disk = SimDisk::new();
    let (mut index, _) = open(&disk);
    index.keep_reserve(1 << 20);
    let filled = delta(1, 60_000, &Model::default());
    index.commit(&filled, replay(1)).unwrap();
    index.restore_reserve();
    let file = index.stats().unwrap().file_bytes;
    assert!(bytes(&disk) == (1 << 20) + file && file > 2 << 20, "{file}");
    let mut emptied = Delta::default();
    for (key, _) in filled.entries.iter() {
        emptied.entries.insert(key, None);
    }
    index.commit(&emptied, replay(2)).unwrap();
    index.restore_reserve();
    assert_eq!(bytes(&disk), 1 << 20);
}
