//! Promises about messages that belong to groups.

use super::*;
use crate::broker::Standing;
use crate::limits;
use crate::message::{BodyKind, Content, GROUP_ID, GROUP_SEQUENCE};

fn of_group(group: &str, number: i64, durability: Durability) -> Message {
    let properties = [(GROUP_ID, group.to_owned()), (GROUP_SEQUENCE, number.to_string())];
    let properties = properties.map(|(name, value)| (name.to_owned(), value)).into();
    let content = Content { kind: BodyKind::Text, properties, body: Bytes::new() }.encode();
    let (priority, expires, when) = (Priority::DEFAULT, None, When::AtOnce);
    Message { durability, priority, expires, when, grouped: true, content }
}

impl Bench {
    fn send_of(&mut self, name: &str, groups: &[&str]) {
        for group in groups {
            let message = of_group(group, 0, Durability::Persistent);
            self.ask(9, &Command::Send { to: queue(name), message }).unwrap();
        }
    }

    /// One of a group and of a priority.
    fn send_urgent(&mut self, name: &str, group: &str, priority: u8) {
        let priority = Priority::new(priority).unwrap();
        let message = Message { priority, ..of_group(group, 0, Durability::Persistent) };
        self.ask(9, &Command::Send { to: queue(name), message }).unwrap();
    }

    /// Keeps the answers about messages back from now on.
    fn withhold(&mut self) {
        self.withheld = Some(VecDeque::new());
    }

    /// Gives the first of these answers.
    fn tell(&mut self) {
        let first = self.withheld.as_mut().and_then(VecDeque::pop_front);
        self.answer(first.expect("nothing is asked"));
        self.settle_down(Effects::new());
    }

    /// Who got which message since the last call, and whether it was the first of its group.
    fn given(&mut self) -> Vec<(u64, u64, bool)> {
        let all = self.delivered.drain(..);
        all.map(|it| (it.key.0.0, seq(&it.message), it.first_of_group)).collect()
    }

    fn accept(&mut self, who: u64, tag: u64) {
        self.settle(who, Which::One(Tag(tag)), Outcome::Accepted).unwrap();
    }
}

#[test]
fn all_of_a_group_go_to_one_consumer_and_groups_are_shared_out() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 100);
    bench.subscribe(2, queue("q"), 100);
    bench.send_of("q", &["red", "red", "blue", "red", "blue", "blue"]);
    bench.send("q");
    let given = bench.given();
    let expected = [(1, 1, true), (1, 2, false), (2, 3, true), (1, 4, false), (2, 5, false)];
    assert_eq!(given[..5], expected);
    assert_eq!(given.len(), 7);
}

#[test]
fn an_owner_that_takes_no_more_keeps_nobody_from_other_groups() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 1);
    bench.subscribe(2, queue("q"), 100);
    bench.send_of("q", &["red", "red", "blue", "red", "blue"]);
    assert_eq!(bench.given(), [(1, 1, true), (2, 3, true), (2, 5, false)]);
    bench.accept(1, 1);
    assert_eq!(bench.given(), [(1, 2, false)]);
    bench.accept(1, 2);
    assert_eq!(bench.given(), [(1, 4, false)]);
    assert_eq!(bench.broker.loans(), (3, 3));
}

#[test]
fn when_its_owner_goes_a_group_moves_with_what_came_back_in_order() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 2);
    bench.send_of("q", &["red", "red", "red"]);
    bench.subscribe(2, queue("q"), 100);
    let message = of_group("red", 0, Durability::NonPersistent);
    bench.ask(9, &Command::Send { to: queue("q"), message }).unwrap();
    assert_eq!(bench.given(), [(1, 1, true), (1, 2, false)]);
    bench.close(1);
    let expected = [(2, 1, true), (2, 2, false), (2, 3, false), (2, 1001, false)];
    assert_eq!(bench.given(), expected);
    // What its owner gives back comes to it again, before what follows.
    bench.send_of("q", &["red"]);
    bench.delivered.clear();
    bench.settle(2, Which::One(Tag(1)), Outcome::Returned).unwrap();
    assert_eq!(bench.given(), [(2, 1, false)]);
}

