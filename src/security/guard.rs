//! The one place where a connection's requests are looked at before the broker gets them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::broker::command::{Command, Forbidden, Reader, Refusal, Request, Work, is_reserved};
use crate::limits;
use crate::message::Destination;
use crate::security::Principal;
use crate::security::access::{Access, Right};

/// What looks at the requests of one connection.
#[derive(Debug)]
pub struct Guard {
    who: Principal,
    access: Arc<Access>,
    /// What was found out already, so that a send costs no search through rules. Bounded.
    known: HashMap<(Right, Destination), bool>,
}

impl Guard {
    /// For a connection that speaks for `who`.
    #[must_use]
    pub fn new(who: Principal, access: Arc<Access>) -> Self {
        Self { who, access, known: HashMap::new() }
    }

    /// For whom the connection speaks.
    #[must_use]
    pub fn who(&self) -> &Principal {
        &self.who
    }

    /// Puts a refusal in the place of what is not allowed.
    pub fn check(&mut self, request: &mut Request) {
        if !self.access.has_rules() {
            return;
        }
        if let Err(refusal) = self.judge(&request.command) {
            let transaction = request.command.works_in();
            let refusal = Box::new(refusal);
            request.command = Command::Forbidden(Forbidden { transaction, refusal });
        }
        // The broker alone knows of which topic a subscription is that is to go.
        if let Command::EndKept { reader, .. } | Command::ListKept { reader, .. } =
            &mut request.command
        {
            *reader = Some(self.reader());
        } else if let Command::Keep { keep, .. } = &mut request.command {
            keep.reader = Some(self.reader());
        }
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(Reads { who: self.who.clone(), access: Arc::clone(&self.access) })
    }

    /// Every command is here by name: a new one must say what it needs.
    fn judge(&mut self, command: &Command) -> Result<(), Refusal> {
        let queue = |name: &str| Destination::queue(name);
        match command.bare() {
            Command::Send { to, .. }
            | Command::Stage { to, .. }
            | Command::SendStaged { to, .. }
            | Command::Transact {
                work: Work::Send { to, .. } | Work::SendStaged { to, .. }, ..
            } => self.needs(Right::Write, to),
            Command::Subscribe { from, .. } | Command::SubscribeAs { from, .. } => {
                self.needs(Right::Read, from)
            }
            Command::Keep { keep, .. } => {
                self.needs(Right::Read, &Destination::Topic(Arc::clone(&keep.topic)))
            }
            // What a topic keeps for others is for who looks after queues.
            Command::ShowQueue { queue: name } | Command::Browse { queue: name, .. } => {
                let right = if is_reserved(name) { Right::Admin } else { Right::Read };
                self.needs(right, &queue(name))
            }
            Command::Purge { queue: name } | Command::Delete { queue: name } => {
                self.needs(Right::Admin, &queue(name))
            }
            Command::Move { from, to, .. } => {
                self.needs(Right::Admin, &queue(from))?;
                self.needs(Right::Admin, &queue(to))
            }
            // Operators have a socket of their own; nobody else asks for these.
            Command::ListQueues { .. }
            | Command::ListSchedules { .. }
            | Command::EndSchedule(_) => Err(Refusal::ForOperators),
            // Of which topic that is the broker knows, and asks its reader.
            Command::EndKept { .. } | Command::ListKept { .. } => Ok(()),
            // What belongs to the connection, or to whom a transaction manager has told of it.
            Command::Identify { .. }
            | Command::Credit { .. }
            | Command::Withdraw { .. }
            | Command::StagePiece { .. }
            | Command::Unstage { .. }
            | Command::Unsubscribe { .. }
            | Command::Settle { .. }
            | Command::Transact { work: Work::Settle { .. }, .. }
            | Command::Begin { .. }
            | Command::Commit { .. }
            | Command::Rollback { .. }
            | Command::Xa(_)
            | Command::Once(_)
            | Command::CloseProducers
            | Command::EndProducers { .. }
            | Command::Barrier
            | Command::Forbidden(_) => Ok(()),
        }
    }

