//! SEND to a message for the broker.

use bytes::{Bytes, BytesMut};

use super::fault::Fault;
use super::names::parse_destination;
use super::schedule::when;
use super::upload::Upload;
use crate::broker::command::{Command, Once};
use crate::identity::{Identity, Mark, Numbered};
use crate::ids::{Millis, TransactionName};
use crate::message::{
    BodyKind, Content, DUPLICATE_ID, Destination, Durability, GROUP_ID, LargeHead, Message,
    Priority, mark_scheduled,
};
use crate::protocol::stomp::{self, Head};
use crate::schedule::When;

/// Headers that belong to the frame and not to the message: they are regenerated in MESSAGE, or
/// left out. A producer's number is, since whoever sends a message on with all of its headers would
/// speak for that producer, and find that this number was sent.
/// Sorted, to be searched.
pub const OF_THE_FRAME: [&str; 20] = [
    "AMQ_SCHEDULED_CRON",
    "AMQ_SCHEDULED_DELAY",
    "AMQ_SCHEDULED_PERIOD",
    "AMQ_SCHEDULED_REPEAT",
    "JMSXDeliveryCount",
    "JMSXGroupFirstForConsumer",
    "ack",
    "content-length",
    "destination",
    "expires",
    "message-id",
    "persistent",
    "priority",
    "producer-id",
    "producer-sequence",
    "receipt",
    "redelivered",
    "subscription",
    "timestamp",
    "transaction",
];

/// A SEND whose body is not complete yet.
#[derive(Debug)]
pub(super) struct Send {
    pub(super) to: Destination,
    /// Its name or number against repetitions.
    mark: Option<Mark>,
    /// In which it is sent.
    pub(super) transaction: Option<TransactionName>,
    durability: Durability,
    priority: Priority,
    expires: Option<Millis>,
    when: When,
    kind: Option<BodyKind>,
    properties: Vec<(String, String)>,
    pub(super) content_length: Option<u64>,
    body: Body,
    /// Where the body goes in pieces.
    pub(super) upload: Option<Box<Upload>>,
}

/// A body as it arrives. One that came in a single piece is not copied.
#[derive(Debug)]
enum Body {
    Whole(Bytes),
    Parts(BytesMut),
}

impl Send {
    /// From the head, so that a mistake is told before a large body is sent.
    pub(super) fn begin(head: &Head, transaction: Option<TransactionName>) -> Result<Self, Fault> {
        let headers = &head.headers;
        let missing = Fault::MissingHeader { command: head.command, header: "destination" };
        let to = parse_destination(headers.get("destination").ok_or(missing)?)?;
        let durability = match headers.get("persistent") {
            Some(value) if value.eq_ignore_ascii_case("false") => Durability::NonPersistent,
            _ => Durability::Persistent,
        };
        let kind = match (headers.get("amq-msg-type"), head.content_length) {
            (Some("text"), _) => Some(BodyKind::Text),
            (Some("bytes"), _) | (_, Some(_)) => Some(BodyKind::Bytes),
            (_, None) => None,
        };
        let when = when(headers)?;
        let properties = headers
            .iter()
            .filter(|(name, _)| OF_THE_FRAME.binary_search(name).is_err())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(Self {
            to,
            mark: mark(headers)?,
            transaction,
            durability,
            priority: priority(headers)?,
            expires: expires(headers)?,
            when,
            kind,
            properties,
            content_length: head.content_length,
            body: Body::Whole(Bytes::new()),
            upload: None,
        })
    }

    /// Whether it is to be delivered again and again.
    pub(super) fn comes_again(&self) -> bool {
        matches!(self.when, When::Again(_))
    }

    /// The next piece of the body. Its length is bounded by the decoder's limit.
    pub(super) fn push(&mut self, piece: Bytes) {
        match &mut self.body {
            Body::Whole(body) if body.is_empty() => {
                if self.content_length == Some(piece.len() as u64) {
                    self.body = Body::Whole(piece);
                } else {
                    // Room is made as bytes come, never on the word of a header.
                    self.body = Body::Parts(BytesMut::from(&piece[..]));
                }
            }
            Body::Whole(_) => unreachable!("a whole body has no further piece"),
            Body::Parts(parts) => parts.extend_from_slice(&piece),
        }
    }

