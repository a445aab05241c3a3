//! Strings of the wire: modified UTF-8.
//!
//! Owns both directions of the encoding. Always: a [`Text`] is well formed and fits its length
//! field. Its bytes stay as they came, so what passes through is never changed; only who looks at
//! the characters has them decoded.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use super::DecodeError;

/// A string of a structure's field: at most [`Text::BYTES_MAX`] bytes of modified UTF-8, in which
/// NUL has two bytes and a character beyond U+FFFF is a pair of surrogates of three bytes each.
///
/// Peers that write such a character as plain UTF-8 do are understood as well. Two texts are equal
/// if their bytes are. One that was decoded shares the memory of its frame.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Text(Bytes);

impl Text {
    /// Bytes of a text at most: what its length field can say.
    pub const BYTES_MAX: usize = u16::MAX as usize;

    /// The text of these characters; `None` where it would be longer than a text can be.
    #[must_use]
    pub fn new(characters: &str) -> Option<Self> {
        let bytes = modified(characters);
        (bytes.len() <= Self::BYTES_MAX).then(|| Self(Bytes::from(bytes.into_owned())))
    }

    /// As many of these characters as a text can have; for words to people.
    #[must_use]
    pub fn cut(characters: &str) -> Self {
        let mut end = characters.len().min(Self::BYTES_MAX);
        loop {
            while !characters.is_char_boundary(end) {
                end -= 1;
            }
            if let Some(text) = Self::new(&characters[..end]) {
                return text;
            }
            // What the encoding adds is cut off again, and one byte at least, so this ends.
            end -= (modified(&characters[..end]).len() - Self::BYTES_MAX).div_ceil(2).min(end);
        }
    }

    /// The text that bytes of the wire are.
    pub(super) fn from_wire(bytes: Bytes) -> Result<Self, DecodeError> {
        assert!(bytes.len() <= Self::BYTES_MAX);
        if is_well_formed(&bytes) { Ok(Self(bytes)) } else { Err(DecodeError::NotText) }
    }

    /// The bytes as they stand on the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The characters; half a surrogate pair is U+FFFD.
    #[must_use]
    pub fn to_str(&self) -> Cow<'_, str> {
        characters(&self.0)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_str())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_str(), f)
    }
}

/// A text that is not to be shown: passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Text);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The characters that bytes stand for, in modified or plain UTF-8; what is neither is U+FFFD.
#[must_use]
pub fn characters(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(plain) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(plain);
    }
    let mut found = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((code, length)) = next_code(rest) {
        rest = &rest[length..];
        let pair = match (code, next_code(rest)) {
            (Some(high @ 0xd800..=0xdbff), Some((Some(low @ 0xdc00..=0xdfff), length))) => {
                rest = &rest[length..];
                Some(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))
            }
            (code, _) => code,
        };
        found.push(pair.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(found)
}

fn is_well_formed(bytes: &[u8]) -> bool {
    if std::str::from_utf8(bytes).is_ok() {
        return true;
    }
    let mut rest = bytes;
    while let Some((code, length)) = next_code(rest) {
        if code.is_none() {
            return false;
        }
        rest = &rest[length..];
    }
    true
}

/// The code at the front and how many bytes it takes; no code where none begins here, which takes
/// one byte. `None` at the end.
fn next_code(bytes: &[u8]) -> Option<(Option<u32>, usize)> {
    let first = *bytes.first()?;
    let (length, high) = match first {
        0x00..=0x7f => return Some((Some(u32::from(first)), 1)),
        0xc0..=0xdf => (2, first & 0x1f),
        0xe0..=0xef => (3, first & 0x0f),
        0xf0..=0xf4 => (4, first & 0x07),
        _ => return Some((None, 1)),
    };
    let Some(following) = bytes.get(1..length) else { return Some((None, 1)) };
    if following.iter().any(|byte| byte & 0xc0 != 0x80) {
        return Some((None, 1));
    }
    let add = |code: u32, byte: &u8| code << 6 | u32::from(byte & 0x3f);
    let code = following.iter().fold(u32::from(high), add);
    if code > u32::from(char::MAX) { Some((None, 1)) } else { Some((Some(code), length)) }
}

/// The bytes of characters in modified UTF-8.
pub(super) fn modified(characters: &str) -> Cow<'_, [u8]> {
    let differs = |byte: &u8| *byte == 0 || *byte >= 0xf0;
    if !characters.as_bytes().iter().any(differs) {
        return Cow::Borrowed(characters.as_bytes());
    }
    let mut bytes = Vec::with_capacity(characters.len() + characters.len() / 2);
    for character in characters.chars() {
        let mut units = [0; 2];
        let mut plain = [0; 4];
        match character {
            '\0' => bytes.extend([0xc0, 0x80]),
            '\u{1}'..='\u{ffff}' => bytes.extend(character.encode_utf8(&mut plain).as_bytes()),
            beyond => {
                for unit in beyond.encode_utf16(&mut units) {
                    let low = |shift: u16| 0x80 | (*unit >> shift & 0x3f) as u8;
                    bytes.extend([0xe0 | (*unit >> 12) as u8, low(6), low(0)]);
                }
            }
        }
    }
    Cow::Owned(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_and_characters_beyond_the_first_plane_are_written_as_java_reads_them() {
        let text = Text::new("é\0😀").unwrap();
        assert_eq!(text.as_bytes(), [0xc3, 0xa9, 0xc0, 0x80, 0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80]);
        assert_eq!(text.to_str(), "é\0😀");
        assert_eq!(characters("é\0😀".as_bytes()), "é\0😀");
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_and_shown_as_replacements() {
        let read = |bytes: &'static [u8]| Text::from_wire(Bytes::from_static(bytes));
        let broken: [&[u8]; 5] = [b"a\x80", b"\xc3", b"\xe0\x80", b"\xff", b"\xf4\xbf\xbf\xbf"];
        for bytes in broken {
            assert_eq!(read(bytes), Err(DecodeError::NotText), "{bytes:?}");
            assert!(characters(bytes).contains('\u{fffd}'), "{bytes:?}");
        }
        // Half a pair is what Java would read, and no character.
        assert_eq!(read(b"a\xed\xa0\xbdb").unwrap().to_str(), "a\u{fffd}b");
    }

    #[test]
    fn a_text_is_cut_between_characters_where_its_length_field_ends() {
        assert!(Text::new(&"x".repeat(65_536)).is_none());
        for character in ["x", "é", "€", "😀", "\0"] {
            let cut = Text::cut(&character.repeat(70_000));
            assert!(cut.as_bytes().len() <= Text::BYTES_MAX);
            assert!(cut.as_bytes().len() > Text::BYTES_MAX - 40_000, "{}", cut.as_bytes().len());
            assert!(cut.to_str().chars().all(|found| character.starts_with(found)));
        }
        assert_eq!(Text::cut("short").to_str(), "short");
    }
}
