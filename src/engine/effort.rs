//! How much a turn has done, so that none is long.
//!
//! Counted in messages touched in memory, a fraction of a microsecond each, because a step may
//! touch one of them or hundreds. How long that takes depends on what else the machine does and on
//! what lies near, so the clock is looked at as well, which can only end a part of a turn sooner.
//! Always: a turn does at most as much as [`limits::TURN_EFFORT_MAX`] says, a share of it for each
//! of the parts that follow its commands, and one step more. Leaves the weight of facts to
//! `broker`.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::command::{Command, Request, XaCommand};
use crate::engine::inbox::request_bytes;
use crate::io::Clock;
use crate::limits;

#[derive(Debug, Default)]
pub(super) struct Effort {
    /// What counts against the part of the turn that is under way.
    spent: usize,
    /// At how much of that the clock was looked at.
    looked: usize,
    /// When the part of the turn that is under way is over, however little it has done.
    until: Duration,
    /// Without one nothing but what is done counts.
    clock: Option<Arc<dyn Clock>>,
    /// What the turn has done in all.
    #[cfg(test)]
    all: usize,
}

impl Effort {
    pub(super) fn watch(&mut self, clock: Arc<dyn Clock>) {
        self.clock = Some(clock);
    }

    fn now(&self) -> Duration {
        self.clock.as_ref().map_or(Duration::ZERO, |clock| clock.monotonic())
    }

    /// A turn begins.
    pub(super) fn begin(&mut self) {
        (self.spent, self.looked) = (0, 0);
        self.until = self.now() + Duration::from_micros(limits::TURN_MICROS);
        #[cfg(test)]
        {
            self.all = 0;
        }
    }

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

    pub(super) fn is_spent(&mut self) -> bool {
        if self.spent >= self.looked + limits::LOOK_EFFORT {
            self.looked = self.spent;
            if self.now() >= self.until {
                self.spent = self.spent.max(limits::TURN_EFFORT_MAX);
            }
        }
        self.spent >= limits::TURN_EFFORT_MAX
    }

    /// However much was done, what comes next in this turn may do some. Gives how much.
    pub(super) fn leave_some(&mut self) -> usize {
        self.spent = self.spent.min(limits::TURN_EFFORT_MAX - limits::TURN_EFFORT_LEFT);
        self.looked = self.spent;
        let some = Duration::from_micros(limits::TURN_MICROS_LEFT);
        self.until = self.until.max(self.now() + some);
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
    use std::sync::atomic::{AtomicU64, Ordering};

    use bytes::Bytes;

    use super::*;
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

    /// A clock that each look finds later.
    #[derive(Debug, Default)]
    struct Fast(AtomicU64);

    impl Clock for Fast {
        fn wall(&self) -> Millis {
            unreachable!("nobody asks for the date")
        }

        fn monotonic(&self) -> Duration {
            Duration::from_micros(self.0.fetch_add(limits::TURN_MICROS / 2, Ordering::Relaxed))
        }
    }

    /// On a machine that is slow, or where nothing lies near, a turn does less.
    #[test]
    fn a_part_of_a_turn_ends_when_its_time_is_over_though_it_has_done_little() {
        let (mut timed, mut untimed) = (Effort::default(), Effort::default());
        timed.watch(Arc::new(Fast::default()));
        for effort in [&mut timed, &mut untimed] {
            effort.begin();
            assert!(!effort.is_spent());
        }
        let spend = |effort: &mut Effort| {
            let mut all = 0;
            while !effort.is_spent() {
                effort.add(1);
                all += 1;
            }
            all
        };
        assert_eq!(spend(&mut untimed), limits::TURN_EFFORT_MAX);
        assert_eq!(spend(&mut timed), 2 * limits::LOOK_EFFORT);
        // What follows gets some of both.
        assert_eq!(timed.leave_some(), limits::TURN_EFFORT_LEFT);
        assert!(!timed.is_spent());
        assert_eq!(spend(&mut timed), limits::LOOK_EFFORT);
        timed.begin();
        assert_eq!(spend(&mut timed), 2 * limits::LOOK_EFFORT);
    }

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
        assert_eq!(end_on.messages(), limits::OUTCOMES_A_STEP * limits::TAKEN_EFFORT);
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
