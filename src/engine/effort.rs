//! How much a turn has done, so that none is long.
//!
//! Counted in messages touched in memory, a fraction of a microsecond each, because a step may
//! touch one of them or hundreds. Always: a turn does at most as much as
//! [`limits::TURN_EFFORT_MAX`] says, a share of it for each of the parts that follow its commands,
//! and one step more. Leaves the weight of facts to `broker`.

use crate::broker::command::{Command, Request, XaCommand};
use crate::engine::inbox::request_bytes;
use crate::limits;

#[derive(Debug, Default)]
pub(super) struct Effort {
    /// What counts against the part of the turn that is under way.
    spent: usize,
    /// What the turn has done in all.
    #[cfg(test)]
    all: usize,
}

impl Effort {
    pub(super) fn add(&mut self, messages: usize) {
        self.spent += messages;
        #[cfg(test)]
        {
            self.all += messages;
        }
    }

    /// A request is about to be decided.
    pub(super) fn add_request(&mut self, request: &Request) {
        // Bytes are copied and summed: many of them are as long as many commands.
        let commands = 1 + request_bytes(request) / limits::COMMAND_BYTES;
        self.add(commands * limits::COMMAND_EFFORT);
        if let Command::ListQueues { .. }
        | Command::ListKept { .. }
        | Command::Xa(XaCommand::Recover { .. }) = request.command
        {
            self.add(limits::PART_EFFORT);
        }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.spent >= limits::TURN_EFFORT_MAX
    }

    /// However much was done, what comes next in this turn may do some. Gives how much.
    pub(super) fn leave_some(&mut self) -> usize {
        self.spent = self.spent.min(limits::TURN_EFFORT_MAX - limits::TURN_EFFORT_LEFT);
        limits::TURN_EFFORT_MAX - self.spent
    }

    /// What the turn has done in all; for checks.
    #[cfg(test)]
    pub(super) fn all(&self) -> usize {
        self.all
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::broker::command::{Disposition, Outcome, Which};
    use crate::broker::delta::{Place, Resolution};
    use crate::broker::fact::{Change, Fact, UnitChange, UnitKey};
    use crate::identity::Identity;
    use crate::ids::{
        ConnectionId, Lsn, Millis, QueueId, SubscriptionId, Tag, TransactionId, TransactionName,
        UploadId,
    };
    use crate::limits;
    use crate::record::{Gone, ProducersRecord, Record, Settled, Settlement};

    /// What is stated some at a time counts for as many, or a turn would take all of it.
    #[test]
    fn a_fact_about_many_counts_for_as_many() {
        let logged = |record| Fact::Log(record, Bytes::new()).messages();
        let producers = vec![Identity([1; 16]); 100];
        let parted = ProducersRecord::Parted { at: Millis(1), closed: false, producers };
        assert_eq!(logged(Record::Producers(parted)), 100);
        let uploads = vec![UploadId::new(1).expect("not 0"); 100];
        assert_eq!(logged(Record::Abandoned { uploads }), 100);
        let (queue, first, at) = (QueueId(1), 1, Millis(1));
        let fired = Record::Fired { queue, first, at, entries: Vec::new() };
        assert_eq!(logged(fired), 0, "an entry for each message");
        let end_on = Fact::Memory(Change::EndOn { number: 1 });
        assert_eq!(end_on.messages(), limits::STEP_MESSAGES_MAX);
        let key = (ConnectionId(1), SubscriptionId(1));
        let (which, outcome) = (Which::Through(Tag(100)), Outcome::Accepted);
        let settle = Change::Settle { key, which, outcome, effort: 100 };
        assert_eq!(Fact::Memory(settle).messages(), 101);
        let (transaction, resolution) = (TransactionId(1), Resolution::Commit);
        let (place, birth) = (Place::START, Lsn(1));
        let (upload, due, note, shared) = (None, None, None, false);
        let gone = Gone { place, birth, size: 10, upload, due, note, shared };
        let outcomes = vec![Settlement::Leave { queue, gone }; 100];
        let settled = Settled { transaction, first: 1, resolution, last: true, outcomes };
        assert_eq!(logged(Record::Settled(settled)), 100 * limits::TAKEN_EFFORT);
        let unit = UnitKey::Local(ConnectionId(1), TransactionName(1));
        let take = UnitChange::Take { key, which, returned: false, effort: 100 };
        assert_eq!(Fact::Memory(Change::Unit(unit, take)).messages(), 100);
        let (resolution, disposition) = (Resolution::Commit, Disposition::Return);
        let end = UnitChange::End { resolution, disposition, asker: None, at_once: 100 };
        assert_eq!(Fact::Memory(Change::Unit(unit, end)).messages(), 101);
    }
}
