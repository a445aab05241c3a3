//! What each form of a selector means, line by line.

use super::{Sample, judge};
use crate::selector::{Problem, Selector};

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);
const UNKNOWN: Option<bool> = None;

#[track_caller]
fn check(rows: &[(&str, Option<bool>)]) {
    for (text, expected) in rows {
        assert_eq!(judge(text), *expected, "{text}");
    }
}

#[test]
fn each_comparison_holds_for_every_pair_of_types_as_jms_has_it() {
    // For each pair: =, <>, <, <=, >, >=. Text and truth values stand in no order, which is an
    // error where it can be seen and false where it cannot.
    let never = [NO; 6];
    let (same, less) = ([YES, NO, NO, YES, NO, YES], [NO, YES, YES, YES, NO, NO]);
    let greater = [NO, YES, NO, NO, YES, YES];
    let (equal, unequal) = ([YES, NO, NO, NO, NO, NO], [NO, YES, NO, NO, NO, NO]);
    let rows = [
        ("one", "one", same),
        ("one", "two", less),
        ("two", "one", greater),
        ("half", "half", same),
        ("half", "one", less),
        ("one", "half", greater),
        ("five_and_a_half", "five", greater),
        ("nan", "nan", unequal),
        ("nan", "one", unequal),
        ("text", "text", equal),
        ("text", "UK", unequal),
        ("yes", "yes", equal),
        ("yes", "no", unequal),
        // Unlike types: false, whatever is asked.
        ("one", "text", never),
        ("digits", "one", never),
        ("one", "yes", never),
        ("half", "text", never),
        ("text", "yes", never),
        ("yes", "one", never),
    ];
    for (left, right, expected) in rows {
        for (sign, expected) in ["=", "<>", "<", "<=", ">", ">="].iter().zip(expected) {
            check(&[(&format!("{left} {sign} {right}"), expected)]);
        }
    }
    for known in ["one", "half", "text", "yes", "nothing"] {
        for sign in ["=", "<>", "<", "<=", ">", ">="] {
            let null = [format!("{known} {sign} nothing"), format!("nothing {sign} {known}")];
            null.iter().for_each(|text| check(&[(text, UNKNOWN)]));
        }
    }
}

#[test]
fn logic_has_three_values() {
    let values = [("yes", YES), ("no", NO), ("nothing", UNKNOWN), ("(one = nothing)", UNKNOWN)];
    for (left, l) in values {
        check(&[(&format!("NOT {left}"), l.map(|it| !it))]);
        for (right, r) in values {
            let and = match (l, r) {
                (NO, _) | (_, NO) => NO,
                (YES, YES) => YES,
                _ => UNKNOWN,
            };
            let or = match (l, r) {
                (YES, _) | (_, YES) => YES,
                (NO, NO) => NO,
                _ => UNKNOWN,
            };
            check(&[(&format!("{left} AND {right}"), and), (&format!("{left} OR {right}"), or)]);
        }
    }
    check(&[
        ("no AND no OR yes", YES),
        ("yes OR no AND no", YES),
        ("(yes OR no) AND no", NO),
        ("NOT no AND no", NO),
        ("NOT (no AND no)", YES),
        ("NOT one = two", YES),
        ("not NoT yes", YES),
        ("yes and YES is null", UNKNOWN.or(YES)),
        // What is no truth value is no condition that holds.
        ("text", NO),
        ("one", NO),
        ("NOT text", YES),
        ("TRUE", YES),
        ("false", NO),
        ("(one < two) = TRUE", YES),
        ("(one < two) <> (two < one)", YES),
    ]);
}

