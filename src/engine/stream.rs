//! One large body on its way out: piece after piece, as its connection's window opens.
//!
//! Owns how far it has come. It is looked up where the next pieces lie, a few of them are read
//! ahead, and each goes into the mailbox in its order; so a body costs its connection about the
//! window, however large it is and however slowly it is taken. Leaves to others: when a delivery
//! may begin (`outbox`), and what becomes of a message that cannot be read (`broker`).

use std::collections::VecDeque;

use bytes::Bytes;

use crate::broker::command::Output;
use crate::broker::delta::PieceAt;
use crate::broker::fact::ConsumerKey;
use crate::engine::mailbox::{Mailbox, window_bytes};
use crate::engine::outbox::Load;
use crate::ids::{Lsn, Tag, UploadId};
use crate::limits;

/// Asks where the next pieces of an upload lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) key: ConsumerKey,
    pub(crate) tag: Tag,
    pub(crate) upload: UploadId,
    /// Strictly after this number.
    pub(crate) after: u32,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) key: ConsumerKey,
    pub(crate) tag: Tag,
    pub(crate) upload: UploadId,
    /// Bytes that have not been handed over.
    left: u64,
    /// The last piece whose place is known.
    last: u32,
    lookup: Step,
    /// Places of pieces that are not being read yet.
    located: VecDeque<PieceAt>,
    /// Pieces being read, or read, in order.
    ahead: VecDeque<Ahead>,
    end: Option<End>,
}

/// How far the places are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    More,
    Asked,
    Complete,
}

#[derive(Debug)]
enum Ahead {
    Asked(Lsn),
    Here(Bytes),
}

/// How a stream is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    /// A piece cannot be read; the broker has been told.
    Lost,
    /// There are fewer or more bytes than the message says.
    Mismatch,
}

impl Stream {
    pub(crate) fn new(key: ConsumerKey, tag: Tag, upload: UploadId, bytes: u64) -> Self {
        Self {
            key,
            tag,
            upload,
            left: bytes,
            last: 0,
            lookup: Step::More,
            located: VecDeque::new(),
            ahead: VecDeque::new(),
            end: None,
        }
    }

    /// Hands over what the window allows and asks for what is needed next. True if anything went.
    pub(crate) fn flow(
        &mut self,
        mailbox: &Mailbox,
        window: usize,
        loads: &mut Vec<Load>,
        lookups: &mut Vec<Lookup>,
    ) -> bool {
        let mut told = false;
        // A part of the window is for pieces that are read ahead.
        let window = (window / limits::STREAM_WINDOW_SHARE).max(1);
        while self.end.is_none()
            && matches!(self.ahead.front(), Some(Ahead::Here(_)))
            && mailbox.has_window(window)
        {
            let Some(Ahead::Here(bytes)) = self.ahead.pop_front() else {
                unreachable!("just seen")
            };
            match self.left.checked_sub(bytes.len() as u64) {
                None => self.end = Some(End::Mismatch),
                Some(left) => {
                    self.left = left;
                    let output = Output::Piece { subscription: self.key.1, tag: self.tag, bytes };
                    let bytes = window_bytes(&output);
                    mailbox.put(output, bytes);
                    told = true;
                    if left == 0 {
                        self.end = Some(End::Done);
                    }
                }
            }
        }
        self.ask(loads, lookups);
        if matches!(self.end, Some(End::Lost | End::Mismatch)) {
            mailbox.put(Output::Broken { subscription: self.key.1, tag: self.tag }, 0);
            told = true;
        }
        told
    }

    fn ask(&mut self, loads: &mut Vec<Load>, lookups: &mut Vec<Lookup>) {
        if self.end.is_some() {
            return;
        }
        let Self { key, tag, upload, last: after, .. } = *self;
        while self.ahead.len() < limits::STREAM_LOADS_AHEAD {
            let Some(PieceAt { birth, size }) = self.located.pop_front() else { break };
            loads.push(Load { key, tag, birth, size });
            self.ahead.push_back(Ahead::Asked(birth));
        }
        if self.lookup == Step::More && self.located.len() < limits::STREAM_LOADS_AHEAD {
            self.lookup = Step::Asked;
            lookups.push(Lookup { key, tag, upload, after });
        }
        if self.lookup == Step::Complete && self.located.is_empty() && self.ahead.is_empty() {
            self.end = Some(End::Mismatch);
        }
    }

    /// The places that were asked for, and whether there may be more; `None` where they must be
    /// asked for again.
    pub(crate) fn located(&mut self, found: Option<(Vec<(u32, PieceAt)>, bool)>) {
        let Some((found, more)) = found else {
            self.lookup = Step::More;
            return;
        };
        self.lookup = if more && !found.is_empty() { Step::More } else { Step::Complete };
        for (number, at) in found {
            if number != self.last + 1 {
                // A gap: what comes before it is all there is.
                self.lookup = Step::Complete;
                return;
            }
            self.last = number;
            self.located.push_back(at);
        }
    }

    /// A piece has come, or will not.
    pub(crate) fn loaded(&mut self, birth: Lsn, bytes: Option<Bytes>) {
        let asked = |ahead: &&mut Ahead| matches!(ahead, Ahead::Asked(lsn) if *lsn == birth);
        let Some(ahead) = self.ahead.iter_mut().find(asked) else { return };
        match bytes {
            Some(bytes) => *ahead = Ahead::Here(bytes),
            None => self.end = Some(End::Lost),
        }
    }

    /// How it is over, once it is.
    pub(crate) fn end(&self) -> Option<End> {
        self.end
    }
}