    /// Bytes set aside for the body so far.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        let body = match &self.body {
            Body::Whole(body) => body.len(),
            Body::Parts(parts) => parts.capacity(),
        };
        body + self.upload.as_deref().map_or(0, Upload::room)
    }

    /// Bytes of the body so far, where that goes whole.
    pub(super) fn len(&self) -> usize {
        match &self.body {
            Body::Whole(body) => body.len(),
            Body::Parts(parts) => parts.len(),
        }
    }

    /// Takes the body so far, for it to go in pieces.
    pub(super) fn take_body(&mut self) -> Bytes {
        match std::mem::replace(&mut self.body, Body::Whole(Bytes::new())) {
            Body::Whole(body) => body,
            Body::Parts(parts) => parts.freeze(),
        }
    }

    /// The command, when the body is complete, and the last piece of one in pieces is given.
    pub(super) fn finish(mut self) -> Command {
        let body = self.take_body();
        let utf8 = match &self.upload {
            Some(upload) => upload.is_text(),
            None => std::str::from_utf8(&body).is_ok(),
        };
        // Text is text only if it is UTF-8: what another wire reads as a string must be one.
        let kind = match self.kind {
            Some(BodyKind::Bytes) => BodyKind::Bytes,
            _ if utf8 => BodyKind::Text,
            _ => BodyKind::Bytes,
        };
        let mut properties = self.properties;
        mark_scheduled(&self.when, &mut properties);
        let grouped = properties.iter().any(|(name, _)| name == GROUP_ID);
        let content = match &self.upload {
            Some(upload) => LargeHead { kind, properties, bytes: upload.bytes() }.encode(),
            None => Content { kind, properties, body }.encode(),
        };
        let message = Message {
            durability: self.durability,
            priority: self.priority,
            expires: self.expires,
            when: self.when,
            grouped,
            content,
        };
        let command = match self.upload {
            Some(upload) => Command::SendStaged { stage: upload.stage(), to: self.to, message },
            None => Command::Send { to: self.to, message },
        };
        let command = command.within(self.transaction);
        match self.mark {
            Some(Mark::Name(id)) => Command::Once(Once::send(id, command)),
            Some(Mark::Number(it)) => Command::Once(Once::numbered(it, command)),
            None => command,
        }
    }
}

fn mark(headers: &stomp::Headers) -> Result<Option<Mark>, Fault> {
    match (identity(headers)?, number(headers)?) {
        (Some(_), Some(_)) => {
            let value = headers.get("producer-id").unwrap_or_default();
            let must = "left out of a message that has an id against duplicates";
            Err(Fault::bad_header("producer-id", value, must))
        }
        (id, number) => Ok(id.map(Mark::Name).or(number.map(Mark::Number))),
    }
}

/// The number of a message among all that its producer sends.
fn number(headers: &stomp::Headers) -> Result<Option<Numbered>, Fault> {
    let (id, sequence) = ("producer-id", "producer-sequence");
    match (headers.get(id), headers.get(sequence)) {
        (None, None) => Ok(None),
        (Some(""), _) => Err(Fault::bad_header(id, "", "a name that no other producer has")),
        (Some(producer), Some(value)) => {
            let must = "a number that the producer gives to no other message: count by one";
            let plain = value.bytes().all(|byte| byte.is_ascii_digit());
            let number = value.parse().ok().filter(|_| plain);
            let number = number.ok_or_else(|| Fault::bad_header(sequence, value, must))?;
            let producer = Identity::of(producer.as_bytes());
            Ok(Some(Numbered { producer, sequence: number }))
        }
        (Some(_), None) => {
            Err(Fault::MissingHeader { command: stomp::Command::Send, header: sequence })
        }
        (None, Some(_)) => Err(Fault::MissingHeader { command: stomp::Command::Send, header: id }),
    }
}

/// The name of a message, in either of two headers: the first is what clients of other brokers
/// send. They stay with the message.
fn identity(headers: &stomp::Headers) -> Result<Option<Identity>, Fault> {
    let (one, other) = (headers.get(DUPLICATE_ID), headers.get("duplicate-id"));
    let id = match (one, other) {
        (None, None) => return Ok(None),
        (Some(one), Some(other)) if one != other => {
            return Err(Fault::bad_header("duplicate-id", other, "the same as _AMQ_DUPL_ID"));
        }
        (Some(id), _) | (None, Some(id)) => id,
    };
    if id.is_empty() {
        return Err(Fault::bad_header("duplicate-id", id, "an id that no other message has"));
    }
    Ok(Some(Identity::of(id.as_bytes())))
}

fn priority(headers: &stomp::Headers) -> Result<Priority, Fault> {
    let Some(value) = headers.get("priority") else { return Ok(Priority::DEFAULT) };
    match value.as_bytes() {
        [digit @ b'0'..=b'9'] => Ok(Priority::new(digit - b'0').expect("one digit is at most 9")),
        _ => Err(Fault::bad_header("priority", value, "a number from 0 to 9")),
    }
}

fn expires(headers: &stomp::Headers) -> Result<Option<Millis>, Fault> {
    let Some(value) = headers.get("expires") else { return Ok(None) };
    let plain = value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(0) => Ok(None),
        Ok(at) if plain => Ok(Some(Millis(at))),
        _ => Err(Fault::bad_header(
            "expires",
            value,
            "a time in milliseconds since 1970, or 0 for never",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_frame_are_sorted() {
        assert!(OF_THE_FRAME.is_sorted());
    }
}
