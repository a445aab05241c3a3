//! Transactions and publications among sends that wait for room.

use super::*;

const T: TransactionName = TransactionName(1);

impl Bench {
    fn begin(&mut self, who: u64) {
        self.ask(who, Confirm::RefusalOnly, Command::Begin { transaction: T });
    }

    fn work(&mut self, who: u64, work: Work) {
        self.ask(who, Confirm::RefusalOnly, Command::Transact { transaction: T, work });
    }

    fn send_in(&mut self, who: u64, to: &Destination, number: u64) {
        let Command::Send { to, message } = send(to, number, Durability::NonPersistent) else {
            unreachable!("it is one")
        };
        self.work(who, Work::Send { to, message });
    }

    /// Accepts the oldest delivery in a transaction.
    fn take_in(&mut self, who: u64, outcome: Outcome) {
        let delivery = self.peer(who).delivered.pop_front().expect("something was delivered");
        let which = Which::One(delivery.tag);
        self.work(who, Work::Settle { subscription: SUBSCRIPTION, which, outcome });
    }

    fn commit(&mut self, who: u64) -> u64 {
        let asked = self.ask(who, Confirm::Always, Command::Commit { transaction: T });
        self.quiet();
        asked
    }
}

fn topic(name: &str) -> Destination {
    Destination::Topic(name.into())
}

fn non_persistent(bench: &mut Bench, who: u64, to: &Destination, size: usize) -> u64 {
    let asked = bench.ask(who, Confirm::Always, sized(to, 1, Durability::NonPersistent, size));
    bench.quiet();
    asked
}

#[test]
fn a_commit_has_the_room_that_it_makes_itself() {
    for durability in [Durability::Persistent, Durability::NonPersistent] {
        let (mut bench, q) = (Bench::new(&holding(2)), queue("q"));
        for number in 1..=2 {
            bench.ask(9, Confirm::RefusalOnly, send(&q, number, durability));
        }
        bench.subscribe(1, &q, 1);
        bench.begin(1);
        bench.take_in(1, Outcome::Accepted);
        bench.send_in(1, &q, 3);
        let commit = bench.commit(1);
        assert_eq!(bench.yes(1), [commit]);
        assert_eq!(bench.node.engine.broker().holds("q").0, 2);
        assert_eq!(bench.numbers(1), [2]);
    }
}

#[test]
fn a_forbidden_part_dooms_its_transaction_and_no_other() {
    let (mut bench, q) = (Bench::new(&[]), queue("q"));
    for (who, transaction) in [(1, Some(T)), (2, None)] {
        bench.begin(who);
        bench.send_in(who, &q, who);
        let refusal = Box::new(Refusal::ForOperators);
        let forbidden = Command::Forbidden(Forbidden { transaction, refusal });
        bench.ask(who, Confirm::RefusalOnly, forbidden);
        bench.commit(who);
    }
    bench.quiet();
    let mut committed = |who| {
        let (_, said) = bench.peer(who).answers.pop().expect("the commit was answered");
        said
    };
    assert!(matches!(committed(1), Err(Refusal::RollbackOnly { .. })));
    assert_eq!(committed(2), Ok(Reply::Done));
}

#[test]
fn what_a_transaction_only_gives_back_makes_no_room() {
    let (mut bench, q) = (Bench::new(&holding(1)), queue("q"));
    bench.send(9, &q, 1);
    bench.subscribe(1, &q, 1);
    bench.begin(1);
    bench.take_in(1, Outcome::Returned);
    bench.send_in(1, &q, 2);
    bench.commit(1);
    assert_eq!((bench.yes(1), bench.held()), (vec![], (1, 1)));
    bench.ask(9, Confirm::RefusalOnly, Command::Purge { queue: "q".into() });
    bench.quiet();
    assert_eq!(bench.yes(1), [0; 0], "what the transaction holds is not purged");
}

