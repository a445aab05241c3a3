//! What the queue commands of an operator do: each a series of small requests to the broker.
//!
//! Always: one page of a queue and one message's content in memory at a time, and one bounded
//! piece of work in the engine; whoever hangs up ends what is under way at the next piece. What
//! was told to be moved is durable.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Duration, sleep, timeout};

use super::branches::BranchFailure;
use super::stopped;
use super::words::{BodyLine, Details, MessageLine, Progress, QueueAsk, ReaderLine, Told};
use crate::broker::command::{
    Browsable, Browsed, Command, Confirm, Held, MessageId, MovedReply, Output, Pick, Refusal,
    Reply, Request, Returns, Spot,
};
use crate::engine::{Closed, Connection, Handle};
use crate::ids::{NoteId, QueueId, Token};
use crate::limits;
use crate::message::{BodyKind, Content, LargeHead, ORIGINAL_DESTINATION, origin_of};

/// Why the broker did not do what an operator asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Refused(Refusal),
    #[error("there is no queue {0}: `escrowmq queue list` shows those there are")]
    NoSuchQueue(Box<str>),
    #[error(transparent)]
    Closed(#[from] Closed),
    #[error(
        "{id} is no message id: give the end of a message-id as `queue browse` shows it, like d1f80"
    )]
    BadId { id: String },
    #[error(
        "there is no message {id} in {queue}: it may have been consumed; `escrowmq queue browse` \
         shows what is there"
    )]
    NoSuchMessage { id: String, queue: String },
    #[error(
        "the messages in {0} have lost their content and cannot be retried: `escrowmq queue browse \
         {0} --properties` tells which they were, and `escrowmq queue purge {0}` removes them"
    )]
    Damaged(&'static str),
    #[error("there is no schedule 0")]
    NoScheduleZero,
    #[error(transparent)]
    Branch(#[from] BranchFailure),
    #[error("the operator has hung up")]
    HungUp,
    #[error(
        "next to nothing of the reply was read for {} minutes, and its rest is not sent",
        limits::ADMIN_READ_MILLIS / 60_000
    )]
    NotRead,
    #[error("the broker is stopping, and the reply was not read in time")]
    Stopping,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchQueue(name) => Self::NoSuchQueue(name),
            other => Self::Refused(other),
        }
    }
}

/// Where the lines of a reply go.
pub(super) struct Out<W> {
    write: W,
    /// What is not written yet: a line that was given up half-way is ended before the next.
    rest: BytesMut,
    /// Turns true when the broker stops, which waits for nobody for long.
    stop: watch::Receiver<bool>,
}

impl<W: AsyncWrite + Unpin> Out<W> {
    pub(super) fn new(write: W, stop: watch::Receiver<bool>) -> Self {
        Self { write, rest: BytesMut::new(), stop }
    }

    /// Writes, if the operator's tool reads in time.
    pub(super) async fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.rest.extend_from_slice(text.as_bytes());
        while !self.rest.is_empty() {
            self.write_some().await?;
        }
        Ok(())
    }

    async fn write_some(&mut self) -> Result<(), Failure> {
        let Self { write, rest, stop } = self;
        let stopping = async {
            stopped(stop).await;
            sleep(Duration::from_millis(limits::ADMIN_PEER_MILLIS)).await;
        };
        let patience = Duration::from_millis(limits::ADMIN_READ_MILLIS);
        tokio::select! {
            biased;
            written = timeout(patience, write.write_buf(rest)) => match written {
                Ok(Ok(count)) if count > 0 => Ok(()),
                Ok(_) => Err(Failure::HungUp),
                Err(_) => Err(Failure::NotRead),
            },
            () = stopping => Err(Failure::Stopping),
        }
    }

    pub(super) async fn tell(&mut self, told: &Told) -> Result<(), Failure> {
        let line = serde_json::to_string(told).expect("strings and numbers are JSON");
        self.write(&format!("told {line}\n")).await
    }
}

/// One operator at work.
struct Session<'a, W> {
    handle: &'a Handle,
    connection: Connection,
    out: &'a mut Out<W>,
}

/// Asks the broker one thing.
pub(super) async fn request(connection: &Connection, command: Command) -> Result<Reply, Failure> {
    let request = Request { token: Token(1), confirm: Confirm::Always, command };
    connection.submit(vec![request]).await?;
    let mut outputs = Vec::new();
    loop {
        connection.receive(&mut outputs).await?;
        // It asks one thing at a time and subscribes to nothing, so there is no other output.
        if let Some(Output::Answer { result, .. }) = outputs.pop() {
            return Ok(result?);
        }
    }
}

