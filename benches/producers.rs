//! A hundred synchronous producers against one: what group commit gains.
//!
//! A: one producer sends 1 KiB, persistent, and waits for each receipt. B: a hundred do, each on
//! its own connection. Both from one thread, over loopback, to one broker.

mod support;

use support::cpu::CpuTimes;
use support::crowd::Crowd;
use support::process::{broker::Broker, fresh_dir};
use support::report::{Goal, Series, figures, headline, verdict};
use support::{Size, wait_for_room_ahead};

const MANY: usize = 100;

pub(crate) fn main() {
    let Some(size) = Size::asked("producers") else { return };
    let dir = fresh_dir();
    let broker = Broker::start(&dir.path().join("data"));
    let (mut one, mut many) = (Side::connect(&broker, 1), Side::connect(&broker, MANY));
    wait_for_room_ahead(broker.data());
    for _ in 0..size.rounds {
        one.round(&broker, size);
        many.round(&broker, size);
    }
    headline("producers: a hundred, each message confirmed before its next", size.rounds);
    figures("A: one producer", "messages/s", &one.rate);
    figures("B: a hundred producers", "messages/s", &many.rate);
    verdict("B / A", &many.rate.per(&one.rate), Goal::AtLeast(10.0));
    one.print_cpu("A");
    many.print_cpu("B");
}

/// One side of the comparison.
#[derive(Debug)]
struct Side {
    crowd: Crowd,
    rate: Series,
    messages: usize,
    broker_cpu: CpuTimes,
    own_cpu: CpuTimes,
}

impl Side {
    fn connect(broker: &Broker, producers: usize) -> Self {
        Self {
            crowd: Crowd::connect(broker.port(), producers),
            rate: Series::default(),
            messages: 0,
            broker_cpu: CpuTimes::default(),
            own_cpu: CpuTimes::default(),
        }
    }

    fn round(&mut self, broker: &Broker, size: Size) {
        let (theirs, own) = (CpuTimes::of(broker.pid()), CpuTimes::of(std::process::id()));
        let done = self.crowd.produce(size.turn);
        self.broker_cpu.add(&CpuTimes::of(broker.pid()).since(&theirs));
        self.own_cpu.add(&CpuTimes::of(std::process::id()).since(&own));
        self.rate.push(done.rate());
        self.messages += done.messages;
    }

    fn print_cpu(&self, side: &str) {
        self.broker_cpu.print(&format!("{side}: the broker"), self.messages);
        self.own_cpu.print(&format!("{side}: the producers"), self.messages);
    }
}
