//! Consumers that begin, ask for messages, and end.

use std::sync::Arc;
use std::time::Duration;

use super::OpenWireSession;
use super::answers::Asked;
use super::consumer::{Consumer, ConsumerKey, Manner, Pull};
use super::durable::check_durable;
use super::fault::Problem;
use super::names;
use crate::broker::command::{Command, Refusal, Reply};
use crate::ids::{SubscriptionId, Tag};
use crate::limits;
use crate::message::Destination;
use crate::protocol::openwire::table::{ConsumerInfo, MessageDispatch, MessagePull};
use crate::protocol::openwire::{CommandHead, Text};
use crate::selector::Selector;

/// From where, and what of it.
type Wanted = (Vec<Destination>, Option<Arc<Selector>>);

impl OpenWireSession {
    pub(super) fn add_consumer(&mut self, head: CommandHead, info: ConsumerInfo) {
        match self.check_consumer(&info) {
            // It may still be on its way, and be one that lasts.
            Ok(None) => self.confirm(head),
            Ok(Some((destinations, selector))) => {
                let consumer = Consumer::new(info, destinations, selector);
                self.begin_consumer(head, consumer);
            }
            Err(problem) => self.fail(head, &problem),
        }
    }

    /// What a consumer reads from, and what of it; nothing where it is there already.
    pub(super) fn check_consumer(&self, info: &ConsumerInfo) -> Result<Option<Wanted>, Problem> {
        let id = info.consumer_id.as_ref().ok_or_else(|| Problem::jms("a consumer needs an id"))?;
        if self.consumers.get(&ConsumerKey::of(id)).is_some() {
            return Ok(None);
        }
        let text = info.selector.as_ref().map(Text::to_str).unwrap_or_default();
        let selector = Selector::parse_optional(&text);
        let selector = selector.map_err(|error| Problem::selector(error.to_string()))?;
        let bytes = |it: &Option<Arc<Selector>>| it.as_ref().map_or(0, |it| it.text().len());
        let limit = limits::SESSION_SELECTOR_BYTES_MAX;
        let held: usize = self.consumers.iter().map(|it| bytes(&it.selector)).sum();
        if held + bytes(&selector) > limit {
            let problem = format!("the connection has {limit} bytes of selectors, the limit");
            return Err(Problem::selector(problem));
        }
        let destinations = names::parse(info.destination.as_ref())?;
        let limit = limits::SESSION_SUBSCRIPTIONS_MAX;
        if self.consumers.subscriptions() + destinations.len() > limit {
            let problem = format!("the connection has {limit} consumers, which is the limit");
            return Err(Problem::jms(problem));
        }
        for destination in &destinations {
            self.check_source(destination)?;
        }
        let topic = destinations.iter().any(|to| matches!(to, Destination::Topic(_)));
        if info.browser && topic {
            return Err(Problem::destination("a browser looks at queues"));
        }
        check_durable(info, &destinations)?;
        Ok(Some((destinations, selector)))
    }

    fn check_source(&self, destination: &Destination) -> Result<(), Problem> {
        if names::is_temporary(destination)
            && self.config.registry.owner(destination) != Some(self.connection)
        {
            let problem = format!("{destination} is a temporary destination of another connection");
            return Err(Problem::destination(problem));
        }
        Ok(())
    }

    pub(super) fn begin_consumer(&mut self, head: CommandHead, consumer: Consumer) {
        let key = ConsumerKey::of(consumer.info.consumer_id.as_ref().expect("checked before"));
        self.advise_consumer(&key, &consumer.info, &consumer.destinations);
        let consumer = self.consumers.add(key.clone(), consumer);
        if consumer.manner == Manner::Browser {
            return self.begin_browsing(head, &key);
        }
        let (prefetch, selector) = (consumer.window(), consumer.selector.clone());
        let parts = consumer.parts.clone().into_iter().zip(consumer.destinations.clone());
        let parts: Vec<_> =
            parts.map(|(part, from)| (part, consumer.standing(&from), from)).collect();
        consumer.beginning.waiting.extend(parts.iter().map(|(part, ..)| part.0));
        for (subscription, standing, from) in parts {
            let selector = selector.clone();
            let durable = self.durable(&key, subscription, &from, prefetch);
            let command = durable.unwrap_or(match standing {
                None => Command::Subscribe { subscription, from, prefetch, selector },
                Some(standing) => {
                    Command::SubscribeAs { subscription, from, prefetch, selector, standing }
                }
            });
            let asked = Asked::Subscribe { head, consumer: key.clone(), subscription };
            self.submit(Some(asked), command);
        }
    }

