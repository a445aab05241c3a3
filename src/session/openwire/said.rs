//! How much of what a client has said has come.
//!
//! A client that comes back says again what it has of its transactions: all but acknowledgements.
//! One that was lost with the old connection leaves a gap in the numbers of its commands. What it
//! says again comes first, but nothing says where that ends.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::limits;

/// Gaps that are remembered; of more the lowest are one.
const GAPS_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Said {
    last: i32,
    /// Numbers below the last that have not come: the first of some, and the last of these.
    /// Several threads of a client say something at once, so the next may come before this one.
    gaps: BTreeMap<i32, i32>,
    again: Option<Again>,
}

/// A client that has come back says its sessions first, then what it has of each transaction, then
/// what awaits an answer; all at once.
#[derive(Debug, Default)]
struct Again {
    /// Since it was first heard so. Not before: it may have waited long to be let in.
    since: Option<Duration>,
    /// It would have said its branches by now.
    late: bool,
    /// It has begun transactions.
    transactions: bool,
}

impl Said {
    /// A command has come.
    pub(super) fn note(&mut self, number: i32) {
        if number > self.last {
            if number > self.last.saturating_add(1) {
                self.gaps.insert(self.last + 1, number - 1);
            }
            self.last = number;
        } else if let Some((&first, &last)) = self.gaps.range(..=number).next_back()
            && number <= last
        {
            self.gaps.remove(&first);
            if first < number {
                self.gaps.insert(first, number - 1);
            }
            if number < last {
                self.gaps.insert(number + 1, last);
            }
        }
        if self.gaps.len() > GAPS_MAX
            && let Some((first, _)) = self.gaps.pop_first()
            && let Some((_, last)) = self.gaps.pop_first()
        {
            self.gaps.insert(first, last);
        }
    }

    /// The client has said who it is, and whether it has come back.
    pub(super) fn opened(&mut self, again: bool) {
        self.again = again.then(Again::default);
    }

    /// So late it is when something is heard.
    pub(super) fn pass(&mut self, now: Duration) {
        if let Some(again) = &mut self.again {
            let since = *again.since.get_or_insert(now);
            let passed = now.saturating_sub(since);
            again.late |= passed >= limits::OPENWIRE_AGAIN;
            if passed >= limits::OPENWIRE_AGAIN_MAX {
                self.again = None;
            }
        }
    }

    /// A branch may have begun before.
    pub(super) fn may_go_on(&self) -> bool {
        self.again.as_ref().is_some_and(|again| !again.late)
    }

    /// What the client says may have been said before.
    pub(super) fn is_again(&self) -> bool {
        self.again.is_some()
    }

    /// Something came that is never said again where it was heard: what comes next is new.
    pub(super) fn is_new(&mut self) {
        self.again = None;
    }

    /// It has a session.
    pub(super) fn session(&mut self) {
        self.again.take_if(|again| again.transactions);
    }

    /// It begins a transaction.
    pub(super) fn began(&mut self) {
        if let Some(again) = &mut self.again {
            again.transactions = true;
        }
    }

    /// Whether everything has come since that command.
    pub(super) fn is_whole(&self, since: i32) -> bool {
        self.gaps.last_key_value().is_none_or(|(_, last)| *last < since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_whole_when_all_has_come_in_whatever_order() {
        let mut said = Said::default();
        [7, 9].into_iter().for_each(|number| said.note(number));
        assert!(!said.is_whole(7) && said.is_whole(9));
        said.note(8);
        assert!(said.is_whole(7) && !said.is_whole(6));
        [3, 5, 20].into_iter().for_each(|number| said.note(number));
        assert!(!said.is_whole(9) && said.is_whole(20));
        (10..20).rev().for_each(|number| said.note(number));
        assert!(said.is_whole(7) && !said.is_whole(4));
        [4, 6, 1, 2].into_iter().for_each(|number| said.note(number));
        assert!(said.is_whole(1) && said.gaps.is_empty());
    }

    #[test]
    fn what_comes_is_new_once_it_cannot_have_been_said_before() {
        let opened = Duration::from_secs(100);
        let back = || {
            let mut said = Said::default();
            said.opened(true);
            said.pass(opened);
            said.session();
            said.began();
            assert!(said.is_again() && said.may_go_on());
            said
        };
        let mut said = back();
        said.pass(opened + limits::OPENWIRE_AGAIN - Duration::from_millis(1));
        assert!(said.may_go_on());
        said.pass(opened + limits::OPENWIRE_AGAIN);
        assert!(!said.may_go_on() && said.is_again());
        // Sessions are said again before transactions.
        let mut said = back();
        said.session();
        assert!(!said.is_again());
        let mut said = back();
        said.is_new();
        assert!(!said.is_again());
        said.opened(false);
        assert!(!said.is_again());
        let mut said = back();
        said.pass(opened + limits::OPENWIRE_AGAIN_MAX);
        assert!(!said.is_again());
    }

    #[test]
    fn however_many_gaps_there_are_few_are_remembered_and_the_last_as_they_are() {
        let mut said = Said::default();
        (1..1000).for_each(|number| said.note(2 * number));
        assert!(said.gaps.len() <= GAPS_MAX && !said.is_whole(1990) && said.is_whole(1998));
        (1..1000).for_each(|number| said.note(2 * number - 1));
        assert!(said.is_whole(1990) && said.gaps.len() == 1, "what is one now stays");
    }

    #[test]
    fn a_number_that_makes_no_sense_does_no_harm() {
        let mut said = Said::default();
        [i32::MAX, i32::MIN, 0, -1, i32::MAX, 5].into_iter().for_each(|number| said.note(number));
        assert!(!said.is_whole(5) && said.is_whole(i32::MAX));
    }
}
