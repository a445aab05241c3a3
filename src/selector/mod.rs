//! Message selectors: the conditions of JMS, a subset of SQL-92, over a message's properties.
//!
//! [`Selector::parse`] makes a flat program of a text once; it is evaluated against whatever can
//! tell the value of a name ([`Subject`]). Three-valued as in SQL: what is not known does not
//! match. Always: parsing takes time in proportion to the text, which is bounded, and recursion is
//! bounded; an evaluation takes a bounded number of steps, whatever the text and the message are.
//! Knows no message: what a name means, its subject says.
//!
//! The rules of JMS for types hold: strings are compared for equality alone, values of unlike
//! types are neither equal nor unequal, numbers are 64 bits wide with Java's promotion, arithmetic
//! on what is no number is unknown. Text is never taken for a number, unless the selector begins
//! with `convert_string_expressions:`, as clients of ActiveMQ write where properties are text.
//! Three things are more than JMS asks for: names in double quotes, the remainder `%`, and
//! suffixes of numbers as Java has them.

mod ast;
mod error;
pub mod fuzz;
mod lexer;
mod like;
mod parser;
mod program;
mod value;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use program::Program;

pub use error::{Problem, SelectorError};
pub use value::Value;

/// What a selector begins with that takes text for numbers and truth values where it is compared
/// with such.
pub const CONVERT_PREFIX: &str = "convert_string_expressions:";

/// Whatever a selector is evaluated against.
pub trait Subject {
    /// The value of a name, of a header of JMS or of a property; [`Value::Null`] where there is
    /// none. Names differ by case.
    fn value(&self, name: &str) -> Value<'_>;
}

/// A condition on messages. Two that say the same in other spaces or cases are equal.
#[derive(Clone)]
pub struct Selector {
    /// As it is printed: alike for all that were parsed alike.
    text: Box<str>,
    program: Program,
}

impl Selector {
    /// What a text says.
    ///
    /// # Errors
    /// Where it is no selector: where, and what was expected there.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let (expression, converts) = parser::parse(text)?;
        let program = Program::compile(&expression, converts);
        let prefix = if converts { CONVERT_PREFIX } else { "" };
        Ok(Self { text: format!("{prefix}{expression}").into(), program })
    }

    /// The same of a text that may be blank, which asks for every message.
    ///
    /// # Errors
    /// As [`Selector::parse`].
    pub fn parse_optional(text: &str) -> Result<Option<Arc<Self>>, SelectorError> {
        let asks = !text.trim().is_empty();
        asks.then(|| Self::parse(text).map(Arc::new)).transpose()
    }

    /// Its text, in one form for all that say the same.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a message matches: the condition is true, not merely unknown. One that would take
    /// too many steps to judge does not.
    #[must_use]
    pub fn matches(&self, subject: &impl Subject) -> bool {
        self.program.run(subject) == Some(true)
    }

    /// What the condition is for a message; `None` is unknown.
    #[must_use]
    pub fn judge(&self, subject: &impl Subject) -> Option<bool> {
        self.program.run(subject)
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Selector {}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({})", self.text)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
