//! A message of the client whose body is too large to be held: it goes to the broker in pieces as
//! it comes.
//!
//! Always: of such a body the session holds, and has on its way to the disk, a few pieces at most;
//! the rest waits in the socket. One that is refused is read to its end and forgotten, since the
//! next frame begins behind it.

use bytes::{Buf, BytesMut};

use super::OpenWireSession;
use super::answers::Asked;
use super::fault::Problem;
use super::send::{durability, marks, numbers};
use super::stored::head_to_keep;
use crate::broker::command::{Command, Refusal, Reply};
use crate::ids::{StageId, TransactionName};
use crate::message::{self, Destination, Jms, JmsBody};
use crate::protocol::openwire::message::{Message, MessageKind};
use crate::protocol::openwire::table::TransactionId;
use crate::protocol::openwire::{CommandHead, LargeEnd, LargeHead};

/// The message that is being read.
#[derive(Debug)]
pub(super) struct Incoming {
    head: LargeHead,
    /// Why it is not taken.
    problem: Option<Problem>,
    to: Option<Destination>,
    transaction: Option<TransactionName>,
    stage: StageId,
    /// Pieces given to the broker, and bytes of the body as it is stored.
    pieces: u32,
    bytes: u64,
    /// The beginning of the next piece.
    part: BytesMut,
    /// The first bytes, until it is known whether they are the length of a text.
    first: Option<BytesMut>,
    cut: bool,
}

/// What a session remembers of pieces.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    last: u64,
    /// Bytes of pieces that the broker has not answered.
    unanswered: usize,
}

impl OpenWireSession {
    /// Whether more of a body may be read.
    pub(super) fn takes_body(&self) -> bool {
        let part = self.incoming.as_ref().map_or(0, |it| it.part.len());
        self.uploads.unanswered + part < self.config.pieces.ahead_bytes
    }

    pub(super) fn begin_large(&mut self, head: LargeHead) {
        self.uploads.last += 1;
        let stage = StageId(self.uploads.last);
        let length = head.content_length.unwrap_or(0) as u64;
        let taken = self.place_for(&head, length);
        let first = (head.kind == MessageKind::Text).then(BytesMut::new);
        let mut incoming = Box::new(Incoming {
            head,
            problem: None,
            to: None,
            transaction: None,
            stage,
            pieces: 0,
            bytes: 0,
            part: BytesMut::new(),
            first,
            cut: false,
        });
        match taken {
            Ok((to, transaction)) => {
                (incoming.to, incoming.transaction) = (Some(to.clone()), transaction);
                self.stage(stage, 0, Command::Stage { stage, to, bytes: length });
            }
            Err(problem) => incoming.problem = Some(problem),
        }
        self.incoming = Some(incoming);
    }

    fn place_for(
        &self,
        head: &LargeHead,
        length: u64,
    ) -> Result<(Destination, Option<TransactionName>), Problem> {
        let route = self.route(&head.head)?;
        let refused = |refusal| Problem::refused(&refusal);
        let limit = self.config.body_bytes;
        if length > limit {
            return Err(refused(Refusal::MessageTooLarge { size: length, limit }));
        }
        match <[Destination; 1]>::try_from(route.to) {
            Ok([to]) => Ok((to, route.transaction)),
            Err(_) => Err(Problem::jms("a large message goes to one destination alone")),
        }
    }

    /// The answer, when a piece is durable, is what lets the next ones be read.
    fn stage(&mut self, stage: StageId, bytes: usize, command: Command) {
        self.uploads.unanswered += bytes;
        self.submit(Some(Asked::Piece { stage, bytes }), command);
    }

    /// The broker has a piece, or will not have it.
    pub(super) fn piece_answered(
        &mut self,
        stage: StageId,
        bytes: usize,
        result: &Result<Reply, Refusal>,
    ) {
        self.uploads.unanswered -= bytes;
        if let (Err(refusal), Some(incoming)) = (result, &mut self.incoming)
            && incoming.stage == stage
        {
            incoming.problem.get_or_insert(Problem::refused(refusal));
        }
    }

    /// Takes the next bytes of a body.
    pub(super) fn body(&mut self, mut bytes: &[u8]) {
        let Some(incoming) = &mut self.incoming else { unreachable!("it begins with a head") };
        if incoming.problem.is_some() {
            return;
        }
        if let Some(first) = &mut incoming.first {
            let count = bytes.len().min(4 - first.len());
            let (head, rest) = bytes.split_at(count);
            first.extend_from_slice(head);
            bytes = rest;
            if first.len() < 4 {
                return;
            }
            let first = incoming.first.take().expect("just seen");
            let says = (&first[..]).get_i32();
            let length = incoming.head.content_length.unwrap_or(0).checked_sub(4);
            incoming.cut = usize::try_from(says).ok() == length;
            if !incoming.cut {
                self.cut(&first);
            }
        }
        self.cut(bytes);
    }

