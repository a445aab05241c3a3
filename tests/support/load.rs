//! Clients that work a broker hard and write down in the ledger what they learn.
//!
//! Producers send with several receipts outstanding; consumers acknowledge, give back, hold on to
//! messages and break off connections. All end by themselves when the broker does.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::thread::JoinHandle;

use super::ledger::{Id, Ledger, Order};
use super::random::Random;
use super::stomp::{Frame, Stomp};

const PRODUCERS: u32 = 4;
const CONSUMERS: u32 = 3;
pub(crate) const QUEUES: [&str; 3] = ["/queue/crash.a", "/queue/crash.b", "/queue/crash.c"];

/// The name under which a drain sends its end marks.
const DRAIN_PRODUCER: u32 = 1000;

/// Whether an ERROR from the broker is a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errors {
    Violate,
    /// The broker is told to end, or its disk fails, and it may say so.
    Allowed,
}

/// How consumers behave in one life of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// They stay, and expect order.
    Steady,
    /// They break off connections and come again.
    Restless,
}

/// The clients of one life of the broker.
#[derive(Debug)]
pub(crate) struct Clients(Vec<JoinHandle<()>>);

impl Clients {
    /// Connects producers and consumers; each client's choices follow from `random`.
    pub(crate) fn start(ledger: &Arc<Ledger>, port: u16, errors: Errors, r: &mut Random) -> Self {
        let mut threads = Vec::new();
        let manner = if r.one_in(2) { Manner::Steady } else { Manner::Restless };
        for number in 0..PRODUCERS + CONSUMERS {
            let (ledger, mut random) = (Arc::clone(ledger), r.fork());
            threads.push(std::thread::spawn(move || {
                let end = if number < PRODUCERS {
                    produce(&ledger, port, number, &mut random)
                } else {
                    consume(&ledger, port, manner, &mut random)
                };
                let Err(end) = end;
                let because_of_death = is_end_of_connection(&end);
                let allowed = because_of_death || errors == Errors::Allowed;
                if !allowed || end.kind() == ErrorKind::TimedOut {
                    ledger.violation(format!("client {number} met {end} ({:?})", end.kind()));
                }
            }));
        }
        Self(threads)
    }

    /// Waits until every client has met the end of the broker.
    #[track_caller]
    pub(crate) fn join(self) {
        for thread in self.0 {
            thread.join().expect("a client panicked");
        }
    }
}

/// Reads every queue to its end with one consumer, which acknowledges everything.
///
/// The end of a queue is a mark sent into it: the broker keeps order, so all else lies before.
#[track_caller]
pub(crate) fn drain(ledger: &Ledger, port: u16) {
    for queue in QUEUES {
        let mut stomp = Stomp::connect(port, "1.2").expect("connect for the drain");
        let mark = ledger.sending(DRAIN_PRODUCER, queue);
        stomp.publish(queue, &mark.body()).expect("send the mark");
        ledger.confirmed(mark);
        stomp.subscribe("drain", queue, "client-individual").expect("subscribe for the drain");
        let mut order = Order::Kept(HashMap::new());
        let mut last = HashMap::new();
        let mut outstanding: HashMap<String, Id> = HashMap::new();
        let mut marked = false;
        while !marked || !outstanding.is_empty() {
            let frame = stomp.receive().expect("the queue up to the mark");
            if frame.command != "MESSAGE" {
                let receipt = receipt_id(&frame).expect("a receipt in the drain");
                ledger.acked(outstanding.remove(receipt).expect("a receipt that was asked for"));
                continue;
            }
            let redelivered = frame.is_redelivered();
            let id = ledger.delivered(&frame.body, queue, redelivered, &mut order);
            let Some(id) = id else { continue };
            // What came back lies at its old place: here even the redelivered come in order.
            if last.insert(id.producer, id.seq).is_some_and(|last| last >= id.seq) {
                ledger.violation(format!("{id} is out of order in the drain of {queue}"));
            }
            ledger.acking(id);
            let receipt = stomp.ask(stomp.ack_of(&frame)).expect("acknowledge in the drain");
            outstanding.insert(receipt, id);
            marked |= id == mark;
        }
        stomp.disconnect().expect("end the drain");
    }
}

fn is_end_of_connection(error: &io::Error) -> bool {
    use ErrorKind::*;
    matches!(
        error.kind(),
        UnexpectedEof | ConnectionReset | ConnectionAborted | ConnectionRefused | BrokenPipe
    )
}

