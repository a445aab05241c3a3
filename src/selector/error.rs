//! Why a text is no selector.

use crate::limits;

/// A text that is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the selector is not understood at character {at}: {problem}")]
pub struct SelectorError {
    /// Where, in characters from 1; one behind the last is the end.
    pub at: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Something else should stand there.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// A string or a quoted name has no end.
    #[error("this quote is never closed")]
    Unclosed,
    /// A character that begins nothing.
    #[error("{0:?} has no meaning here")]
    Character(char),
    /// Digits that are no number, or one that is too large.
    #[error("{0}")]
    Number(&'static str),
    /// A value of a kind that cannot stand there.
    #[error("{wanted} is needed here, and this is {is}")]
    Kind {
        /// What can.
        wanted: &'static str,
        /// What it is.
        is: &'static str,
    },
    /// More parts inside each other than are taken.
    #[error("its parts are nested too deeply, {} levels at most", limits::SELECTOR_NESTING_MAX)]
    Deep,
    /// A longer text than is taken.
    #[error("it is too long, {} bytes at most", limits::SELECTOR_BYTES_MAX)]
    Long,
    /// More values in a list than are taken.
    #[error("its list is too long, {} values at most", limits::SELECTOR_LIST_MAX)]
    List,
    /// More names than are taken.
    #[error("it has too many names, {} at most", limits::SELECTOR_NAMES_MAX)]
    Names,
    /// An escape that is not one character, or that escapes nothing.
    #[error("{0}")]
    Escape(&'static str),
    /// A condition on bodies.
    #[error("{0} looks into bodies, which this broker never does; select by properties")]
    Body(&'static str),
}

impl SelectorError {
    pub(super) fn new(at: usize, problem: Problem) -> Self {
        Self { at, problem }
    }
}
