//! Header lines to [`Headers`]: line ends, colons and escapes as each version has them.

use super::error::excerpt;
use super::{Command, DecodeError, Headers, Version};

/// How the lines of one head are to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    escapes: Escapes,
    /// A carriage return before the line feed belongs to the line end, not to the value.
    ///
    /// True in 1.2 and in the greeting. In 1.0 and 1.1 a carriage return is data by the letter,
    /// unless the peer ended the command's own line with one too: then it means line ends.
    crlf: bool,
    /// A carriage return that ends no line is an error (1.2).
    strict_cr: bool,
    /// Spaces around name and value do not count (1.0, whose own examples have them).
    trim: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escapes {
    None,
    /// `\n`, `\c`, `\\`
    V1_1,
    /// `\r` too
    V1_2,
}

impl Reading {
    /// For a frame of `command` on a connection that speaks `version`, none before the greeting.
    pub(super) fn new(version: Option<Version>, command: Command, crlf: bool) -> Self {
        let escapes = match version {
            _ if command.is_greeting() => Escapes::None,
            None | Some(Version::V1_0) => Escapes::None,
            Some(Version::V1_1) => Escapes::V1_1,
            Some(Version::V1_2) => Escapes::V1_2,
        };
        Self {
            escapes,
            crlf: crlf || version.is_none() || version == Some(Version::V1_2),
            strict_cr: version == Some(Version::V1_2),
            trim: version == Some(Version::V1_0),
        }
    }

    /// Reads the lines after the command's, each ended by a line feed, up to the blank one.
    pub(super) fn headers(self, lines: &[u8], count: usize) -> Result<Headers, DecodeError> {
        let lines = std::str::from_utf8(lines).map_err(|_| DecodeError::NotUtf8)?;
        let mut headers = Headers::with_capacity(lines.len(), count);
        let mut rest = lines;
        for _ in 0..count {
            let end = memchr::memchr(b'\n', rest.as_bytes()).expect("the lines were counted");
            self.header(&rest[..end], &mut headers)?;
            rest = &rest[end + 1..];
        }
        Ok(headers)
    }

    fn header(self, line: &str, headers: &mut Headers) -> Result<(), DecodeError> {
        let line = if self.crlf { line.strip_suffix('\r').unwrap_or(line) } else { line };
        if self.strict_cr && memchr::memchr(b'\r', line.as_bytes()).is_some() {
            return Err(DecodeError::StrayCarriageReturn { line: excerpt(line) });
        }
        // A colon in a value ought to be escaped, but many clients do not, and nothing is
        // ambiguous: the first colon ends the name.
        let colon = memchr::memchr(b':', line.as_bytes())
            .ok_or_else(|| DecodeError::NoColon { line: excerpt(line) })?;
        let (mut name, mut value) = (&line[..colon], &line[colon + 1..]);
        if self.trim {
            (name, value) = (name.trim(), value.trim());
        }
        if name.is_empty() {
            return Err(DecodeError::EmptyName);
        }
        let text = headers.text();
        if self.escapes == Escapes::None || memchr::memchr(b'\\', line.as_bytes()).is_none() {
            text.push_str(name);
            let name_end = text.len();
            text.push_str(value);
            headers.close(name_end);
            return Ok(());
        }
        let bad = || DecodeError::BadEscape { header: excerpt(line) };
        self.unescape(name, text).ok_or_else(bad)?;
        let name_end = text.len();
        self.unescape(value, text).ok_or_else(bad)?;
        headers.close(name_end);
        Ok(())
    }

    fn unescape(self, mut escaped: &str, text: &mut String) -> Option<()> {
        while let Some(at) = memchr::memchr(b'\\', escaped.as_bytes()) {
            text.push_str(&escaped[..at]);
            text.push(match escaped.as_bytes().get(at + 1)? {
                b'n' => '\n',
                b'c' => ':',
                b'\\' => '\\',
                b'r' if self.escapes == Escapes::V1_2 => '\r',
                _ => return None,
            });
            escaped = &escaped[at + 2..];
        }
        text.push_str(escaped);
        Some(())
    }
}
