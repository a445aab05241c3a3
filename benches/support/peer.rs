//! A connection to an engine in this process, and what it asks.

use std::collections::VecDeque;
use std::sync::Arc;

use escrowmq::broker::command::{
    Command, Confirm, Delivery, EndAs, Output, Reply, Request, StartAs, XaCommand,
};
use escrowmq::engine::{self, Connection, NO_TOKEN, Running};
use escrowmq::ids::{Millis, SubscriptionId, Tag, TransactionName, Xid};
use escrowmq::message::{BodyKind, Content, Destination, Durability, Message, Priority};
use escrowmq::schedule::When;
use escrowmq::selector::Selector;

/// Requests under way at most.
const UNDER_WAY: usize = 2000;
/// What one subscription may hold at most.
pub(crate) const PREFETCH: u32 = 32_767;

/// A connection.
pub(crate) struct Peer {
    running: engine::Handle,
    connection: Connection,
    subscriptions: u64,
    /// What has come and was not looked at.
    outputs: VecDeque<Output>,
}

impl Peer {
    pub(crate) fn new(running: &Running) -> Self {
        let running = running.handle().clone();
        let connection = running.connect().expect("a connection");
        Self { running, connection, subscriptions: 0, outputs: VecDeque::new() }
    }

    /// Breaks off and comes back.
    pub(crate) async fn reconnect(&mut self) {
        self.connection = self.running.connect().expect("a connection");
        self.outputs.clear();
    }

    pub(crate) async fn submit(&self, commands: impl IntoIterator<Item = Command>) {
        let request = |command| Request { token: NO_TOKEN, confirm: Confirm::Always, command };
        let requests = commands.into_iter().map(request).collect();
        self.connection.submit(requests).await.expect("the engine runs");
    }

    /// Has all of these done, many at a time; deliveries that come meanwhile are dropped.
    pub(crate) async fn ask_all(&mut self, commands: impl Iterator<Item = Command>) {
        let (mut commands, mut under_way) = (commands.peekable(), 0);
        while commands.peek().is_some() || under_way > 0 {
            let more: Vec<_> = commands.by_ref().take(UNDER_WAY - under_way).collect();
            under_way += more.len();
            self.submit(more).await;
            loop {
                match self.next().await {
                    Output::Answer { result: Ok(_), .. } => under_way -= 1,
                    Output::Delivery(_) => {}
                    other => panic!("{other:?}"),
                }
                if self.outputs.is_empty() {
                    break;
                }
            }
        }
    }

    /// Asks, and waits for the answer; deliveries that come before it are dropped.
    pub(crate) async fn ask(&mut self, command: Command) -> Reply {
        self.submit([command]).await;
        loop {
            if let Output::Answer { result, .. } = self.next().await {
                return result.expect("it is done");
            }
        }
    }

    async fn next(&mut self) -> Output {
        if self.outputs.is_empty() {
            let mut outputs = Vec::new();
            self.connection.receive(&mut outputs).await.expect("the engine runs");
            self.outputs.extend(outputs);
        }
        let output = self.outputs.pop_front().expect("something came");
        self.connection.written(Connection::window_bytes(&output));
        output
    }

    pub(crate) async fn subscribe(&mut self, queue: &str) -> SubscriptionId {
        self.subscribe_to(Destination::Queue(queue.into())).await
    }

    pub(crate) async fn subscribe_to(&mut self, from: Destination) -> SubscriptionId {
        self.subscribe_with(from, None).await
    }

    /// Subscribes to what this selector chooses.
    pub(crate) async fn choose(&mut self, queue: &str, selector: &str) -> SubscriptionId {
        let selector = Selector::parse(selector).expect("a selector");
        self.subscribe_with(Destination::Queue(queue.into()), Some(Arc::new(selector))).await
    }