    /// Adds to the body, and gives the broker each piece that becomes full.
    fn cut(&mut self, mut bytes: &[u8]) {
        let size = self.config.pieces.piece_bytes;
        while let (false, Some(incoming)) = (bytes.is_empty(), &mut self.incoming) {
            let count = bytes.len().min(size - incoming.part.len());
            let (head, rest) = bytes.split_at(count);
            incoming.part.extend_from_slice(head);
            incoming.bytes += count as u64;
            bytes = rest;
            if incoming.part.len() == size {
                self.submit_piece();
            }
        }
    }

    fn submit_piece(&mut self) {
        let Some(incoming) = &mut self.incoming else { return };
        let bytes = std::mem::take(&mut incoming.part).freeze();
        incoming.pieces += 1;
        let (stage, number, length) = (incoming.stage, incoming.pieces, bytes.len());
        self.stage(stage, length, Command::StagePiece { stage, number, bytes });
    }

    /// The message is complete.
    pub(super) fn end_large(&mut self, end: LargeEnd) {
        if self.incoming.as_ref().is_some_and(|it| !it.part.is_empty() && it.problem.is_none()) {
            self.submit_piece();
        }
        let incoming = self.incoming.take().expect("it begins with a head");
        let (stage, begun) = (incoming.stage, incoming.to.is_some());
        let head = CommandHead {
            command_id: incoming.head.head.command_id,
            response_required: incoming.head.head.response_required,
        };
        self.transactions.said.note(head.command_id);
        let transaction = incoming.head.head.transaction_id.clone();
        if let Err(problem) = self.finish_large(head, *incoming, end) {
            if begun {
                self.submit(None, Command::Unstage { stage });
            }
            self.refuse_send(head, transaction.as_ref(), &problem);
        }
    }

    fn finish_large(
        &mut self,
        head: CommandHead,
        incoming: Incoming,
        end: LargeEnd,
    ) -> Result<(), Problem> {
        let Incoming { head: large, problem, to, transaction, stage, bytes, cut, .. } = incoming;
        if let Some(problem) = problem {
            return Err(problem);
        }
        let to = to.expect("where there is no problem there is a place");
        let (kind, present) = (large.kind, large.content_length.is_some());
        let (tail, blob) = (end.tail, end.blob);
        let mut message = Message { kind, head: large.head, content: None, tail, blob };
        let envelope = self.envelope(&mut message)?;
        if matches!(envelope.when, crate::schedule::When::Again(_)) {
            let limit = self.config.pieces.whole_bytes;
            return Err(Problem::refused(&Refusal::TooLargeToRepeat { limit }));
        }
        let window = self.window_of(head, &message).map(|(producer, size)| {
            let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
            (producer, size.saturating_add(bytes))
        });
        let numbers = numbers(&message.head, message.head.message_id.as_ref());
        let marks = marks(&envelope, numbers.as_ref(), &to, false);
        self.note_counted(message.head.producer_id.as_ref(), &marks);
        let id = &message.head.transaction_id;
        let in_vain = id.as_ref().is_some_and(|id| self.transactions.is_in_vain(id));
        let body = JmsBody { present, cut, utf8: false };
        let grouped = message.head.group_id.is_some();
        let stored = Jms::Large(head_to_keep(message, body), bytes);
        let content = stored.encode().map_err(|why| Problem::jms(why.to_string()))?;
        let message = message::Message {
            durability: durability(&envelope, &to),
            priority: envelope.priority,
            expires: envelope.expires,
            when: envelope.when,
            grouped,
            content,
        };
        if in_vain {
            self.submit(None, Command::Unstage { stage });
            self.send_all(head, window, Vec::new());
            return Ok(());
        }
        let command = Command::SendStaged { stage, to, message }.within(transaction);
        self.send_all(head, window, vec![marks.apply(command)]);
        Ok(())
    }

    fn refuse_send(
        &mut self,
        head: CommandHead,
        transaction: Option<&TransactionId>,
        problem: &Problem,
    ) {
        self.spoil(transaction, problem);
        self.fail(head, problem);
    }
}
