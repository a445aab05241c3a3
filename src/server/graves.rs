//! Removes the queues of temporary destinations whose connection has gone.
//!
//! Such a queue is one like others to the broker. What an earlier life of it has left behind goes
//! first; then those go of which the registry tells. One that still has something lent is tried
//! again: what a connection held is on its way back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::broker::command::{Command, Confirm, Output, Refusal, Reply, Request};
use crate::engine::{Closed, Connection};
use crate::ids::Token;
use crate::limits;
use crate::server::session::Bell;
use crate::server::{Shared, stopped};
use crate::session::openwire::Waker;

/// Digs until the server stops.
pub(super) async fn dig(shared: Shared, mut stop: watch::Receiver<bool>) {
    let bell = Arc::new(Bell::default());
    let waker: Arc<dyn Waker> = Arc::<Bell>::clone(&bell);
    shared.openwire.registry.set_undertaker(waker);
    tokio::select! {
        () = stopped(&mut stop) => {}
        _ = work(&shared, &bell) => {}
    }
}

async fn work(shared: &Shared, bell: &Bell) -> Result<(), Closed> {
    let mut doomed = Digger::new(shared)?.orphans().await?;
    loop {
        doomed.extend(shared.openwire.registry.take_doomed());
        if !doomed.is_empty() {
            doomed = Digger::new(shared)?.bury(doomed).await?;
        }
        if doomed.is_empty() {
            bell.rung().await;
        } else {
            let rest = Duration::from_millis(limits::GRAVE_REST_MILLIS);
            let _ = tokio::time::timeout(rest, bell.rung()).await;
        }
    }
}

/// At work; it has a connection to the broker no longer than that.
struct Digger<'a> {
    shared: &'a Shared,
    connection: Connection,
    token: u64,
}

impl<'a> Digger<'a> {
    fn new(shared: &'a Shared) -> Result<Self, Closed> {
        Ok(Self { shared, connection: shared.handle.connect()?, token: 0 })
    }

    /// Removes queues; those that cannot be removed yet.
    async fn bury(&mut self, doomed: Vec<Box<str>>) -> Result<Vec<Box<str>>, Closed> {
        let mut later = Vec::new();
        for queue in doomed {
            // A client that came back has it again, though nobody reads from it yet.
            if !self.shared.openwire.registry.is_orphan(&queue) {
                continue;
            }
            let result = self.ask(Command::Delete { queue: queue.clone() }).await?;
            let again = result.is_err_and(|refusal| is_in_use(&refusal));
            // It may be somebody's by now.
            if again && self.shared.openwire.registry.is_orphan(&queue) {
                later.push(queue);
            }
        }
        Ok(later)
    }

    /// What nobody has, and nobody will have.
    async fn orphans(&mut self) -> Result<Vec<Box<str>>, Closed> {
        let (mut found, mut after) = (Vec::new(), None);
        while let Ok(Reply::Queues(page)) = self.ask(Command::ListQueues { after }).await? {
            let Some(last) = page.last() else { break };
            after = Some((*last.name).into());
            for queue in &page {
                if self.shared.openwire.registry.is_orphan(&queue.name) {
                    found.push((*queue.name).into());
                }
            }
        }
        Ok(found)
    }

    async fn ask(&mut self, command: Command) -> Result<Result<Reply, Refusal>, Closed> {
        self.token += 1;
        let request = Request { token: Token(self.token), confirm: Confirm::Alone, command };
        self.connection.submit(vec![request]).await?;
        let mut outputs = Vec::new();
        loop {
            self.connection.receive(&mut outputs).await?;
            for output in outputs.drain(..) {
                if let Output::Answer { token, result } = output
                    && token == Token(self.token)
                {
                    return Ok(result);
                }
            }
        }
    }
}

fn is_in_use(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::QueueInUse(_)
            | Refusal::QueueUsedAgain { .. }
            | Refusal::QueueBusy(_)
            | Refusal::QueueInTransactions(_)
    )
}
