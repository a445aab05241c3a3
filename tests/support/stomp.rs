//! A blocking STOMP client, small enough to be trusted and able to break every rule.
//!
//! Owns one TCP connection and the bytes read ahead. It knows the three versions' escapes and
//! acknowledgements; [`Stomp::write_raw`] sends anything else. A read without an answer ends
//! after [`PATIENCE`] with `TimedOut`, the end of the connection is `UnexpectedEof` or a reset.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::PATIENCE;

/// One STOMP frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) command: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(command: &str) -> Self {
        Self { command: command.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body and its `content-length`.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.with("content-length", &length)
    }

    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as text, for messages that were sent as text.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a UTF-8 body")
    }

    /// Whether the broker says that the message may have been delivered before.
    pub(crate) fn is_redelivered(&self) -> bool {
        self.header("redelivered") == Some("true")
    }

    /// The bytes of the frame in a version's escapes.
    pub(crate) fn encode(&self, version: &str) -> Vec<u8> {
        // CONNECT must be readable by a peer that has not yet agreed on escapes.
        let version = if self.command == "CONNECT" { "1.0" } else { version };
        let mut out = self.command.clone().into_bytes();
        out.push(b'\n');
        for (name, value) in &self.headers {
            out.extend(escape(name, version).bytes());
            out.push(b':');
            out.extend(escape(value, version).bytes());
            out.push(b'\n');
        }
        out.push(b'\n');
        out.extend(&self.body);
        out.push(0);
        out
    }
}

/// A client's end of one connection.
#[derive(Debug)]
pub(crate) struct Stomp {
    stream: TcpStream,
    version: String,
    /// Bytes received and not yet taken as frames.
    input: Vec<u8>,
    /// Frames that arrived while a receipt was awaited.
    early: VecDeque<Frame>,
    receipts: u64,
}

