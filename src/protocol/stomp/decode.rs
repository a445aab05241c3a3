//! Bytes to [`Piece`]s.

use bytes::{Buf, BytesMut};

use super::error::excerpt;
use super::head::Reading;
use super::{Command, DecodeError, Head, Headers, Limits, Piece, Version};

/// Finds the pieces of frames in bytes that may be split anywhere.
///
/// The bytes of an unfinished head stay in the caller's buffer, at most [`Limits::head_bytes`] of
/// them; the decoder remembers how far it has looked, so nothing is read twice however slowly
/// the bytes come. It keeps no buffer of its own.
///
/// The result is a function of the bytes alone: with any split the pieces are the same, but for
/// where a body is cut and how many line ends make a [`Piece::HeartBeat`]; so is the error and
/// what comes before it.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    version: Option<Version>,
    /// No frame has begun yet: bytes of another protocol may be told by name.
    first: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Before a command; line ends are heart-beats.
    Between,
    /// Inside the headers.
    Head(HeadScan),
    /// `left` (never 0) bytes of a body of known length are to come.
    Counted { left: u64 },
    /// A body that ends at its first NUL; `room` bytes are left below the limit.
    Uncounted { room: u64 },
    /// Only the NUL is to come; anything else is `otherwise`.
    Nul { otherwise: DecodeError },
    /// Nothing after an error is a frame.
    Failed(DecodeError),
}

/// How far the head at the start of the buffer has been looked through.
#[derive(Clone, Copy, Debug)]
struct HeadScan {
    command: Command,
    /// The command's line ended with a carriage return and a line feed.
    crlf: bool,
    /// Where the headers begin.
    headers_at: usize,
    /// Where the line looked at begins.
    line_at: usize,
    /// Before here is no line end that has not been seen.
    scanned: usize,
    headers: usize,
}

