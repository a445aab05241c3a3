//! Votes of branches where room is short: what they keep, what they wait for, and what is told.

use super::*;
use crate::broker::command::{Disposition, XaError};
use crate::broker::xa::Vote;
use crate::engine::Turn;

fn xid(number: u8) -> Arc<Xid> {
    Arc::new(Xid::new(1, b"g", &[number]).unwrap())
}

impl Bench {
    /// A branch that sends to a queue, from its start to before its vote, without another word.
    fn branch(&mut self, who: u64, number: u8, to: &Destination) {
        self.begin_branch(who, number, to);
        let (xid, transaction) = (xid(number), TransactionName(number.into()));
        let end = XaCommand::End { xid, transaction, how: EndAs::Success };
        self.ask(who, Confirm::RefusalOnly, Command::Xa(end));
    }

    fn begin_branch(&mut self, who: u64, number: u8, to: &Destination) {
        let (xid, transaction) = (xid(number), TransactionName(number.into()));
        let (how, timeout, client) = (StartAs::New, None, "a client".into());
        let start = XaCommand::Start { xid, how, transaction, timeout, client };
        self.ask(who, Confirm::RefusalOnly, Command::Xa(start));
        let Command::Send { to, message } = send(to, number.into(), Durability::Persistent) else {
            unreachable!("that is what it gives")
        };
        let work = Work::Send { to, message };
        self.ask(who, Confirm::RefusalOnly, Command::Transact { transaction, work });
    }

    fn prepare(&mut self, who: u64, number: u8) -> u64 {
        self.ask(who, Confirm::Always, Command::Xa(XaCommand::Prepare { xid: xid(number) }))
    }

    fn commit_branch(&mut self, who: u64, confirm: Confirm, number: u8, one_phase: bool) -> u64 {
        self.ask(who, confirm, Command::Xa(XaCommand::Commit { xid: xid(number), one_phase }))
    }

    fn roll_back(&mut self, who: u64, number: u8) {
        let (xid, disposition) = (xid(number), Disposition::Return);
        self.ask(who, Confirm::Always, Command::Xa(XaCommand::Rollback { xid, disposition }));
    }

    /// The questions that were answered with a vote, or another yes.
    fn votes(&mut self, who: u64) -> Vec<(u64, bool)> {
        let answers = std::mem::take(&mut self.peer(who).answers);
        let is_vote = |reply| matches!(reply, Reply::Vote(Vote::Ok));
        answers.into_iter().map(|(number, said)| (number, is_vote(said.unwrap()))).collect()
    }
}

#[test]
fn a_vote_keeps_room_that_nobody_else_gets_until_its_outcome() {
    for commits in [false, true] {
        let (mut bench, q) = (Bench::new(&holding(1)), queue("q"));
        bench.branch(1, 1, &q);
        let first = bench.prepare(1, 1);
        bench.branch(2, 2, &q);
        let second = bench.prepare(2, 2);
        let plain = bench.send(3, &q, 3);
        bench.quiet();
        assert_eq!(bench.votes(1), [(first, true)]);
        assert_eq!((bench.votes(2), bench.votes(3)), (vec![], vec![]));
        if commits {
            bench.commit_branch(4, Confirm::Always, 1, false);
            bench.quiet();
            assert_eq!((bench.votes(2), bench.votes(3)), (vec![], vec![]));
            bench.subscribe(9, &q, 1);
            bench.accept(9);
        } else {
            bench.roll_back(4, 1);
        }
        bench.quiet();
        assert_eq!((bench.votes(2), bench.votes(3)), (vec![(second, true)], vec![]));
        bench.roll_back(4, 2);
        bench.quiet();
        assert_eq!(bench.yes(3), [plain]);
    }
}

#[test]
fn nothing_goes_for_a_vote_that_may_be_rolled_back_and_all_that_must_for_its_commit() {
    let limits = [("queue://q", at_most(1, WhenFull::DropOldest))];
    for (commits, dropped, left) in [(false, 0, 7), (true, 1, 1)] {
        let (mut bench, q) = (Bench::new(&limits), queue("q"));
        bench.ask(1, Confirm::RefusalOnly, send(&q, 7, Durability::NonPersistent));
        bench.branch(1, 1, &q);
        let vote = bench.prepare(1, 1);
        bench.quiet();
        assert_eq!(bench.votes(1), [(vote, true)]);
        assert_eq!(bench.node.engine.flow().dropped.from_queues, 0);
        if commits {
            bench.commit_branch(1, Confirm::Always, 1, false);
        } else {
            bench.roll_back(1, 1);
        }
        bench.quiet();
        assert_eq!(bench.node.engine.flow().dropped.from_queues, dropped);
        bench.subscribe(9, &q, 9);
        assert_eq!(bench.numbers(9), [left]);
    }
}

