//! Promises of durable subscriptions whose topic is a pattern.

use super::*;
use crate::broker::command::{KeepAs, Once, Pick, Returns, WhenFull, Work};
use crate::broker::policy::{Limit, Pattern, Policies};
use crate::identity::Identity;
use crate::ids::TransactionName;
use crate::limits;
use crate::message::topic_of;
use crate::selector::Selector;

const T: TransactionName = TransactionName(1);

impl Bench {
    /// The client of a connection begins a subscription of that name, and goes.
    fn catch(&mut self, connection: u64, of: &str, words: (&str, bool)) -> Result<(), Refusal> {
        self.read_caught(connection, of, words)?;
        self.close(connection);
        Ok(())
    }

    fn read_caught(
        &mut self,
        connection: u64,
        of: &str,
        (selector, no_local): (&str, bool),
    ) -> Result<(), Refusal> {
        let (client, name) = (format!("c{connection}").into(), "s".into());
        let selector = Selector::parse_optional(selector).unwrap();
        let (topic, prefetch, reader) = (of.into(), 9, None);
        let keep = Box::new(KeepAs { client, name, topic, prefetch, selector, no_local, reader });
        let subscription = SubscriptionId(1);
        self.ask(connection, &Command::Keep { subscription, keep }).map(drop)
    }

    fn publish_on(&mut self, name: &str, durability: Durability) {
        let message = message(durability);
        self.ask(7, &Command::Send { to: topic(name), message }).unwrap();
    }

    fn publish_in(&mut self, name: &str, message: Message) {
        let work = Work::Send { to: topic(name), message };
        self.ask(7, &Command::Transact { transaction: T, work }).unwrap();
    }

    /// On which topics what was handed out since says that it was published, with who got it.
    fn told(&mut self) -> Vec<(u64, String)> {
        let given: Vec<_> = self.delivered.drain(..).collect();
        let content = |given: &Assignment| match &given.message {
            Lent::Durable { entry, .. } => self.contents[&entry.birth].clone(),
            Lent::Volatile { message, .. } => message.content.clone(),
            Lent::Published { .. } => panic!("nobody only listens"),
        };
        let said = |it: &Assignment| topic_of(&content(it)).unwrap_or_default().into_owned();
        given.iter().map(|it| (it.key.0.0, said(it))).collect()
    }

    fn lines_there(&mut self) -> usize {
        match self.ask(9, &Command::ListQueues { after: None }) {
            Ok(Verdict::Answer(Reply::Queues(all))) => {
                all.iter().filter(|it| it.name.starts_with("publications://")).count()
            }
            other => panic!("{other:?}"),
        }
    }
}

fn message(durability: Durability) -> Message {
    let (priority, content) = (Priority::DEFAULT, Bytes::from_static(b"content"));
    Message { durability, priority, expires: None, when: When::AtOnce, content, grouped: false }
}

fn told(of: &[(u64, &str)]) -> Vec<(u64, String)> {
    of.iter().map(|(who, topic)| (*who, (*topic).to_owned())).collect()
}

const KEPT: Durability = Durability::Persistent;

#[test]
fn what_is_published_on_all_that_a_pattern_catches_is_kept_once_and_says_where() {
    let mut bench = Bench::new();
    bench.catch(1, "a.>", ("", false)).unwrap();
    bench.catch(2, "*.new", ("", false)).unwrap();
    bench.catch(3, "a.new", ("", false)).unwrap();
    let before = bench.log.len();
    for name in ["a.new", "a.old.x", "b.new", "b.old", "a"] {
        bench.publish_on(name, KEPT);
    }
    assert_eq!(bench.log.len() - before, 4, "each once, and nobody wants b.old");
    assert_eq!(bench.kept(), [3, 2, 1]);
    bench.restart();
    assert_eq!(bench.kept(), [3, 2, 1]);
    bench.read_caught(1, "a.>", ("", false)).unwrap();
    assert_eq!(bench.told(), told(&[(1, "a.new"), (1, "a.old.x"), (1, "a")]));
    bench.read_caught(2, "*.new", ("", false)).unwrap();
    assert_eq!(bench.told(), told(&[(2, "a.new"), (2, "b.new")]));
    bench.publish_on("b.new", KEPT);
    assert_eq!(bench.told(), told(&[(2, "b.new")]));
    bench.read_caught(3, "a.new", ("", false)).unwrap();
    assert_eq!((&*bench.delivered[0].source, bench.delivered[0].topic), ("a.new", true));
    for (who, last) in [(1, 3), (2, 3), (3, 1)] {
        bench.settle(who, Which::Through(Tag(last)), Outcome::Accepted).unwrap();
    }
    assert_eq!((bench.kept(), bench.broker.live().len()), (vec![0, 0, 0], 0));
}

