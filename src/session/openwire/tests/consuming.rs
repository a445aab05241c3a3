//! Messages on their way to consumers, and what these say of them.

use super::*;
use crate::broker::command::Standing;
use crate::protocol::openwire::Throwable;
use crate::protocol::openwire::table::{
    FlushCommand, MessageDispatch, MessagePull, RemoveInfo, RemovedId,
};

const DELIVERED: i8 = 0;
const POISON: i8 = 1;
const EXPIRED: i8 = 6;
const STANDARD: i8 = 2;
const INDIVIDUAL: i8 = 4;

/// A consumer with five messages in its hands.
fn five() -> (Wire, Vec<Message>) {
    let mut wire = Wire::alone();
    wire.consume(1, queue("q"), 5);
    for tag in 1..=5 {
        wire.deliver(1, tag, stored("text"));
    }
    let messages = wire.dispatched();
    assert_eq!(messages.len(), 5);
    (wire, messages)
}

#[test]
fn a_text_of_another_wire_arrives_as_one_with_an_id_of_its_own() {
    let (_, messages) = five();
    assert_eq!(messages[0].kind, MessageKind::Text);
    let content = messages[0].content.clone().unwrap();
    assert_eq!(body::decode_text(&content).unwrap().unwrap(), "text");
    let ids: Vec<_> = messages.iter().filter_map(|it| it.head.message_id.clone()).collect();
    assert!(ids.windows(2).all(|pair| {
        pair[0].producer_id != pair[1].producer_id
            && pair[0].broker_sequence_id < pair[1].broker_sequence_id
    }));
}

#[test]
fn a_range_is_acknowledged_and_the_rest_is_not() {
    let (mut wire, messages) = five();
    let mut range = ack(&messages[2], STANDARD, 2);
    range.first_message_id.clone_from(&messages[1].head.message_id);
    wire.say(&range);
    let expected = [(Which::Range(Tag(2), Tag(3)), Outcome::Accepted)];
    assert_eq!(settled(&wire.asks()), expected);
    wire.say(&ack(&messages[4], INDIVIDUAL, 1));
    assert_eq!(settled(&wire.asks()), [(Which::One(Tag(5)), Outcome::Accepted)]);
    // Without a first one it begins with the oldest.
    wire.say(&ack(&messages[3], STANDARD, 2));
    let expected = [(Which::Range(Tag(1), Tag(4)), Outcome::Accepted)];
    assert_eq!(settled(&wire.asks()), expected);
}

#[test]
fn of_several_messages_with_one_id_the_first_is_acknowledged_or_that_which_ends_the_range() {
    let wire = || {
        let mut wire = Wire::alone();
        wire.consume(1, queue("q"), 5);
        for (tag, birth) in [(1, 7), (2, 8), (3, 7), (4, 9)] {
            wire.deliver_of(1, tag, birth, stored("text"));
        }
        let messages = wire.dispatched();
        (wire, messages)
    };
    let range = |messages: &[Message], first: usize, last: usize, count| {
        let mut range = ack(&messages[last], STANDARD, count);
        range.first_message_id.clone_from(&messages[first].head.message_id);
        range
    };
    let accepted = |first, last| {
        let (first, last) = (Tag(first), Tag(last));
        let which = if first == last { Which::One(last) } else { Which::Range(first, last) };
        [(which, Outcome::Accepted)]
    };
    for (first, last, count, expected) in [
        (0, 1, 2, (1, 2)),
        (0, 2, 3, (1, 3)),
        (0, 0, 1, (1, 1)),
        (1, 2, 2, (2, 3)),
        (0, 3, 4, (1, 4)),
    ] {
        let (mut wire, messages) = wire();
        wire.say(&range(&messages, first, last, count));
        assert_eq!(settled(&wire.asks()), accepted(expected.0, expected.1));
    }
    let (mut wire, messages) = wire();
    for (kind, tag) in [(STANDARD, 1), (INDIVIDUAL, 3)] {
        wire.say(&ack(&messages[0], kind, 1));
        assert_eq!(settled(&wire.asks()), accepted(tag, tag));
    }
    wire.say(&ack(&messages[3], STANDARD, 2));
    assert_eq!(settled(&wire.asks()), accepted(2, 4));
    assert!(wire.frames().is_empty());
}