/// Does what was asked and writes what there is to tell.
pub(super) async fn perform<W: AsyncWrite + Unpin>(
    handle: &Handle,
    ask: QueueAsk,
    out: &mut Out<W>,
) -> Result<(), Failure> {
    let connection = handle.connect()?;
    let mut session = Session { handle, connection, out };
    match ask {
        QueueAsk::List => session.list().await,
        QueueAsk::Schedules => session.schedules().await,
        QueueAsk::EndSchedule { id } => session.end_schedule(id).await,
        QueueAsk::Show { queue } => session.show(&queue).await,
        QueueAsk::Browse { queue, from, skip, count, properties, body } => {
            let wanted = Wanted { properties, body };
            session.browse(&queue, from.as_deref(), skip, count, wanted).await
        }
        // Not even a queue is made for nothing.
        QueueAsk::Move { from, count: Some(0), ids, .. } if ids.is_empty() => {
            request(&session.connection, Command::ShowQueue { queue: from.into() }).await?;
            session.progress(0, 0, true).await
        }
        QueueAsk::Move { from, to, count, ids } if ids.is_empty() => {
            session.move_first(&from, &to, count.unwrap_or(u64::MAX)).await
        }
        QueueAsk::Move { from, to, ids, .. } => session.move_these(&from, &to, &ids).await,
        QueueAsk::Retry { queue, count, origin } => {
            session.retry(&queue, count.unwrap_or(u64::MAX), origin.as_deref()).await
        }
    }
}

/// Which parts of a message's content are wanted.
#[derive(Clone, Copy)]
struct Wanted {
    properties: bool,
    body: bool,
}

/// The content of a message, as far as it can be had, with what its set-apart says of it before its
/// own properties.
enum Found {
    Content(Content),
    /// Its body is large, and not looked at.
    Large(LargeHead),
    /// The message is there, and its content cannot be read.
    Problem(String),
    /// The message is not there any more.
    Gone,
}

