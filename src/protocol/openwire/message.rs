//! The structures of which one layout has several type codes: destinations and messages.

use bytes::Bytes;

use super::kinds::{CommandHead, Field, Object};
#[cfg(test)]
use super::sample::Sampler;
use super::table::{BlobSource, MessageHead, MessageTail};
use super::{DecodeError, Reader, Text, Writer};

numbers! {
    /// What a destination is.
    pub enum DestinationKind: u8 {
        /// A queue.
        Queue = 100,
        /// A topic.
        Topic = 101,
        /// A queue that lives as long as a connection.
        TempQueue = 102,
        /// A topic that lives as long as a connection.
        TempTopic = 103,
    }

    /// What a message's body is; the bytes are in [`body`](super::body).
    pub enum MessageKind: u8 {
        /// None.
        Plain = 23,
        /// Bytes.
        Bytes = 24,
        /// A primitive map.
        Map = 25,
        /// A serialised Java object, which is nothing but bytes here.
        Object = 26,
        /// Primitive values.
        Stream = 27,
        /// Text.
        Text = 28,
        /// Somewhere else, at an address. There is none before version 3.
        Blob = 29,
    }
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// What it is.
    pub kind: DestinationKind,
    /// Its name, or several with commas between, or a pattern.
    pub physical_name: Option<Text>,
}

impl Object for Destination {
    fn takes(code: u8) -> bool {
        DestinationKind::new(code).is_some()
    }

    fn code(&self) -> u8 {
        self.kind.number()
    }

    fn read_fields(code: u8, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = DestinationKind::new(code).ok_or(DecodeError::UnexpectedType { code })?;
        Ok(Self { kind, physical_name: reader.field()? })
    }

    fn write_fields(&self, writer: &mut Writer) {
        self.physical_name.write(writer);
    }

    #[cfg(test)]
    fn sample_fields(sampler: &mut Sampler) -> Self {
        let kind = *sampler.pick(DestinationKind::ALL);
        Self { kind, physical_name: Field::sample(sampler) }
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What the body is.
    pub kind: MessageKind,
    /// What stands before the body.
    pub head: MessageHead,
    /// The body.
    pub content: Option<Bytes>,
    /// What stands behind it.
    pub tail: MessageTail,
    /// Where the body of a [`MessageKind::Blob`] is; the others have none.
    pub blob: Option<BlobSource>,
}

impl Message {
    /// A message with nothing in it.
    #[must_use]
    pub fn new(kind: MessageKind) -> Self {
        let blob = (kind == MessageKind::Blob).then(BlobSource::default);
        let (head, tail) = (MessageHead::default(), MessageTail::default());
        Self { kind, head, content: None, tail, blob }
    }
}

impl Object for Message {
    fn takes(code: u8) -> bool {
        MessageKind::new(code).is_some()
    }

    fn code(&self) -> u8 {
        self.kind.number()
    }

    fn command(&self) -> Option<CommandHead> {
        let MessageHead { command_id, response_required, .. } = self.head;
        Some(CommandHead { command_id, response_required })
    }

    fn read_fields(code: u8, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = MessageKind::new(code).ok_or(DecodeError::UnexpectedType { code })?;
        let (head, content, tail) = (reader.field()?, reader.field()?, reader.field()?);
        let blob = match kind {
            MessageKind::Blob => Some(reader.field()?),
            _ => None,
        };
        Ok(Self { kind, head, content, tail, blob })
    }

    fn write_fields(&self, writer: &mut Writer) {
        assert_eq!(self.blob.is_some(), self.kind == MessageKind::Blob);
        self.head.write(writer);
        writer.content(&self.content);
        self.tail.write(writer);
        if let Some(blob) = &self.blob {
            blob.write(writer);
        }
    }

    #[cfg(test)]
    fn sample_fields(sampler: &mut Sampler) -> Self {
        Self {
            head: Field::sample(sampler),
            content: Field::sample(sampler),
            tail: Field::sample(sampler),
            ..Self::new(*sampler.pick(MessageKind::ALL))
        }
    }
}
