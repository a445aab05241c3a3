//! Promises about consumers that read from a pattern.

use super::super::policy::{Limit, Pattern, Policies, WhenFull};
use super::topics::publish_on;
use super::*;
use crate::ids::TransactionName;
use crate::limits;

/// Who got what from where since the last call.
fn heard(bench: &mut Bench) -> Vec<(u64, String)> {
    let heard = bench.delivered.drain(..).map(|it| {
        assert!(it.topic);
        (it.key.0.0, it.source.to_string())
    });
    heard.collect()
}

fn expect(bench: &mut Bench, expected: &[(u64, &str)]) {
    let mut heard = heard(bench);
    heard.sort();
    let expected: Vec<_> = expected.iter().map(|(who, what)| (*who, (*what).to_owned())).collect();
    assert_eq!(heard, expected);
}

#[test]
fn a_pattern_hears_of_all_topics_it_catches_by_their_own_names() {
    let mut bench = Bench::new();
    for (who, text) in [(1, "a.*"), (2, "a.>"), (3, ">"), (4, "a.b"), (5, "*.c"), (6, "a.*")] {
        bench.subscribe(who, topic(text), 100);
    }
    for name in ["a.b", "a", "b.c", "x", "ActiveMQ.Advisory.Connection", "a.b.c"] {
        bench.ask(9, &publish_on(name)).unwrap();
    }
    let expected = [
        (1, "a.b"),
        (2, "a"),
        (2, "a.b"),
        (2, "a.b.c"),
        (3, "a"),
        (3, "a.b"),
        (3, "a.b.c"),
        (3, "b.c"),
        (3, "x"),
        (4, "a.b"),
        (5, "b.c"),
        (6, "a.b"),
    ];
    expect(&mut bench, &expected);
    bench.subscribe(7, topic("ActiveMQ.Advisory.>"), 100);
    let about = "ActiveMQ.Advisory.Consumer.Queue.orders.>";
    bench.subscribe(8, topic(about), 100);
    bench.ask(9, &publish_on(about)).unwrap();
    expect(&mut bench, &[(7, about), (8, about)]);
    (1..=8).for_each(|who| bench.close(who));
    assert!(bench.broker.topics.is_empty() && bench.broker.topic_wildcards.is_empty());
    bench.ask(9, &publish_on("a.b")).unwrap();
    expect(&mut bench, &[]);
}

#[test]
fn what_a_pattern_hears_of_one_topic_comes_in_order_through_lines_and_a_commit() {
    let mut bench = Bench::with(Limits { topic_backlog: 1000, ..Limits::default() });
    let many = 2 * limits::PUBLISH_STEP as u64 + 1;
    (1..=many).for_each(|who| bench.subscribe(who, topic("a.*"), 1000));
    bench.subscribe(50, topic("a.b"), 1000);
    bench.subscribe(51, topic(">"), 1000);
    let transaction = TransactionName(1);
    bench.ask(98, &Command::Begin { transaction }).unwrap();
    let Command::Send { to, message } = publish_on("a.b") else { unreachable!() };
    let work = crate::broker::command::Work::Send { to, message };
    bench.ask(98, &Command::Transact { transaction, work }).unwrap();
    for (who, command) in [
        (95, publish_on("a.b")),
        (96, publish_on("x")),
        (97, publish_on("a.c")),
        (98, Command::Commit { transaction }),
        (99, publish_on("a.b")),
    ] {
        let (verdict, effects) = bench.begin_to(who, &command).unwrap();
        assert!(matches!(verdict, Verdict::Fence) && effects.is_empty(), "{who}");
    }
    bench.settle_down(Effects::new());
    // Each publisher hears once, when the last line is done with what it has published.
    assert_eq!(bench.answers, vec![Ok(Reply::Done); 5]);
    let heard = heard(&mut bench);
    let of = |who: u64| -> Vec<_> {
        heard.iter().filter(|(other, _)| *other == who).map(|(_, what)| &**what).collect()
    };
    (1..=many).for_each(|who| assert_eq!(of(who), ["a.b", "a.c", "a.b", "a.b"]));
    assert_eq!(of(50), ["a.b", "a.b", "a.b"]);
    assert_eq!(of(51), ["a.b", "x", "a.c", "a.b", "a.b"]);
    (1..=many).chain([50, 51]).for_each(|who| bench.close(who));
    assert_eq!(bench.broker.volatile_bytes(), 0);
    assert!(bench.broker.topics.is_empty() && bench.broker.underway.is_empty());
}

#[test]
fn who_reads_from_a_pattern_under_a_limit_holds_the_publishers_of_what_it_catches() {
    let mut bench = Bench::new();
    let limit = Limit { messages: 2, when_full: WhenFull::Hold, ..Limit::NONE };
    let limits = vec![(Pattern::parse("topic://a.>").unwrap(), limit)];
    bench.broker.govern(Arc::new(Policies::new(limits, WhenFull::Refuse).unwrap()));
    bench.subscribe(1, topic("a.*"), 1);
    for name in ["a.b", "a.c", "a.d"] {
        bench.ask(9, &publish_on(name)).unwrap();
    }
    assert!(bench.ask(9, &publish_on("a.e")).unwrap().is_hold());
    assert!(!bench.ask(9, &publish_on("x")).unwrap().is_hold());
    bench.broker.watch(&topic("a.e"));
    bench.broker.watch(&topic("a.f"));
    assert_eq!(bench.broker.take_freed(), []);
    bench.settle(1, Which::Through(Tag(1)), Outcome::Accepted).unwrap();
    assert_eq!(bench.broker.take_freed(), [topic("a.e"), topic("a.f")]);
    assert!(!bench.ask(9, &publish_on("a.e")).unwrap().is_hold());
}

#[test]
fn nothing_is_sent_to_a_pattern_and_no_more_are_kept_than_may_be() {
    let mut bench = Bench::new();
    let refused = bench.ask(9, &publish_on("a.*")).unwrap_err();
    assert!(matches!(refused, Refusal::SendToPattern { .. }), "{refused}");
    let Command::Send { message, .. } = publish_on("a") else { unreachable!() };
    let refused = bench.ask(9, &Command::Send { to: queue("a.>"), message }).unwrap_err();
    assert!(matches!(refused, Refusal::SendToPattern { .. }), "{refused}");
    let subscribe = |text: String| Command::Subscribe {
        subscription: SubscriptionId(1),
        from: topic(&text),
        prefetch: 1,
        selector: None,
    };
    for text in ["a.>.b", "a..*", &["*"; limits::WILDCARD_PARTS_MAX + 1].join(".")] {
        let refused = bench.ask(1, &subscribe(text.to_owned())).unwrap_err();
        assert!(matches!(refused, Refusal::BadPattern { .. }), "{text}: {refused}");
    }
    for who in 0..limits::WILDCARDS_MAX as u64 {
        bench.ask(100 + who, &subscribe(format!("a.{who}.*"))).unwrap();
    }
    let refused = bench.ask(1, &subscribe("b.*".to_owned())).unwrap_err();
    assert!(matches!(refused, Refusal::TooManyPatterns { .. }), "{refused}");
    bench.ask(1, &subscribe("a.1.*".to_owned())).unwrap();
}
