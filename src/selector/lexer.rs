//! Text to the words, numbers and signs of a selector.

use super::ast::Literal;
use super::error::{Problem, SelectorError};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(Box<str>),
    Keyword(Keyword),
    Text(Box<str>),
    /// A number without its sign: one more than a long holds is the least of them, negated.
    Exact(u64),
    Approximate(f64),
    Sign(Sign),
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    And,
    Between,
    Escape,
    False,
    In,
    Is,
    Like,
    Not,
    Null,
    Or,
    True,
    XPath,
    XQuery,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Open,
    Close,
    Comma,
    Plus,
    Minus,
    Star,
    Slash,
    Percent,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

const KEYWORDS: [(&str, Keyword); 13] = [
    ("AND", Keyword::And),
    ("BETWEEN", Keyword::Between),
    ("ESCAPE", Keyword::Escape),
    ("FALSE", Keyword::False),
    ("IN", Keyword::In),
    ("IS", Keyword::Is),
    ("LIKE", Keyword::Like),
    ("NOT", Keyword::Not),
    ("NULL", Keyword::Null),
    ("OR", Keyword::Or),
    ("TRUE", Keyword::True),
    ("XPATH", Keyword::XPath),
    ("XQUERY", Keyword::XQuery),
];

/// Longer signs first.
const SIGNS: [(&str, Sign); 14] = [
    ("<>", Sign::Unequal),
    ("<=", Sign::LessOrEqual),
    (">=", Sign::GreaterOrEqual),
    ("<", Sign::Less),
    (">", Sign::Greater),
    ("=", Sign::Equal),
    ("(", Sign::Open),
    (")", Sign::Close),
    (",", Sign::Comma),
    ("+", Sign::Plus),
    ("-", Sign::Minus),
    ("*", Sign::Star),
    ("/", Sign::Slash),
    ("%", Sign::Percent),
];

const NO_NUMBER: &str = "this is no number";
const NO_OCTAL: &str = "a number that begins with 0 has the digits 0 to 7 alone";
const TOO_LARGE: &str = "this number is larger than any property can be";

pub(super) struct Lexer<'a> {
    rest: &'a str,
    /// Characters before `rest`, from 1.
    at: usize,
}

impl<'a> Lexer<'a> {
    /// `at` is the number of the text's first character.
    pub(super) fn new(text: &'a str, at: usize) -> Self {
        Self { rest: text, at }
    }

    /// The next token, and where it begins.
    pub(super) fn next(&mut self) -> Result<(usize, Token), SelectorError> {
        let blank = self.rest.len() - self.rest.trim_start().len();
        self.take(blank);
        let at = self.at;
        let fail = |problem| Err(SelectorError::new(at, problem));
        let Some(first) = self.rest.chars().next() else { return Ok((at, Token::End)) };
        if let Some((text, sign)) = SIGNS.iter().find(|(text, _)| self.rest.starts_with(text)) {
            self.take(text.len());
            return Ok((at, Token::Sign(*sign)));
        }
        let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        let token = match first {
            '\'' => self.quoted('\'').map(Token::Text),
            '"' => self.quoted('"').map(Token::Name),
            '.' if digit(self.rest.chars().nth(1)) => self.number(),
            c if c.is_ascii_digit() => self.number(),
            c if begins_name(c) => Ok(self.word()),
            c => Err(Problem::Character(c)),
        };
        token.map(|token| (at, token)).or_else(fail)
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        self.at += taken.chars().count();
        taken
    }

    /// Bytes from the beginning for which this holds.
    fn run(&self, holds: impl Fn(char) -> bool) -> usize {
        self.rest.find(|c| !holds(c)).unwrap_or(self.rest.len())
    }

