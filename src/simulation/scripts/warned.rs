//! What an operator hears when names and producers are forgotten before their time: from then on
//! something may be there twice, and nobody else would ever tell.

use std::io;
use std::sync::{Arc, Mutex};

use crate::broker::Limits;
use crate::broker::command::{Command, Once};
use crate::engine::Settings;
use crate::identity::{Identity, Numbered};
use crate::ids::Millis;
use crate::io::sim::SimDisk;
use crate::limits;

use super::play::{Actor, NOW, send};
use crate::simulation::node::settings;

const NAMES: &str = "ids against duplicates were forgotten before their time";
const PRODUCERS: &str = "producers that may come back were forgotten";

/// What was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many were forgotten, by each line that says so.
fn told(lines: &Lines, what: &str) -> Vec<u64> {
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let lines = text.lines().filter(|line| line.contains("WARN") && line.contains(what));
    let forgotten = lines.filter_map(|line| line.split_once("forgotten=")?.1.split(' ').next());
    forgotten.map(|number| number.parse().unwrap()).collect()
}

/// What is told of names and of producers, in time, and how many of each were forgotten early; of
/// 40 messages with a name each, and 40 of a producer each.
fn forgets(limits: Limits) -> ([Vec<u64>; 2], [u64; 2]) {
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    let counts = tracing::subscriber::with_default(log.finish(), || {
        let settings = Settings { limits, ..settings() };
        let mut actor = Actor::open_with(&SimDisk::new(), &settings).unwrap();
        for number in 1..=40 {
            let id = Identity::of(&[number as u8]);
            let named = Once::send(id, send(0, number, true));
            let producer = Numbered { producer: id, sequence: 1 };
            let numbered = Once::numbered(producer, send(1, 100 + number, true));
            for once in [named, numbered] {
                actor.leave(Command::Once(once));
                actor.node.rest(NOW);
            }
        }
        // All that came after the first is told a minute later.
        actor.node.rest(Millis(NOW.0 + limits::WARNING_QUIET_MILLIS));
        let broker = actor.node.engine.broker();
        [broker.name_counts().forgotten_early, broker.producer_counts().forgotten_early]
    });
    ([told(&lines, NAMES), told(&lines, PRODUCERS)], counts)
}

#[test]
fn what_is_forgotten_before_its_time_is_counted_and_an_operator_warned_of_all_of_it() {
    let producers_bytes = 4 * (limits::PRODUCER_BYTES + 16);
    let small = Limits { names_per_scope: 16, producers_bytes, ..settings().limits };
    let (told, counts) = forgets(small);
    for (told, count) in told.iter().zip(counts) {
        assert!(count > 20, "{count} were forgotten");
        assert_eq!(told.iter().sum::<u64>(), count, "{told:?}");
        assert_eq!(told.len(), 2, "at once, and in one line for the rest: {told:?}");
    }
}

#[test]
fn an_operator_is_warned_of_nothing_where_there_is_room() {
    assert_eq!(forgets(settings().limits), ([vec![], vec![]], [0, 0]));
}