#[test]
fn a_number_below_zero_closes_a_group() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 100);
    bench.subscribe(2, queue("q"), 100);
    bench.send_of("q", &["red"]);
    let message = of_group("red", -1, Durability::Persistent);
    bench.ask(9, &Command::Send { to: queue("q"), message }).unwrap();
    assert_eq!(bench.given(), [(1, 1, true), (1, 2, false)]);
    bench.send_of("q", &["red", "red"]);
    assert_eq!(bench.given(), [(2, 3, true), (2, 4, false)]);
}

#[test]
fn a_new_life_looks_at_what_it_finds_and_no_longer_than_there_are_groups() {
    let mut bench = Bench::new();
    (0..20).for_each(|_| bench.send("plain"));
    (0..10).for_each(|_| bench.send_of("q", &["red", "blue"]));
    bench.restart();
    bench.subscribe(1, queue("q"), 100);
    bench.subscribe(2, queue("q"), 100);
    bench.send_of("q", &["red", "blue"]);
    let given = bench.given();
    let mut red: Vec<_> = given.iter().filter(|it| it.1 % 2 == 1).map(|it| it.0).collect();
    red.dedup();
    assert_eq!((red.len(), given.len()), (1, 22));
    let firsts = given.iter().filter(|it| it.2).map(|it| it.1);
    assert_eq!(firsts.max(), Some(20), "nobody knew while it was alone, and then it was known");
    let judged = bench.judged;
    bench.subscribe(3, queue("plain"), 5);
    assert_eq!((bench.given().len(), bench.judged - judged), (5, 0), "it is alone");
    bench.subscribe(4, queue("plain"), 100);
    assert_eq!(bench.given().len(), 15);
    assert_eq!(bench.judged - judged, 20);
    (0..3).for_each(|_| bench.send("plain"));
    assert_eq!((bench.given().len(), bench.judged - judged), (3, 20), "it has none");
    let id = bench.broker.names["plain"];
    assert!(bench.broker.queues[&id].selecting.is_none());
}

#[test]
fn what_one_alone_was_given_of_an_earlier_life_makes_its_groups_its_own() {
    let mut bench = Bench::new();
    bench.send_of("q", &["red", "blue", "blue", "green", "red", "blue"]);
    bench.restart();
    bench.subscribe(1, queue("q"), 3);
    assert_eq!((bench.given().len(), bench.judged), (3, 0));
    bench.accept(1, 2);
    assert_eq!(bench.given(), [(1, 4, true)]);
    bench.subscribe(2, queue("q"), 100);
    assert_eq!((bench.given(), bench.judged), (vec![], 5));
    bench.send_of("q", &["white"]);
    assert_eq!(bench.given(), [(2, 7, true)]);
    bench.settle(1, Which::One(Tag(3)), Outcome::Returned).unwrap();
    assert_eq!(bench.given(), [(1, 3, false)]);
    bench.accept(1, 1);
    assert_eq!(bench.given(), [(1, 5, false)]);
    bench.close(1);
    let of_two: Vec<_> = bench.given().into_iter().map(|it| (it.0, it.1)).collect();
    assert_eq!(of_two, [(2, 3), (2, 4), (2, 5), (2, 6)]);
}

#[test]
fn no_more_is_known_than_may_be_and_all_comes_in_the_end() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 1);
    let many = 3 * limits::GROUPS_AHEAD_MAX;
    let all: Vec<_> = (0..many).map(|_| "red").collect();
    bench.send_of("q", &all);
    bench.subscribe(2, queue("q"), 100);
    bench.send_of("q", &["blue"]);
    assert_eq!(bench.given(), [(1, 1, true)]);
    assert!(bench.judged < 2 * limits::GROUPS_AHEAD_MAX + limits::STEP_MESSAGES_MAX);
    for tag in 1..=many as u64 {
        bench.accept(1, tag);
    }
    let (of_one, of_two): (Vec<_>, Vec<_>) = bench.given().into_iter().partition(|it| it.0 == 1);
    assert_eq!(of_one, (2..=many as u64).map(|seq| (1, seq, false)).collect::<Vec<_>>());
    assert_eq!(of_two, [(2, many as u64 + 1, true)]);
    assert_eq!(bench.depth("q").unwrap().depth, 1);
}