#[test]
fn arithmetic_follows_java() {
    check(&[
        ("one + two = 3", YES),
        ("two - five = -3", YES),
        ("two * five = 10", YES),
        ("five / two = 2", YES),
        ("-five / two = -2", YES),
        ("five % two = 1", YES),
        ("five / 2.0 = 2.5", YES),
        ("five + half = 5.5", YES),
        ("one + two * five = 11", YES),
        ("(one + two) * five = 15", YES),
        ("five - two - one = 2", YES),
        ("five - (two - one) = 4", YES),
        ("10 / five / two = 1", YES),
        ("-five = - five", YES),
        ("- -five = five", YES),
        ("+five = 5", YES),
        ("least - 1 = 9223372036854775807", YES),
        ("-least = least", YES),
        ("least / -1 = least", YES),
        ("five / 0 = 1", UNKNOWN),
        ("five % 0 = 1", UNKNOWN),
        ("five / 0.0 > 1E300", YES),
        ("nothing + 1 = 1", UNKNOWN),
        ("-nothing = 1", UNKNOWN),
        ("text + 1 = 1", UNKNOWN),
        ("yes * 2 = 2", UNKNOWN),
        ("digits + 1 = 18", UNKNOWN),
        ("(nothing + 1) IS NULL", YES),
    ]);
}

#[test]
fn numbers_are_written_as_in_java() {
    check(&[
        ("7. = 7", YES),
        (".5 = half", YES),
        ("0.5=half", YES),
        ("5E-1 = half", YES),
        ("1E3 = 1000", YES),
        ("-57.9e2 = -5790", YES),
        ("+6.2 > 6", YES),
        ("0x1F = 31", YES),
        ("0XfFl = 255", YES),
        ("017 = 15", YES),
        ("017. = 17", YES),
        ("0 = 00", YES),
        ("five = 5L", YES),
        ("half = .5f", YES),
        ("half = 0.5D", YES),
        ("5d = five", YES),
        ("least = -9223372036854775808", YES),
        ("9007199254740993 = 9007199254740992", NO),
        ("9007199254740993 = 9007199254740992.0", YES),
    ]);
}

#[test]
fn between_is_two_comparisons_with_its_ends() {
    check(&[
        ("five BETWEEN 5 AND 6", YES),
        ("five between one and five", YES),
        ("five BETWEEN 6 AND 9", NO),
        ("five BETWEEN 9 AND 1", NO),
        ("five NOT BETWEEN 6 AND 9", YES),
        ("five NOT BETWEEN 5 AND 9", NO),
        ("five BETWEEN one + two AND 2 * 3", YES),
        ("five_and_a_half BETWEEN 5 AND 6 AND yes", YES),
        ("nothing BETWEEN 1 AND 2", UNKNOWN),
        ("nothing NOT BETWEEN 1 AND 2", UNKNOWN),
        ("five BETWEEN nothing AND 6", UNKNOWN),
        ("five BETWEEN nothing AND 4", NO),
        ("five NOT BETWEEN nothing AND 4", YES),
        ("text BETWEEN 1 AND 2", NO),
        ("text NOT BETWEEN 1 AND 2", NO),
    ]);
}

#[test]
fn in_and_is_null_tell_what_is_missing() {
    check(&[
        ("UK IN ('UK', 'US', 'France')", YES),
        ("UK IN ('US')", NO),
        ("UK NOT IN ('US', 'France')", YES),
        ("UK NOT IN ('UK')", NO),
        ("nothing IN ('UK')", UNKNOWN),
        ("nothing NOT IN ('UK')", UNKNOWN),
        ("one IN ('1')", NO),
        ("one NOT IN ('1')", YES),
        ("\"it's\" IN ('it''s', '')", YES),
        ("empty IN ('')", YES),
        ("nothing IS NULL", YES),
        ("nothing IS NOT NULL", NO),
        ("empty IS NULL", NO),
        ("yes IS NOT NULL", YES),
        ("NOT nothing IS NULL", NO),
    ]);
}

