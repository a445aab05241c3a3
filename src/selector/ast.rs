//! The parts of a selector as a tree, and how a tree is written.
//!
//! Always: what is written reads back as the same tree.

use std::fmt;

use super::value::{Arithmetic, Comparison};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    Literal(Literal),
    Name(Box<str>),
    /// Two at least.
    Or(Vec<Expression>),
    /// Two at least.
    And(Vec<Expression>),
    Not(Box<Expression>),
    Negate(Box<Expression>),
    Compare(Comparison, Box<(Expression, Expression)>),
    Arithmetic(Arithmetic, Box<(Expression, Expression)>),
    /// The value, and the least and the most that it may be.
    Between {
        negated: bool,
        of: Box<(Expression, Expression, Expression)>,
    },
    In {
        negated: bool,
        what: Box<Expression>,
        list: Vec<Box<str>>,
    },
    Like {
        negated: bool,
        what: Box<Expression>,
        pattern: Box<str>,
        escape: Option<char>,
    },
    IsNull {
        negated: bool,
        what: Box<Expression>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Boolean(bool),
    Long(i64),
    /// Never infinite, and always a number.
    Double(f64),
    Text(Box<str>),
}

/// How firmly a part holds together; one that holds less firmly than its place asks for stands in
/// parentheses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Or,
    And,
    Not,
    Comparison,
    Sum,
    Product,
    Sign,
    Whole,
}

impl Level {
    fn above(self) -> Self {
        match self {
            Self::Or => Self::And,
            Self::And => Self::Not,
            Self::Not => Self::Comparison,
            Self::Comparison => Self::Sum,
            Self::Sum => Self::Product,
            Self::Product => Self::Sign,
            Self::Sign | Self::Whole => Self::Whole,
        }
    }
}

impl Arithmetic {
    pub(super) fn level(self) -> Level {
        match self {
            Self::Add | Self::Subtract => Level::Sum,
            Self::Multiply | Self::Divide | Self::Remainder => Level::Product,
        }
    }
}

impl Expression {
    fn level(&self) -> Level {
        match self {
            Self::Or(_) => Level::Or,
            Self::And(_) => Level::And,
            Self::Not(_) => Level::Not,
            Self::Compare(..)
            | Self::Between { .. }
            | Self::In { .. }
            | Self::Like { .. }
            | Self::IsNull { .. } => Level::Comparison,
            Self::Arithmetic(how, _) => how.level(),
            Self::Negate(_) => Level::Sign,
            Self::Literal(_) | Self::Name(_) => Level::Whole,
        }
    }

    /// Written where something must hold together at least so firmly.
    fn at(&self, level: Level) -> Placed<'_> {
        Placed { expression: self, level }
    }
}

struct Placed<'a> {
    expression: &'a Expression,
    level: Level,
}

impl fmt::Display for Placed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = self.expression.level() >= self.level;
        if bare { write!(f, "{}", self.expression) } else { write!(f, "({})", self.expression) }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        let own = self.level();
        match self {
            Self::Literal(literal) => write!(f, "{literal}"),
            Self::Name(name) => write_name(name, f),
            Self::Or(parts) => write_row(parts, " OR ", own.above(), f),
            Self::And(parts) => write_row(parts, " AND ", own.above(), f),
            Self::Not(part) => write!(f, "NOT {}", part.at(own)),
            // A number with a sign before it would be another literal.
            Self::Negate(part) => match &**part {
                Self::Literal(literal) if literal.has_sign() => write!(f, "- {literal}"),
                Self::Literal(literal) => write!(f, "- +{literal}"),
                Self::Negate(_) => write!(f, "- {part}"),
                _ => write!(f, "-{}", part.at(own)),
            },
            Self::Compare(how, sides) => {
                let side = own.above();
                write!(f, "{} {} {}", sides.0.at(side), how.sign(), sides.1.at(side))
            }
            Self::Arithmetic(how, sides) => {
                let right = sides.1.at(own.above());
                write!(f, "{} {} {right}", sides.0.at(own), how.sign())
            }
            Self::Between { negated, of } => {
                let (what, least, most) = &**of;
                let side = own.above();
                let (what, least, most) = (what.at(side), least.at(side), most.at(side));
                write!(f, "{what} {}BETWEEN {least} AND {most}", not(negated))
            }
            Self::In { negated, what, list } => {
                write!(f, "{} {}IN (", what.at(own.above()), not(negated))?;
                for (number, text) in list.iter().enumerate() {
                    f.write_str(if number == 0 { "" } else { ", " })?;
                    write_quoted(text, '\'', f)?;
                }
                f.write_str(")")
            }
            Self::Like { negated, what, pattern, escape } => {
                write!(f, "{} {}LIKE ", what.at(own.above()), not(negated))?;
                write_quoted(pattern, '\'', f)?;
                if let Some(escape) = escape {
                    f.write_str(" ESCAPE ")?;
                    write_quoted(escape.encode_utf8(&mut [0; 4]), '\'', f)?;
                }
                Ok(())
            }
            Self::IsNull { negated, what } => {
                write!(f, "{} IS {}NULL", what.at(own.above()), not(negated))
            }
        }
    }
}

impl Literal {
    fn has_sign(&self) -> bool {
        match self {
            Self::Long(it) => *it < 0,
            Self::Double(it) => it.is_sign_negative(),
            Self::Boolean(_) | Self::Text(_) => false,
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(true) => f.write_str("TRUE"),
            Self::Boolean(false) => f.write_str("FALSE"),
            Self::Long(it) => write!(f, "{it}"),
            // With a point or an exponent, always.
            Self::Double(it) => write!(f, "{it:?}"),
            Self::Text(text) => write_quoted(text, '\'', f),
        }
    }
}

fn write_row(
    parts: &[Expression],
    between: &str,
    level: Level,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    for (number, part) in parts.iter().enumerate() {
        f.write_str(if number == 0 { "" } else { between })?;
        write!(f, "{}", part.at(level))?;
    }
    Ok(())
}

fn write_name(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if super::lexer::is_plain_name(name) { f.write_str(name) } else { write_quoted(name, '"', f) }
}

fn write_quoted(text: &str, quote: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{quote}")?;
    for (number, part) in text.split(quote).enumerate() {
        if number > 0 {
            write!(f, "{quote}{quote}")?;
        }
        f.write_str(part)?;
    }
    write!(f, "{quote}")
}
