//! One connection's task: moves bytes between the socket and the session, and requests and
//! outputs between the session and the engine.

use std::fmt;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::time::timeout;

use crate::broker::command::{Output, Request};
use crate::config::Wire;
use crate::engine::{Closed, Connection};
use crate::limits;
use crate::security::Denied;
use crate::security::guard::Guard;
use crate::server::Shared;
use crate::server::session::{Ended, Session};
use crate::server::socket::Socket;
use crate::server::tls::common_name;

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    Session(Ended),
    Hangup,
    Socket(io::Error),
    Broker(Closed),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(reason) => reason.fmt(f),
            Self::Hangup => f.write_str("the peer hung up"),
            Self::Socket(error) => error.fmt(f),
            Self::Broker(why) => why.fmt(f),
        }
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

impl From<Closed> for End {
    fn from(why: Closed) -> Self {
        Self::Broker(why)
    }
}

/// What somebody waits for who wants in.
type LoginAnswer = Pin<Box<dyn Future<Output = Result<Guard, Denied>> + Send>>;

struct Task<'a> {
    shared: &'a Shared,
    socket: Socket,
    connection: Connection,
    session: Session,
    /// Looks at requests, once somebody was let in.
    guard: Option<Guard>,
    /// Is somebody to be let in?
    login: Option<LoginAnswer>,
    incoming: BytesMut,
    outgoing: BytesMut,
    /// How much of `outgoing` the socket has taken.
    taken: usize,
    outputs: Vec<Output>,
    /// What the outputs being written take of the connection's window.
    window: usize,
}

/// Serves a connection to its end.
pub(super) async fn serve(
    socket: Socket,
    (wire, peer): (Wire, SocketAddr),
    connection: Connection,
    shared: &Shared,
) -> End {
    // Answers are small and awaited: they must not wait for more.
    if let Err(error) = socket.set_nodelay() {
        return End::Socket(error);
    }
    let now = shared.clock.monotonic();
    let session = Session::new(wire, shared, (connection.id(), peer), now);
    let mut task = Task {
        shared,
        socket,
        connection,
        session,
        guard: None,
        login: None,
        incoming: BytesMut::new(),
        outgoing: BytesMut::new(),
        taken: 0,
        outputs: Vec::new(),
        window: 0,
    };
    loop {
        if let Err(end) = task.step().await {
            task.last_words(&end).await;
            task.last_requests().await;
            return end;
        }
    }
}