#[test]
fn what_no_pattern_catches_is_stored_as_it_came() {
    let mut bench = Bench::new();
    bench.catch(1, "t", ("", false)).unwrap();
    bench.catch(2, "u.>", ("", false)).unwrap();
    bench.publish_on("t", KEPT);
    bench.read_caught(1, "t", ("", false)).unwrap();
    assert_eq!(bench.told(), told(&[(1, "")]));
}

#[test]
fn a_message_that_is_not_persistent_says_it_to_those_alone_who_do_not_know() {
    let mut bench = Bench::new();
    bench.catch(1, "a.*", ("", false)).unwrap();
    bench.catch(2, "a.b", ("", false)).unwrap();
    bench.publish_on("a.b", Durability::NonPersistent);
    bench.ask(7, &Command::Begin { transaction: T }).unwrap();
    bench.publish_in("a.c", message(Durability::NonPersistent));
    bench.ask(7, &Command::Commit { transaction: T }).unwrap();
    assert_eq!((bench.kept(), bench.broker.live().len()), (vec![2, 1], 0));
    bench.read_caught(1, "a.*", ("", false)).unwrap();
    assert_eq!(bench.told(), told(&[(1, "a.b"), (1, "a.c")]));
    bench.read_caught(2, "a.b", ("", false)).unwrap();
    assert_eq!(bench.told(), told(&[(2, "")]));
}

#[test]
fn only_what_is_wanted_of_it_is_kept() {
    let mut bench = Bench::new();
    bench.catch(1, "a.>", ("JMSPriority = 9", false)).unwrap();
    bench.catch(2, "a.>", ("JMSPriority = 4", false)).unwrap();
    bench.catch(3, "*.b", ("JMSPriority = 4", false)).unwrap();
    bench.catch(4, "a.>", ("", true)).unwrap();
    bench.catch(7, "a.>", ("", true)).unwrap();
    // Who publishes is known as who it is.
    bench.ask(7, &Command::Identify { client: "c7".into() }).unwrap();
    for transacted in [false, true] {
        if transacted {
            bench.ask(7, &Command::Begin { transaction: T }).unwrap();
            bench.publish_in("a.b", message(KEPT));
            bench.ask(7, &Command::Commit { transaction: T }).unwrap();
        } else {
            bench.publish_on("a.b", KEPT);
        }
        let each = 1 + u64::from(transacted);
        assert_eq!(bench.kept(), [0, each, each, each, 0], "transacted: {transacted}");
    }
}

#[test]
fn what_a_transaction_publishes_says_it_too_to_whoever_is_there_at_its_commit() {
    let mut bench = Bench::new();
    bench.catch(1, "a.b", ("", false)).unwrap();
    bench.ask(7, &Command::Begin { transaction: T }).unwrap();
    bench.publish_in("a.b", message(KEPT));
    bench.catch(2, "a.*", ("", false)).unwrap();
    bench.catch(3, "*.b", ("JMSPriority = 4", false)).unwrap();
    bench.begin_to(7, &Command::Commit { transaction: T }).unwrap();
    bench.restart();
    // What waits in the line of a topic was published before whoever comes now.
    let subscription = SubscriptionId(1);
    let (client, name, topic) = ("c4".into(), "s".into(), "a.>".into());
    let keep =
        KeepAs { client, name, topic, prefetch: 9, selector: None, no_local: false, reader: None };
    bench.begin_to(4, &Command::Keep { subscription, keep: Box::new(keep) }).unwrap();
    bench.settle_down(Effects::new());
    assert_eq!(bench.kept(), [1, 1, 1, 0]);
    bench.read_caught(2, "a.*", ("", false)).unwrap();
    bench.read_caught(3, "*.b", ("JMSPriority = 4", false)).unwrap();
    assert_eq!(bench.told(), told(&[(2, "a.b"), (3, "a.b")]));
}

