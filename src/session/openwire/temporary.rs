//! Temporary destinations of the client, and destinations that it adds or removes.

use super::OpenWireSession;
use super::answers::Asked;
use super::fault::Problem;
use super::names;
use super::present::{Fact, Subject};
use crate::broker::command::Command;
use crate::message::Destination;
use crate::protocol::openwire::CommandHead;
use crate::protocol::openwire::table::DestinationInfo;

impl OpenWireSession {
    pub(super) fn destination(&mut self, head: CommandHead, info: &DestinationInfo) {
        let destinations = match names::parse(info.destination.as_ref()) {
            Ok(destinations) => destinations,
            Err(problem) => return self.fail(head, &problem),
        };
        let Ok([destination]) = <[Destination; 1]>::try_from(destinations) else {
            return self.fail(head, &Problem::destination("one destination at a time"));
        };
        let temporary = names::is_temporary(&destination);
        match (info.operation_type, temporary, &destination) {
            (0, true, _) => {
                let _ = self.config.registry.add(self.connection, destination.clone());
                self.told_of_temporary(head, &destination, false);
            }
            (1, true, _) => self.remove_temporary(head, &destination, info.timeout != 0),
            (1, false, Destination::Queue(name)) => {
                let command = Command::Delete { queue: (**name).into() };
                self.submit(Some(Asked::Delete { head, destination }), command);
            }
            // Others come into being when they are used.
            _ => self.done(head),
        }
    }

    fn remove_temporary(&mut self, head: CommandHead, destination: &Destination, force: bool) {
        let read = self.consumers.all().into_iter().any(|key| {
            self.consumers.get(&key).is_some_and(|it| it.destinations.contains(destination))
        });
        if read && !force {
            let problem = format!("Destination: {destination} still has an active subscription");
            return self.fail(head, &Problem::jms(problem));
        }
        if self.config.registry.remove(self.connection, destination) {
            self.told_of_temporary(head, destination, true);
        } else {
            self.done(head);
        }
    }

    /// All connections hear of it before the client has its answer: what it does next may come to
    /// them behind that.
    pub(super) fn told_of_temporary(
        &mut self,
        head: CommandHead,
        destination: &Destination,
        remove: bool,
    ) {
        let about = self.temporary_info(destination, remove);
        match self.advise(self.note_temporary(destination, remove), about, Vec::new()) {
            Some(command) => self.submit(Some(Asked::Command(head)), command),
            None => self.done(head),
        }
    }

    /// Notes for those who listen later that it is there, or no longer; the topic it is told on.
    fn note_temporary(&self, destination: &Destination, remove: bool) -> &'static str {
        let kind = Self::kind_of_temporary(destination);
        let subject = Subject::Destination(destination.clone());
        if remove {
            self.config.registry.end(kind, subject);
        } else {
            let about = self.temporary_info(destination, false);
            let fact = Fact::new(kind.prefix(), about);
            self.config.registry.begin(kind, subject, fact);
        }
        kind.prefix()
    }

    pub(super) fn remove_all_temporary(&mut self) {
        for destination in self.config.registry.temporary_of(self.connection) {
            let about = self.temporary_info(&destination, true);
            self.config.registry.remove(self.connection, &destination);
            self.tell(self.note_temporary(&destination, true), about, Vec::new());
        }
    }
}
