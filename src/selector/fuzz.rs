//! What must hold of selectors for any text; run by the fuzzer and over its corpus by a test.

use super::{Selector, Subject, Value, parser};

/// Every name has a value that its own bytes choose.
struct Whatever;

impl Subject for Whatever {
    fn value(&self, name: &str) -> Value<'_> {
        let sum = name.bytes().fold(0u8, u8::wrapping_add);
        match sum % 7 {
            0 => Value::Null,
            1 => Value::Boolean(sum & 8 != 0),
            2 => Value::Long(i64::from(sum) - 128),
            3 => Value::Double(f64::from(sum) / 8.0),
            4 => Value::Text("17"),
            5 => Value::Text("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"),
            _ => Value::Text("it's 100% _"),
        }
    }
}

/// Any text is a selector or a clear no, and one that is reads back from how it is written, as the
/// same condition.
///
/// # Panics
/// Where one of the promises is broken.
pub fn fuzz_selector(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let selector = match Selector::parse(text) {
        Ok(selector) => selector,
        Err(error) => {
            assert!((1..=text.chars().count() + 1).contains(&error.at), "{error:?}");
            assert!(error.to_string().len() < 400, "{error}");
            return;
        }
    };
    // Written out it may be longer than a selector may be.
    let (expression, _) = parser::parse(text).expect("parsed before");
    if let Ok(again) = Selector::parse(selector.text()) {
        assert_eq!(parser::parse(selector.text()).expect("just parsed").0, expression);
        assert_eq!(again, selector);
        assert_eq!(again.judge(&Whatever), selector.judge(&Whatever));
    } else {
        assert!(selector.text().len() > crate::limits::SELECTOR_BYTES_MAX, "{selector}");
    }
    let verdict = selector.judge(&Whatever);
    assert_eq!(selector.matches(&Whatever), verdict == Some(true));
}