#[test]
fn what_was_published_before_a_pattern_caught_it_is_kept_by_it_all_the_same() {
    let mut bench = Bench::new();
    bench.ask(7, &Command::Begin { transaction: T }).unwrap();
    bench.publish_in("a.b", message(KEPT));
    bench.catch(1, "a.*", ("", false)).unwrap();
    bench.do_all(7, &Command::Commit { transaction: T });
    assert_eq!(bench.kept(), [1]);
}

#[test]
fn what_waits_for_its_time_says_it_to_who_has_come_meanwhile() {
    let mut bench = Bench::new();
    let later = |millis| Message { when: When::After(millis), ..message(KEPT) };
    bench.ask(7, &Command::Send { to: topic("a.b"), message: later(500) }).unwrap();
    bench.ask(7, &Command::Begin { transaction: T }).unwrap();
    bench.publish_in("a.c", later(900));
    bench.ask(7, &Command::Commit { transaction: T }).unwrap();
    bench.restart();
    bench.read_caught(1, "a.>", ("", false)).unwrap();
    bench.now = Millis(2000);
    bench.settle_down(Effects::new());
    assert_eq!(bench.told(), told(&[(1, "a.b"), (1, "a.c")]));
}

#[test]
fn no_line_of_a_topic_stays_for_a_pattern_alone() {
    let mut bench = Bench::new();
    bench.catch(1, ">", ("", false)).unwrap();
    bench.catch(2, "t", ("", false)).unwrap();
    for name in ["a", "b", "t"] {
        bench.ask(7, &Command::Begin { transaction: T }).unwrap();
        bench.publish_in(name, message(KEPT));
        bench.ask(7, &Command::Commit { transaction: T }).unwrap();
    }
    assert_eq!((bench.kept(), bench.lines_there()), (vec![3, 1], 1));
}

#[test]
fn another_pattern_begins_anew_and_one_that_ends_catches_nothing() {
    let mut bench = Bench::new();
    bench.catch(1, "a.>", ("", false)).unwrap();
    bench.publish_on("a.b", KEPT);
    bench.catch(1, "a.*", ("", false)).unwrap();
    assert_eq!((bench.kept(), bench.broker.live().len()), (vec![0], 0));
    bench.publish_on("a", KEPT);
    bench.publish_on("a.b", KEPT);
    assert_eq!(bench.kept(), [1]);
    bench.restart();
    assert_eq!(bench.kept(), [1]);
    bench.end_kept(1, "s").unwrap();
    let before = bench.log.len();
    bench.publish_on("a.b", KEPT);
    assert_eq!((bench.kept(), bench.log.len()), (vec![], before));
    bench.read_caught(2, "a.b", ("", false)).unwrap();
    bench.publish_on("a.b", KEPT);
    assert_eq!(bench.told(), told(&[(2, "")]), "it is forgotten");
}

#[test]
fn a_name_is_known_where_a_pattern_keeps_what_is_sent_under_it() {
    let mut bench = Bench::new();
    let send = |to: &str| {
        let (to, message) = (topic(to), message(KEPT));
        Command::Once(Once::send(Identity([7; 16]), Command::Send { to, message }))
    };
    assert_eq!(bench.ask(7, &send("a.b")).map(drop), Err(Refusal::NobodyKeeps));
    bench.catch(1, "a.*", ("", false)).unwrap();
    for _ in 0..2 {
        bench.ask(7, &send("a.b")).unwrap();
        bench.ask(7, &send("a.c")).unwrap();
        bench.restart();
        assert_eq!(bench.kept(), [2], "once on each topic");
    }
}