/// There is no success: a client works until its connection ends.
enum Never {}

fn produce(ledger: &Ledger, port: u16, producer: u32, random: &mut Random) -> io::Result<Never> {
    let mut stomp = Stomp::connect(port, "1.2")?;
    let window = 1 + random.below(16) as usize;
    let mut outstanding: HashMap<String, Id> = HashMap::new();
    let mut writable = true;
    loop {
        while writable && outstanding.len() < window {
            let queue = QUEUES[random.below(QUEUES.len() as u64) as usize];
            let id = ledger.sending(producer, queue);
            let send = Frame::new("SEND").with("destination", queue).with("persistent", "true");
            match stomp.ask(send.body(id.body())) {
                Ok(receipt) => drop(outstanding.insert(receipt, id)),
                // Confirmations given before the end may still lie in the socket: read on.
                Err(error) if is_end_of_connection(&error) => writable = false,
                Err(error) => return Err(error),
            }
        }
        let frame = stomp.receive()?;
        let receipt = receipt_id(&frame)?;
        let id = outstanding.remove(receipt);
        ledger.confirmed(id.ok_or_else(|| io::Error::other(format!("stray {receipt}")))?);
    }
}

/// Why a consumer's connection is over without the broker's doing.
enum Break {
    Weary,
}

fn consume(ledger: &Ledger, port: u16, manner: Manner, random: &mut Random) -> io::Result<Never> {
    loop {
        let Break::Weary = consume_on_one_connection(ledger, port, manner, random)?;
    }
}

fn consume_on_one_connection(
    ledger: &Ledger,
    port: u16,
    manner: Manner,
    random: &mut Random,
) -> io::Result<Break> {
    let mut stomp = Stomp::connect(port, "1.2")?;
    let prefetch = 2 + random.below(50);
    let mut orders: HashMap<&str, Order> = HashMap::new();
    for queue in QUEUES {
        let subscribe = Frame::new("SUBSCRIBE").with("id", queue).with("destination", queue);
        let subscribe = subscribe.with("ack", "client-individual");
        let subscribe = subscribe.with("activemq.prefetchSize", &prefetch.to_string());
        stomp.confirm(subscribe)?;
        let order = match manner {
            Manner::Steady => Order::Kept(HashMap::new()),
            Manner::Restless => Order::Free,
        };
        orders.insert(queue, order);
    }
    let mut outstanding: HashMap<String, Id> = HashMap::new();
    let mut held = 0;
    loop {
        let frame = stomp.receive()?;
        if frame.command != "MESSAGE" {
            if let Some(id) = outstanding.remove(receipt_id(&frame)?) {
                ledger.acked(id);
            }
            continue;
        }
        let queue = frame.header("subscription").unwrap_or_default().to_owned();
        let order = orders.get_mut(queue.as_str());
        let order = order.ok_or_else(|| io::Error::other("a stray subscription"))?;
        let redelivered = frame.is_redelivered();
        let Some(id) = ledger.delivered(&frame.body, &queue, redelivered, order) else { continue };
        if random.one_in(16) {
            ledger.nacking();
            unless_ended(stomp.ask(stomp.nack_of(&frame)))?;
        } else if random.one_in(12) && (manner == Manner::Restless || held + 1 < prefetch) {
            held += 1;
        } else {
            ledger.acking(id);
            if let Some(receipt) = unless_ended(stomp.ask(stomp.ack_of(&frame)))? {
                outstanding.insert(receipt, id);
            }
        }
        // One who holds all its credit would wait for ever; one who breaks off gives it back.
        if manner == Manner::Restless && (held + 1 >= prefetch || random.one_in(300)) {
            return Ok(Break::Weary);
        }
    }
}

/// A write that met the end of the connection is no reason to leave unread what came before it.
fn unless_ended(written: io::Result<String>) -> io::Result<Option<String>> {
    match written {
        Ok(receipt) => Ok(Some(receipt)),
        Err(error) if is_end_of_connection(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn receipt_id(frame: &Frame) -> io::Result<&str> {
    match (frame.command.as_str(), frame.header("receipt-id")) {
        ("RECEIPT", Some(id)) => Ok(id),
        _ => Err(io::Error::other(format!("{}: {:?}", frame.command, frame.headers))),
    }
}