#[test]
fn an_acknowledgement_is_answered_when_the_broker_has_it() {
    let (mut wire, messages) = five();
    wire.say(&MessageAck { response_required: true, ..ack(&messages[1], STANDARD, 2) });
    assert!(wire.frames().is_empty(), "it would not be there after a crash");
    let asked = wire.asks();
    assert_eq!(settled(&asked), [(Which::Range(Tag(1), Tag(2)), Outcome::Accepted)]);
    assert!(matches!(asked.last(), Some(Command::Barrier)));
    wire.answer(Ok(Reply::Done));
    assert!(matches!(wire.frames()[..], [Structure::Response(_)]));
}

#[test]
fn who_ends_something_hears_so_when_what_it_did_before_would_survive_a_crash() {
    let ended = |it: RemovedId| {
        let (mut wire, messages) = five();
        wire.say(&ack(&messages[1], STANDARD, 2));
        wire.say(&removal(it.clone(), -1));
        assert!(wire.frames().is_empty(), "{it:?}: what was acknowledged would be there again");
        let asked = wire.asks();
        assert_eq!(settled(&asked), [(Which::Range(Tag(1), Tag(2)), Outcome::Accepted)]);
        assert!(matches!(asked.last(), Some(Command::Barrier)), "{it:?}: {asked:?}");
        wire.answer(Ok(Reply::Done));
        assert!(matches!(wire.frames()[..], [Structure::Response(_)]), "{it:?}");
        // Who does not wait costs nothing.
        wire.say(&RemoveInfo { response_required: false, ..removal(it, -1) });
        assert!(wire.asks().is_empty() && wire.frames().is_empty());
    };
    ended(consumer_id(1).into());
    ended(session_id().into());
    ended(producer_id().into());
}

#[test]
fn who_flushes_hears_so_when_what_it_did_before_would_survive_a_crash() {
    let (mut wire, messages) = five();
    wire.say(&ack(&messages[1], STANDARD, 2));
    wire.say(&FlushCommand { command_id: 8, response_required: true });
    assert!(wire.frames().is_empty());
    assert!(matches!(wire.asks()[..], [Command::Settle { .. }, Command::Barrier]));
    wire.answer(Ok(Reply::Done));
    assert!(matches!(wire.frames()[..], [Structure::Response(_)]));
}

#[test]
fn a_durable_subscription_asked_for_twice_is_said_to_be_there_when_it_is() {
    let mut wire = Wire::alone();
    let durable = ConsumerInfo {
        subscription_name: Text::new("s"),
        ..consumer(1, place(DestinationKind::Topic, "t"), 5)
    };
    wire.say(&durable);
    wire.say(&ConsumerInfo { command_id: 8, ..durable });
    assert!(wire.frames().is_empty());
    assert!(matches!(wire.asks()[..], [Command::Keep { .. }, Command::Barrier]));
    wire.answer_all();
    assert!(matches!(wire.frames()[..], [Structure::Response(_), Structure::Response(_)]));
}

#[test]
fn a_durable_subscription_may_be_of_a_pattern_and_not_of_what_ends_with_its_connection() {
    let mut wire = Wire::alone();
    for (number, kind, name) in
        [(1, DestinationKind::Topic, "a.>"), (2, DestinationKind::TempTopic, "ID:x:1")]
    {
        let from = place(kind, name);
        wire.say(&ConsumerInfo { subscription_name: Text::new("s"), ..consumer(number, from, 5) });
    }
    let asks = wire.asks();
    let [Command::Keep { keep, .. }] = &asks[..] else { panic!("{asks:?}") };
    assert_eq!(&*keep.topic, "a.>");
}

#[test]
fn what_is_not_in_its_consumers_hands_cannot_be_acknowledged() {
    let (mut wire, messages) = five();
    wire.say(&ack(&messages[0], STANDARD, 1));
    let _ = wire.asks();
    for (kind, told) in [(STANDARD, 1), (POISON, 1), (INDIVIDUAL, 0)] {
        wire.say(&ack(&messages[0], kind, 1));
        assert_eq!(settled(&wire.asks()), []);
        assert_eq!(wire.frames().len(), told, "{kind}");
    }
    // What a client says of an earlier connection is of no use, and no mistake.
    let mut wire = Wire::alone();
    wire.consume(1, queue("q"), 5);
    wire.say(&ack(&messages[0], STANDARD, 1));
    assert_eq!((wire.asks().len(), wire.frames().len()), (0, 0));
}

