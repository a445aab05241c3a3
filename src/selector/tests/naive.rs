//! Any tree: it reads back as it is written, and its program says what a plain walk over it says.

use proptest::prelude::*;

use super::Sample;
use crate::selector::ast::{Expression, Literal};
use crate::selector::program::{Program, and, between, or};
use crate::selector::value::{Arithmetic, Comparison, Value, negate};
use crate::selector::{Subject, fuzz, parser};

fn name() -> impl Strategy<Value = Expression> {
    let names = vec![
        "yes",
        "no",
        "one",
        "two",
        "five",
        "least",
        "half",
        "nan",
        "text",
        "phone",
        "digits",
        "truth",
        "empty",
        "nothing",
        "content-type",
        "it's",
        "and",
        "größe",
        "\"",
        "",
    ];
    prop::sample::select(names).prop_map(|name| Expression::Name(name.into()))
}

fn text() -> impl Strategy<Value = Box<str>> {
    "[a-z0-9'\"%_ ß]{0,6}".prop_map(Into::into)
}

fn number() -> impl Strategy<Value = Expression> {
    let long = prop_oneof![-9i64..9, any::<i64>()];
    let double =
        prop_oneof![(-40i32..40).prop_map(|it| f64::from(it) / 8.0), prop::num::f64::NORMAL];
    let leaf = prop_oneof![
        3 => name(),
        2 => long.prop_map(|it| Expression::Literal(Literal::Long(it))),
        1 => double.prop_map(|it| Expression::Literal(Literal::Double(it))),
    ];
    leaf.prop_recursive(4, 12, 2, |inner| {
        let how = prop::sample::select(vec![
            Arithmetic::Add,
            Arithmetic::Subtract,
            Arithmetic::Multiply,
            Arithmetic::Divide,
            Arithmetic::Remainder,
        ]);
        prop_oneof![
            3 => (how, inner.clone(), inner.clone())
                .prop_map(|(how, left, right)| Expression::Arithmetic(how, (left, right).into())),
            1 => inner.prop_map(|part| Expression::Negate(part.into())),
        ]
    })
}

fn comparison() -> impl Strategy<Value = Expression> {
    let order = prop::sample::select(vec![
        Comparison::Equal,
        Comparison::Unequal,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ]);
    let value = prop_oneof![
        2 => number(),
        1 => text().prop_map(|text| Expression::Literal(Literal::Text(text))),
        1 => any::<bool>().prop_map(|it| Expression::Literal(Literal::Boolean(it))),
    ];
    let equality = prop::sample::select(vec![Comparison::Equal, Comparison::Unequal]);
    let list = prop::collection::vec(text(), 1..5);
    prop_oneof![
        2 => (order, number(), number())
            .prop_map(|(how, left, right)| Expression::Compare(how, (left, right).into())),
        2 => (equality, value.clone(), value)
            .prop_map(|(how, left, right)| Expression::Compare(how, (left, right).into())),
        1 => (any::<bool>(), (number(), number(), number()))
            .prop_map(|(negated, parts)| Expression::Between { negated, of: parts.into() }),
        1 => (any::<bool>(), name(), list).prop_map(|(negated, what, list)| {
            Expression::In { negated, what: what.into(), list }
        }),
        1 => (any::<bool>(), name(), text()).prop_map(|(negated, what, pattern)| {
            Expression::Like { negated, what: what.into(), pattern, escape: None }
        }),
        1 => (any::<bool>(), number()).prop_map(|(negated, what)| {
            Expression::IsNull { negated, what: what.into() }
        }),
        1 => name(),
        1 => any::<bool>().prop_map(|it| Expression::Literal(Literal::Boolean(it))),
    ]
}

fn condition() -> impl Strategy<Value = Expression> {
    comparison().prop_recursive(5, 24, 4, |inner| {
        let row = prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            row.clone().prop_map(Expression::And),
            row.prop_map(Expression::Or),
            inner.clone().prop_map(|part| Expression::Not(part.into())),
            (inner.clone(), inner).prop_map(|(left, right)| {
                Expression::Compare(Comparison::Equal, (left, right).into())
            }),
        ]
    })
}

