//! The page of numbers for Prometheus: a port of its own that answers `GET /metrics`.
//!
//! As much HTTP/1.1 as that takes: a request's head is read, bounded in bytes and time, a page is
//! written, and the connection ends. Whoever is slow is cut off.
//! Always: at most [`limits::METRICS_QUEUES_MAX`] queues have lines of their own, those with the
//! most messages; the others are in one sum. No line names a message.
//! Leaves the words of the page to `exposition`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::exposition::{Measured, Numbers, render};
use super::{operator, stopped};
use crate::broker::command::QueueInfo;
use crate::engine::{Closed, Handle};
use crate::io::Clock;
use crate::limits;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The port for numbers, open and not yet served.
#[derive(Debug)]
pub struct Metrics {
    listener: TcpListener,
}

/// What the pages are made from.
#[derive(Debug)]
struct Source {
    handle: Handle,
    clock: Arc<dyn Clock>,
    /// One page is made at a time: who asks more often than that waits.
    making: Mutex<()>,
}

impl Metrics {
    /// Opens the port.
    ///
    /// # Errors
    /// Those of the system: the address is in use, or not of this machine.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await? })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` turns true.
    pub async fn serve(
        self,
        handle: Handle,
        clock: Arc<dyn Clock>,
        mut stop: watch::Receiver<bool>,
    ) {
        let source = Arc::new(Source { handle, clock, making: Mutex::new(()) });
        let room = Arc::new(Semaphore::new(limits::METRICS_CONNECTIONS_MAX));
        // Dropped with the set, those who are still served are cut off.
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                () = stopped(&mut stop) => return,
                Some(_) = tasks.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    // One too many is closed at once: its scrape fails, and says so.
                    Ok((socket, _)) => if let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
                        let source = Arc::clone(&source);
                        tasks.spawn(async move {
                            let longest = Duration::from_millis(limits::METRICS_PEER_MILLIS);
                            let _ = timeout(longest, serve_one(socket, &source)).await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection for metrics cannot be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        }
    }
}

async fn serve_one(mut socket: TcpStream, source: &Source) -> io::Result<()> {
    let head = read_head(&mut socket).await?;
    let answer = match asked(&head) {
        Ok(()) => match source.page().await {
            Ok(page) => answer("200 OK", "", &page),
            Err(closed) => answer("503 Service Unavailable", "", &format!("{closed}\n")),
        },
        Err(Wrong::Method) => {
            answer("405 Method Not Allowed", "Allow: GET\r\n", "this page is only for GET\n")
        }
        Err(Wrong::Path) => answer("404 Not Found", "", "the page is /metrics\n"),
        Err(Wrong::Request) => answer("400 Bad Request", "", "this is no request of HTTP/1.1\n"),
    };
    socket.write_all(answer.as_bytes()).await?;
    socket.shutdown().await?;
    // A peer that is still sending would find the connection reset and the page lost.
    let mut rest = [0; 1024];
    while socket.read(&mut rest).await? > 0 {}
    Ok(())
}

/// The head of a request: all of it, or as much as is read at most.
async fn read_head(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(1024);
    let mut input = socket.take(limits::METRICS_REQUEST_BYTES_MAX);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if input.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(head)
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Request,
    Method,
    Path,
}

fn asked(head: &[u8]) -> Result<(), Wrong> {
    let whole = head.windows(4).any(|end| end == b"\r\n\r\n");
    let text = std::str::from_utf8(head).map_err(|_| Wrong::Request)?;
    let line = text.split("\r\n").next().unwrap_or_default();
    let mut words = line.split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let version = version.is_some_and(|version| version.starts_with("HTTP/1."));
    let Some(target) = target.filter(|_| whole && version && words.next().is_none()) else {
        return Err(Wrong::Request);
    };
    if method != Some("GET") {
        return Err(Wrong::Method);
    }
    match target.split('?').next() {
        Some("/metrics") => Ok(()),
        _ => Err(Wrong::Path),
    }
}

fn answer(status: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {length}\r\n\
         {more}Connection: close\r\n\r\n{body}"
    )
}