impl Task<'_> {
    fn now(&self) -> Duration {
        self.shared.clock.monotonic()
    }

    /// Waits for one thing to happen, and acts on it.
    async fn step(&mut self) -> Result<(), End> {
        self.settle().await?;
        let deadline = self.session.poll_timeout();
        let sleep = deadline.map(|at| at.saturating_sub(self.now()));
        if sleep == Some(Duration::ZERO) {
            // Beside a socket that always has something, a timer might never get its turn.
            return self.time_is_up(self.session.wants_bytes()).await;
        }
        let idle_writer = self.outgoing.is_empty() && self.socket.is_flushed();
        let takes = idle_writer && self.session.wants_outputs();
        let reads = self.session.wants_bytes();
        if reads {
            self.incoming.reserve(limits::READ_BYTES);
        }
        tokio::select! {
            read = self.socket.readable(), if reads => {
                read?;
                self.read_some()?;
            }
            written = self.socket.writable(), if !idle_writer => {
                written?;
                self.write_some()?;
            }
            // What is written is written whole before more is taken: the engine's window then
            // bounds what a slow peer costs.
            received = self.connection.receive(&mut self.outputs), if takes => received?,
            verdict = decided(&mut self.login) => self.let_in(verdict),
            // A peer that does not read must not keep the broker from ending.
            why = self.connection.closed(), if !idle_writer => return Err(End::Broker(why)),
            () = self.session.woken() => self.session.handle_wake(),
            () = sleep_or_never(sleep) => self.time_is_up(reads).await?,
        }
        Ok(())
    }

    /// Somebody who wanted in was judged.
    fn let_in(&mut self, verdict: Result<Guard, Denied>) {
        self.login = None;
        let now = self.now();
        let verdict = verdict.map(|guard| {
            tracing::debug!(id = %self.connection.id(), user = %guard.who(), "logged in");
            let user = guard.who().name.to_string();
            self.guard = Some(guard);
            user
        });
        self.session.handle_login(now, verdict.map_err(|denied| denied.to_string()));
    }

    /// Asks whether somebody is let in who wants to be.
    fn ask_login(&mut self) {
        let Some(login) = self.session.poll_login() else { return };
        let certificate = self.socket.certificate().and_then(common_name);
        self.login = Some(Box::pin(self.shared.entry.clone().login(certificate, login)));
    }

    /// A deadline of the session has come.
    async fn time_is_up(&mut self, reads: bool) -> Result<(), End> {
        // A peer is silent only if nothing of it waits in the socket.
        if reads {
            self.incoming.reserve(limits::READ_BYTES);
            if self.read_some()? {
                self.settle().await?;
            }
        }
        let now = self.now();
        self.session.handle_timeout(now);
        Ok(())
    }

    /// Brings the session up to date with everything that has come in, until nothing moves.
    async fn settle(&mut self) -> Result<(), End> {
        let now = self.now();
        for output in self.outputs.drain(..) {
            self.window += Connection::window_bytes(&output);
            self.session.handle_output(now, output);
        }
        loop {
            let before = self.incoming.len();
            if self.session.wants_bytes() && !self.incoming.is_empty() {
                self.session.handle_bytes(now, &mut self.incoming);
            }
            self.ask_login();
            let requests = self.requests();
            let mut moved = !requests.is_empty() || self.incoming.len() < before;
            if !requests.is_empty() {
                self.connection.submit(requests).await?;
            }
            if let Some((birth, size)) = self.session.poll_read() {
                let read = self.shared.handle.payload(birth, size).await?;
                self.session.handle_read(read.ok());
                moved = true;
            }
            if self.outgoing.is_empty() && self.socket.is_flushed() {
                self.session.take_bytes(&mut self.outgoing);
                if !self.outgoing.is_empty() {
                    self.write_some()?;
                    // What was written whole is settled, which makes requests.
                    moved |= self.outgoing.is_empty();
                } else if self.window > 0 {
                    // Deliveries that the session had no use for are over as if written.
                    self.connection.written(std::mem::take(&mut self.window));
                }
            }
            if let Some(reason) = self.session.is_closing() {
                return Err(End::Session(reason));
            }
            if !moved {
                return Ok(());
            }
        }
    }

    /// What the session asks, as far as it may.
    fn requests(&mut self) -> Vec<Request> {
        let mut requests = self.session.poll_requests();
        if let Some(guard) = &mut self.guard {
            // What the session answers for itself is its client's by right.
            let others = requests.iter_mut().filter(|it| !self.session.vouches_for(&it.command));
            others.for_each(|request| guard.check(request));
        }
        requests
    }

    /// Reads what the socket has, up to a limit; true if that was anything.
    fn read_some(&mut self) -> Result<bool, End> {
        match self.socket.try_read(&mut self.incoming) {
            Ok(0) => Err(End::Hangup),
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(End::Socket(e)),
        }
    }

    fn write_some(&mut self) -> Result<(), End> {
        while self.taken < self.outgoing.len() {
            match self.socket.try_write(&self.outgoing[self.taken..]) {
                Ok(0) => return Err(End::Hangup),
                Ok(count) => self.taken += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(End::Socket(e)),
            }
        }
        match self.socket.try_flush() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            flushed => flushed?,
        }
        self.taken = 0;
        self.outgoing.clear();
        // Little memory serves again; much would stay with a connection that then idles.
        if self.outgoing.capacity() > limits::READ_BYTES {
            self.outgoing = BytesMut::new();
        }
        self.session.handle_written();
        self.connection.written(std::mem::take(&mut self.window));
        Ok(())
    }

    /// Writes what the session still has to say, for a peer that reads, and hands the engine the
    /// last requests.
    async fn last_words(&mut self, end: &End) {
        // Who comes back waits for this one to go, and reads nothing here any more.
        let left = matches!(end, End::Session(ended) if ended.is_replaced());
        if left || matches!(end, End::Hangup | End::Socket(_)) {
            return;
        }
        if let End::Broker(why) = end {
            self.session.handle_broker_gone(&why.to_string());
        }
        self.outgoing.advance(std::mem::take(&mut self.taken));
        self.session.take_bytes(&mut self.outgoing);
        let words = async {
            self.socket.write_all(&mut self.outgoing).await?;
            self.session.handle_written();
            let requests = self.requests();
            if !requests.is_empty() {
                let _ = self.connection.submit(requests).await;
            }
            self.socket.shutdown().await?;
            // Closing with unread bytes would reset the connection, and the peer might lose the
            // words above: read on until it has closed too, but not for ever.
            self.socket.drain(limits::LAST_WORDS_READ_MAX).await
        };
        let _ = timeout(Duration::from_millis(limits::LAST_WORDS_MILLIS), words).await;
    }
}

impl Task<'_> {
    /// Hands the engine what is to be done however the connection ended.
    async fn last_requests(&mut self) {
        self.session.handle_gone();
        let requests = self.requests();
        if !requests.is_empty() {
            let _ = self.connection.submit(requests).await;
        }
    }
}

async fn sleep_or_never(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => pending().await,
    }
}

/// What was decided of somebody who wants in, if anybody does.
async fn decided(login: &mut Option<LoginAnswer>) -> Result<Guard, Denied> {
    match login {
        Some(answer) => answer.await,
        None => pending().await,
    }
}