    fn needs(&mut self, right: Right, destination: &Destination) -> Result<(), Refusal> {
        let key = (right, destination.clone());
        let allowed = match self.known.get(&key) {
            Some(allowed) => *allowed,
            None => {
                let allowed = self.access.allows(&self.who, right, destination);
                if self.known.len() >= limits::KNOWN_RIGHTS_MAX {
                    self.known.clear();
                }
                self.known.insert(key, allowed);
                allowed
            }
        };
        if allowed { Ok(()) } else { Err(not_allowed(&self.who, right, destination.clone())) }
    }
}

fn not_allowed(who: &Principal, right: Right, destination: Destination) -> Refusal {
    let (user, right) = (who.name.as_ref().into(), right.to_string().into());
    Refusal::NotAllowed { user, right, destination }
}

/// What somebody may read, for where the broker finds out what it is.
#[derive(Debug)]
struct Reads {
    who: Principal,
    access: Arc<Access>,
}

impl Reader for Reads {
    fn check(&self, topic: &Arc<str>) -> Result<(), Refusal> {
        let topic = Destination::Topic(Arc::clone(topic));
        let allowed = self.access.allows(&self.who, Right::Read, &topic);
        if allowed { Ok(()) } else { Err(not_allowed(&self.who, Right::Read, topic)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::command::Confirm;
    use crate::ids::{SubscriptionId, Token, TransactionName};
    use crate::message::{Durability, Message, Priority};
    use crate::schedule::When;
    use crate::security::access::Rule;

    fn guard() -> Guard {
        let mine = Rule { read: vec!["ann".to_owned()], ..Rule::default() };
        let access = Access::new(vec![("queue://read".to_owned(), mine)]).unwrap();
        Guard::new(Principal { name: "ann".into(), groups: [].into() }, Arc::new(access))
    }

    fn checked(command: Command) -> Command {
        let (token, confirm) = (Token(1), Confirm::Always);
        let mut request = Request { token, confirm, command };
        guard().check(&mut request);
        request.command
    }

    #[test]
    fn what_is_allowed_goes_through_and_what_is_not_is_refused_by_name() {
        let subscribe = |name: &str| Command::Subscribe {
            subscription: SubscriptionId(1),
            from: Destination::queue(name),
            prefetch: 1,
            selector: None,
        };
        assert!(matches!(checked(subscribe("read")), Command::Subscribe { .. }));
        let Command::Forbidden(Forbidden { refusal, .. }) = checked(subscribe("other")) else {
            panic!("it went through")
        };
        assert_eq!(
            refusal.to_string(),
            "ann has no right to read queue://other: an operator gives it in the broker's settings \
             (access)"
        );
    }

    #[test]
    fn who_ends_a_durable_subscription_must_be_allowed_to_read_its_topic() {
        let mine = Rule { read: vec!["ann".to_owned()], ..Rule::default() };
        let access = Access::new(vec![("topic://read".to_owned(), mine)]).unwrap();
        let who = Principal { name: "ann".into(), groups: [].into() };
        let mut guard = Guard::new(who, Arc::new(access));
        let command = Command::EndKept { client: "c".into(), name: "s".into(), reader: None };
        let mut request = Request { token: Token(1), confirm: Confirm::Always, command };
        guard.check(&mut request);
        let Command::EndKept { reader: Some(reader), .. } = request.command else {
            panic!("nobody asks")
        };
        assert_eq!(reader.check(&"read".into()), Ok(()));
        assert!(matches!(reader.check(&"other".into()), Err(Refusal::NotAllowed { .. })));
    }

    #[test]
    fn a_forbidden_part_of_a_transaction_says_of_which() {
        let message = Message {
            durability: Durability::Persistent,
            priority: Priority::DEFAULT,
            expires: None,
            when: When::AtOnce,
            grouped: false,
            content: bytes::Bytes::new(),
        };
        let work = Work::Send { to: Destination::queue("read"), message };
        let transaction = TransactionName(3);
        let found = checked(Command::Transact { transaction, work });
        assert_eq!(found.works_in(), Some(transaction));
        assert!(matches!(found, Command::Forbidden(_)));
    }

    #[test]
    fn operators_commands_are_not_for_clients() {
        let list = checked(Command::ListQueues { after: None });
        assert!(matches!(list, Command::Forbidden(_)));
        let purge = checked(Command::Purge { queue: "read".into() });
        assert!(matches!(purge, Command::Forbidden(_)));
    }
}
