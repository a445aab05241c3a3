//! The newest payloads, so that a message that is consumed soon is never read from the disk.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::ids::Lsn;

/// Payloads by birth, the oldest going first when the bound is reached.
#[derive(Debug)]
pub(crate) struct Cache {
    /// In the order they came, which is the order of positions: found by halving, without a table.
    payloads: VecDeque<(Lsn, Bytes)>,
    bytes: usize,
    bytes_max: usize,
}

/// What an entry costs beside its payload, roughly: its slot and an allocation.
const OVERHEAD: usize = 128;

impl Cache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        // As many as there may ever be: a ring that grows copies all of itself within one turn.
        let payloads = VecDeque::with_capacity(bytes_max / OVERHEAD + 1);
        Self { payloads, bytes: 0, bytes_max }
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn put(&mut self, birth: Lsn, payload: Bytes) {
        let last = self.payloads.back().map(|(last, _)| *last);
        assert!(last.is_none_or(|last| last < birth), "{birth} comes after {last:?}");
        self.bytes += payload.len() + OVERHEAD;
        self.payloads.push_back((birth, payload));
        while self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.payloads.pop_front() else { break };
            self.bytes -= oldest.len() + OVERHEAD;
        }
    }

    pub(crate) fn get(&self, birth: Lsn) -> Option<&Bytes> {
        // What a backlog brings up is older than all of them.
        if self.payloads.front().is_none_or(|(oldest, _)| birth < *oldest) {
            return None;
        }
        let at = self.payloads.binary_search_by_key(&birth, |(birth, _)| *birth).ok()?;
        Some(&self.payloads[at].1)
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