    async fn subscribe_with(
        &mut self,
        from: Destination,
        selector: Option<Arc<Selector>>,
    ) -> SubscriptionId {
        self.subscriptions += 1;
        let subscription = SubscriptionId(self.subscriptions);
        let request = Command::Subscribe { subscription, from, prefetch: PREFETCH, selector };
        self.tell(request).await;
        subscription
    }

    /// Subscribes as one that has seen much and wants more: so much is lent to it.
    pub(crate) async fn hold(&mut self, queue: &str, count: usize) -> (SubscriptionId, Vec<Tag>) {
        let subscription = self.want(queue, count).await;
        (subscription, self.take(count).await)
    }

    /// The same, and takes nothing yet.
    pub(crate) async fn want(&mut self, queue: &str, count: usize) -> SubscriptionId {
        let subscription = self.subscribe(queue).await;
        let prefetch = u32::try_from(count).expect("no more than one may have");
        self.tell(Command::Credit { subscription, prefetch }).await;
        subscription
    }

    /// Messages in a queue.
    pub(crate) async fn depth(&mut self, queue: &str) -> usize {
        match self.ask(Command::ShowQueue { queue: queue.into() }).await {
            Reply::Queue(queue) => queue.info.depth as usize,
            other => panic!("{other:?}"),
        }
    }

    /// Asks for what is only answered where it is refused.
    pub(crate) async fn tell(&self, command: Command) {
        let request = Request { token: NO_TOKEN, confirm: Confirm::RefusalOnly, command };
        self.connection.submit(vec![request]).await.expect("the engine runs");
    }

    /// Takes so many deliveries, and gives the tag of the last.
    pub(crate) async fn deliveries(&mut self, count: usize) -> Tag {
        let mut last = None;
        self.deliver(count, |delivery| last = Some(delivery.tag)).await;
        last.expect("something was taken")
    }

    /// Takes so many deliveries, and gives their tags.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<Tag> {
        let mut tags = Vec::with_capacity(count);
        self.deliver(count, |delivery| tags.push(delivery.tag)).await;
        tags
    }

    /// Takes so many deliveries and looks at each.
    pub(crate) async fn deliver(&mut self, count: usize, mut each: impl FnMut(Delivery)) {
        let mut taken = 0;
        while taken < count {
            match self.next().await {
                Output::Delivery(delivery) => {
                    taken += 1;
                    each(delivery);
                }
                Output::Answer { result, .. } => drop(result.expect("it is done")),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// The name of the branch of that number.
pub(crate) fn xid(number: u64) -> Arc<Xid> {
    let global = [&number.to_le_bytes()[..], &[7; 24]].concat();
    Arc::new(Xid::new(1, &global, b"a branch").expect("short"))
}

/// What begins a branch, ends the association with it, and ends it.
pub(crate) fn branch(
    transaction: TransactionName,
    end: impl Fn(Arc<Xid>) -> XaCommand,
) -> [Command; 3] {
    let xid = xid(transaction.0);
    let of = || Arc::clone(&xid);
    let (how, timeout, client) = (StartAs::New, None, "bench".into());
    let start = XaCommand::Start { xid: of(), how, transaction, timeout, client };
    let leave = XaCommand::End { xid: of(), transaction, how: EndAs::Success };
    [start, leave, end(of())].map(Command::Xa)
}

/// A small persistent message.
pub(crate) fn send(queue: &str, expires: Option<Millis>) -> Command {
    Command::Send { to: Destination::Queue(queue.into()), message: message(expires, &[]) }
}

/// The same with properties.
pub(crate) fn message(expires: Option<Millis>, properties: &[(&str, &str)]) -> Message {
    let body = vec![b'x'; 100].into();
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let properties = properties.iter().map(owned).collect();
    let content = Content { kind: BodyKind::Bytes, properties, body }.encode();
    let (durability, priority) = (Durability::Persistent, Priority::DEFAULT);
    Message { durability, priority, expires, when: When::AtOnce, grouped: false, content }
}
