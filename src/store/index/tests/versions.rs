//! Stores of other versions: refused by name, with what to do.

use super::{IndexError, row, try_open, with_meta};

#[test]
fn a_store_of_another_version_is_refused_by_name_with_what_to_do() {
    let refused = |format: u32| {
        let disk = with_meta(row::META_FORMAT, &format.to_le_bytes());
        let error = try_open(&disk).map(drop).unwrap_err();
        assert!(matches!(error, IndexError::UnknownVersion { found, .. } if found == format));
        error.to_string()
    };
    let newest = row::FORMAT;
    for older in [1, newest - 1] {
        let text = refused(older);
        let named = format!("index.redb has format {older} and this version reads {newest} alone");
        assert!(text.starts_with(&named), "{text}");
        assert!(text.contains("an older version wrote it. Start that version"), "{text}");
    }
    let text = refused(newest + 1);
    assert!(text.ends_with("a newer version wrote it. Start that version"), "{text}");
}