#[test]
fn what_was_seen_widens_the_window_until_it_is_acknowledged() {
    let (mut wire, messages) = five();
    let credits = |commands: Vec<Command>| -> Vec<u32> {
        let credit = |command| match command {
            Command::Credit { prefetch, .. } => Some(prefetch),
            _ => None,
        };
        commands.into_iter().filter_map(credit).collect()
    };
    wire.say(&ack(&messages[2], DELIVERED, 3));
    assert_eq!(credits(wire.asks()), [8]);
    wire.say(&ack(&messages[4], STANDARD, 5));
    assert_eq!(credits(wire.asks()), [5]);
}

#[test]
fn what_a_client_gives_up_is_rejected_and_what_it_takes_for_a_repetition_stays() {
    let (mut wire, messages) = five();
    wire.say(&ack(&messages[0], POISON, 1));
    assert_eq!(settled(&wire.asks()), [(Which::One(Tag(1)), Outcome::Rejected)]);
    wire.say(&ack(&messages[2], EXPIRED, 1));
    assert_eq!(settled(&wire.asks()), [(Which::One(Tag(3)), Outcome::Expired)]);
    let cause = "Suppressing duplicate delivery on connection, consumer ID:c:1:1";
    let poison_cause = Some(Throwable::new("java.lang.Throwable", cause));
    wire.say(&MessageAck { poison_cause, ..ack(&messages[1], POISON, 1) });
    assert_eq!(settled(&wire.asks()), []);
    let id = consumer_id(1);
    wire.say(&removal(id, 0));
    assert!(matches!(wire.asks()[..], [Command::Withdraw { .. }, Command::Barrier]));
}

#[test]
fn a_consumer_that_goes_says_what_it_has_seen() {
    for (last, expected) in [(-1, Tag(0)), (3, Tag(4)), (99, Tag(0))] {
        let (mut wire, messages) = five();
        assert_eq!(messages[2].head.message_id.as_ref().unwrap().broker_sequence_id, 3);
        wire.say(&removal(consumer_id(1), last));
        let Some(&Command::Withdraw { unseen, .. }) = wire.asks().first() else { panic!("{last}") };
        assert_eq!(unseen, expected, "{last}");
        wire.deliver(1, 6, stored("late"));
        assert_eq!(wire.dispatched(), []);
    }
    let (mut wire, _) = five();
    wire.say(&removal(session_id(), -2));
    assert!(matches!(wire.asks()[..], [Command::Unsubscribe { .. }, Command::Barrier]));
}

#[test]
fn who_pulls_gets_one_message_for_each_wish() {
    let mut wire = Wire::alone();
    wire.consume(1, queue("q"), 0);
    let pull =
        |timeout| MessagePull { consumer_id: Some(consumer_id(1)), timeout, ..Default::default() };
    wire.say(&pull(0));
    assert!(matches!(wire.asks()[..], [Command::Credit { prefetch: 1, .. }]));
    wire.deliver(1, 1, stored("text"));
    assert_eq!(wire.dispatched().len(), 1);
    assert!(matches!(wire.asks()[..], [Command::Credit { prefetch: 0, .. }]));
    // It holds one; a wish is for one more.
    wire.say(&pull(500));
    assert!(matches!(wire.asks()[..], [Command::Credit { prefetch: 2, .. }]));
    assert_eq!(wire.session.poll_timeout(), Some(Duration::from_millis(500)));
    wire.session.handle_timeout(Duration::from_millis(499));
    assert_eq!(wire.frames(), []);
    wire.session.handle_timeout(Duration::from_millis(500));
    let nothing = MessageDispatch { consumer_id: Some(consumer_id(1)), ..Default::default() };
    assert_eq!(wire.frames(), [Structure::MessageDispatch(nothing)]);
    assert!(matches!(wire.asks()[..], [Command::Credit { prefetch: 0, .. }]));
}

#[test]
fn who_does_not_want_to_wait_is_told_at_once_that_there_is_nothing() {
    let mut wire = Wire::alone();
    wire.consume(1, queue("q"), 0);
    let consumer_id = Some(consumer_id(1));
    wire.say(&MessagePull { consumer_id, timeout: -1, ..Default::default() });
    assert!(matches!(wire.asks()[..], [Command::Credit { .. }, Command::ShowQueue { .. }]));
    wire.answer(Err(Refusal::NoSuchQueue("q".into())));
    let [Structure::MessageDispatch(nothing)] = &wire.frames()[..] else { panic!("an answer") };
    assert_eq!(nothing.message, None);
}

