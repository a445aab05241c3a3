//! How much of what a client has said has come.
//!
//! A client that comes back says again what it has of its transactions: all but acknowledgements.
//! One that was lost with the old connection leaves a gap in the numbers of its commands.

use std::collections::BTreeMap;

/// Gaps that are remembered; of more the lowest are one.
const GAPS_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Said {
    last: i32,
    /// Numbers below the last that have not come: the first of some, and the last of these.
    /// Several threads of a client say something at once, so the next may come before this one.
    gaps: BTreeMap<i32, i32>,
    /// It has come back, and has said nothing yet that it can say for the first time only: an
    /// acknowledgement.
    pub(super) again: bool,
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