#[test]
fn what_was_set_apart_of_it_still_says_where_it_was_published() {
    let mut bench = Bench::new();
    bench.catch(1, "a.>", ("", false)).unwrap();
    bench.publish_on("a.b", KEPT);
    let name = "subscription://c1/s?topic=a.%3E";
    for (from, to) in [(name, "aside"), ("aside", name)] {
        let (from, to, pick) = (from.into(), to.into(), Pick::First(9));
        let returns = Returns::Keep;
        bench.ask(9, &Command::Move { from, to, pick, returns }).unwrap();
    }
    bench.read_caught(1, "a.>", ("", false)).unwrap();
    assert_eq!(bench.told(), told(&[(1, "a.b")]));
}

#[test]
fn who_waits_for_room_in_what_a_pattern_keeps_hears_of_it_by_its_own_topic() {
    let mut bench = Bench::new();
    let limit = Limit { messages: 1, bytes: u64::MAX, when_full: WhenFull::Hold };
    let policies =
        Policies::new(vec![(Pattern::parse("topic://a.>").unwrap(), limit)], WhenFull::Hold);
    bench.broker.govern(Arc::new(policies.unwrap()));
    bench.read_caught(1, "a.>", ("", false)).unwrap();
    bench.publish_on("a.b", KEPT);
    let message = message(KEPT);
    let verdict = bench.ask(7, &Command::Send { to: topic("a.c"), message }).unwrap();
    assert!(verdict.is_hold());
    bench.broker.watch(&topic("a.c"));
    bench.broker.take_freed();
    bench.settle(1, Which::One(Tag(1)), Outcome::Accepted).unwrap();
    assert!(bench.broker.take_freed().contains(&topic("a.c")));
}

#[test]
fn a_pattern_that_cannot_be_is_refused() {
    let mut bench = Bench::new();
    let limit = limits::WILDCARD_PARTS_MAX;
    let many = "a.".repeat(limit) + ">";
    for bad in ["a..>", "a.>.b", &many] {
        let refused = bench.catch(1, bad, ("", false));
        assert_eq!(refused, Err(Refusal::BadPattern { limit }), "{bad}");
    }
    let limit = limits::WILDCARDS_MAX;
    for number in 0..limit as u64 {
        bench.catch(number, &format!("a.{number}.>"), ("", false)).unwrap();
    }
    let one = "a.x.>";
    assert_eq!(bench.catch(99, one, ("", false)), Err(Refusal::TooManyPatterns { limit }));
    bench.catch(98, "a.1.>", ("", false)).unwrap();
}

#[test]
fn no_more_keep_a_publication_than_one_record_reaches() {
    let limit = limits::HELD_OF_TOPIC_MAX as u64;
    let mut bench = Bench::new();
    let refused =
        |of: &str| Err(Refusal::TooManySubscriptions { topic: of.into(), limit: limit as usize });
    (0..limit - 2).for_each(|number| bench.catch(number, "a.b", ("", false)).unwrap());
    bench.catch(2000, "a.*", ("", false)).unwrap();
    bench.catch(2001, "*.b", ("", false)).unwrap();
    for of in ["a.b", ">", "a.>", "*.*"] {
        assert_eq!(bench.catch(2002, of, ("", false)), refused(of));
    }
    // Who can have no name in common with all of these is not in their way.
    bench.catch(2003, "*.c", ("", false)).unwrap();
    bench.catch(2004, "a.c", ("", false)).unwrap();
    bench.end_kept(2000, "s").unwrap();
    bench.catch(2005, "a.b", ("", false)).unwrap();
    let before = bench.log.len();
    bench.publish_on("a.b", KEPT);
    assert_eq!(bench.log.len() - before, 1);
    let Record::Published(published) = &bench.log[before].1 else { panic!("it is kept") };
    assert_eq!(published.targets.len() as u64, limit);
}

#[test]
fn a_branch_that_has_voted_says_it_after_a_restart() {
    let mut bench = Bench::new();
    bench.catch(1, "a.>", ("", false)).unwrap();
    branches::publish_and_commit(&mut bench, topic("a.b"), message(KEPT));
    bench.read_caught(1, "a.>", ("", false)).unwrap();
    assert_eq!(bench.told(), told(&[(1, "a.b")]));
}