#[test]
fn commits_that_need_room_in_several_queues_are_not_passed_by_others_for_ever() {
    let limits = ["queue://a", "queue://b"].map(|name| (name, at_most(1, WhenFull::Hold)));
    let (mut bench, a, b) = (Bench::new(&limits), queue("a"), queue("b"));
    for (number, to) in (1..).zip([&a, &b]) {
        bench.send(9, to, number);
        bench.subscribe(20 + number, to, 1);
    }
    let commits = [1, 2].map(|who| {
        bench.begin(who);
        bench.send_in(who, &a, 3);
        bench.send_in(who, &b, 4);
        bench.commit(who)
    });
    for number in 1..=9 {
        bench.send(30 + number, &a, 10 + number);
        bench.send(40 + number, &b, 20 + number);
    }
    bench.quiet();
    // Each queue has room for a while when the other has none: others take it.
    let mut done = Vec::new();
    for _ in 0..6 {
        for who in [21, 22] {
            bench.accept(who);
            for who in [1, 2] {
                done.extend(bench.yes(who).into_iter().map(|asked| (who, asked)));
            }
            for name in ["a", "b"] {
                assert!(bench.node.engine.broker().holds(name).0 <= 2);
            }
        }
    }
    assert_eq!(done, [(1, commits[0]), (2, commits[1])], "others wait that came later");
    assert!(bench.held().1 > 0);
}

#[test]
fn a_publication_that_waits_for_memory_keeps_no_queue_from_less() {
    let limits = [("topic://t", at_most(10, WhenFull::Hold))];
    let mut bench = Bench::with(&limits, |settings| {
        settings.limits = Limits { volatile_bytes: 8000, ..settings.limits };
    });
    let (t, q) = (topic("t"), queue("q"));
    bench.subscribe(2, &t, 10);
    bench.subscribe(3, &t, 10);
    let first = non_persistent(&mut bench, 1, &t, 1500);
    let second = non_persistent(&mut bench, 1, &t, 2500);
    assert_eq!(bench.yes(1), [first]);
    let elsewhere = non_persistent(&mut bench, 4, &q, 100);
    assert_eq!(bench.yes(4), [elsewhere]);
    // One subscriber fewer: there is room for the one that is left.
    bench.close(3);
    assert_eq!(bench.yes(1), [second]);
    assert_eq!(bench.held(), (0, 0));
}

#[test]
fn whoever_waited_for_memory_behind_one_that_goes_away_is_tried() {
    let mut bench = Bench::with(&[], |settings| {
        settings.limits = Limits { volatile_bytes: 4000, ..settings.limits };
    });
    let [a, b, c] = ["a", "b", "c"].map(queue);
    let first = non_persistent(&mut bench, 1, &a, 2000);
    assert_eq!(bench.yes(1), [first]);
    non_persistent(&mut bench, 2, &b, 3000);
    let behind = non_persistent(&mut bench, 3, &c, 10);
    assert_eq!((bench.yes(3), bench.held()), (vec![], (2, 2)));
    bench.close(2);
    assert_eq!((bench.yes(3), bench.held()), (vec![behind], (0, 0)));
}

#[test]
fn a_commit_publishes_when_its_topic_has_room_and_after_what_its_connection_has_waiting_there() {
    let limits = [("topic://t", at_most(2, WhenFull::Hold))];
    let (mut bench, t) = (Bench::new(&limits), topic("t"));
    bench.subscribe(2, &t, 1);
    bench.begin(1);
    bench.send_in(1, &t, 9);
    bench.send_in(1, &t, 10);
    for number in 1..=4 {
        bench.send(1, &t, number);
    }
    let commit = bench.commit(1);
    assert_eq!(bench.yes(1).len(), 3);
    let mut seen = Vec::new();
    for left in (0..6).rev() {
        assert_eq!(bench.yes(1).contains(&commit), left == 2, "{left} are left");
        let waiting = bench.numbers(2);
        assert_eq!(waiting.len(), 1);
        seen.extend(waiting);
        bench.accept(2);
    }
    assert_eq!(seen, [1, 2, 3, 4, 9, 10]);
    assert_eq!(bench.node.engine.flow().dropped.from_topics, 0);
}

