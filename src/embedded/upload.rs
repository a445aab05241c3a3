//! A large body on its way to the broker: in pieces, a few at a time, as the log takes them.

use std::collections::VecDeque;

use super::error::{AskError, SendError};
use super::link::{Asked, Link};
use super::message::Message;
use crate::broker::command::Command;
use crate::ids::StageId;
use crate::limits;
use crate::message::Destination;

/// Brings the body to the disk, then hands in the message that owns it. Dropped before that, or
/// refused, nothing is sent and what came of the body is given back.
pub(super) async fn upload(
    link: &Link,
    to: Destination,
    message: Message,
) -> Result<Asked, SendError> {
    let _turn = link.stages.acquire().await.expect("never closed");
    let body = message.body.clone();
    let mut stage = Stage { link, id: link.stage(), open: true };
    let begin = Command::Stage { stage: stage.id, to: to.clone(), bytes: body.len() as u64 };
    let mut under_way = VecDeque::from([link.ask_small(begin)]);
    for (number, at) in (1..).zip((0..body.len()).step_by(limits::PIECE_BYTES)) {
        if under_way.len() >= limits::PIECES_AHEAD_MAX {
            first_answer(link, &mut under_way).await?;
        }
        let bytes = body.slice(at..body.len().min(at + limits::PIECE_BYTES));
        let room = link.room(bytes.len()).await;
        let command = Command::StagePiece { stage: stage.id, number, bytes };
        under_way.push_back(link.ask(command, room));
    }
    while !under_way.is_empty() {
        first_answer(link, &mut under_way).await?;
    }
    let message = message.head();
    let room = link.room(message.content.len()).await;
    stage.open = false;
    Ok(link.ask(Command::SendStaged { stage: stage.id, to, message }, room))
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
