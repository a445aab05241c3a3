//! What is known for consumers that have gone does not go in one long step.

use super::*;
use crate::broker::grouped::Agenda;
use crate::ids::{ConnectionId, SubscriptionId};
use crate::message::{BodyKind, Content, GROUP_ID};

/// What is known of very many messages, each in several places.
fn knowing(messages: u64) -> Selecting {
    let mut selecting = Selecting::default();
    let id = GroupId(1);
    selecting.watch_groups(id);
    let key = (ConnectionId(1), SubscriptionId(1));
    let properties = vec![(GROUP_ID.into(), "a group".into())];
    let content = Content { kind: BodyKind::Bytes, properties, body: "it".into() }.encode();
    for seq in 0..messages {
        let spot = Spot::Durable(Place { rank: 5, seq });
        let member = Membership::of(&content).filter(|_| seq % 2 == 0);
        selecting.learn(id, spot.position(), Known::Asked(Waiting::Volatile));
        selecting.judged(id, spot, Finding::Group(member));
        if seq % 3 == 0 {
            selecting.lent_to(key, id, spot, Some(member));
        }
    }
    selecting
}

#[test]
fn what_is_known_for_nobody_is_dropped_a_step_at_a_time() {
    let mut selecting = knowing(1000);
    assert!(selecting.unwatch_groups(), "there is nobody else");
    assert_eq!(selecting.len(), 1000, "and nothing was dropped by that");
    let sizes = |it: &Selecting| {
        let (_, grouping) = it.plain.as_ref().expect("it is dropped with the rest");
        let known = it.groups.values().map(|group| group.known.len()).sum();
        [it.len(), known, grouping.known_len(), grouping.lent_len(), grouping.waiting_len()]
    };
    let (mut steps, mut before) = (0, sizes(&selecting));
    while selecting.drop_some() {
        let after = sizes(&selecting);
        let dropped = before.iter().zip(&after).map(|(before, after)| before - after);
        assert!(dropped.max() <= Some(limits::STEP_MESSAGES_MAX), "{before:?} {after:?}");
        (steps, before) = (steps + 1, after);
    }
    assert_eq!(sizes(&selecting), [0; 5]);
    let least = 1000 / limits::STEP_MESSAGES_MAX;
    assert!((least..=least + 1).contains(&steps), "{steps} steps");
}

#[test]
fn little_that_is_known_is_dropped_at_once_and_much_by_and_by() {
    let mut agenda = Agenda::default();
    agenda.discard(Some(Box::new(knowing(limits::STEP_MESSAGES_MAX as u64))));
    assert!(agenda.is_empty() && !agenda.state_unlearnt(&mut Vec::new()));
    agenda.discard(Some(Box::new(knowing(1000))));
    agenda.discard(Some(Box::new(knowing(1000))));
    let mut steps = 0;
    while agenda.state_unlearnt(&mut Vec::new()) {
        agenda.drop_some();
        steps += 1;
    }
    assert!(agenda.is_empty() && steps >= 2 * 1000 / limits::STEP_MESSAGES_MAX, "{steps}");
}

const KEY: ConsumerKey = (ConnectionId(1), SubscriptionId(1));

fn spot(seq: u64) -> Spot {
    Spot::Durable(Place { rank: 5, seq })
}

/// A consumer of each selector, and the groups that they are.
fn of_selectors<const N: usize>(texts: [&str; N]) -> (Selecting, [GroupId; N]) {
    let (mut selecting, mut last) = (Selecting::default(), 0);
    let groups = texts.map(|text| {
        last += 1;
        let selector = Arc::new(Selector::parse(text).expect("it is one"));
        selecting.join(&selector, GroupId(last))
    });
    (selecting, groups)
}

#[test]
fn much_that_is_known_for_one_selector_of_two_is_dropped_a_step_at_a_time() {
    let (mut selecting, [one, other]) = of_selectors(["a = 1", "a = 2"]);
    for seq in 0..1000 {
        selecting.lent(one, spot(seq));
    }
    selecting.lent(other, spot(7));
    assert!(!selecting.leave(one, KEY), "there is another");
    assert_eq!(selecting.len(), 1000, "nothing is dropped by that");
    // What happens to such messages meanwhile is nothing to who has gone.
    selecting.waits_again(spot(7), Waiting::Volatile);
    selecting.forget(spot(8));
    assert!(selecting.candidate(other, spot(7)).is_some());
    let (mut steps, mut before) = (1, selecting.len());
    while selecting.drop_left() {
        assert!(before - selecting.len() <= limits::STEP_MESSAGES_MAX, "of {before}");
        (steps, before) = (steps + 1, selecting.len());
    }
    assert!(steps >= 1000 / limits::STEP_MESSAGES_MAX, "{steps} steps");
    assert_eq!(selecting.len(), 1);
    assert!(selecting.candidate(other, spot(7)).is_some());
}

#[test]
fn little_that_is_dropped_at_once_takes_nothing_with_it_that_is_much() {
    let (mut selecting, [much, little, _]) = of_selectors(["a = 1", "a = 2", "a = 3"]);
    for seq in 0..1000 {
        selecting.lent(much, spot(seq));
    }
    selecting.lent(little, spot(1000));
    assert!(!selecting.leave(much, KEY) && !selecting.leave(little, KEY));
    assert_eq!(selecting.len(), 1000);
}

#[test]
fn the_last_consumer_of_all_leaves_what_it_knows_to_be_dropped_in_steps() {
    let (mut selecting, [one, other]) = of_selectors(["a = 1", "a = 2"]);
    for seq in 0..100 {
        selecting.lent(if seq % 2 == 0 { one } else { other }, spot(seq));
    }
    assert!(!selecting.leave(one, KEY), "there is another");
    while selecting.drop_left() {}
    assert_eq!(selecting.holders.len(), 50, "which knows nothing of the first one's messages");
    assert!(selecting.leave(other, KEY));
    assert_eq!(selecting.holders.len(), 50);
}
