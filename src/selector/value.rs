//! Values, and what may be done with them: comparison, arithmetic and conversion by JMS's rules.

use std::cmp::Ordering;

/// The value of a property, of a literal, or of a part of a selector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// None; as a condition: unknown.
    Null,
    /// A truth value.
    Boolean(bool),
    /// An exact number: byte, short, int and long.
    Long(i64),
    /// An approximate number: float and double.
    Double(f64),
    /// Text.
    Text(&'a str),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How two numbers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy)]
enum Number {
    Exact(i64),
    Approximate(f64),
}

impl<'a> Value<'a> {
    /// Another where there is none.
    #[must_use]
    pub fn or(self, other: impl FnOnce() -> Self) -> Self {
        if self == Value::Null { other() } else { self }
    }

    /// As a condition: unknown where there is no value, and false where it is no truth value.
    pub(super) fn truth(self, converts: bool) -> Option<bool> {
        match self {
            Value::Null => None,
            Value::Boolean(it) => Some(it),
            Value::Text(text) if converts => Some(text.eq_ignore_ascii_case("true")),
            Value::Long(_) | Value::Double(_) | Value::Text(_) => Some(false),
        }
    }

    fn number(self, converts: bool) -> Option<Number> {
        match self {
            Value::Long(it) => Some(Number::Exact(it)),
            Value::Double(it) => Some(Number::Approximate(it)),
            Value::Text(text) if converts => {
                let text = text.trim();
                let exact = text.parse().ok().map(Number::Exact);
                exact.or_else(|| text.parse().ok().map(Number::Approximate))
            }
            Value::Null | Value::Boolean(_) | Value::Text(_) => None,
        }
    }
}

impl From<Option<bool>> for Value<'_> {
    fn from(truth: Option<bool>) -> Self {
        truth.map_or(Value::Null, Value::Boolean)
    }
}

impl Comparison {
    /// Unknown where one is null; false where they are of unlike types, whatever is asked.
    pub(super) fn of(self, left: Value<'_>, right: Value<'_>, converts: bool) -> Option<bool> {
        let number = |value: Value<'_>| value.number(converts);
        Some(match (left, right) {
            (Value::Null, _) | (_, Value::Null) => return None,
            (Value::Text(left), Value::Text(right)) if !self.orders() => {
                self.holds(Some(left.cmp(right)))
            }
            (Value::Boolean(_), _) | (_, Value::Boolean(_)) => {
                let truth = |value: Value<'_>| match value {
                    Value::Boolean(_) | Value::Text(_) => value.truth(converts),
                    _ => None,
                };
                let both = truth(left).zip(truth(right)).filter(|_| !self.orders());
                let alike =
                    converts || matches!((left, right), (Value::Boolean(_), Value::Boolean(_)));
                both.is_some_and(|(left, right)| alike && self.holds(Some(left.cmp(&right))))
            }
            _ => match (number(left), number(right)) {
                (Some(left), Some(right)) => self.holds(order(left, right)),
                _ => false,
            },
        })
    }

    fn orders(self) -> bool {
        !matches!(self, Self::Equal | Self::Unequal)
    }

    /// Whether it is so of two that stand in this order; those that stand in none are unequal.
    fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::Unequal => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => order.is_some_and(Ordering::is_le),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        }
    }

    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Unequal => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

fn order(left: Number, right: Number) -> Option<Ordering> {
    match (left, right) {
        (Number::Exact(left), Number::Exact(right)) => Some(left.cmp(&right)),
        (left, right) => left.approximate().partial_cmp(&right.approximate()),
    }
}

impl Number {
    fn approximate(self) -> f64 {
        match self {
            Self::Exact(it) => it as f64,
            Self::Approximate(it) => it,
        }
    }
}

impl Arithmetic {
    /// Null where one is no number, and where an exact number is divided by zero. Exact numbers
    /// wrap, as Java's do.
    pub(super) fn of<'a>(self, left: Value<'_>, right: Value<'_>, converts: bool) -> Value<'a> {
        let (Some(left), Some(right)) = (left.number(converts), right.number(converts)) else {
            return Value::Null;
        };
        match (left, right) {
            (Number::Exact(left), Number::Exact(right)) => match self {
                Self::Add => Value::Long(left.wrapping_add(right)),
                Self::Subtract => Value::Long(left.wrapping_sub(right)),
                Self::Multiply => Value::Long(left.wrapping_mul(right)),
                Self::Divide if right != 0 => Value::Long(left.wrapping_div(right)),
                Self::Remainder if right != 0 => Value::Long(left.wrapping_rem(right)),
                Self::Divide | Self::Remainder => Value::Null,
            },
            (left, right) => {
                let (left, right) = (left.approximate(), right.approximate());
                Value::Double(match self {
                    Self::Add => left + right,
                    Self::Subtract => left - right,
                    Self::Multiply => left * right,
                    Self::Divide => left / right,
                    Self::Remainder => left % right,
                })
            }
        }
    }

    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

/// The number with the other sign; null of what is no number.
pub(super) fn negate<'a>(value: Value<'_>, converts: bool) -> Value<'a> {
    match value.number(converts) {
        Some(Number::Exact(it)) => Value::Long(it.wrapping_neg()),
        Some(Number::Approximate(it)) => Value::Double(-it),
        None => Value::Null,
    }
}
