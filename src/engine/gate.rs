//! Connections that wait: for the end of something long of theirs (of a large transaction, or of a
//! message to very many subscriptions), or for what is read of a producer of theirs.
//!
//! The end takes many steps, and the reading goes on beside the engine. What the connection asks
//! after it comes after it for everybody else too, so it is not decided before: it waits here, in
//! its order, the connection's own end included. What waits keeps its share of the inbox, so a
//! connection that sends on is slowed down.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::engine::Input;
use crate::identity::Identity;
use crate::ids::{ConnectionId, IdMap, Token};

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Until {
    /// The answer to this request of it.
    Answered(Token),
    /// This producer is read, or found to be nowhere.
    Found(Identity),
}

#[derive(Debug)]
struct Gate {
    /// What has to come before it opens: more than one thing where commits that had waited for
    /// room come to their turns.
    until: BTreeSet<Until>,
    waiting: VecDeque<Input>,
}

#[derive(Debug, Default)]
pub(super) struct Gates {
    gates: IdMap<ConnectionId, Gate>,
    /// Who waits for these producers, in the order in which they are to go on.
    seekers: BTreeMap<Identity, Vec<ConnectionId>>,
    /// Those that have been opened, and whose inputs have not been given back.
    opened: Vec<ConnectionId>,
}

impl Gates {
    /// Nothing of this connection is decided before this.
    pub(super) fn shut(&mut self, connection: ConnectionId, until: Until) {
        if let Until::Found(producer) = until {
            self.seekers.entry(producer).or_default().push(connection);
        }
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
        self.came(connection, Until::Answered(token));
    }

    /// It is known what was seen of this producer.
    pub(super) fn found(&mut self, producer: Identity) {
        for connection in self.seekers.remove(&producer).unwrap_or_default() {
            self.came(connection, Until::Found(producer));
        }
    }

    fn came(&mut self, connection: ConnectionId, until: Until) {
        let Some(gate) = self.gates.get_mut(&connection) else { return };
        if gate.until.remove(&until) && gate.until.is_empty() {
            self.opened.push(connection);
        }
    }

    pub(super) fn has_opened(&self) -> bool {
        !self.opened.is_empty()
    }

    /// Puts what has waited long enough in front of everything else, in the order in which the
    /// gates were opened.
    pub(super) fn give_back(&mut self, inputs: &mut VecDeque<Input>) {
        for id in std::mem::take(&mut self.opened).into_iter().rev() {
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
        gates.shut(one, Until::Answered(Token(5)));
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

    #[test]
    fn all_that_seek_a_producer_go_on_in_their_order_once_it_is_found() {
        let (one, two, other) = (ConnectionId(1), ConnectionId(2), ConnectionId(3));
        let (sought, another) = (Identity([1; 16]), Identity([2; 16]));
        let mut gates = Gates::default();
        gates.shut(two, Until::Found(sought));
        gates.shut(one, Until::Found(sought));
        gates.shut(other, Until::Found(another));
        let requests = |id| Input::Requests(id, VecDeque::new(), None);
        for id in [one, two, other] {
            assert!(gates.pass(requests(id)).is_none());
        }
        gates.found(sought);
        let mut inputs = VecDeque::from([requests(ConnectionId(4))]);
        gates.give_back(&mut inputs);
        let given = inputs.iter().map(|input| match input {
            Input::Requests(id, ..) => id.0,
            other => panic!("{other:?}"),
        });
        assert_eq!(given.collect::<Vec<_>>(), [2, 1, 4]);
        assert!(gates.pass(requests(other)).is_none());
    }
}