impl Decoder {
    /// A decoder at the start of a connection, where no version has been agreed.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let mut decoder = Self { limits, version: None, first: true, state: State::Between };
        decoder.set_limits(limits);
        decoder
    }

    /// From the next frame on headers are read as `version` has them.
    pub fn set_version(&mut self, version: Version) {
        self.version = Some(version);
    }

    /// From the next frame on these limits hold.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = Limits { head_bytes: limits.head_bytes.max(64), ..limits };
    }

    /// The next piece, its bytes taken from the front of `input`; `None` when more bytes are
    /// needed, which the caller appends behind those left.
    ///
    /// # Errors
    /// Where the bytes are no frame; every later call says the same.
    pub fn poll(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, DecodeError> {
        let step = match &mut self.state {
            State::Between => self.between(input),
            State::Head(scan) => {
                let scan = *scan;
                self.head(scan, input)
            }
            State::Counted { left } => {
                let left = *left;
                Ok(self.counted(left, input))
            }
            State::Uncounted { room } => {
                let room = *room;
                self.uncounted(room, input)
            }
            State::Nul { otherwise } => match input.first() {
                None => Ok(None),
                Some(0) => Ok(Some(self.end(input))),
                Some(_) => Err(otherwise.clone()),
            },
            State::Failed(error) => Err(error.clone()),
        };
        if let Err(error) = &step {
            self.state = State::Failed(error.clone());
        }
        step
    }

    fn between(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, DecodeError> {
        let ends = line_ends(input);
        if ends > 0 {
            input.advance(ends);
            return Ok(Some(Piece::HeartBeat));
        }
        let Some((command, line)) = recognise(input, self.first)? else { return Ok(None) };
        self.first = false;
        let scan = HeadScan {
            command,
            crlf: input[line - 2] == b'\r',
            headers_at: line,
            line_at: line,
            scanned: line,
            headers: 0,
        };
        self.head(scan, input)
    }

    fn head(
        &mut self,
        mut scan: HeadScan,
        input: &mut BytesMut,
    ) -> Result<Option<Piece>, DecodeError> {
        let limit = self.limits.head_bytes;
        // Nothing beyond the limit is looked at, or the verdict would depend on the split.
        let window = &input[..input.len().min(limit)];
        loop {
            let Some(found) = memchr::memchr2(b'\n', 0, &window[scan.scanned..]) else {
                if window.len() == limit {
                    return Err(DecodeError::HeadTooLarge { limit });
                }
                scan.scanned = window.len();
                self.state = State::Head(scan);
                return Ok(None);
            };
            let at = scan.scanned + found;
            if window[at] == 0 {
                return Err(DecodeError::NulInHead);
            }
            if matches!(&window[scan.line_at..at], b"" | b"\r") {
                break;
            }
            scan.headers += 1;
            if scan.headers > self.limits.headers {
                return Err(DecodeError::TooManyHeaders { limit: self.limits.headers });
            }
            (scan.line_at, scan.scanned) = (at + 1, at + 1);
        }
        let reading = Reading::new(self.version, scan.command, scan.crlf);
        let headers = reading.headers(&window[scan.headers_at..scan.line_at], scan.headers)?;
        let blank = if input[scan.line_at] == b'\r' { 2 } else { 1 };
        input.advance(scan.line_at + blank);
        Ok(Some(self.begin(scan.command, headers)))
    }

    /// The head is given out even where its body cannot be accepted, and the error comes with the
    /// next call: so the receiver knows which frame is refused.
    fn begin(&mut self, command: Command, headers: Headers) -> Piece {
        let (content_length, state) = self.body_to_come(command, &headers);
        self.state = state;
        Piece::Head(Head { command, headers, content_length })
    }

    fn body_to_come(&self, command: Command, headers: &Headers) -> (Option<u64>, State) {
        let limit = self.limits.body_bytes;
        let Some(text) = headers.get("content-length") else {
            return if command.may_have_body() {
                (None, State::Uncounted { room: limit })
            } else {
                (None, State::Nul { otherwise: DecodeError::BodyNotAllowed { command } })
            };
        };
        let Some(length) = decimal(text) else {
            let error = DecodeError::BadContentLength { value: excerpt(text) };
            return (None, State::Failed(error));
        };
        let state = if length == 0 {
            State::Nul { otherwise: DecodeError::NoNulAfterBody }
        } else if !command.may_have_body() {
            State::Failed(DecodeError::BodyNotAllowed { command })
        } else if length > limit {
            State::Failed(DecodeError::BodyTooLarge { limit })
        } else {
            State::Counted { left: length }
        };
        (Some(length), state)
    }

    fn counted(&mut self, left: u64, input: &mut BytesMut) -> Option<Piece> {
        if input.is_empty() {
            return None;
        }
        let take = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        let left = left - take as u64;
        self.state = if left == 0 {
            State::Nul { otherwise: DecodeError::NoNulAfterBody }
        } else {
            State::Counted { left }
        };
        Some(Piece::Body(input.split_to(take).freeze()))
    }

    fn uncounted(&mut self, room: u64, input: &mut BytesMut) -> Result<Option<Piece>, DecodeError> {
        let found = memchr::memchr(0, input);
        if found == Some(0) {
            return Ok(Some(self.end(input)));
        }
        let present = found.unwrap_or(input.len());
        let take = usize::try_from(room).map_or(present, |room| room.min(present));
        if take == 0 {
            let limit = self.limits.body_bytes;
            return if input.is_empty() {
                Ok(None)
            } else {
                Err(DecodeError::BodyTooLarge { limit })
            };
        }
        self.state = State::Uncounted { room: room - take as u64 };
        Ok(Some(Piece::Body(input.split_to(take).freeze())))
    }

    /// The NUL at the front ends the frame.
    fn end(&mut self, input: &mut BytesMut) -> Piece {
        assert_eq!(input[0], 0);
        input.advance(1);
        self.state = State::Between;
        Piece::End
    }
}

/// Bytes of whole line ends at the front.
fn line_ends(input: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match input[at..] {
            [b'\n', ..] => at += 1,
            [b'\r', b'\n', ..] => at += 2,
            _ => return at,
        }
    }
}

/// The command and the length of its line, or `None` while it may still become one.
///
/// The verdict falls at the first byte that settles it, so that a peer with another protocol
/// hears at once, and hears the same however its bytes are split.
fn recognise(input: &[u8], first: bool) -> Result<Option<(Command, usize)>, DecodeError> {
    match input {
        [] | [b'\r'] => return Ok(None),
        [0x16, ..] if first => return Err(DecodeError::Tls),
        [b'A'..=b'Z', ..] => {}
        [byte, ..] => return Err(DecodeError::NotAFrame { byte: *byte }),
    }
    let window = &input[..input.len().min(Command::NAME_BYTES_MAX + 1)];
    let letters = window.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    let unknown = |length: usize| {
        let found = String::from_utf8_lossy(&input[..length.min(input.len())]).into_owned();
        DecodeError::UnknownCommand { found }
    };
    if letters > Command::NAME_BYTES_MAX {
        return Err(unknown(letters));
    }
    let line = match &input[letters..] {
        [] | [b'\r'] => return Ok(None),
        [b'\n', ..] => letters + 1,
        [b'\r', b'\n', ..] => letters + 2,
        [b' ', ..] if first && is_http_method(&input[..letters]) => return Err(DecodeError::Http),
        _ => return Err(unknown(letters)),
    };
    match Command::parse(&input[..letters]) {
        Some(command) => Ok(Some((command, line))),
        None => Err(unknown(letters)),
    }
}

fn is_http_method(word: &[u8]) -> bool {
    const METHODS: [&[u8]; 10] = [
        b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT",
        b"PRI",
    ];
    METHODS.contains(&word)
}

/// A plain decimal number without sign; spaces around it are let pass.
fn decimal(text: &str) -> Option<u64> {
    let digits = text.trim_matches(' ');
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}
