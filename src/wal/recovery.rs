//! What recovery makes of the bytes where a batch may begin: one table, and nothing else.
//!
//! The same table stands in `wal-format.md`. Exactly one row matches every possible combination;
//! a combination that cannot arise is a programmer's error.

use crate::wal::damage::Corruption;

/// What was found at the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A header with a good checksum.
    Good,
    /// A header of this place that is not whole.
    Broken,
    /// Zeros, or bytes that have nothing to do with the place.
    Blank,
}

/// Everything a verdict rests on. What cannot be known is `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    /// The header.
    pub head: Head,
    /// The header's own epoch, Lsn and length are those of the place.
    pub place_fits: bool,
    /// It follows the batch before it.
    pub chain_fits: bool,
    /// Every frame's head and record is whole, and they are the batch's.
    pub structure: bool,
    /// Every frame's payload is whole.
    pub payload: bool,
    /// The place is known to have been durable: inside a sealed length, or before a durable mark,
    /// wherever that mark stands.
    pub covered: bool,
    /// The first batch of the next segment of the same owner follows the batch before this place.
    pub linked: bool,
}

/// What becomes of the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The batch is part of the log.
    Accept,
    /// The batch is part of the log; each message whose payload is bad is lost.
    AcceptDamaged,
    /// The log goes on in the next segment.
    Roll,
    /// The log ends here; nothing was being written.
    End,
    /// The log ends here; what was being written was never confirmed.
    Torn,
    /// What was confirmed is not there: the start is refused.
    Corrupt(Corruption),
}

/// A row: `None` matches either.
struct Row {
    head: Head,
    place: Option<bool>,
    chain: Option<bool>,
    structure: Option<bool>,
    payload: Option<bool>,
    covered: Option<bool>,
    linked: Option<bool>,
    verdict: Verdict,
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);
const ANY: Option<bool> = None;

#[rustfmt::skip]
const ROWS: [Row; 15] = {
    use Corruption as C;
    use Head::{Blank, Broken, Good};
    use Verdict::{Accept, AcceptDamaged, Corrupt, End, Roll, Torn};
    [
        //  head    place chain struct payl. cover. linked
        row(Good,   YES,  YES,  YES,   YES,  ANY,   NO,   Accept),
        row(Good,   YES,  YES,  YES,   NO,   YES,   NO,   AcceptDamaged),
        row(Good,   YES,  YES,  YES,   NO,   NO,    NO,   Torn),
        row(Good,   YES,  YES,  NO,    NO,   YES,   NO,   Corrupt(C::Structure)),
        row(Good,   YES,  YES,  NO,    NO,   NO,    NO,   Torn),
        row(Good,   YES,  NO,   NO,    NO,   YES,   NO,   Corrupt(C::Chain)),
        row(Good,   YES,  NO,   NO,    NO,   NO,    NO,   Torn),
        row(Good,   NO,   NO,   NO,    NO,   YES,   NO,   Corrupt(C::Position)),
        row(Good,   NO,   NO,   NO,    NO,   NO,    NO,   Torn),
        row(Broken, NO,   NO,   NO,    NO,   YES,   NO,   Corrupt(C::Header)),
        row(Broken, NO,   NO,   NO,    NO,   NO,    NO,   Torn),
        row(Blank,  NO,   NO,   NO,    NO,   YES,   NO,   Corrupt(C::Header)),
        row(Blank,  NO,   NO,   NO,    NO,   NO,    NO,   End),
        // A mark in the next segment covers the place too: the link says that the log left it.
        row(Blank,  NO,   NO,   NO,    NO,   ANY,   YES,  Roll),
        // Not even a look-alike, left there by an earlier life of the file, can stop it.
        row(Broken, NO,   NO,   NO,    NO,   ANY,   YES,  Roll),
    ]
};

#[expect(clippy::too_many_arguments, reason = "a row of a table, one column each")]
const fn row(
    head: Head,
    place: Option<bool>,
    chain: Option<bool>,
    structure: Option<bool>,
    payload: Option<bool>,
    covered: Option<bool>,
    linked: Option<bool>,
    verdict: Verdict,
) -> Row {
    Row { head, place, chain, structure, payload, covered, linked, verdict }
}