    /// A part of a consumer has begun, or will not.
    pub(super) fn subscribed(
        &mut self,
        head: CommandHead,
        key: &ConsumerKey,
        subscription: SubscriptionId,
        result: Result<(), Refusal>,
    ) {
        let Some(consumer) = self.consumers.get_mut(key) else { return self.done(head) };
        consumer.beginning.waiting.remove(&subscription.0);
        if let Err(refusal) = result {
            consumer.parts.retain(|part| *part != subscription);
            consumer.beginning.problem.get_or_insert(Problem::refused(&refusal));
        }
        if !consumer.beginning.waiting.is_empty() {
            return;
        }
        if let Some(problem) = consumer.beginning.problem.take() {
            self.remove_consumer(key, NONE_SEEN);
            key.of_bridge().into_iter().for_each(|value| self.demand_refused(value));
            return self.fail(head, &problem);
        }
        self.replay_advisories(head, key);
    }

    /// A consumer goes. `last` is the last message that its application has seen: what comes
    /// behind it returns uncounted.
    pub(super) fn remove_consumer(&mut self, key: &ConsumerKey, last: i64) {
        let Some(consumer) = self.consumers.remove(key) else { return };
        self.reading.retain(|reading| !reading.is_for(key));
        self.advise_no_consumer(key, &consumer.destinations, last);
        let known = consumer.held.contains_key(&last);
        for subscription in consumer.parts {
            let seen = consumer.held.range(..=last).rev().filter(|_| known);
            let seen = seen.filter_map(|(_, held)| held.delivery);
            let seen = seen.filter(|(part, _)| *part == subscription).map(|(_, tag)| tag).next();
            let command = match last {
                UNKNOWN => Command::Unsubscribe { subscription },
                _ => {
                    let unseen = seen.map_or(Tag(0), |tag| Tag(tag.0 + 1));
                    Command::Withdraw { subscription, unseen }
                }
            };
            self.submit(None, command);
        }
    }

    /// The window of a consumer is another.
    pub(super) fn grant(&mut self, key: &ConsumerKey) {
        let Some(consumer) = self.consumers.get(key) else { return };
        let prefetch = match consumer.pull {
            Some(pull) if !pull.over => consumer.holds().saturating_add(1),
            _ if consumer.manner == Manner::Pulled => 0,
            _ => consumer.window(),
        };
        for subscription in consumer.parts.clone() {
            self.submit(None, Command::Credit { subscription, prefetch });
        }
    }

    pub(super) fn set_prefetch(&mut self, key: &ConsumerKey, prefetch: i32) {
        if let Some(consumer) = self.consumers.get_mut(key) {
            consumer.set_prefetch(prefetch);
            self.grant(key);
        }
    }
}

/// Its application has seen nothing.
pub(super) const NONE_SEEN: i64 = -1;
/// Nobody knows what its application has seen.
pub(super) const UNKNOWN: i64 = -2;

/// Consumers that ask for each message.
impl OpenWireSession {
    pub(super) fn pull(&mut self, now: Duration, head: CommandHead, pull: &MessagePull) {
        self.done(head);
        let Some(key) = pull.consumer_id.as_ref().map(ConsumerKey::of) else { return };
        let number = self.consumers.next_pull_number();
        let Some(consumer) = self.consumers.get_mut(&key) else { return };
        let millis = u64::try_from(pull.timeout).ok().filter(|millis| *millis > 0);
        let impatient = pull.timeout < 0;
        let grace = impatient.then_some(limits::PULL_GRACE_MILLIS);
        let until = millis.or(grace).map(|time| now.saturating_add(Duration::from_millis(time)));
        consumer.pull = Some(Pull { number, until, impatient, over: false });
        let queue = match &consumer.destinations[..] {
            [Destination::Queue(name)] => Some((**name).into()),
            _ => None,
        };
        // Nobody knows at once what all queues of a pattern have: it waits for its time.
        let asks = impatient && !consumer.destinations.iter().any(names::is_pattern);
        self.grant(&key);
        if asks {
            let command = queue.map_or(Command::Barrier, |queue| Command::ShowQueue { queue });
            self.submit(Some(Asked::Pull { consumer: key, pull: number }), command);
        }
    }

    /// Whether something was there for one who does not want to wait. What was is on its way, and
    /// perhaps to another.
    pub(super) fn pull_answered(
        &mut self,
        key: &ConsumerKey,
        number: u64,
        result: &Result<Reply, Refusal>,
    ) {
        let mine = |pull: Pull| pull.number == number && pull.impatient;
        let waits = |consumer: &Consumer| consumer.pull.is_some_and(mine);
        let nothing = match result {
            Ok(Reply::Queue(queue)) => queue.info.depth == 0,
            _ => true,
        };
        if nothing && self.consumers.get(key).is_some_and(waits) {
            self.tell_nothing(key);
        }
    }

    /// Tells those that there is nothing whose time is over.
    pub(super) fn pulls_due(&mut self, now: Duration) {
        while let Some(key) = self.consumers.due(now) {
            self.tell_nothing(&key);
        }
    }

    fn tell_nothing(&mut self, key: &ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        consumer.pull = None;
        let consumer_id = consumer.info.consumer_id.clone();
        self.grant(key);
        self.write(&MessageDispatch { consumer_id, ..MessageDispatch::default() });
    }
}