#[test]
fn a_full_topic_refuses_a_commit_where_its_limit_says_so_and_what_can_never_fit_at_once() {
    let limits = [("topic://t", at_most(1, WhenFull::Refuse))];
    let (mut bench, t) = (Bench::new(&limits), topic("t"));
    bench.subscribe(2, &t, 1);
    for number in 1..=2 {
        bench.send(9, &t, number);
    }
    bench.begin(1);
    bench.send_in(1, &t, 3);
    bench.commit(1);
    assert!(matches!(bench.no(1), Refusal::DestinationFull { .. }));
    bench.send_in(1, &t, 4);
    bench.quiet();
    assert!(matches!(bench.no(1), Refusal::DestinationFull { .. }));
}

#[test]
fn subscriptions_of_one_connection_wait_for_each_other_where_it_has_as_much_as_it_may() {
    let mut bench = Bench::with(&[], |settings| {
        settings.limits = Limits { loans: 8, ..settings.limits };
    });
    let queues = ["a", "b", "c"].map(queue);
    for number in 0..30 {
        bench.send(9, &queues[number as usize % 3], number);
    }
    for (id, from) in (1..).zip(queues.clone()) {
        let subscription = SubscriptionId(id);
        let command = Command::Subscribe { subscription, from, prefetch: 100, selector: None };
        bench.ask(1, Confirm::RefusalOnly, command);
    }
    bench.quiet();
    let mut seen = Vec::new();
    while let Some(delivery) = bench.peer(1).delivered.pop_front() {
        assert!(bench.peer(1).delivered.len() < 8);
        assert_eq!(bench.node.engine.broker().loans().0, bench.node.engine.broker().loans().1);
        seen.push(number_of(&delivery.content).unwrap());
        let (which, outcome) = (Which::One(delivery.tag), Outcome::Accepted);
        let subscription = delivery.subscription;
        let settle = Command::Settle { subscription, which, outcome };
        bench.ask(1, Confirm::RefusalOnly, settle);
        bench.quiet();
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..30).collect::<Vec<_>>());
    assert_eq!(bench.node.engine.broker().loans(), (0, 0));
}

#[test]
fn every_connection_gets_a_few_where_all_together_have_very_many() {
    let mut bench = Bench::with(&[], |settings| {
        settings.limits = Limits { loans_of_all: 6, ..settings.limits };
    });
    let q = queue("q");
    for number in 0..20 {
        bench.send(9, &q, number);
    }
    for (who, has) in [(1, 6), (2, 2), (3, 2)] {
        bench.subscribe(who, &q, 100);
        assert_eq!(bench.numbers(who).len(), has);
    }
    bench.close(1);
    let mut seen = 0;
    while let Some(who) = [2, 3].into_iter().find(|who| !bench.peer(*who).delivered.is_empty()) {
        bench.accept(who);
        seen += 1;
    }
    assert_eq!(seen, 20);
    bench.close(2);
    bench.close(3);
    assert_eq!(bench.node.engine.broker().loans(), (0, 0));
}

#[test]
fn what_a_transaction_publishes_is_heard_when_its_commit_is_durable_and_no_earlier() {
    let mut bench = Bench::new(&[]);
    bench.subscribe(1, &topic("t"), 10);
    bench.begin(2);
    let Command::Send { to, message } = send(&queue("q"), 1, Durability::Persistent) else {
        unreachable!("it is one")
    };
    bench.work(2, Work::Send { to, message });
    bench.send_in(2, &topic("t"), 2);
    bench.quiet();
    bench.ask(2, Confirm::Always, Command::Commit { transaction: T });
    // The log's thread does nothing meanwhile.
    for _ in 0..10 {
        bench.node.turn(NOW).unwrap();
        bench.collect();
    }
    assert!(bench.numbers(1).is_empty());
    bench.quiet();
    assert_eq!(bench.numbers(1), [2]);
}
