//! Looking ahead: what the next sends are about is brought near before the first is decided.
//!
//! With very many queues nearly all of the time of a send goes by while the processor waits for the
//! memory of its queue: first for its name, then for the queue, then for its changes. Of several
//! sends it waits for these at the same time, if it is asked so. Changes nothing, and decides
//! nothing.

use std::hint::black_box;

use crate::broker::Broker;
use crate::broker::command::Command;
use crate::ids::QueueId;
use crate::limits;
use crate::message::Destination;

impl Broker {
    /// Looks at the queues of the first of these commands; at how many commands.
    pub fn look_ahead<'a>(&self, commands: impl Iterator<Item = &'a Command>) -> usize {
        let mut ids = [None::<QueueId>; limits::SENDS_AHEAD];
        let mut count = 0;
        for (id, command) in ids.iter_mut().zip(commands) {
            count += 1;
            if let Command::Send { to: Destination::Queue(name), .. } = command.bare() {
                *id = self.names.get(name).copied();
            }
        }
        let ids = ids.iter().flatten();
        let queues = ids.clone().filter_map(|id| self.queues.get(id));
        black_box(queues.map(|queue| queue.look()).fold(0, u64::wrapping_add));
        let changes = ids.map(|id| self.durable.delta.entries.look(*id));
        black_box(changes.fold(0, u64::wrapping_add));
        count
    }
}
