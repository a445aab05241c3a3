//! Stores of other versions: refused by name, with what to do.

use super::*;

impl Index {
    /// The version that it says it is of.
    pub(crate) fn format(&self) -> u32 {
        let read = self.database().unwrap().database().begin_read().unwrap();
        let format = read.open_table(META).unwrap().get(row::META_FORMAT).unwrap().unwrap();
        u32::from_le_bytes(format.value().try_into().unwrap())
    }
}

#[test]
fn a_store_of_another_version_is_refused_by_name_with_what_to_do() {
    let refused = |format: u32| {
        let disk = with_meta(row::META_FORMAT, &format.to_le_bytes());
        let error = try_open(&disk).map(drop).unwrap_err();
        assert!(matches!(error, IndexError::UnknownVersion { found, .. } if found == format));
        error.to_string()
    };
    let newest = FORMAT;
    for older in [1, row::OLDEST - 1] {
        let text = refused(older);
        let known = format!("this version reads {} to {newest}", row::OLDEST);
        let named = format!("index.redb has format {older} and {known}");
        assert!(text.starts_with(&named), "{text}");
        assert!(text.contains("an older version wrote it. Start that version"), "{text}");
    }
    let text = refused(newest + 1);
    assert!(text.ends_with("a newer version wrote it. Start that version"), "{text}");
}

#[test]
fn an_older_index_is_read_and_is_of_this_version_when_it_is_raised() {
    let disk = with_meta(row::META_FORMAT, &row::OLDEST.to_le_bytes());
    let (index, _) = try_open(&disk).unwrap();
    drop(index);
    let (index, _) = try_open(&disk).unwrap();
    assert_eq!(index.format(), row::OLDEST, "who only looks changes nothing");
    for _ in 0..2 {
        index.raise().unwrap();
    }
    drop(index);
    assert_eq!(try_open(&disk).unwrap().0.format(), FORMAT);
}