impl Row {
    fn matches(&self, signs: &Signs) -> bool {
        let cell = |want: Option<bool>, have: bool| want.is_none_or(|want| want == have);
        self.head == signs.head
            && cell(self.place, signs.place_fits)
            && cell(self.chain, signs.chain_fits)
            && cell(self.structure, signs.structure)
            && cell(self.payload, signs.payload)
            && cell(self.covered, signs.covered)
            && cell(self.linked, signs.linked)
    }
}

impl Signs {
    /// Whether nothing needs to be looked for elsewhere: the batch is good whatever follows.
    pub(crate) fn good(&self) -> bool {
        self.head == Head::Good && self.payload
    }

    /// Whether the signs can stand together: each is looked for only where the one before it was
    /// found, and a link only where there is no header.
    fn possible(&self) -> bool {
        (self.head == Head::Good || !self.place_fits)
            && (self.place_fits || !self.chain_fits)
            && (self.chain_fits || !self.structure)
            && (self.structure || !self.payload)
            && (self.head != Head::Good || !self.linked)
    }

    /// The one row's verdict.
    ///
    /// # Panics
    ///
    /// On signs that cannot stand together: the caller's error, never the disk's.
    pub fn verdict(&self) -> Verdict {
        assert!(self.possible(), "impossible signs: {self:?}");
        let mut matching = ROWS.iter().filter(|row| row.matches(self));
        let verdict = matching.next().map(|row| row.verdict);
        assert!(matching.next().is_none(), "two rows for {self:?}");
        verdict.unwrap_or_else(|| panic!("no row for {self:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_combination() -> impl Iterator<Item = Signs> {
        [Head::Good, Head::Broken, Head::Blank].into_iter().flat_map(|head| {
            (0..64u32).map(move |bits| {
                let bit = |n: u32| bits >> n & 1 == 1;
                let (place_fits, chain_fits, structure) = (bit(0), bit(1), bit(2));
                let (payload, covered, linked) = (bit(3), bit(4), bit(5));
                Signs { head, place_fits, chain_fits, structure, payload, covered, linked }
            })
        })
    }

    #[test]
    fn every_possible_combination_has_exactly_one_row_and_every_row_is_reached() {
        let mut reached = [0; ROWS.len()];
        for signs in every_combination().filter(Signs::possible) {
            signs.verdict();
            let row = ROWS.iter().position(|row| row.matches(&signs)).expect("verdict found it");
            reached[row] += 1;
        }
        assert!(reached.iter().all(|count| *count > 0), "{reached:?}");
    }

    #[test]
    fn impossible_combinations_match_no_row() {
        for signs in every_combination().filter(|signs| !signs.possible()) {
            assert!(!ROWS.iter().any(|row| row.matches(&signs)), "{signs:?}");
        }
    }

    #[test]
    fn the_table_of_the_format_page_is_this_one() {
        let page = include_str!("../../wal-format.md");
        let cell = |cell: Option<bool>| match cell {
            Some(true) => "yes",
            Some(false) => "no",
            None => "any",
        };
        let mut shown = String::new();
        for row in &ROWS {
            let cells = [row.place, row.chain, row.structure, row.payload, row.covered, row.linked];
            let cells = cells.map(cell).join(" | ");
            shown += &format!("| {:?} | {cells} | {:?} |\n", row.head, row.verdict);
        }
        assert!(page.contains(&shown), "the page should show:\n{shown}");
    }

    #[test]
    fn nothing_durable_is_ever_dropped_and_nothing_else_refuses_the_start() {
        for signs in every_combination().filter(Signs::possible) {
            match signs.verdict() {
                Verdict::End | Verdict::Torn => assert!(!signs.covered, "{signs:?}"),
                Verdict::Corrupt(_) | Verdict::AcceptDamaged => assert!(signs.covered, "{signs:?}"),
                Verdict::Accept => assert!(signs.good(), "{signs:?}"),
                Verdict::Roll => assert!(signs.linked, "{signs:?}"),
            }
        }
    }
}