#[test]
fn like_takes_patterns_and_escapes() {
    check(&[
        ("phone LIKE '12%3'", YES),
        ("phone LIKE '12%4'", NO),
        ("phone LIKE '%299%'", YES),
        ("phone LIKE '12993'", YES),
        ("phone LIKE '1299'", NO),
        ("phone LIKE '1_9_3'", YES),
        ("phone LIKE '_____'", YES),
        ("phone LIKE '______'", NO),
        ("phone LIKE '____'", NO),
        ("phone LIKE '%_____%'", YES),
        ("phone LIKE '%_9%_'", YES),
        ("phone LIKE '%_3_%'", NO),
        ("phone LIKE '%'", YES),
        ("phone LIKE ''", NO),
        ("empty LIKE ''", YES),
        ("empty LIKE '%%'", YES),
        ("empty LIKE '_'", NO),
        ("text LIKE 't%t'", YES),
        ("text LIKE 't%ext%t'", NO),
        ("text LIKE 'TEXT'", NO),
        ("wide LIKE 'gr__e'", YES),
        ("wide LIKE '%ö_e'", YES),
        ("wide LIKE '%_ße'", YES),
        ("percent LIKE '100!%' ESCAPE '!'", YES),
        ("phone LIKE '129!%' ESCAPE '!'", NO),
        ("under LIKE 'a\\_b' ESCAPE '\\'", YES),
        ("text LIKE 't\\_xt' ESCAPE '\\'", NO),
        ("under LIKE 'aaab' ESCAPE 'a'", NO),
        ("percent LIKE '%00%%' ESCAPE '%'", NO),
        ("\"it's\" LIKE '%''_'", YES),
        ("phone NOT LIKE '12%3'", NO),
        ("phone NOT LIKE '13%'", YES),
        ("nothing LIKE '%'", UNKNOWN),
        ("nothing NOT LIKE '%'", UNKNOWN),
        ("one LIKE '1'", NO),
        ("one NOT LIKE '1'", YES),
    ]);
}

#[test]
fn names_are_those_of_headers_and_properties_and_differ_by_case() {
    check(&[
        ("JMSDeliveryMode = 'PERSISTENT'", YES),
        ("JMSDeliveryMode <> 'NON_PERSISTENT' AND JMSPriority > 5", YES),
        ("UK = 'UK'", YES),
        ("uk = 'UK'", UNKNOWN),
        ("\"content-type\" LIKE 'text/%'", YES),
        ("\"and\" IS NULL", YES),
        ("$x_1 IS NULL", YES),
        ("\n\tone\r\n=1\u{c}", YES),
    ]);
}

#[test]
fn text_is_taken_for_a_number_only_where_the_selector_asks_for_it() {
    check(&[
        ("digits = 17", NO),
        ("convert_string_expressions:digits = 17", YES),
        ("convert_string_expressions: digits > 16.5 AND digits < 17.5", YES),
        ("convert_string_expressions:digits BETWEEN 16 AND 18", YES),
        ("convert_string_expressions:digits + 1 = 18", YES),
        ("convert_string_expressions:-digits = -17", YES),
        ("convert_string_expressions:text = 17", NO),
        ("convert_string_expressions:text <> 17", NO),
        ("convert_string_expressions:text > 17", NO),
        ("convert_string_expressions:digits = '17'", YES),
        ("convert_string_expressions:truth", YES),
        ("convert_string_expressions:truth = TRUE", YES),
        ("convert_string_expressions:truth <> yes", NO),
        ("convert_string_expressions:one = yes", NO),
        ("convert_string_expressions:nothing = 17", UNKNOWN),
        ("  convert_string_expressions:digits = 17", YES),
    ]);
}

#[test]
fn equal_conditions_are_equal_however_they_are_written() {
    let parse = |text| Selector::parse(text).unwrap();
    assert_eq!(parse("a=1 and(b<>'x')"), parse("a  =  0x1 AND b <> 'x'"));
    assert_ne!(parse("a = 1"), parse("A = 1"));
    assert_ne!(parse("a = 1"), parse("convert_string_expressions:a = 1"));
    assert_ne!(parse("a = 1"), parse("a = 1.0"));
    assert!(Selector::parse_optional(" \t").unwrap().is_none());
    assert_eq!(parse("a=1").to_string(), "a = 1");
}

