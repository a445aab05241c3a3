//! What a client wants of what a queue holds, as a selector and as the model sees it.

use crate::selector::Selector;

use super::random::Random;

/// A condition on the numbers of messages, or on their priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taste {
    /// Numbers with this remainder.
    Number { modulus: u64, rest: u64 },
    /// Priorities from this one on, or those below.
    Urgent { least: u8, negated: bool },
}

impl Taste {
    pub(super) fn any(random: &mut Random) -> Self {
        let parts = Self::parts(random);
        parts[random.below(parts.len() as u64) as usize]
    }

    /// Some that together leave nothing out.
    pub(super) fn parts(random: &mut Random) -> Vec<Self> {
        if random.one_in(3) {
            let least = 4 + random.below(3) as u8;
            return [false, true].map(|negated| Self::Urgent { least, negated }).into();
        }
        let modulus = 2 + random.below(2);
        (0..modulus).map(|rest| Self::Number { modulus, rest }).collect()
    }

    pub(super) fn wants(self, number: u64, priority: u8) -> bool {
        match self {
            Self::Number { modulus, rest } => number % modulus == rest,
            Self::Urgent { least, negated } => (priority >= least) != negated,
        }
    }

    pub(super) fn selector(self) -> Selector {
        let text = match self {
            Self::Number { modulus, rest } => {
                format!("convert_string_expressions:number % {modulus} = {rest}")
            }
            Self::Urgent { least, negated: false } => format!("JMSPriority >= {least}"),
            Self::Urgent { least, negated: true } => format!("NOT JMSPriority >= {least}"),
        };
        Selector::parse(&text).expect("well formed")
    }
}