    fn word(&mut self) -> Token {
        let word = self.take(self.run(continues_name));
        match keyword(word) {
            Some(keyword) => Token::Keyword(keyword),
            None => Token::Name(word.into()),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Box<str>, Problem> {
        let mut text = String::new();
        let (mut from, bytes) = (1, self.rest);
        loop {
            let end = from + bytes[from..].find(quote).ok_or(Problem::Unclosed)?;
            text.push_str(&bytes[from..end]);
            if !bytes[end + 1..].starts_with(quote) {
                self.take(end + 1);
                return Ok(text.into());
            }
            text.push(quote);
            from = end + 2;
        }
    }

    fn number(&mut self) -> Result<Token, Problem> {
        let token = match self.rest.get(..2) {
            Some("0x" | "0X") => {
                self.take(2);
                let digits = self.take(self.run(|c| c.is_ascii_hexdigit()));
                self.exact(digits, 16)?
            }
            _ => self.decimal()?,
        };
        // Digits that run into a word are neither.
        match self.rest.chars().next() {
            Some(c) if continues_name(c) => Err(Problem::Number(NO_NUMBER)),
            _ => Ok(token),
        }
    }

    fn decimal(&mut self) -> Result<Token, Problem> {
        let bytes = self.rest.as_bytes();
        let digits =
            |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let whole = digits(0);
        let mut end = whole;
        let pointed = bytes.get(end) == Some(&b'.');
        if pointed {
            end += 1 + digits(end + 1);
        }
        let mut raised = false;
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + sign);
            if exponent == 0 {
                return Err(Problem::Number(NO_NUMBER));
            }
            (raised, end) = (true, end + 1 + sign + exponent);
        }
        let approximate = pointed || raised;
        let suffixed = matches!(bytes.get(end), Some(b'f' | b'F' | b'd' | b'D'));
        if approximate || suffixed {
            let text = self.take(end);
            self.take(usize::from(suffixed));
            let value: f64 = text.parse().map_err(|_| Problem::Number(NO_NUMBER))?;
            let fits = value.is_finite();
            return if fits {
                Ok(Token::Approximate(value))
            } else {
                Err(Problem::Number(TOO_LARGE))
            };
        }
        let text = self.take(whole);
        match text.strip_prefix('0') {
            Some(octal) if !octal.is_empty() => self.exact(octal, 8),
            _ => self.exact(text, 10),
        }
    }

    fn exact(&mut self, digits: &str, radix: u32) -> Result<Token, Problem> {
        let known = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
        if !known {
            return Err(Problem::Number(if radix == 8 { NO_OCTAL } else { NO_NUMBER }));
        }
        let long = self.rest.starts_with(['l', 'L']);
        self.take(usize::from(long));
        let value = u64::from_str_radix(digits, radix).ok();
        let value = value.filter(|value| *value <= i64::MIN.unsigned_abs());
        value.map(Token::Exact).ok_or(Problem::Number(TOO_LARGE))
    }
}

impl Token {
    /// The number, with this sign before it.
    pub(super) fn literal(&self, negative: bool) -> Option<Result<Literal, Problem>> {
        match self {
            Self::Exact(it) => {
                let value =
                    if negative { 0i64.checked_sub_unsigned(*it) } else { i64::try_from(*it).ok() };
                Some(value.map(Literal::Long).ok_or(Problem::Number(TOO_LARGE)))
            }
            Self::Approximate(it) => Some(Ok(Literal::Double(if negative { -*it } else { *it }))),
            _ => None,
        }
    }

    /// What stands there, for whoever expected something else.
    pub(super) fn shown(&self) -> String {
        const SHOWN: usize = 40;
        match self {
            Self::Name(name) => format!("{:.SHOWN$}", &**name),
            Self::Keyword(keyword) => {
                let word = KEYWORDS.iter().find(|(_, other)| other == keyword);
                word.map_or("", |(text, _)| *text).to_owned()
            }
            Self::Text(text) => format!("'{:.SHOWN$}'", &**text),
            Self::Exact(it) => it.to_string(),
            Self::Approximate(it) => format!("{it:?}"),
            Self::Sign(sign) => {
                let text = SIGNS.iter().find(|(_, other)| other == sign);
                text.map_or("", |(text, _)| *text).to_owned()
            }
            Self::End => "the end".to_owned(),
        }
    }
}

fn keyword(word: &str) -> Option<Keyword> {
    let found = KEYWORDS.iter().find(|(text, _)| text.eq_ignore_ascii_case(word));
    found.map(|(_, keyword)| *keyword)
}

fn begins_name(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '$'
}

fn continues_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// Whether a name can be written without quotes.
pub(super) fn is_plain_name(name: &str) -> bool {
    name.starts_with(begins_name) && name.chars().all(continues_name) && keyword(name).is_none()
}