/// The value of a tree, as one would say it, with everything evaluated.
fn walk(expression: &Expression, converts: bool) -> Value<'_> {
    let of = |part| walk(part, converts);
    let holds = |part| walk(part, converts).truth(converts);
    match expression {
        Expression::Literal(Literal::Boolean(it)) => Value::Boolean(*it),
        Expression::Literal(Literal::Long(it)) => Value::Long(*it),
        Expression::Literal(Literal::Double(it)) => Value::Double(*it),
        Expression::Literal(Literal::Text(it)) => Value::Text(it),
        Expression::Name(name) => Sample.value(name),
        Expression::Or(parts) => parts.iter().map(holds).reduce(or).unwrap().into(),
        Expression::And(parts) => parts.iter().map(holds).reduce(and).unwrap().into(),
        Expression::Not(part) => holds(part).map(|it| !it).into(),
        Expression::Negate(part) => negate(of(part), converts),
        Expression::Compare(how, sides) => how.of(of(&sides.0), of(&sides.1), converts).into(),
        Expression::Arithmetic(how, sides) => how.of(of(&sides.0), of(&sides.1), converts),
        Expression::Between { negated, of: parts } => {
            let (value, least, most) = &**parts;
            between(of(value), of(least), of(most), *negated, converts).into()
        }
        Expression::In { negated, what, list } => match of(what) {
            Value::Null => Value::Null,
            Value::Text(text) => {
                Value::Boolean(list.iter().any(|other| **other == *text) != *negated)
            }
            _ => Value::Boolean(*negated),
        },
        Expression::Like { negated, what, pattern, .. } => match of(what) {
            Value::Null => Value::Null,
            Value::Text(text) => {
                let (text, pattern): (Vec<_>, Vec<_>) =
                    (text.chars().collect(), pattern.chars().collect());
                Value::Boolean(like(&text, &pattern) != *negated)
            }
            _ => Value::Boolean(*negated),
        },
        Expression::IsNull { negated, what } => {
            Value::Boolean((of(what) == Value::Null) != *negated)
        }
    }
}

/// A pattern by trying everything.
fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|at| like(&text[at..], rest)),
        Some(('_', rest)) => !text.is_empty() && like(&text[1..], rest),
        Some((c, rest)) => text.first() == Some(c) && like(&text[1..], rest),
    }
}

proptest! {
    #[test]
    fn a_tree_reads_back_as_it_is_written_and_means_the_same(
        tree in condition(),
        converts: bool,
    ) {
        let prefix = if converts { crate::selector::CONVERT_PREFIX } else { "" };
        let text = format!("{prefix}{tree}");
        let read = parser::parse(&text);
        let same = Some(&(tree.clone(), converts));
        prop_assert_eq!(read.as_ref().ok(), same, "{}: {:?}", text, read);
        let expected = walk(&tree, converts).truth(converts);
        prop_assert_eq!(Program::compile(&tree, converts).run(&Sample), expected, "{}", text);
    }

    #[test]
    fn any_pattern_fits_what_trying_everything_finds(
        text in "[ab%_ß]{0,8}",
        pattern in "[ab%_ß]{0,6}",
    ) {
        let (mut steps, program) = (10_000, crate::selector::like::Pattern::new(&pattern, None));
        let found = program.unwrap().fits(&text, &mut steps);
        let text: Vec<_> = text.chars().collect();
        let pattern: Vec<_> = pattern.chars().collect();
        prop_assert_eq!(found, Some(like(&text, &pattern)));
    }

    #[test]
    fn any_text_is_a_selector_or_a_clear_no(
        text in "([a-c'\"%_.()=<>, +*/-]|[0-9]|AND |OR |NOT |IN |LIKE |BETWEEN |IS |NULL ){0,30}",
    ) {
        fuzz::fuzz_selector(text.as_bytes());
    }
}
