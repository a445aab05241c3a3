//! A message on its way to the broker: whole, or with a large body in pieces, a few at a time, as
//! the log takes them.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::error::{AskError, SendError};
use super::link::{Asked, Link};
use super::message::Message;
use crate::broker::command::{Command, Once};
use crate::identity::{Identity, Listing, Mark};
use crate::ids::{StageId, TransactionName};
use crate::limits;
use crate::message::Destination;
use crate::session::Done;

/// That a message is a part of a transaction.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) of: TransactionName,
    /// Where it is taken note of, if anywhere.
    pub(super) done: Option<&'a Mutex<Done>>,
}

impl Link {
    /// Hands a message in, in a transaction or by itself, when it is its turn.
    pub(super) async fn send(
        &self,
        to: Destination,
        message: Message,
        part: Option<Part<'_>>,
    ) -> Result<Asked, SendError> {
        message.check()?;
        let size = message.body.len() as u64;
        let whole = limits::WHOLE_BODY_BYTES_MAX as u64;
        let limit = match message.comes_again() {
            true => self.way.message_limit.min(whole),
            false => self.way.message_limit,
        };
        if size > limit {
            return Err(SendError::TooLarge { size, limit });
        }
        if size > whole {
            return upload(self, to, message, part).await;
        }
        let mark = message.mark();
        let message = message.whole();
        let room = self.room(message.content.len()).await;
        let command = sending(Command::Send { to, message }, mark, part, None);
        Ok(self.ask(command, room))
    }
}

/// A send as it is handed in, of which note is taken where that is wanted. `body` is what went
/// ahead.
fn sending(
    send: Command,
    mark: Option<Mark>,
    part: Option<Part<'_>>,
    body: Option<Identity>,
) -> Command {
    let command = send.within(part.map(|part| part.of));
    if let Some(done) = part.and_then(|part| part.done) {
        done.lock().expect("no panic holds it").send(&command, body);
    }
    match mark {
        Some(Mark::Name(id)) => Command::Once(Once::send(id, command)),
        Some(Mark::Number(it)) => Command::Once(Once::numbered(it, command)),
        None => command,
    }
}

/// Brings the body to the disk, then hands in the message that owns it. Dropped before that, or
/// refused, nothing is sent and what came of the body is given back.
async fn upload(
    link: &Link,
    to: Destination,
    message: Message,
    part: Option<Part<'_>>,
) -> Result<Asked, SendError> {
    let _turn = link.stages.acquire().await.expect("never closed");
    let body = message.body.clone();
    let mut stage = Stage { link, id: link.stage(), open: true };
    let begin = Command::Stage { stage: stage.id, to: to.clone(), bytes: body.len() as u64 };
    let mut under_way = VecDeque::from([link.ask_small(begin)]);
    let is_noted = part.is_some_and(|part| part.done.is_some());
    let mut pieces = Listing::default();
    for (number, at) in (1..).zip((0..body.len()).step_by(limits::PIECE_BYTES)) {
        if under_way.len() >= limits::PIECES_AHEAD_MAX {
            first_answer(link, &mut under_way).await?;
        }
        let bytes = body.slice(at..body.len().min(at + limits::PIECE_BYTES));
        let room = link.room(bytes.len()).await;
        if is_noted {
            pieces.add(&bytes);
        }
        let command = Command::StagePiece { stage: stage.id, number, bytes };
        under_way.push_back(link.ask(command, room));
    }
    while !under_way.is_empty() {
        first_answer(link, &mut under_way).await?;
    }
    let mark = message.mark();
    let message = message.head();
    let room = link.room(message.content.len()).await;
    stage.open = false;
    let stage = stage.id;
    let send = Command::SendStaged { stage, to, message };
    Ok(link.ask(sending(send, mark, part, Some(pieces.identity())), room))
}

async fn first_answer(link: &Link, under_way: &mut VecDeque<Asked>) -> Result<(), AskError> {
    match under_way.pop_front() {
        Some(first) => link.answer(first).await.map(drop),
        None => Ok(()),
    }
}

/// A body that is not complete.
struct Stage<'a> {
    link: &'a Link,
    id: StageId,
    open: bool,
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if self.open {
            self.link.leave(Command::Unstage { stage: self.id });
        }
    }
}
