//! Connections that wait for the end of a large transaction of theirs.
//!
//! Its end takes many steps. What the connection asks after it comes after it for everybody else
//! too, so it is not decided before: it waits here, in its order, the connection's own end
//! included. What waits keeps its share of the inbox, so a connection that sends on is slowed down.

use std::collections::VecDeque;

use crate::engine::Input;
use crate::ids::{ConnectionId, IdMap, Token};

#[derive(Debug)]
struct Gate {
    /// The request whose answer opens it; `None` once it has come.
    until: Option<Token>,
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
        let gate = Gate { until: Some(until), waiting: VecDeque::new() };
        let before = self.gates.insert(connection, gate);
        assert!(before.is_none(), "a connection that waits asks for nothing");
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

    /// An answer leaves.
    pub(super) fn answered(&mut self, connection: ConnectionId, token: Token) {
        let gate = self.gates.get_mut(&connection).filter(|gate| gate.until == Some(token));
        if let Some(gate) = gate {
            gate.until = None;
            self.opened.push(connection);
        }
    }

    pub(super) fn has_opened(&self) -> bool {
        !self.opened.is_empty()
    }

    /// Puts what has waited long enough in front of everything else.
    pub(super) fn give_back(&mut self, inputs: &mut VecDeque<Input>) {
        for id in self.opened.drain(..) {
            let gate = self.gates.remove(&id).expect("opened once");
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
        let mut inputs = VecDeque::from([requests(two)]);
        gates.give_back(&mut inputs);
        assert!(matches!(inputs.pop_front(), Some(Input::Requests(id, ..)) if id == one));
        assert!(matches!(inputs.pop_front(), Some(Input::Close(id)) if id == one));
        assert!(matches!(inputs.pop_front(), Some(Input::Requests(id, ..)) if id == two));
        assert!(gates.pass(requests(one)).is_some());
    }
}