impl Source {
    async fn page(&self) -> Result<String, Closed> {
        let _one_at_a_time = self.making.lock().await;
        let mut numbers = Numbers { status: self.handle.status().await?, ..Numbers::default() };
        self.add_queues(&mut numbers).await?;
        numbers.inbox_bytes = self.handle.inbox_bytes();
        numbers.resident_bytes = resident_bytes();
        let (gauges, now) = (self.handle.gauges(), self.clock.monotonic());
        numbers.now = self.clock.wall();
        numbers.checkpoint_age = gauges.checkpoint_age(now);
        let measured = Measured {
            turns: gauges.turns.counted(),
            syncs: gauges.syncs.counted(),
            checkpoints: gauges.checkpoints.counted(),
        };
        Ok(render(&numbers, &measured))
    }

    /// Looks at all queues, a page at a time, and keeps the deepest.
    async fn add_queues(&self, numbers: &mut Numbers) -> Result<(), Closed> {
        let mut top: BinaryHeap<Reverse<Deep>> = BinaryHeap::new();
        let mut after = None;
        loop {
            let page = self.handle.queues(after).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            for queue in page {
                numbers.depth += queue.depth;
                numbers.lent += queue.lent;
                top.push(Reverse(Deep(queue)));
                if top.len() > limits::METRICS_QUEUES_MAX
                    && let Some(Reverse(Deep(other))) = top.pop()
                {
                    numbers.other_queues += 1;
                    numbers.other_depth += other.depth;
                }
            }
        }
        numbers.queues = top.into_sorted_vec().into_iter().map(|Reverse(Deep(q))| q).collect();
        // Where nothing is in memory the index knows. It waits for the disk, the page does not.
        let patience = Duration::from_millis(limits::METRICS_INDEX_MILLIS);
        let _ = timeout(patience, self.add_ages(&mut numbers.queues)).await;
        Ok(())
    }

    async fn add_ages(&self, queues: &mut [QueueInfo]) {
        let Ok(connection) = self.handle.connect() else { return };
        let unknown = queues.iter_mut().filter(|q| q.oldest.is_none() && q.depth > q.lent);
        for queue in unknown {
            if let Ok(oldest) = operator::oldest_waiting(&connection, &queue.name).await {
                queue.oldest = oldest.map(crate::ids::Millis);
            }
        }
    }
}

/// A queue, ordered by its depth and then by its name.
struct Deep(QueueInfo);

impl Deep {
    fn key(&self) -> (u64, Reverse<&str>) {
        (self.0.depth, Reverse(&self.0.name))
    }
}

impl Ord for Deep {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Deep {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Deep {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Deep {}

/// Memory of this process that lies in RAM, where the system tells.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_get_of_the_page_is_answered_with_it() {
        let check = |head: &str, expected| assert_eq!(asked(head.as_bytes()), expected, "{head:?}");
        check("GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n", Ok(()));
        check("GET /metrics?a=b HTTP/1.0\r\n\r\n", Ok(()));
        check("GET / HTTP/1.1\r\n\r\n", Err(Wrong::Path));
        check("GET /metrics/ HTTP/1.1\r\n\r\n", Err(Wrong::Path));
        check("POST /metrics HTTP/1.1\r\n\r\n", Err(Wrong::Method));
        check("HEAD /metrics HTTP/1.1\r\n\r\n", Err(Wrong::Method));
        check("GET /metrics HTTP/2\r\n\r\n", Err(Wrong::Request));
        check("GET /metrics\r\n\r\n", Err(Wrong::Request));
        check("GET /metrics HTTP/1.1\r\nHost: h\r\n", Err(Wrong::Request));
        check("CONNECT\nlogin:x\n\n\0", Err(Wrong::Request));
    }
}
