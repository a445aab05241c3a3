//! What the client is answered: which of its commands a word of the broker is about.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::OpenWireSession;
use super::consumer::ConsumerKey;
use super::fault::Problem;
use super::kept::KeptFor;
use super::replay::Replay;
use super::send::SendId;
use crate::broker::command::{Command, KeptName, Refusal, Reply, Vote};
use crate::ids::{StageId, SubscriptionId, Token, Xid};
use crate::message::Destination;
use crate::protocol::openwire::table::{
    ConnectionError, ExceptionResponse, IntegerResponse, Response,
};
use crate::protocol::openwire::{CommandHead, Object};

/// What a request was for, where the answer is awaited.
#[derive(Debug)]
pub(super) enum Asked {
    /// For this command, which is done then.
    Command(CommandHead),
    /// One of those that a send is made of.
    Send(SendId),
    /// A part of a large body.
    Piece { stage: StageId, bytes: usize },
    /// A part of a consumer that begins.
    Subscribe { head: CommandHead, consumer: ConsumerKey, subscription: SubscriptionId },
    /// Whether there is something for a consumer that has asked for one message.
    Pull { consumer: ConsumerKey, pull: u64 },
    /// Whether a browser may look at the nth of its destinations.
    MayBrowse { head: CommandHead, consumer: ConsumerKey, nth: usize },
    /// A piece of what a browser sees, or which queues there are.
    Browsed { consumer: ConsumerKey },
    /// A page of what a listener to advisories is told.
    Replay(Replay),
    /// Which durable subscriptions there are.
    Kept(KeptFor),
    /// The end of a durable subscription, and of which topic, once that is known.
    EndKept { head: Option<CommandHead>, of: KeptName, topic: Option<Arc<str>> },
    /// The end of an ordinary destination.
    Delete { head: CommandHead, destination: Destination },
    /// The end of a transaction of this connection.
    Commit { head: CommandHead, transaction: i64 },
    /// A step in a branch's life.
    Branch { head: CommandHead, xid: Box<Xid>, step: BranchStep },
    /// A part of what makes sure that a branch can only be rolled back; where there is no such
    /// branch any more, nothing is to be done.
    Doom,
    /// The branches that wait, with those found so far.
    Recover { head: CommandHead, found: Vec<Xid> },
}

/// Where nobody awaits an answer.
pub(super) const NOBODY: CommandHead = CommandHead { command_id: 0, response_required: false };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BranchStep {
    Start,
    End,
    Prepare,
    /// Its client asks for a vote that it has had: whether the branch is still there.
    PrepareAgain,
    /// It is not, and what has become of it.
    PrepareGone,
    CommitOnePhase,
    Commit,
    Rollback,
    Forget,
}

/// Some that were asked together, and are answered as one.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) waiting: BTreeSet<u64>,
    pub(super) problem: Option<Problem>,
}

impl OpenWireSession {
    /// Says yes to a command, if it wants to hear.
    pub(super) fn done(&mut self, head: CommandHead) {
        if head.response_required {
            self.write(&Response { correlation_id: head.command_id, ..Response::default() });
        }
    }

    /// Says yes to a command, if it wants to hear, when what its client has asked so far would
    /// survive a crash.
    pub(super) fn confirm(&mut self, head: CommandHead) {
        if head.response_required {
            self.submit(Some(Asked::Command(head)), Command::Barrier);
        }
    }

    /// Says no to a command: by an answer, or where none is awaited by a word of its own.
    pub(super) fn fail(&mut self, head: CommandHead, problem: &Problem) {
        let exception = Some(problem.to_throwable());
        if head.response_required {
            let correlation_id = head.command_id;
            let answer = ExceptionResponse { correlation_id, exception, ..Default::default() };
            self.write(&answer);
        } else {
            self.write(&ConnectionError { exception, ..ConnectionError::default() });
        }
    }

    /// Says what came of a command that the session itself has done.
    pub(super) fn conclude(&mut self, head: CommandHead, result: Result<(), Problem>) {
        match result {
            Ok(()) => self.done(head),
            Err(problem) => self.fail(head, &problem),
        }
    }

    pub(super) fn answer<T: Object>(&mut self, head: CommandHead, answer: &T) {
        if head.response_required {
            self.write(answer);
        }
    }

    /// The broker has answered.
    pub(super) fn answered(&mut self, token: Token, result: Result<Reply, Refusal>) {
        let Some(asked) = self.asked.remove(&token) else {
            // Only of what is refused does it speak without being asked.
            if let Err(refusal) = result {
                let exception = Some(Problem::refused(&refusal).to_throwable());
                self.write(&ConnectionError { exception, ..ConnectionError::default() });
            }
            return;
        };
        match asked {
            Asked::Command(head) => {
                let result = result.map(drop).map_err(|refusal| Problem::refused(&refusal));
                self.conclude(head, result);
            }
            Asked::Send(id) => self.sent(id, token, result),
            Asked::Piece { stage, bytes } => self.piece_answered(stage, bytes, &result),
            Asked::Subscribe { head, consumer, subscription } => {
                self.subscribed(head, &consumer, subscription, result.map(drop));
            }
            Asked::Pull { consumer, pull } => self.pull_answered(&consumer, pull, &result),
            Asked::MayBrowse { head, consumer, nth } => {
                self.may_be_browsed(head, &consumer, nth, &result);
            }
            Asked::Browsed { consumer } => self.browsed(&consumer, result),
            Asked::Replay(replay) => self.replay_on(replay, result),
            Asked::Kept(what) => self.kept(what, result),
            Asked::EndKept { head, of, topic } => self.kept_ended(head, of, topic, result),
            Asked::Delete { head, destination } => {
                if result.is_ok() {
                    self.advise_no_destination(&destination);
                }
                self.conclude(head, result.map(drop).map_err(|why| Problem::refused(&why)));
            }
            Asked::Commit { head, transaction } => self.committed(head, transaction, result),
            Asked::Branch { head, xid, step } => self.branch_answered(head, *xid, step, result),
            Asked::Doom => {}
            Asked::Recover { head, found } => self.recovered(head, found, result),
        }
    }

    /// Answers a vote.
    pub(super) fn voted(&mut self, head: CommandHead, vote: Vote) {
        let result = match vote {
            Vote::Ok => 0,
            Vote::ReadOnly => 3,
        };
        let correlation_id = head.command_id;
        self.answer(head, &IntegerResponse { correlation_id, result, ..Default::default() });
    }
}
