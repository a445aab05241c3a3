//! Promises of the park, on plain values.

use super::*;
use crate::broker::command::Command;
use crate::message::{Durability, Message, Priority};
use crate::schedule::When;

fn queue(name: &str) -> Destination {
    Destination::Queue(name.into())
}

fn request(token: u64, to: &Destination, confirm: Confirm) -> Request {
    let message = Message {
        durability: Durability::Persistent,
        priority: Priority::DEFAULT,
        expires: None,
        when: When::AtOnce,
        grouped: false,
        content: bytes::Bytes::from_static(b"content"),
    };
    let command = Command::Send { to: to.clone(), message };
    Request { token: Token(token), confirm, command }
}

fn answer(to: u64, token: u64) -> Answer {
    let (to, token) = (ConnectionId(to), Token(token));
    Answer { to, token, need: Lsn::default(), reply: Reply::Done }
}

fn put(park: &mut Park, from: u64, token: u64, to: &Destination) {
    let request = request(token, to, Confirm::Always);
    park.put(ConnectionId(from), to, request, Shortage::Destination).unwrap();
}

/// Serves the first that is due, and gives what may be said then.
fn serve(park: &mut Park) -> Vec<u64> {
    let (to, waiting) = park.next().expect("one is due");
    let answer = answer(waiting.from.0, waiting.request.token.0);
    park.served(&to, &waiting, Some(answer)).iter().map(|answer| answer.token.0).collect()
}

#[test]
fn what_is_served_early_is_said_late() {
    let (mut park, a, b) = (Park::new(ParkLimits::default()), queue("a"), queue("b"));
    put(&mut park, 1, 1, &a);
    assert_eq!(park.say(answer(1, 2)), None);
    put(&mut park, 1, 3, &b);
    put(&mut park, 1, 4, &a);
    assert_eq!(park.say(answer(2, 9)), Some(answer(2, 9)), "of another connection");
    park.stir(&b);
    assert!(serve(&mut park).is_empty());
    park.stir(&a);
    assert_eq!(serve(&mut park), [1, 2, 3]);
    assert_eq!(serve(&mut park), [4]);
    assert_eq!(park.parked(), Parked::default());
    assert!(!park.has_line(&a) && !park.has_due());
    assert_eq!(park.say(answer(1, 5)), Some(answer(1, 5)));
}

#[test]
fn a_line_is_looked_at_when_something_made_room_for_it_and_not_before() {
    let (mut park, a, b) = (Park::new(ParkLimits::default()), queue("a"), queue("b"));
    put(&mut park, 1, 1, &a);
    let waits = request(2, &b, Confirm::Always);
    park.put(ConnectionId(2), &b, waits, Shortage::Disk).unwrap();
    assert!(park.next().is_none());
    park.stir_all(Shortage::Memory);
    park.stir(&queue("c"));
    assert!(park.next().is_none());
    assert!(park.lacks(Shortage::Disk) && !park.lacks(Shortage::Memory));
    park.stir_all(Shortage::Disk);
    let (to, waiting) = park.next().unwrap();
    assert_eq!(to, b);
    park.still(&to, waiting, Some(Shortage::Memory));
    assert!(park.next().is_none());
    park.stir_all(Shortage::Memory);
    assert_eq!(serve(&mut park), [2]);
}

#[test]
fn a_connection_that_goes_leaves_the_lines_as_if_it_had_not_been_there() {
    let (mut park, a) = (Park::new(ParkLimits::default()), queue("a"));
    put(&mut park, 1, 1, &a);
    put(&mut park, 2, 1, &a);
    put(&mut park, 1, 2, &a);
    park.discard(ConnectionId(1));
    assert_eq!((park.parked().producers, park.parked().messages), (1, 1));
    // Who is in front now may need less, so it is tried.
    assert_eq!(serve(&mut park), [1]);
    park.discard(ConnectionId(2));
    assert_eq!(park.parked(), Parked::default());
}