#[test]
fn an_error_says_where_and_what_was_expected() {
    let rows = [
        ("", 1, "expected a name, a value or a part in parentheses, found the end"),
        ("a = ", 5, "expected a name, a value or a part in parentheses, found the end"),
        ("a = 1 b", 7, "expected AND, OR or the end, found b"),
        ("a == 1", 4, "expected a name, a value or a part in parentheses, found ="),
        ("a = b = c", 7, "expected AND, OR or the end, found ="),
        ("größe = 'x", 9, "this quote is never closed"),
        ("a = \"x", 5, "this quote is never closed"),
        ("a != 1", 3, "'!' has no meaning here"),
        ("a = 5abc", 5, "this is no number"),
        ("a = 1e", 5, "this is no number"),
        ("a = 0x", 5, "this is no number"),
        ("a = 09", 5, "a number that begins with 0 has the digits 0 to 7 alone"),
        ("a = 9223372036854775808", 5, "this number is larger than any property can be"),
        ("a = 99999999999999999999", 5, "this number is larger than any property can be"),
        ("a = 1E400", 5, "this number is larger than any property can be"),
        ("(a = 1", 7, "expected a closing parenthesis, found the end"),
        ("a BETWEEN 1 OR 2", 13, "expected AND, of BETWEEN, found OR"),
        ("a NOT = 1", 7, "expected BETWEEN, IN or LIKE, found ="),
        ("a IS 1", 6, "expected NULL or NOT NULL, found 1"),
        ("a IS NOT 1", 10, "expected NULL, found 1"),
        ("a = NULL", 5, "expected a name, a value or a part in parentheses, found NULL"),
        ("a IN ()", 7, "expected a text in single quotes, found )"),
        ("a IN ('x', 1)", 12, "expected a text in single quotes, found 1"),
        ("a IN ('x' 'y')", 11, "expected a comma or the end of the list, found 'y'"),
        ("a IN 'x'", 6, "expected a list in parentheses, found 'x'"),
        ("a LIKE b", 8, "expected a text in single quotes, found b"),
        ("a LIKE 'x' ESCAPE 'xy'", 19, "an escape is one character"),
        ("a LIKE 'x!' ESCAPE '!'", 20, "the escape at the end of the pattern escapes nothing"),
        ("5", 1, "a condition is needed here, and this is a number"),
        ("a AND 'x'", 7, "a condition is needed here, and this is a text"),
        ("a AND b + 1", 7, "a condition is needed here, and this is a number"),
        ("NOT 1", 5, "a condition is needed here, and this is a number"),
        ("a + 'x' = 1", 5, "a number is needed here, and this is a text"),
        ("-(a = 1) = 2", 2, "a number is needed here, and this is a condition"),
        ("a > 'x'", 5, "a number is needed here, and this is a text"),
        ("TRUE < a", 1, "a number is needed here, and this is a condition"),
        ("'x' BETWEEN 1 AND 2", 1, "a number is needed here, and this is a text"),
        ("1 LIKE 'x'", 1, "a text is needed here, and this is a number"),
        ("1 IN ('x')", 1, "a text is needed here, and this is a number"),
        ("convert_string_expressions:a ? 1", 30, "'?' has no meaning here"),
    ];
    for (text, at, problem) in rows {
        let error = Selector::parse(text).expect_err(text);
        assert_eq!((error.at, &*error.problem.to_string()), (at, problem), "{text}");
    }
    let error = Selector::parse("a = 1 b").unwrap_err();
    let whole =
        "the selector is not understood at character 7: expected AND, OR or the end, found b";
    assert_eq!(error.to_string(), whole);
}

#[test]
fn conditions_on_bodies_are_refused_by_name() {
    for word in ["XPATH", "xquery"] {
        let error = Selector::parse(&format!("a = 1 AND {word} '//x'")).unwrap_err();
        assert_eq!(error.at, 11);
        assert!(matches!(error.problem, Problem::Body(_)), "{error}");
    }
    assert!(Selector::parse("\"xpath\" = 'x'").unwrap().judge(&Sample).is_none());
}