#[test]
fn consumers_of_patterns_own_groups_in_each_queue() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("*"), 1);
    bench.send_of("q", &["red", "red"]);
    bench.subscribe(2, queue("*"), 100);
    bench.send_of("q", &["blue"]);
    bench.send_of("other", &["red", "red"]);
    assert_eq!(bench.given(), [(1, 1, true), (2, 3, true), (2, 1, true), (2, 2, false)]);
    bench.accept(1, 1);
    assert_eq!(bench.given(), [(1, 2, false)]);
    bench.send_of("q", &["red"]);
    assert_eq!(bench.given(), []);
    bench.close(1);
    assert_eq!(bench.given(), [(2, 2, true), (2, 4, false)]);
    bench.close(2);
    bench.subscribe(3, queue("q"), 100);
    assert_eq!(bench.given().len(), 3);
}

#[test]
fn groups_do_not_count_while_one_has_the_queue_to_itself() {
    let mut bench = Bench::new();
    let (subscription, from, selector) = (SubscriptionId(1), queue("q"), None);
    let standing = Standing { exclusive: true, ..Standing::default() };
    let command = Command::SubscribeAs { subscription, from, prefetch: 1, selector, standing };
    bench.subscribe(2, queue("q"), 100);
    bench.send_of("q", &["red"]);
    bench.ask(1, &command).unwrap();
    bench.send_of("q", &["red", "red"]);
    assert_eq!(bench.given(), [(2, 1, true), (1, 2, false)]);
    bench.close(1);
    let whose: Vec<_> = bench.given().into_iter().map(|it| (it.0, it.1)).collect();
    assert_eq!(whose, [(2, 2), (2, 3)]);
}

#[test]
fn in_any_order_of_things_a_group_has_one_consumer_at_a_time_and_keeps_its_order() {
    for seed in 1..200_u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut below = |end: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % end
        };
        let mut bench = Bench::new();
        // Of each message that is held: who has it. Of each consumer: its deliveries.
        let (mut groups, mut held) = (vec![0], BTreeMap::<u64, (u64, u64)>::new());
        let mut alive = std::collections::BTreeSet::new();
        let mut got = 0;
        for _ in 0..120 {
            let who = 1 + below(3);
            match below(6) {
                0..=2 => {
                    let group = below(3);
                    groups.push(group);
                    bench.send_of("q", &[["red", "blue", "green"][group as usize]]);
                }
                3 if alive.insert(who) => {
                    let from = queue(if below(3) == 0 { "*" } else { "q" });
                    bench.subscribe(who, from, 1 + below(4) as u32);
                }
                4 if alive.contains(&who) && below(3) == 0 => {
                    alive.remove(&who);
                    held.retain(|_, (owner, _)| *owner != who);
                    bench.close(who);
                }
                _ => {
                    let of = held.iter().find(|(_, (owner, _))| *owner == who);
                    if let Some((seq, (_, tag))) = of.map(|(seq, it)| (*seq, *it)) {
                        held.remove(&seq);
                        let back = below(3) == 0;
                        let outcome = if back { Outcome::Returned } else { Outcome::Accepted };
                        got += u64::from(!back);
                        bench.settle(who, Which::One(Tag(tag)), outcome).unwrap();
                    }
                }
            }
            for it in std::mem::take(&mut bench.delivered) {
                let (who, seq) = (it.key.0.0, seq(&it.message));
                for (other, (owner, _)) in &held {
                    if groups[*other as usize] == groups[seq as usize] {
                        assert_eq!(*owner, who, "{seed}: {other} and {seq} are of one group");
                    }
                }
                assert!(held.insert(seq, (who, it.tag.0)).is_none(), "{seed}: {seq} comes twice");
            }
        }
        (1..=3).for_each(|who| bench.close(who));
        bench.delivered.clear();
        bench.subscribe(5, queue("q"), 1000);
        let left = bench.given();
        assert_eq!(left.len() as u64 + got, groups.len() as u64 - 1, "{seed}: all are there");
        let mut order: Vec<_> = left.iter().map(|it| it.1).collect();
        order.sort_unstable();
        assert_eq!(order, left.iter().map(|it| it.1).collect::<Vec<_>>(), "{seed}");
    }
}

