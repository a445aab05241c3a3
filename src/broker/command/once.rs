//! A request that is to be done once, however often it is asked.

use crate::broker::command::{Command, Work};
use crate::identity::{Identity, Mark, Numbered};
use crate::ids::TransactionName;
use crate::message::{Destination, Durability};

/// A send or a commit under a name, or the question what became of a commit.
#[derive(Clone, Debug)]
pub struct Once {
    mark: Mark,
    /// What a commit has done.
    operations: Option<Identity>,
    command: Box<Command>,
    /// Nothing need be remembered where nothing is kept, or where a transaction has no room for it.
    lenient: bool,
}

impl Once {
    /// A send under a name that is its own among all that is sent to its queue. It is durable
    /// whatever it asks for. A repetition is answered like the first, with
    /// [`Reply::Repeated`](super::Reply::Repeated).
    ///
    /// # Panics
    /// If the command sends nothing.
    #[must_use]
    pub fn send(id: Identity, command: Command) -> Self {
        Self::marked(Mark::Name(id), command)
    }

    /// The same of a send that has a number of its own among all that its producer sends, wherever
    /// to.
    ///
    /// # Panics
    /// If the command sends nothing.
    #[must_use]
    pub fn numbered(it: Numbered, command: Command) -> Self {
        Self::marked(Mark::Number(it), command)
    }

    /// The same for a client whose library does so wherever it sends. On a topic of which nobody
    /// keeps what is published nothing is remembered, and that is not refused. Nor is a number for
    /// which a transaction has no room, because of its gaps or its many producers, or because all
    /// transactions together have taken what there is for what waits in them: the message is sent
    /// without it, and another under it later is no repetition.
    #[must_use]
    pub fn leniently(self) -> Self {
        Self { lenient: true, ..self }
    }

    /// Whether a name or number may be given where it cannot be remembered.
    #[must_use]
    pub fn is_lenient(&self) -> bool {
        self.lenient
    }

    /// Whether what it sends waits for its time.
    #[must_use]
    pub fn is_for_later(&self) -> bool {
        match &*self.command {
            Command::Send { message, .. }
            | Command::SendStaged { message, .. }
            | Command::Transact {
                work: Work::Send { message, .. } | Work::SendStaged { message, .. },
                ..
            } => !message.when.is_at_once(),
            _ => false,
        }
    }

    fn marked(mark: Mark, mut command: Command) -> Self {
        let (Command::Send { message, .. }
        | Command::SendStaged { message, .. }
        | Command::Transact {
            work: Work::Send { message, .. } | Work::SendStaged { message, .. },
            ..
        }) = &mut command
        else {
            panic!("a mark is given to sends, and not to {command:?}")
        };
        message.durability = Durability::Persistent;
        Self { mark, operations: None, command: Box::new(command), lenient: false }
    }

    /// A commit under a name that no other has in the whole store; `operations` is a digest of all
    /// that was done in the transaction, by which a repetition is told from a mistake. A
    /// repetition does nothing, and is answered like the first.
    #[must_use]
    pub fn commit(id: Identity, transaction: TransactionName, operations: Identity) -> Self {
        let command = Box::new(Command::Commit { transaction });
        Self { mark: Mark::Name(id), operations: Some(operations), command, lenient: false }
    }

    /// Asks whether a commit of that name has happened: [`Reply::Repeated`](super::Reply::Repeated)
    /// if so; else [`Reply::NotCommitted`](super::Reply::NotCommitted), and it never will.
    #[must_use]
    pub fn outcome(id: Identity) -> Self {
        let command = Box::new(Command::Barrier);
        Self { mark: Mark::Name(id), operations: None, command, lenient: false }
    }

    /// The name or number.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// What a commit has done.
    #[must_use]
    pub fn operations(&self) -> Option<Identity> {
        self.operations
    }

    /// Where it sends a message, in a transaction or not.
    #[must_use]
    pub fn sends_to(&self) -> Option<&Destination> {
        match &*self.command {
            Command::Transact {
                work: Work::Send { to, .. } | Work::SendStaged { to, .. }, ..
            } => Some(to),
            other => other.destination(),
        }
    }

    /// What is to be done; a barrier where that is nothing.
    #[must_use]
    pub fn command(&self) -> &Command {
        &self.command
    }
}
