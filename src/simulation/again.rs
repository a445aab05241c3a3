//! Messages that come again and again, in the simulation: each occurrence once, whatever crash
//! comes.
//!
//! An occurrence that has entered its queue stays there until a client has seen it. So at any
//! moment the occurrences that clients have seen or that are there are exactly those that the
//! schedule counts as over.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::broker::command::{Command, Delivery, MessageId, Refusal};
use crate::ids::Millis;
use crate::message::{BodyKind, Content, Destination, Durability, Message, Priority};
use crate::message::{SCHEDULED_JOB, mark_scheduled};
use crate::schedule::When;

use super::clients::{Asked, Client, Surroundings};
use super::model::Step;

/// Where they are sent: nobody moves or purges what is there.
pub(super) const AGAIN: &str = "again";

/// What clients know of such messages.
#[derive(Clone, Debug, Default)]
pub(super) struct Again(BTreeMap<u64, Repeated>);

#[derive(Clone, Debug)]
struct Repeated {
    send: Step,
    /// Occurrences in all.
    times: usize,
    not_before: Millis,
    /// Those that came.
    came: BTreeSet<MessageId>,
}

/// What a store has of such a message.
#[derive(Clone, Debug, Default)]
pub(super) struct FoundAgain {
    /// Occurrences that are still to come.
    pub(super) left: usize,
    /// Those that are there.
    pub(super) there: BTreeSet<MessageId>,
}

/// The number of a message that comes again, and how often it does.
pub(super) fn again_of(content: &Bytes) -> Option<u64> {
    let content = Content::decode(content.clone()).ok()?;
    content.property("again")?;
    content.property("number")?.parse().ok()
}

impl Again {
    pub(super) fn answered(&mut self, number: u64, refusal: Option<Refusal>) -> Result<(), String> {
        let expected =
            |it: &Refusal| it.is_want_of_room() || matches!(it, Refusal::TooManySchedules { .. });
        if let Some(refusal) = refusal.as_ref().filter(|it| !expected(it)) {
            return Err(format!("send refused: {refusal:?}"));
        }
        if let Some(known) = self.0.get_mut(&number) {
            known.send = if refusal.is_some() { Step::Void } else { Step::Confirmed };
        }
        Ok(())
    }

    /// Notes a delivery of such a message; false if it is of another.
    pub(super) fn delivered(&mut self, delivery: &Delivery, now: Millis) -> Result<bool, String> {
        let Some(number) = again_of(&delivery.content) else { return Ok(false) };
        let known = self.0.get_mut(&number).ok_or(format!("{number} was over, and came"))?;
        if now < known.not_before {
            return Err(format!("{number} came before its time: {known:?}"));
        }
        let new = known.came.insert(delivery.message);
        if new && known.came.len() > known.times {
            return Err(format!("{number} came too often: {known:?}"));
        }
        Ok(true)
    }

    pub(super) fn check(&self, found: &BTreeMap<u64, FoundAgain>) -> Result<(), String> {
        if let Some((number, found)) = found.iter().find(|(number, _)| !self.0.contains_key(number))
        {
            return Err(format!("{number} was never sent: {found:?}"));
        }
        for (number, known) in &self.0 {
            let nothing = FoundAgain::default();
            let there = found.get(number).unwrap_or(&nothing);
            let over = known.came.union(&there.there).count();
            let none = there.left == 0 && over == 0;
            let fits = match known.send {
                Step::Void => none,
                Step::Asked if none => true,
                _ => over + there.left == known.times,
            };
            if !fits {
                return Err(format!(
                    "{number} counts its occurrences wrongly: {known:?} {there:?}"
                ));
            }
        }
        Ok(())
    }

    pub(super) fn resolve(&mut self, found: &BTreeMap<u64, FoundAgain>) {
        for (number, known) in &mut self.0 {
            let happened = found.contains_key(number) || !known.came.is_empty();
            known.send = if happened { Step::Confirmed } else { Step::Void };
        }
        self.0.retain(|_, known| known.send == Step::Confirmed);
    }
}

impl Client {
    /// Sends a message that comes again a few times.
    pub(super) fn send_again(&mut self, around: &mut Surroundings<'_>) {
        *around.last_number += 1;
        let number = *around.last_number;
        let (times, period) = (around.random.below(4) as u32, 1 + around.random.below(60));
        let delay = around.random.below(40);
        let when = When::of(None, delay, period, Some(times)).expect("it takes time");
        let first = if delay > 0 { delay } else { period };
        let known = Repeated {
            send: Step::Asked,
            times: times as usize + 1,
            not_before: Millis(around.now.0 + first),
            came: BTreeSet::new(),
        };
        around.model.again.0.insert(number, known);
        let mut properties = vec![
            ("number".to_owned(), number.to_string()),
            ("again".to_owned(), times.to_string()),
        ];
        mark_scheduled(&when, &mut properties);
        debug_assert!(properties.iter().any(|(name, _)| name == SCHEDULED_JOB));
        let body = Bytes::from(vec![number as u8; around.random.below(2000) as usize]);
        let content = Content { kind: BodyKind::Bytes, properties, body }.encode();
        let (durability, priority) = (Durability::NonPersistent, Priority::DEFAULT);
        let message =
            Message { durability, priority, expires: None, when, grouped: false, content };
        let to = Destination::Queue(AGAIN.into());
        self.ask(around, Command::Send { to, message }, Asked::SendAgain(number));
    }
}