#[test]
fn what_a_selector_has_chosen_after_a_restart_gives_its_consumer_no_group() {
    let mut bench = Bench::new();
    bench.send_of("q", &["red", "blue", "red", "blue"]);
    bench.restart();
    let (subscription, from) = (SubscriptionId(1), queue("q"));
    let selector = crate::selector::Selector::parse_optional("JMSXGroupID = 'red'").unwrap();
    bench.ask(1, &Command::Subscribe { subscription, from, prefetch: 1, selector }).unwrap();
    assert_eq!(bench.given().len(), 1);
    bench.subscribe(2, queue("q"), 100);
    let whose: Vec<_> = bench.given().into_iter().map(|(who, ..)| who).collect();
    assert_eq!(whose, [2, 2, 2]);
    bench.close(1);
    assert_eq!(bench.given().len(), 1);
}

#[test]
fn what_has_come_of_a_higher_priority_is_looked_at_before_another_is_handed_out() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 1);
    bench.subscribe(2, queue("q"), 1);
    (0..2).for_each(|_| bench.send_urgent("q", "red", 3));
    assert_eq!(bench.given(), [(1, 1, true)]);
    bench.withhold();
    bench.send_urgent("q", "red", 4);
    bench.accept(1, 1);
    assert_eq!(bench.given(), [], "nobody knows yet what has come");
    bench.tell();
    assert_eq!(bench.given(), [(1, 3, false)]);
    bench.accept(1, 2);
    assert_eq!(bench.given(), [(1, 2, false)]);
    // What comes of a lower one keeps nobody waiting.
    bench.send_urgent("q", "red", 4);
    bench.tell();
    bench.send_urgent("q", "red", 3);
    assert_eq!(bench.withheld.as_ref().unwrap().len(), 1);
    bench.accept(1, 3);
    assert_eq!(bench.given(), [(1, 4, false)]);
}

#[test]
fn however_many_are_known_one_of_a_higher_priority_goes_before_them() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 1);
    bench.subscribe(2, queue("q"), 1);
    let many = 2 * limits::GROUPS_AHEAD_MAX as u64;
    (0..many).for_each(|_| bench.send_urgent("q", "red", 3));
    assert_eq!(bench.given(), [(1, 1, true)]);
    bench.send_urgent("q", "red", 4);
    bench.accept(1, 1);
    assert_eq!(bench.given(), [(1, many + 1, false)]);
    bench.send_urgent("q", "blue", 5);
    assert_eq!(bench.given(), [(2, many + 2, true)]);
    bench.accept(1, 2);
    assert_eq!(bench.given(), [(1, 2, false)]);
}

#[test]
fn what_keeps_coming_of_a_higher_priority_for_others_keeps_nobody_waiting() {
    let mut bench = Bench::new();
    (1..=3).for_each(|who| bench.subscribe(who, queue("q"), 1));
    bench.send_urgent("q", "red", 4);
    (0..3).for_each(|_| bench.send_urgent("q", "blue", 3));
    assert_eq!(bench.given(), [(1, 1, true), (2, 2, true)]);
    bench.withhold();
    for next in 1..=2 {
        bench.send_urgent("q", "red", 4);
        bench.accept(2, next);
        bench.send_urgent("q", "red", 4);
        assert_eq!(bench.given(), []);
        // The last one came when this was next already, and is being asked about.
        bench.tell();
        assert_eq!(bench.given(), [(2, next + 2, false)]);
        bench.tell();
    }
}

#[test]
fn a_queue_that_was_longer_than_its_window_is_known_to_be_empty_when_it_is() {
    let mut bench = Bench::new();
    bench.subscribe(1, queue("q"), 1);
    bench.send_of("q", &["red"; 10]);
    for tag in 1..=10 {
        bench.accept(1, tag);
    }
    let before = bench.log.len();
    bench.send_of("q", &["red"]);
    assert_eq!(bench.given().len(), 11);
    // That it is handed out is said by the record of the message itself.
    assert!(matches!(bench.log[before..], [(_, Record::Sent { lent: true, .. })]));
}
