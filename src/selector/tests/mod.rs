//! Selectors: tables of what each form means, and properties over any of them.

mod hostile;
mod naive;
mod table;

use super::{Selector, Subject, Value};

/// A message that has one property of each type.
pub(super) struct Sample;

impl Subject for Sample {
    fn value(&self, name: &str) -> Value<'_> {
        match name {
            "JMSDeliveryMode" => Value::Text("PERSISTENT"),
            "JMSPriority" => Value::Long(7),
            "yes" => Value::Boolean(true),
            "no" => Value::Boolean(false),
            "one" => Value::Long(1),
            "two" => Value::Long(2),
            "five" => Value::Long(5),
            "least" => Value::Long(i64::MIN),
            "half" => Value::Double(0.5),
            "five_and_a_half" => Value::Double(5.5),
            "nan" => Value::Double(f64::NAN),
            "text" => Value::Text("text"),
            "UK" => Value::Text("UK"),
            "phone" => Value::Text("12993"),
            "percent" => Value::Text("100%"),
            "under" => Value::Text("a_b"),
            "wide" => Value::Text("größe"),
            "digits" => Value::Text("17"),
            "truth" => Value::Text("TRUE"),
            "empty" => Value::Text(""),
            "content-type" => Value::Text("text/plain"),
            "it's" => Value::Text("it's"),
            _ => Value::Null,
        }
    }
}

#[track_caller]
pub(super) fn judge(text: &str) -> Option<bool> {
    let selector = Selector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    selector.judge(&Sample)
}
