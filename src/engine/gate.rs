//! Connections that wait for the end of something long of theirs: of a large transaction, or of a
//! message to very many subscriptions.
//!
//! The end takes many steps. What the connection asks after it comes after it for everybody else
//! too, so it is not decided before: it waits here, in its order, the connection's own end
//! included. What waits keeps its share of the inbox, so a connection that sends on is slowed down.

use std::collections::{BTreeSet, VecDeque};

use crate::engine::Input;
use crate::ids::{ConnectionId, IdMap, Token};

#[derive(Debug)]
struct Gate {
    /// The requests whose answers open it, that have not come: more than one where commits that
    /// had waited for room come to their turns.
    until: BTreeSet<Token>,
    waiting: VecDeque<Input>,
}

#[derive(Debug, Default)]
pub(super) struct Gates {
    gates: IdMap<ConnectionId, Gate>,
    /// Those that have been opened, and whose inputs have not been given back.
    opened: Vec<ConnectionId>,
}

impl Gates {
    /// Nothing of this connection is decided before the answer to `until`.
    pub(super) fn shut(&mut self, connection: ConnectionId, until: Token) {
        let new = || Gate { until: BTreeSet::new(), waiting: VecDeque::new() };
        self.gates.entry(connection).or_insert_with(new).until.insert(until);
    }

    /// Gives an input back that nobody waits for, and keeps one of a connection that waits.
    pub(super) fn pass(&mut self, input: Input) -> Option<Input> {
        if self.gates.is_empty() {
            return Some(input);
        }
        let (Input::Requests(id, ..) | Input::Close(id)) = &input else { return Some(input) };
        match self.gates.get_mut(id) {
            None => Some(input),
            Some(gate) => {
                gate.waiting.push_back(input);
                None
            }
        }
    }

    /// What was asked is over.
    pub(super) fn answered(&mut self, connection: ConnectionId, token: Token) {
        let Some(gate) = self.gates.get_mut(&connection) else { return };
        if gate.until.remove(&token) && gate.until.is_empty() {
            self.opened.push(connection);
        }
    }

    pub(super) fn has_opened(&self) -> bool {
        !self.opened.is_empty()
    }

    /// Puts what has waited long enough in front of everything else.
    pub(super) fn give_back(&mut self, inputs: &mut VecDeque<Input>) {
        for id in std::mem::take(&mut self.opened) {
            // It may have been shut again since.
            if self.gates.get(&id).is_none_or(|gate| !gate.until.is_empty()) {
                continue;
            }
            let gate = self.gates.remove(&id).expect("just seen");
            for input in gate.waiting.into_iter().rev() {
                inputs.push_front(input);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_comes_in_its_order_and_before_what_came_later() {
        let (one, two) = (ConnectionId(1), ConnectionId(2));
        let mut gates = Gates::default();
        gates.shut(one, Token(5));
        let requests = |id| Input::Requests(id, VecDeque::new(), None);
        assert!(gates.pass(requests(one)).is_none());
        assert!(gates.pass(Input::Close(one)).is_none());
        assert!(gates.pass(requests(two)).is_some());
        gates.answered(one, Token(4));
        assert!(!gates.has_opened());
        gates.answered(one, Token(5));
        assert!(gates.has_opened());
        let mut inputs = VecDeque::from([requests(two)]);
        gates.give_back(&mut inputs);
        assert!(matches!(inputs.pop_front(), Some(Input::Requests(id, ..)) if id == one));
        assert!(matches!(inputs.pop_front(), Some(Input::Close(id)) if id == one));
        assert!(matches!(inputs.pop_front(), Some(Input::Requests(id, ..)) if id == two));
        assert!(gates.pass(requests(one)).is_some());
    }
}
