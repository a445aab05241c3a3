//! Ten thousand queues against ten: what a broker with very many queues loses, and what each costs
//! while nothing is in it.
//!
//! A: a thousand persistent sends of 1 KiB outstanding at the engine in this process, to ten
//! queues in turn. B: to ten thousand. Then so many more queues come into being and stay empty.

mod support;

use std::time::Duration;

use escrowmq::broker::command::{Command, Confirm, Output, Request};
use escrowmq::engine::{NO_TOKEN, Running, Settings};
use escrowmq::ids::SubscriptionId;
use escrowmq::message::Destination;
use support::cpu::CpuTimes;
use support::engine::{Producer, open};
use support::memory::anonymous;
use support::process::fresh_dir;
use support::report::{Goal, Series, figures, headline, hold_all};
use support::{Size, wait_for_room_ahead};

const FEW: usize = 10;
const MANY: usize = 10_000;
const OUTSTANDING: usize = 1000;

pub(crate) fn main() {
    let Some(size) = Size::asked("queues") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(measure(size));
}

async fn measure(size: Size) {
    let dir = fresh_dir();
    let data = dir.path().join("data");
    let running = open(&data, &Settings::default());
    wait_for_room_ahead(&data);
    let names = |what: &str, count| (0..count).map(|n| format!("{what}.{n}")).collect::<Vec<_>>();
    let count = if size.is_full() { MANY } else { 100 };
    let idle_bytes = idle(&running, &names("idle", count)).await;
    let (few, many) = (names("few", FEW), names("many", count));
    let mut few = producer(&running, &few);
    let mut many = producer(&running, &many);
    // The queues come into being before anything is measured.
    many.produce(size.turn).await;
    let (mut a, mut b) = (Series::default(), Series::default());
    let (mut to_few, mut to_many) = (Used::default(), Used::default());
    for _ in 0..size.rounds {
        a.push(to_few.by(&mut few, size.turn).await);
        b.push(to_many.by(&mut many, size.turn).await);
    }
    running.handle().stop();
    running.join().expect("a clean end");
    headline("queues: a thousand persistent sends under way", size.rounds);
    figures("A: to 10 queues", "messages/s", &a);
    figures(&format!("B: to {count} queues"), "messages/s", &b);
    to_few.cpu.print("A", to_few.messages);
    to_many.cpu.print("B", to_many.messages);
    hold_all(&[
        ("B / A", "ratio", b.per(&a), Goal::AtLeast(0.8)),
        ("memory of an idle queue", "bytes", Series::of(idle_bytes), Goal::AtMost(1024.0)),
    ]);
}

/// What one side has had of the processor.
#[derive(Default)]
struct Used {
    cpu: CpuTimes,
    messages: usize,
}

impl Used {
    /// Lets a producer produce; its rate.
    async fn by(&mut self, producer: &mut Producer, turn: Duration) -> f64 {
        let before = CpuTimes::of(std::process::id());
        let done = producer.produce(turn).await;
        self.cpu.add(&CpuTimes::of(std::process::id()).since(&before));
        self.messages += done.messages;
        done.rate()
    }
}

fn producer(running: &Running, queues: &[String]) -> Producer {
    let names: Vec<&str> = queues.iter().map(String::as_str).collect();
    Producer::new(running, &names, OUTSTANDING)
}

/// Makes queues in which nothing is; bytes of memory for each.
async fn idle(running: &Running, queues: &[String]) -> f64 {
    let connection = running.handle().connect().expect("a connection");
    let mut outputs = Vec::new();
    let before = anonymous();
    for queue in queues {
        let subscription = SubscriptionId(1);
        let from = Destination::Queue(queue.as_str().into());
        let commands = [
            Command::Subscribe { subscription, from, prefetch: 1, selector: None },
            Command::Unsubscribe { subscription },
        ];
        for command in commands {
            let request = Request { token: NO_TOKEN, confirm: Confirm::Always, command };
            connection.submit(vec![request]).await.expect("the engine runs");
            connection.receive(&mut outputs).await.expect("the engine runs");
            for output in outputs.drain(..) {
                assert!(matches!(output, Output::Answer { result: Ok(_), .. }), "{output:?}");
            }
        }
    }
    (anonymous() - before) / queues.len() as f64
}
