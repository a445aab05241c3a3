//! Which durable subscriptions there are, for those of this wire that need to know.
//!
//! The broker tells them page by page. Another broker that lays a bridge is told of them in one
//! frame, which is bounded; what would be longer is not told in part, since the other side would
//! take what is missing for ended.

use std::sync::Arc;

use super::OpenWireSession;
use super::answers::Asked;
use super::bridge::lasting_name;
use super::names;
use super::network::Network;
use super::present::Kind;
use crate::broker::command::{Command, KeptInfo, KeptName, KeptPage, Refusal, Reply};
use crate::ids::Token;
use crate::limits;
use crate::message::Destination;
use crate::protocol::openwire::table::{BrokerSubscriptionInfo, ConsumerId, ConsumerInfo};
use crate::protocol::openwire::{Structure, Text, Version};

const TOO_MANY: &str = "there are more durable subscriptions than a bridge can be told of";

/// What a list of durable subscriptions is for.
#[derive(Debug)]
pub(super) enum KeptFor {
    /// Another broker is told of these, and those that follow.
    Peer { told: Vec<Option<ConsumerInfo>>, bytes: usize },
    /// What is kept here for another broker goes on.
    Bridge,
    /// To know the topic of one that is to end, by the request that asks for that.
    End(Token),
}

impl OpenWireSession {
    /// Tells another broker which durable subscriptions there are, if that is how its bridge is.
    pub(super) fn tell_subscriptions(&mut self) {
        let tells = self.network.as_ref().is_some_and(|network| network.syncs);
        if tells && self.format.version >= Version::NEWEST {
            let what = KeptFor::Peer { told: Vec::new(), bytes: 0 };
            self.list_kept(what, ("".into(), "".into()));
        }
    }

    /// What an earlier bridge has left here for the other side goes on.
    pub(super) fn restore(&mut self) {
        match &self.network {
            Some(network) if !network.dynamic_only => {
                let client = network.client.as_str().into();
                let first = lasting_name(&self.config.broker_name, "").into();
                self.list_kept(KeptFor::Bridge, (client, first));
            }
            _ => self.all_restored(),
        }
    }

    pub(super) fn list_kept(&mut self, what: KeptFor, from: KeptName) {
        self.submit(Some(Asked::Kept(what)), Command::ListKept { from, reader: None });
    }

    /// The broker tells of some.
    pub(super) fn kept(&mut self, what: KeptFor, result: Result<Reply, Refusal>) {
        let Ok(Reply::Kept(KeptPage { kept, next })) = result else { return };
        match what {
            KeptFor::Peer { told, bytes } => self.kept_for_peer((told, bytes), &kept, next),
            KeptFor::Bridge => self.kept_for_bridge(&kept, next),
            KeptFor::End(ends) => {
                let ends = self.asked.get_mut(&ends);
                if let (Some(Asked::EndKept { of, topic, .. }), Some(first)) = (ends, kept.first())
                    && (&first.client, &first.name) == (&of.0, &of.1)
                {
                    *topic = Some(Arc::clone(&first.topic));
                }
            }
        }
    }

    fn kept_for_peer(
        &mut self,
        (mut told, mut bytes): (Vec<Option<ConsumerInfo>>, usize),
        kept: &[KeptInfo],
        next: Option<KeptName>,
    ) {
        let Some(network) = &self.network else { return };
        for it in kept.iter().filter(|it| network.tells_of(&it.client, &it.name, &it.topic)) {
            let value = i64::try_from(told.len()).unwrap_or(i64::MAX);
            bytes += it.client.len() + it.name.len() + it.topic.len() + limits::CONSUMER_BYTES;
            told.push(Some(self.offline(it, value)));
        }
        if bytes > limits::BRIDGE_TOLD_BYTES_MAX {
            return self.break_bridge(TOO_MANY.to_owned());
        }
        if let Some(next) = next {
            return self.list_kept(KeptFor::Peer { told, bytes }, next);
        }
        let forced = self.forced();
        let held = |it: &Option<Text>| it.as_ref().map_or(0, |text| text.as_bytes().len());
        bytes += forced.iter().map(|it| limits::CONSUMER_BYTES + held(&it.selector)).sum::<usize>();
        if bytes > limits::BRIDGE_TOLD_BYTES_MAX {
            return self.break_bridge(TOO_MANY.to_owned());
        }
        told.extend(forced.into_iter().map(Some));
        let broker_name = Some(Text::cut(&self.config.broker_name));
        let subscription_infos = Some(told);
        self.write(&BrokerSubscriptionInfo {
            broker_name,
            subscription_infos,
            ..Default::default()
        });
    }

    /// A durable subscription as a consumer that is not there.
    fn offline(&self, it: &KeptInfo, value: i64) -> ConsumerInfo {
        let connection_id = Some(Text::cut(&format!("OFFLINE:{}", self.config.broker_id)));
        ConsumerInfo {
            consumer_id: Some(ConsumerId { connection_id, session_id: 0, value }),
            destination: Some(names::wire(&Destination::Topic(Arc::clone(&it.topic)))),
            client_id: Some(Text::cut(&it.client)),
            subscription_name: Some(Text::cut(&it.name)),
            ..ConsumerInfo::default()
        }
    }

    /// Consumers that count as if they were durable. Where connections are guarded nobody has asked
    /// whether the other side may know of them, and it is told of none.
    fn forced(&self) -> Vec<ConsumerInfo> {
        let forces = |network: &&Network| network.forces_some() && !self.config.login;
        let Some(network) = self.network.as_ref().filter(forces) else {
            return Vec::new();
        };
        let is_forced = |it: &Destination| {
            matches!(it, Destination::Topic(topic) if network.forces(topic))
                && !names::is_temporary(it)
        };
        let (mut forced, mut after) = (Vec::new(), None);
        loop {
            let limit = limits::ADVISORIES_A_PAGE;
            let page = self.config.registry.present(Kind::Consumer, after.as_ref(), limit);
            let Some(last) = page.last() else { return forced };
            after = Some(last.subject.clone());
            let of = page.into_iter().filter(|told| told.fact.uses.iter().any(is_forced));
            forced.extend(of.filter_map(|told| match told.fact.about {
                Structure::ConsumerInfo(info) if info.subscription_name.is_none() => Some(*info),
                _ => None,
            }));
        }
    }

    fn kept_for_bridge(&mut self, kept: &[KeptInfo], next: Option<KeptName>) {
        let Some(client) = self.network.as_ref().map(|network| network.client.clone()) else {
            return;
        };
        let own = lasting_name(&self.config.broker_name, "");
        for it in kept.iter().filter(|it| *it.client == *client && it.name.starts_with(&own)) {
            self.restored(&it.topic);
        }
        match next.filter(|(of, name)| **of == *client && name.starts_with(&own)) {
            Some(next) => self.list_kept(KeptFor::Bridge, next),
            None => self.all_restored(),
        }
    }
}