impl<W: AsyncWrite + Unpin> Session<'_, W> {
    async fn list(&mut self) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let reply = request(&self.connection, Command::ListQueues { after }).await?;
            let Reply::Queues(queues) = reply else { unreachable!("it was a list that was asked") };
            let Some(last) = queues.last() else { return Ok(()) };
            after = Some(last.name.clone());
            for queue in &queues {
                self.out.tell(&Told::Queue(queue.into())).await?;
            }
        }
    }

    async fn schedules(&mut self) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let reply = request(&self.connection, Command::ListSchedules { after }).await?;
            let Reply::Schedules(all) = reply else { unreachable!("it was these that were asked") };
            let Some(last) = all.last() else { return Ok(()) };
            after = Some(last.id);
            for schedule in &all {
                self.out.tell(&Told::Schedule(schedule.into())).await?;
            }
        }
    }

    async fn end_schedule(&mut self, id: u32) -> Result<(), Failure> {
        let id = NoteId::new(id).ok_or(Failure::NoScheduleZero)?;
        let reply = request(&self.connection, Command::EndSchedule(id)).await?;
        let Reply::Removed(count) = reply else { unreachable!("it was a removal that was asked") };
        self.out.tell(&Told::Removed(count)).await
    }

    async fn show(&mut self, queue: &str) -> Result<(), Failure> {
        let reply = request(&self.connection, Command::ShowQueue { queue: queue.into() }).await?;
        let Reply::Queue(shown) = reply else { unreachable!("it was a queue that was asked") };
        let mut details = Details {
            queue: (&shown.info).into(),
            bytes: shown.bytes,
            staged: shown.staged,
            held: shown.held,
            limit_messages: Some(shown.limit.messages).filter(|most| *most < u64::MAX),
            limit_bytes: Some(shown.limit.bytes).filter(|most| *most < u64::MAX),
            when_full: shown.limit.when_full,
            readers: shown.readers.iter().map(ReaderLine::from).collect(),
            limit_prefetch: shown.limits.prefetch,
            limit_resident: shown.limits.resident as u64,
            limit_message_bytes: shown.limits.message_bytes,
        };
        if details.queue.oldest.is_none() {
            details.queue.oldest = oldest_waiting(&self.connection, queue).await?;
        }
        self.out.tell(&Told::Details(details)).await
    }

    async fn page(
        &self,
        queue: &str,
        after: Option<Spot>,
        limit: usize,
    ) -> Result<Browsed, Failure> {
        page(&self.connection, queue, after, limit).await
    }

    async fn browse(
        &mut self,
        queue: &str,
        from: Option<&str>,
        mut skip: u64,
        count: u64,
        wanted: Wanted,
    ) -> Result<(), Failure> {
        let mut sought = from.map(parse_id).transpose()?;
        let (mut after, mut shown) = (None, 0);
        loop {
            let page = self.page(queue, after, limits::STEP_MESSAGES_MAX).await?;
            for message in &page.messages {
                let before = after.replace(message.spot);
                if sought.is_some_and(|sought| sought != message.id) {
                    continue;
                }
                sought = None;
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                if shown == count {
                    return Ok(());
                }
                if let Some(line) = self.line(queue, before, message, wanted).await? {
                    shown += 1;
                    self.out.tell(&Told::Message(line)).await?;
                }
            }
            after = page.next;
            if after.is_none() || shown == count {
                break;
            }
        }
        match (sought, from) {
            (Some(_), Some(id)) => {
                Err(Failure::NoSuchMessage { id: id.to_owned(), queue: queue.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// A message with as much of its content as is wanted; `None` if it is gone meanwhile.
    async fn line(
        &self,
        queue: &str,
        before: Option<Spot>,
        message: &Browsable,
        wanted: Wanted,
    ) -> Result<Option<MessageLine>, Failure> {
        let (persistent, bytes) = match &message.content {
            Held::Log { size, .. } => (true, u64::from(*size)),
            Held::Memory(content) => (false, content.len() as u64),
        };
        let mut line = MessageLine {
            id: message.id.to_string(),
            priority: message.priority,
            persistent,
            lent: message.lent && !message.settled,
            settled: message.settled,
            redelivered: message.redelivered,
            returns: message.returns,
            at: message.at.0,
            expires: message.expires.map(|at| at.0),
            due: message.due.map(|at| at.0),
            bytes: message.pieces.unwrap_or(bytes),
            properties: None,
            body: None,
            problem: None,
        };
        // How large a body in pieces is to the byte, only its head says.
        let read = wanted.properties || wanted.body;
        if !read && message.pieces.is_none() {
            return Ok(Some(line));
        }
        match self.content(queue, before, message).await? {
            Found::Content(content) => {
                line.body = wanted.body.then(|| body(&content));
                line.properties = wanted.properties.then_some(content.properties);
            }
            Found::Large(head) => {
                let bytes = head.bytes;
                line.bytes = bytes;
                let said = || format!("its body has {bytes} bytes and is too large to be shown");
                line.problem = wanted.body.then(said);
                line.properties = wanted.properties.then_some(head.properties);
            }
            Found::Problem(problem) => {
                let said = || format!("its content cannot be read: {problem}");
                line.problem = read.then(said);
            }
            Found::Gone => return Ok(None),
        }
        Ok(Some(line))
    }

    async fn content(
        &self,
        queue: &str,
        before: Option<Spot>,
        message: &Browsable,
    ) -> Result<Found, Failure> {
        let (problem, content) = match &message.content {
            Held::Memory(content) => (None, content.clone()),
            Held::Log { birth, size } => match self.handle.payload(*birth, *size).await? {
                Ok(content) => (None, content),
                Err(error) => (Some(error.to_string()), Default::default()),
            },
        };
        let dead = message.dead.iter().flat_map(|dead| dead.properties(&content));
        let dead: Vec<_> = dead.collect();
        if let Ok(mut head) = LargeHead::decode(content.clone()) {
            head.properties.splice(..0, dead);
            return Ok(Found::Large(head));
        }
        let decoded = Content::decode(content).map_err(|error| error.to_string());
        let problem = match (problem, decoded) {
            (None, Ok(mut content)) => {
                content.properties.splice(..0, dead);
                return Ok(Found::Content(content));
            }
            (Some(problem), _) | (None, Err(problem)) => problem,
        };
        // Where the message is gone its place in the log may be another's.
        let again = self.page(queue, before, 1).await?;
        let there = again.messages.first().is_some_and(|again| again.id == message.id);
        Ok(if there { Found::Problem(problem) } else { Found::Gone })
    }

    async fn move_first(&mut self, from: &str, to: &str, count: u64) -> Result<(), Failure> {
        let mut moved = 0;
        let mut pick = Pick::First(limits::MOVE_MESSAGES_MAX.min(count));
        loop {
            let reply = self.move_some(from, to, pick, Returns::Keep).await?;
            moved += reply.moved;
            let rest = reply.rest.filter(|_| moved < count);
            self.progress(moved, 0, rest.is_none()).await?;
            let Some(rest) = rest else { return Ok(()) };
            pick = Pick::More(rest, limits::MOVE_MESSAGES_MAX.min(count - moved));
        }
    }

    async fn move_these(&mut self, from: &str, to: &str, ids: &[String]) -> Result<(), Failure> {
        let mut sought = ids
            .iter()
            .map(|id| Ok((parse_id(id)?, id)))
            .collect::<Result<std::collections::BTreeMap<_, _>, Failure>>()?;
        let all = sought.len() as u64;
        let (mut after, mut these) = (None, BTreeSet::new());
        let queue = loop {
            let page = self.page(from, after, limits::STEP_MESSAGES_MAX).await?;
            let found = page.messages.iter().filter(|message| sought.remove(&message.id).is_some());
            these.extend(found.map(|message| message.spot));
            after = page.next;
            if after.is_none() || sought.is_empty() {
                break page.queue;
            }
        };
        if let Some((_, id)) = sought.pop_first() {
            return Err(Failure::NoSuchMessage { id: id.clone(), queue: from.to_owned() });
        }
        let reply = self.move_some(from, to, Pick::These(queue, Arc::new(these)), Returns::Keep);
        let moved = reply.await?.moved;
        self.progress(moved, all - moved, true).await
    }

    async fn move_some(
        &self,
        from: &str,
        to: &str,
        pick: Pick,
        returns: Returns,
    ) -> Result<MovedReply, Failure> {
        let command = Command::Move { from: from.into(), to: to.into(), pick, returns };
        match request(&self.connection, command).await? {
            Reply::Moved(reply) => Ok(reply),
            other => unreachable!("it was a move that was asked, not {other:?}"),
        }
    }

    async fn progress(&mut self, moved: u64, stayed: u64, done: bool) -> Result<(), Failure> {
        self.out.tell(&Told::Progress(Progress { moved, stayed, done })).await
    }

    /// Takes messages back to where they came from, as the broker or their properties say; so many
    /// at most, and only those from one queue if it is named.
    async fn retry(&mut self, queue: &str, count: u64, only: Option<&str>) -> Result<(), Failure> {
        if queue == limits::DAMAGED_QUEUE {
            return Err(Failure::Damaged(limits::DAMAGED_QUEUE));
        }
        let reply = request(&self.connection, Command::ShowQueue { queue: queue.into() }).await?;
        let Reply::Queue(shown) = reply else { unreachable!("it was a queue that was asked") };
        // What is set apart again meanwhile is for another time.
        let mut left = shown.info.depth;
        let (mut after, mut moved, mut stayed) = (None, 0, 0);
        loop {
            let page = self.page(queue, after, limits::STEP_MESSAGES_MAX).await?;
            let mut run: Option<(Box<str>, BTreeSet<Spot>)> = None;
            for message in page.messages.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                left -= 1;
                let before = after.replace(message.spot);
                let goes = run.as_ref().map_or(0, |(_, spots)| spots.len() as u64);
                if moved + goes == count {
                    // Those that turn out to stay do not count.
                    moved += self.take_back(queue, page.queue, run.take(), &mut stayed).await?;
                    if moved == count {
                        left = 0;
                        break;
                    }
                }
                let came = self.came(queue, before, message, only).await?;
                if !came.wanted {
                    continue;
                }
                let Some(origin) = came.from.filter(|_| !message.lent) else {
                    stayed += 1;
                    continue;
                };
                match &mut run {
                    Some((to, spots)) if *to == origin => drop(spots.insert(message.spot)),
                    _ => {
                        let old = run.replace((origin, [message.spot].into()));
                        moved += self.take_back(queue, page.queue, old, &mut stayed).await?;
                    }
                }
            }
            moved += self.take_back(queue, page.queue, run, &mut stayed).await?;
            after = page.next;
            let done = after.is_none() || left == 0;
            self.progress(moved, stayed, done).await?;
            if done {
                return Ok(());
            }
        }
    }

    async fn take_back(
        &self,
        from: &str,
        queue: QueueId,
        run: Option<(Box<str>, BTreeSet<Spot>)>,
        stayed: &mut u64,
    ) -> Result<u64, Failure> {
        let Some((to, spots)) = run else { return Ok(0) };
        let asked = spots.len() as u64;
        let pick = Pick::These(queue, Arc::new(spots));
        let moved = match self.move_some(from, &to, pick, Returns::Reset).await {
            Ok(reply) => reply.moved,
            // What came from elsewhere goes on.
            Err(Failure::Refused(refusal)) if is_of_target(&refusal, &to) => 0,
            Err(failure) => return Err(failure),
        };
        *stayed += asked - moved;
        Ok(moved)
    }

    /// Where a message came from, and whether that is the queue or destination that is asked for.
    async fn came(
        &self,
        queue: &str,
        before: Option<Spot>,
        message: &Browsable,
        only: Option<&str>,
    ) -> Result<Came, Failure> {
        let dead = message.dead.as_ref();
        let told = dead.map(|dead| dead.destination(&[]).to_string());
        let known = only.is_none_or(|only| {
            dead.is_some_and(|dead| *dead.origin == *only) || told.as_deref() == Some(only)
        });
        if let Some(dead) = dead.filter(|dead| known || !dead.is_of_pattern()) {
            return Ok(Came { from: Some((&*dead.origin).into()), wanted: known });
        }
        let found = self.content(queue, before, message).await?;
        let property = |name: &str| match &found {
            Found::Content(content) => content.property(name),
            Found::Large(head) => head.property(name),
            Found::Problem(_) | Found::Gone => None,
        };
        let from = match dead {
            Some(dead) => Some(&*dead.origin),
            None => origin_of(property).filter(|origin| *origin != queue),
        };
        let said = property(ORIGINAL_DESTINATION);
        let wanted = only.is_none_or(|only| [from, said].contains(&Some(only)));
        Ok(Came { from: from.map(Into::into), wanted })
    }
}

/// What is known of where a message came from.
struct Came {
    /// The queue.
    from: Option<Box<str>>,
    wanted: bool,
}

/// Whether a move was refused for where it was to go alone, so that one to elsewhere may be taken.
fn is_of_target(refusal: &Refusal, to: &str) -> bool {
    match refusal {
        // A subscription that has ended, or a topic's line.
        Refusal::ReservedName
        | Refusal::BadDestinationName { .. }
        | Refusal::SendToPattern { .. }
        | Refusal::SameQueue(_)
        // It would be a new one, and there are others.
        | Refusal::TooManyDestinations { .. }
        | Refusal::TooManySubscriptions { .. } => true,
        Refusal::QueueBusy(queue) => **queue == *to,
        _ => false,
    }
}

/// A piece of a queue.
pub(super) async fn page(
    connection: &Connection,
    queue: &str,
    after: Option<Spot>,
    limit: usize,
) -> Result<Browsed, Failure> {
    let command = Command::Browse { queue: queue.into(), after, limit };
    match request(connection, command).await? {
        Reply::Browsed(browsed) => Ok(browsed),
        other => unreachable!("it was a page that was asked, not {other:?}"),
    }
}

/// When the first message that waits near the head of a queue was sent, read from the index if
/// need be.
pub(super) async fn oldest_waiting(
    connection: &Connection,
    queue: &str,
) -> Result<Option<u64>, Failure> {
    let page = page(connection, queue, None, limits::STEP_MESSAGES_MAX).await?;
    Ok(page.messages.iter().filter(|message| !message.lent).map(|message| message.at.0).min())
}

fn parse_id(id: &str) -> Result<MessageId, Failure> {
    id.parse().map_err(|_| Failure::BadId { id: id.to_owned() })
}

fn body(content: &Content) -> BodyLine {
    // STOMP calls every body with a length bytes: what reads as text is shown as text.
    let reads = |text: &str| !text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace());
    match std::str::from_utf8(&content.body) {
        Ok(text) if content.kind == BodyKind::Text || reads(text) => {
            BodyLine::Text(text.to_owned())
        }
        _ => BodyLine::Hex(content.body.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_line_that_is_not_read_in_time_is_ended_before_that_is_told() {
        let (write, mut read) = tokio::io::duplex(4);
        let (_go_on, stop) = watch::channel(false);
        let mut out = Out::new(write, stop);
        let failure = out.write("a line\n").await.unwrap_err();
        assert!(matches!(failure, Failure::NotRead), "{failure}");
        let telling = async move { out.write("the last\n").await.unwrap() };
        let mut text = String::new();
        let ((), read) = tokio::join!(telling, read.read_to_string(&mut text));
        read.unwrap();
        assert_eq!(text, "a line\nthe last\n");
    }
}
