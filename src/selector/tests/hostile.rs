//! Selectors that somebody sends to do harm.

use std::time::{Duration, Instant};

use super::{Sample, judge};
use crate::limits;
use crate::selector::{Problem, Selector, Subject, Value};

#[track_caller]
fn refused(text: &str) -> Problem {
    Selector::parse(text).expect_err("it is too much").problem
}

#[test]
fn nesting_is_bounded_whatever_nests() {
    let nested = |open: &str, inside: &str, close: &str, levels: usize| {
        format!("{}{inside}{}", open.repeat(levels), close.repeat(levels))
    };
    let most = limits::SELECTOR_NESTING_MAX;
    for (open, inside, close) in [("(", "yes", ")"), ("NOT ", "yes", "")] {
        assert_eq!(judge(&nested(open, inside, close, most)), Some(true));
        assert_eq!(refused(&nested(open, inside, close, most + 1)), Problem::Deep);
    }
    for open in ["- ", "+ ", "-(", "(", "NOT ("] {
        assert_eq!(refused(&nested(open, "a", "", 3000)), Problem::Deep);
    }
    assert_eq!(refused(&format!("a{} = 1", " + a".repeat(3000))), Problem::Deep);
    // Rows of conditions are not deep.
    assert_eq!(judge(&format!("no{}", " OR no".repeat(2000))), Some(false));
}

#[test]
fn text_lists_and_names_are_bounded() {
    let list = |count: usize| format!("UK IN ('UK'{})", ",'x'".repeat(count - 1));
    assert_eq!(judge(&list(limits::SELECTOR_LIST_MAX)), Some(true));
    assert_eq!(refused(&list(limits::SELECTOR_LIST_MAX + 1)), Problem::List);
    let text = |bytes: usize| format!("UK <> '{}'", "x".repeat(bytes - 8));
    assert_eq!(judge(&text(limits::SELECTOR_BYTES_MAX)), Some(true));
    assert_eq!(refused(&text(limits::SELECTOR_BYTES_MAX + 1)), Problem::Long);
    let names = |count: usize| {
        let names: Vec<_> = (0..count).map(|number| format!("n{number} IS NULL")).collect();
        names.join(" AND ")
    };
    assert_eq!(judge(&names(limits::SELECTOR_NAMES_MAX)), Some(true));
    assert_eq!(refused(&names(limits::SELECTOR_NAMES_MAX + 1)), Problem::Names);
}

/// The longest property that a message may have, all alike.
struct Long(String);

impl Subject for Long {
    fn value(&self, _: &str) -> Value<'_> {
        Value::Text(&self.0)
    }
}

#[test]
fn a_pattern_that_invites_to_try_again_is_answered_at_once_or_not_at_all() {
    let long = Long("a".repeat(63 << 10));
    let begun = Instant::now();
    let like =
        |pattern: &str| Selector::parse(&format!("x LIKE '{pattern}'")).unwrap().judge(&long);
    assert_eq!(like(&format!("{}b", "%a".repeat(1000))), Some(false));
    assert_eq!(like(&format!("{}%b", "%a".repeat(1000))), Some(false));
    // What takes too many steps is unknown, and so matches nobody.
    assert_eq!(like(&format!("%{}b%", "a_".repeat(1000))), None);
    assert_eq!(like(&"%_".repeat(8000)), Some(true));
    let row = vec![format!("x LIKE '%{}b%'", "a".repeat(250)); 50].join(" OR ");
    assert_eq!(Selector::parse(&row).unwrap().judge(&long), Some(false));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn parsing_takes_time_in_proportion_to_the_text() {
    let bombs = [
        format!("a IN ({}'x')", "'xxxxxxxxxxxxxxx',".repeat(800)),
        format!("no{}", " OR no AND NOT yes".repeat(850)),
        format!("a = '{}'", "''".repeat(8000)),
        format!("a LIKE '{}'", "%_".repeat(8000)),
        "((((((((".repeat(2000),
        "NOT ".repeat(4000),
        "'x' ".repeat(4000),
        "1E1".repeat(5000),
    ];
    for text in bombs {
        let begun = Instant::now();
        let _ = Selector::parse(&text);
        // A millisecond for each KiB, and as much again for a machine that has other work; the
        // least of what an unoptimised build needs.
        let allowed = Duration::from_millis(2 * (text.len() as u64).div_ceil(1024) + 50);
        assert!(begun.elapsed() < allowed, "{} bytes took {:?}", text.len(), begun.elapsed());
    }
    assert!(Selector::parse("yes").unwrap().matches(&Sample));
}