#[test]
fn a_vote_comes_after_what_its_connection_has_waiting_in_the_same_queue() {
    for one_phase in [false, true] {
        let limit = Limit { messages: 9, bytes: 2000, when_full: WhenFull::Hold };
        let (mut bench, q) = (Bench::new(&[("queue://q", limit)]), queue("q"));
        for number in [5, 6] {
            bench.ask(1, Confirm::Always, sized(&q, number, Durability::Persistent, 1000));
        }
        bench.subscribe(9, &q, 9);
        // There would be room for what the branch sends.
        bench.branch(1, 1, &q);
        if one_phase {
            bench.commit_branch(1, Confirm::Alone, 1, true)
        } else {
            bench.prepare(1, 1)
        };
        bench.quiet();
        assert_eq!((bench.numbers(9), bench.held()), (vec![5], (1, 2)));
        assert_eq!(bench.node.engine.broker().in_doubt().prepared, 0);
        bench.accept(9);
        if !one_phase {
            assert_eq!(bench.node.engine.broker().in_doubt().prepared, 1);
            bench.commit_branch(2, Confirm::Always, 1, false);
            bench.quiet();
        }
        assert_eq!((bench.numbers(9), bench.held()), (vec![6, 1], (0, 0)));
    }
}

/// As much waits to be said to the first connection as may.
fn silenced() -> (Bench, Destination) {
    let (mut bench, q) = (Bench::new(&holding(1)), queue("q"));
    bench.send(1, &q, 1);
    bench.send(1, &q, 2);
    (1..crate::limits::HELD_ANSWERS_MAX).for_each(|_| {
        bench.ask(1, Confirm::Always, Command::Barrier);
    });
    bench.quiet();
    bench.yes(1);
    (bench, q)
}

#[test]
fn a_branch_that_is_refused_its_vote_because_too_much_waits_is_rolled_back_and_no_other() {
    let (mut bench, _) = silenced();
    let other = queue("other");
    let is_held_full = |refusal| matches!(refusal, Refusal::HeldFull { .. });
    bench.branch(2, 1, &other);
    bench.prepare(1, 1);
    bench.quiet();
    assert!(is_held_full(bench.no(1)));
    bench.roll_back(2, 1);
    bench.quiet();
    assert_eq!(bench.no(2), Refusal::Xa(XaError::NotA));
    // One that somebody is in: he hears of it.
    bench.begin_branch(2, 2, &other);
    bench.prepare(1, 2);
    bench.quiet();
    assert!(is_held_full(bench.no(1)));
    let (xid_of, transaction) = (xid(2), TransactionName(2));
    let end = XaCommand::End { xid: xid_of, transaction, how: EndAs::Success };
    bench.ask(2, Confirm::Always, Command::Xa(end));
    bench.quiet();
    assert_eq!(bench.no(2), Refusal::Xa(XaError::RbTransient));
    // Of one that has voted, or is over, nobody is told that it was undone.
    bench.branch(2, 3, &other);
    bench.prepare(2, 3);
    bench.quiet();
    bench.votes(2);
    for _ in 0..2 {
        bench.prepare(1, 3);
        bench.quiet();
        assert_eq!(bench.no(1), Refusal::Xa(XaError::RmFail));
        bench.commit_branch(1, Confirm::Always, 3, true);
        bench.quiet();
        assert_eq!(bench.no(1), Refusal::Xa(XaError::RmFail));
        bench.commit_branch(2, Confirm::Always, 3, false);
        bench.quiet();
        bench.yes(2);
    }
}

#[test]
fn a_refused_vote_is_told_when_the_log_has_taken_that_its_branch_is_rolled_back() {
    let other = queue("other");
    let mut waited = 0;
    for size in 0..32 {
        let (mut bench, _) = silenced();
        bench.branch(2, 1, &other);
        bench.quiet();
        // While nothing is written, the memory for what is appended fills up.
        while bench.node.inputs.is_empty() {
            let send = sized(&other, 1, Durability::Persistent, 4000 + 8 * size);
            bench.ask(3, Confirm::RefusalOnly, send);
            while bench.node.turn(NOW).unwrap() == Turn::Busy {}
        }
        bench.node.inputs.clear();
        bench.prepare(1, 1);
        while bench.node.turn(NOW).unwrap() == Turn::Busy {}
        waited += usize::from(!bench.node.inputs.is_empty());
        bench.quiet();
        assert!(matches!(bench.no(1), Refusal::HeldFull { .. }));
        bench.roll_back(2, 1);
        bench.quiet();
        assert_eq!(bench.no(2), Refusal::Xa(XaError::NotA));
    }
    assert!(waited > 0, "there was always room for it");
}

#[test]
fn what_is_told_later_is_told_as_it_was_asked() {
    let (mut bench, q) = (Bench::new(&holding(1)), queue("q"));
    bench.branch(2, 1, &queue("other"));
    bench.commit_branch(2, Confirm::Always, 1, true);
    bench.send(1, &q, 1);
    bench.send(1, &q, 2);
    bench.quiet();
    bench.yes(1);
    // Something of the connection waits, and the branch is over.
    let in_order = bench.commit_branch(1, Confirm::Always, 1, true);
    bench.commit_branch(1, Confirm::RefusalOnly, 1, true);
    let alone = bench.commit_branch(1, Confirm::Alone, 1, true);
    bench.quiet();
    assert_eq!(bench.yes(1), [alone]);
    bench.subscribe(9, &q, 1);
    bench.accept(9);
    assert_eq!(bench.yes(1), [2, in_order]);
}