impl Stomp {
    /// Opens a connection and says nothing yet.
    pub(crate) fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let version = "1.0".to_owned();
        Ok(Self { stream, version, input: Vec::new(), early: VecDeque::new(), receipts: 0 })
    }

    /// Opens a connection in a version: "1.0", "1.1" or "1.2".
    pub(crate) fn connect(port: u16, version: &str) -> io::Result<Self> {
        let mut stomp = Self::open(port)?;
        let mut connect = Frame::new("CONNECT").with("login", "guest").with("passcode", "guest");
        if version != "1.0" {
            connect = connect.with("accept-version", version).with("host", "localhost");
        }
        stomp.send(&connect)?;
        let answer = stomp.receive()?;
        if answer.command != "CONNECTED" {
            return Err(refused(&answer));
        }
        stomp.version = answer.header("version").unwrap_or("1.0").to_owned();
        if stomp.version != version {
            let text = format!("asked for version {version} and got {}", stomp.version);
            return Err(io::Error::other(text));
        }
        Ok(stomp)
    }

    /// Writes as that version wants it, after a greeting of one's own.
    pub(crate) fn speak(&mut self, version: &str) {
        version.clone_into(&mut self.version);
    }

    /// Sends a frame and waits for nothing.
    pub(crate) fn send(&mut self, frame: &Frame) -> io::Result<()> {
        let bytes = frame.encode(&self.version);
        self.write_raw(&bytes)
    }

    /// Sends very many frames, many at a time, and waits for nothing.
    pub(crate) fn send_all(&mut self, frames: impl IntoIterator<Item = Frame>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend(frame.encode(&self.version));
            if bytes.len() > 1 << 20 {
                self.write_raw(&std::mem::take(&mut bytes))?;
            }
        }
        self.write_raw(&bytes)
    }

    /// Sends any bytes.
    pub(crate) fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The bare connection, for a client of another kind.
    pub(crate) fn into_stream(self) -> TcpStream {
        assert!(self.input.is_empty() && self.early.is_empty(), "everything read was taken");
        self.stream
    }

    /// Sends a frame with a receipt and returns the receipt's id without waiting for it.
    pub(crate) fn ask(&mut self, frame: Frame) -> io::Result<String> {
        self.receipts += 1;
        let id = format!("receipt-{}", self.receipts);
        self.send(&frame.with("receipt", &id))?;
        Ok(id)
    }

    /// Sends a frame and waits until the broker confirms it; deliveries that come before are
    /// kept for [`Stomp::receive`]. An ERROR is an error with its text.
    pub(crate) fn confirm(&mut self, frame: Frame) -> io::Result<()> {
        let id = self.ask(frame)?;
        loop {
            let frame = self.read_frame(PATIENCE)?;
            match frame.command.as_str() {
                "RECEIPT" if frame.header("receipt-id") == Some(&id) => return Ok(()),
                "ERROR" => return Err(refused(&frame)),
                _ => self.early.push_back(frame),
            }
        }
    }

    /// The next frame, in order of arrival.
    pub(crate) fn receive(&mut self) -> io::Result<Frame> {
        match self.early.pop_front() {
            Some(frame) => Ok(frame),
            None => self.read_frame(PATIENCE),
        }
    }

    /// The next frame, which must be a message.
    pub(crate) fn message(&mut self) -> io::Result<Frame> {
        let frame = self.receive()?;
        if frame.command == "MESSAGE" { Ok(frame) } else { Err(refused(&frame)) }
    }

    /// Sends a persistent text to a destination and waits for the confirmation.
    pub(crate) fn publish(&mut self, to: &str, body: &str) -> io::Result<()> {
        let frame = Frame::new("SEND").with("destination", to).with("persistent", "true");
        self.confirm(frame.body(body))
    }

    /// Subscribes under `id` and waits until the subscription stands.
    pub(crate) fn subscribe(&mut self, id: &str, to: &str, ack: &str) -> io::Result<()> {
        let frame = Frame::new("SUBSCRIBE").with("id", id).with("destination", to);
        self.confirm(frame.with("ack", ack))
    }

    /// The ACK of a message, as this connection's version wants it.
    pub(crate) fn ack_of(&self, message: &Frame) -> Frame {
        self.settle("ACK", message)
    }

    /// The NACK of a message, as this connection's version wants it.
    pub(crate) fn nack_of(&self, message: &Frame) -> Frame {
        self.settle("NACK", message)
    }

    /// Acknowledges a message and waits for the confirmation.
    pub(crate) fn ack(&mut self, message: &Frame) -> io::Result<()> {
        let ack = self.ack_of(message);
        self.confirm(ack)
    }

    /// Gives a message back and waits for the confirmation.
    pub(crate) fn nack(&mut self, message: &Frame) -> io::Result<()> {
        let nack = self.nack_of(message);
        self.confirm(nack)
    }

    /// Says goodbye and waits until the broker has heard all that was said.
    pub(crate) fn disconnect(mut self) -> io::Result<()> {
        self.confirm(Frame::new("DISCONNECT"))
    }

    /// Reads on until the broker ends the connection; the ERROR it gave as its reason, if any.
    ///
    /// # Panics
    /// When the connection still stands after [`PATIENCE`].
    #[track_caller]
    pub(crate) fn wait_closed(&mut self) -> Option<Frame> {
        let mut reason = None;
        loop {
            match self.receive() {
                Ok(frame) if frame.command == "ERROR" => reason = Some(frame),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    panic!("the broker keeps a connection that it should have ended")
                }
                Err(_) => return reason,
            }
        }
    }

    fn settle(&self, command: &str, message: &Frame) -> Frame {
        let header = |name| message.header(name).unwrap_or_default();
        match self.version.as_str() {
            "1.2" => Frame::new(command).with("id", header("ack")),
            _ => Frame::new(command)
                .with("message-id", header("message-id"))
                .with("subscription", header("subscription")),
        }
    }

    fn read_frame(&mut self, patience: Duration) -> io::Result<Frame> {
        let deadline = Instant::now() + patience;
        let mut chunk = [0; 64 * 1024];
        loop {
            if let Some((frame, length)) = parse(&self.input, &self.version)? {
                self.input.drain(..length);
                return Ok(frame);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.input.extend(&chunk[..length]),
                // Linux says WouldBlock when a read timeout passes.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(ErrorKind::TimedOut.into());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn refused(frame: &Frame) -> io::Error {
    let body = String::from_utf8_lossy(&frame.body);
    let message = frame.header("message").unwrap_or_default();
    io::Error::other(format!("{}: {message} {body}", frame.command))
}

fn escape(text: &str, version: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match (c, version) {
            (c, "1.0") => out.push(c),
            ('\\', _) => out.push_str("\\\\"),
            ('\n', _) => out.push_str("\\n"),
            (':', _) => out.push_str("\\c"),
            ('\r', "1.2") => out.push_str("\\r"),
            (c, _) => out.push(c),
        }
    }
    out
}

fn unescape(text: &str, version: &str) -> io::Result<String> {
    if version == "1.0" {
        return Ok(text.to_owned());
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match chars.next() {
            Some('\\') => '\\',
            Some('n') => '\n',
            Some('c') => ':',
            Some('r') if version == "1.2" => '\r',
            other => return Err(malformed(&format!("escape {other:?} in {text:?}"))),
        });
    }
    Ok(out)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the broker sent a malformed frame: {what}"))
}

/// The first whole frame in `input` and how many bytes it takes, or `None` while it is not whole.
fn parse(input: &[u8], version: &str) -> io::Result<Option<(Frame, usize)>> {
    let start = input.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
    let Some(head) = find(&input[start..], b"\n\n") else { return Ok(None) };
    let body = start + head + 2;
    let text = std::str::from_utf8(&input[start..start + head])
        .map_err(|_| malformed("a head that is not UTF-8"))?;
    let mut lines = text.split('\n');
    let command = lines.next().unwrap_or_default().to_owned();
    // A CONNECTED is not escaped: it is read before its version is known.
    let version = if command == "CONNECTED" { "1.0" } else { version };
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| malformed(line))?;
        headers.push((unescape(name, version)?, unescape(value, version)?));
    }
    let mut frame = Frame { command, headers, body: Vec::new() };
    let length = match frame.header("content-length") {
        Some(length) => Some(length.parse::<usize>().map_err(|_| malformed(length))?),
        None => find(&input[body..], b"\0"),
    };
    let Some(length) = length else { return Ok(None) };
    let Some(end) = input.get(body + length) else { return Ok(None) };
    if *end != 0 {
        return Err(malformed("no NUL after the body"));
    }
    frame.body = input[body..body + length].to_vec();
    Ok(Some((frame, body + length + 1)))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