#[test]
fn who_pulls_from_a_pattern_and_does_not_want_to_wait_has_a_moment_for_what_is_there() {
    let mut wire = Wire::alone();
    wire.consume(1, queue("a.*"), 0);
    let pull =
        || MessagePull { consumer_id: Some(consumer_id(1)), timeout: -1, ..Default::default() };
    wire.say(&pull());
    assert!(matches!(wire.asks()[..], [Command::Credit { prefetch: 1, .. }]));
    assert_eq!(wire.frames(), []);
    wire.deliver(1, 1, stored("text"));
    assert_eq!(wire.dispatched().len(), 1);
    wire.asks();
    wire.say(&pull());
    wire.asks();
    wire.session.handle_timeout(Duration::from_millis(limits::PULL_GRACE_MILLIS));
    let nothing = MessageDispatch { consumer_id: Some(consumer_id(1)), ..Default::default() };
    assert_eq!(wire.frames(), [Structure::MessageDispatch(nothing)]);
}

#[test]
fn what_this_broker_cannot_do_is_refused_and_not_left_out() {
    let mut wire = Wire::alone();
    let plain = || consumer(1, queue("q"), 1);
    let selector = |text| Text::new(text);
    let wrong = ConsumerInfo { selector: selector("a = "), ..plain() };
    for (asked, class) in [
        (wrong, "javax.jms.InvalidSelectorException"),
        (
            ConsumerInfo { subscription_name: Text::new("s"), ..plain() },
            "javax.jms.InvalidDestinationException",
        ),
        (
            ConsumerInfo { browser: true, ..consumer(1, queue("a,topic://b"), 1) },
            "javax.jms.InvalidDestinationException",
        ),
        (consumer(1, queue("a,b,"), 1), "javax.jms.InvalidDestinationException"),
    ] {
        wire.say(&asked);
        assert_eq!(exception(&wire.frames()[0]).0, class);
        assert!(wire.asks().is_empty());
    }
}

#[test]
fn a_consumer_says_how_it_stands_among_others() {
    let mut wire = Wire::alone();
    wire.say(&ConsumerInfo { exclusive: true, priority: -5, ..consumer(1, queue("q"), 1) });
    let asks = wire.asks();
    let [Command::SubscribeAs { standing, .. }] = &asks[..] else { panic!("{asks:?}") };
    assert_eq!(*standing, Standing { priority: -5, exclusive: true, pending: None });
}

#[test]
fn a_consumer_of_several_queues_is_answered_when_all_have_begun() {
    let mut wire = Wire::alone();
    wire.say(&consumer(1, queue("a,b"), 10));
    assert_eq!(wire.asks().len(), 2);
    wire.answer(Ok(Reply::Done));
    assert_eq!(wire.frames(), []);
    wire.answer(Err(Refusal::TooManyDestinations { limit: 1 }));
    assert!(exception(&wire.frames()[0]).1.contains("destinations"));
    let asks = wire.asks();
    let [Command::Withdraw { subscription, .. }] = asks[..] else { panic!("{asks:?}") };
    assert_eq!(subscription, SubscriptionId(1), "the part that had begun ends");
}

#[test]
fn a_browser_sees_the_end_of_a_queue_that_is_not_there() {
    let mut wire = Wire::alone();
    wire.say(&ConsumerInfo { browser: true, ..consumer(1, queue("q"), 500) });
    assert!(matches!(wire.asks()[..], [Command::Browse { .. }]));
    wire.answer(Err(Refusal::NoSuchQueue("q".into())));
    let frames = wire.frames();
    assert!(matches!(frames[..], [Structure::Response(_)]), "it may look: {frames:?}");
    assert!(matches!(wire.asks()[..], [Command::Browse { .. }]));
    wire.answer(Err(Refusal::NoSuchQueue("q".into())));
    let frames = wire.frames();
    let [Structure::MessageDispatch(end)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!(end.message, None);
}

#[test]
fn a_browser_that_is_refused_what_it_looks_at_ends_and_its_client_hears_that_it_was_not_all() {
    let full = || Err(Refusal::StorageFull);
    for pattern in ["q.>", "q"] {
        let mut wire = Wire::alone();
        wire.say(&ConsumerInfo { browser: true, ..consumer(1, queue(pattern), 500) });
        wire.answer(Err(Refusal::NoSuchQueue(pattern.into())));
        let _ = wire.frames();
        wire.answer(full());
        let frames = wire.frames();
        let [Structure::ConnectionError(_), Structure::MessageDispatch(end)] = &frames[..] else {
            panic!("{frames:?}")
        };
        assert_eq!((&end.message, wire.asks().len()), (&None, 0));
    }
}
