//! The newest payloads, so that a message that is consumed soon is never read from the disk.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use crate::ids::Lsn;

/// Payloads by birth, the oldest going first when the bound is reached.
#[derive(Debug)]
pub(crate) struct Cache {
    payloads: HashMap<Lsn, Bytes>,
    /// In the order they came, which is the order of positions.
    order: VecDeque<Lsn>,
    bytes: usize,
    bytes_max: usize,
}

/// What an entry costs beside its payload, roughly: two table slots and an allocation.
const OVERHEAD: usize = 128;

impl Cache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { payloads: HashMap::new(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    pub(crate) fn put(&mut self, birth: Lsn, payload: Bytes) {
        self.bytes += payload.len() + OVERHEAD;
        self.payloads.insert(birth, payload);
        self.order.push_back(birth);
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(payload) = self.payloads.remove(&oldest) {
                self.bytes -= payload.len() + OVERHEAD;
            }
        }
    }

    pub(crate) fn get(&self, birth: Lsn) -> Option<&Bytes> {
        self.payloads.get(&birth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_payloads_go_when_the_bound_is_reached() {
        let mut cache = Cache::new(3 * (OVERHEAD + 10));
        for at in 1..=4 {
            cache.put(Lsn(at), Bytes::from(vec![0; 10]));
        }
        assert!(cache.get(Lsn(1)).is_none());
        assert!((2..=4).all(|at| cache.get(Lsn(at)).is_some()));
    }
}
