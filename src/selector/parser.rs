//! Tokens to a tree: precedence climbing, with bounded recursion.
//!
//! From the loosest to the firmest: OR, AND, NOT, comparisons (which do not chain), sums, products,
//! signs. What can be told of kinds without a message is told here: a sum is no condition, a text
//! is no number.

use std::collections::BTreeSet;

use super::ast::{Expression, Level, Literal};
use super::error::{Problem, SelectorError};
use super::lexer::{Keyword, Lexer, Sign, Token};
use super::like::Pattern;
use super::value::{Arithmetic, Comparison};
use super::{CONVERT_PREFIX, SelectorError as Error};
use crate::limits;

/// The tree of a text, and whether it takes text for numbers.
pub(super) fn parse(text: &str) -> Result<(Expression, bool), SelectorError> {
    if text.len() > limits::SELECTOR_BYTES_MAX {
        return Err(Error::new(1, Problem::Long));
    }
    let blank = text.chars().take_while(|c| c.is_whitespace()).count();
    let (text, at, converts) = match text.trim_start().strip_prefix(CONVERT_PREFIX) {
        Some(rest) => (rest, 1 + blank + CONVERT_PREFIX.len(), true),
        None => (text, 1, false),
    };
    let mut lexer = Lexer::new(text, at);
    let (at, token) = lexer.next()?;
    let mut parser = Parser { lexer, at, token, nesting: 0, names: BTreeSet::new() };
    let whole = parser.condition()?.of(Kind::Condition)?;
    match parser.token {
        Token::End => Ok((whole.expression, converts)),
        _ => Err(parser.expected("AND, OR or the end")),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// Where `token` begins.
    at: usize,
    /// The next.
    token: Token,
    nesting: usize,
    names: BTreeSet<Box<str>>,
}

/// A part of a selector, and what is known of it.
struct Part {
    expression: Expression,
    kind: Kind,
    /// Levels of parts inside each other.
    height: usize,
    at: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A name: what it stands for, a message says.
    Any,
    Condition,
    Number,
    Text,
}

impl Kind {
    fn shown(self) -> &'static str {
        match self {
            Self::Any => "a name",
            Self::Condition => "a condition",
            Self::Number => "a number",
            Self::Text => "a text",
        }
    }
}

impl Part {
    /// Itself, where it may be of this kind.
    fn of(self, kind: Kind) -> Result<Self, Error> {
        if self.kind == kind || self.kind == Kind::Any {
            return Ok(self);
        }
        let (wanted, is) = (kind.shown(), self.kind.shown());
        Err(Error::new(self.at, Problem::Kind { wanted, is }))
    }
}

impl Parser<'_> {
    fn advance(&mut self) -> Result<Token, Error> {
        let (at, token) = self.lexer.next()?;
        self.at = at;
        Ok(std::mem::replace(&mut self.token, token))
    }

    /// Takes the next token if it is this one.
    fn take(&mut self, token: &Token) -> Result<bool, Error> {
        let is = self.token == *token;
        if is {
            self.advance()?;
        }
        Ok(is)
    }

    fn take_keyword(&mut self, keyword: Keyword) -> Result<bool, Error> {
        self.take(&Token::Keyword(keyword))
    }

    fn expected(&self, expected: &'static str) -> Error {
        Error::new(self.at, Problem::Expected { expected, found: self.token.shown() })
    }

    /// One level deeper, for as long as `inside` takes.
    fn nested<T>(
        &mut self,
        inside: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.nesting == limits::SELECTOR_NESTING_MAX {
            return Err(Error::new(self.at, Problem::Deep));
        }
        self.nesting += 1;
        let result = inside(self);
        self.nesting -= 1;
        result
    }

    /// A part of others. Chains of sums are deep trees as well, so heights are bounded, too.
    fn part(
        &self,
        expression: Expression,
        kind: Kind,
        at: usize,
        below: usize,
    ) -> Result<Part, Error> {
        if below >= limits::SELECTOR_HEIGHT_MAX {
            return Err(Error::new(at, Problem::Deep));
        }
        Ok(Part { expression, kind, height: below + 1, at })
    }

    fn condition(&mut self) -> Result<Part, Error> {
        self.row(Keyword::Or, Self::conjunction, Expression::Or)
    }

    fn conjunction(&mut self) -> Result<Part, Error> {
        self.row(Keyword::And, Self::negation, Expression::And)
    }

    /// Conditions with a word between them; one alone is itself.
    fn row(
        &mut self,
        word: Keyword,
        next: fn(&mut Self) -> Result<Part, Error>,
        all: fn(Vec<Expression>) -> Expression,
    ) -> Result<Part, Error> {
        let first = next(self)?;
        if self.token != Token::Keyword(word) {
            return Ok(first);
        }
        let first = first.of(Kind::Condition)?;
        let (at, mut below) = (first.at, first.height);
        let mut parts = vec![first.expression];
        while self.take_keyword(word)? {
            let part = next(self)?.of(Kind::Condition)?;
            below = below.max(part.height);
            parts.push(part.expression);
        }
        self.part(all(parts), Kind::Condition, at, below)
    }

    fn negation(&mut self) -> Result<Part, Error> {
        let at = self.at;
        if !self.take_keyword(Keyword::Not)? {
            return self.comparison();
        }
        let part = self.nested(Self::negation)?.of(Kind::Condition)?;
        self.part(Expression::Not(Box::new(part.expression)), Kind::Condition, at, part.height)
    }

    fn comparison(&mut self) -> Result<Part, Error> {
        let left = self.arithmetic(Level::Sum)?;
        let how = match self.token {
            Token::Sign(Sign::Equal) => Comparison::Equal,
            Token::Sign(Sign::Unequal) => Comparison::Unequal,
            Token::Sign(Sign::Less) => Comparison::Less,
            Token::Sign(Sign::LessOrEqual) => Comparison::LessOrEqual,
            Token::Sign(Sign::Greater) => Comparison::Greater,
            Token::Sign(Sign::GreaterOrEqual) => Comparison::GreaterOrEqual,
            Token::Keyword(Keyword::Is) => return self.is_null(left),
            Token::Keyword(Keyword::Not) => {
                self.advance()?;
                return self.word(left, true);
            }
            Token::Keyword(Keyword::Between | Keyword::In | Keyword::Like) => {
                return self.word(left, false);
            }
            _ => return Ok(left),
        };
        self.advance()?;
        let right = self.arithmetic(Level::Sum)?;
        let equality = matches!(how, Comparison::Equal | Comparison::Unequal);
        let (left, right) = match equality {
            true => (left, right),
            false => (left.of(Kind::Number)?, right.of(Kind::Number)?),
        };
        let (at, below) = (left.at, left.height.max(right.height));
        let sides = Box::new((left.expression, right.expression));
        self.part(Expression::Compare(how, sides), Kind::Condition, at, below)
    }

    fn is_null(&mut self, left: Part) -> Result<Part, Error> {
        self.advance()?;
        let negated = self.take_keyword(Keyword::Not)?;
        if !self.take_keyword(Keyword::Null)? {
            return Err(self.expected(if negated { "NULL" } else { "NULL or NOT NULL" }));
        }
        let what = Box::new(left.expression);
        let is_null = Expression::IsNull { negated, what };
        self.part(is_null, Kind::Condition, left.at, left.height)
    }

    /// What follows a value and perhaps NOT.
    fn word(&mut self, left: Part, negated: bool) -> Result<Part, Error> {
        let at = left.at;
        if self.take_keyword(Keyword::Between)? {
            let left = left.of(Kind::Number)?;
            let least = self.arithmetic(Level::Sum)?.of(Kind::Number)?;
            if !self.take_keyword(Keyword::And)? {
                return Err(self.expected("AND, of BETWEEN"));
            }
            let most = self.arithmetic(Level::Sum)?.of(Kind::Number)?;
            let below = left.height.max(least.height).max(most.height);
            let of = Box::new((left.expression, least.expression, most.expression));
            return self.part(Expression::Between { negated, of }, Kind::Condition, at, below);
        }
        let found = if self.take_keyword(Keyword::In)? {
            let left = left.of(Kind::Text)?;
            let list = self.list()?;
            let what = Box::new(left.expression);
            (Expression::In { negated, what, list }, left.height)
        } else if self.take_keyword(Keyword::Like)? {
            let left = left.of(Kind::Text)?;
            let (pattern, escape) = self.pattern()?;
            let what = Box::new(left.expression);
            (Expression::Like { negated, what, pattern, escape }, left.height)
        } else {
            return Err(self.expected("BETWEEN, IN or LIKE"));
        };
        self.part(found.0, Kind::Condition, at, found.1)
    }

    fn list(&mut self) -> Result<Vec<Box<str>>, Error> {
        if !self.take(&Token::Sign(Sign::Open))? {
            return Err(self.expected("a list in parentheses"));
        }
        let mut list = Vec::new();
        loop {
            if list.len() == limits::SELECTOR_LIST_MAX {
                return Err(Error::new(self.at, Problem::List));
            }
            list.push(self.text()?);
            if self.take(&Token::Sign(Sign::Close))? {
                return Ok(list);
            }
            if !self.take(&Token::Sign(Sign::Comma))? {
                return Err(self.expected("a comma or the end of the list"));
            }
        }
    }

    fn pattern(&mut self) -> Result<(Box<str>, Option<char>), Error> {
        let pattern = self.text()?;
        if !self.take_keyword(Keyword::Escape)? {
            return Ok((pattern, None));
        }
        let at = self.at;
        let escape = self.text()?;
        let mut characters = escape.chars();
        let (Some(escape), None) = (characters.next(), characters.next()) else {
            return Err(Error::new(at, Problem::Escape("an escape is one character")));
        };
        Pattern::new(&pattern, Some(escape)).map_err(|problem| Error::new(at, problem))?;
        Ok((pattern, Some(escape)))
    }

    fn text(&mut self) -> Result<Box<str>, Error> {
        if !matches!(self.token, Token::Text(_)) {
            return Err(self.expected("a text in single quotes"));
        }
        match self.advance()? {
            Token::Text(text) => Ok(text),
            _ => unreachable!("just seen"),
        }
    }

    fn arithmetic(&mut self, least: Level) -> Result<Part, Error> {
        let mut left = self.sign()?;
        loop {
            let how = match self.token {
                Token::Sign(Sign::Plus) => Arithmetic::Add,
                Token::Sign(Sign::Minus) => Arithmetic::Subtract,
                Token::Sign(Sign::Star) => Arithmetic::Multiply,
                Token::Sign(Sign::Slash) => Arithmetic::Divide,
                Token::Sign(Sign::Percent) => Arithmetic::Remainder,
                _ => return Ok(left),
            };
            if how.level() < least {
                return Ok(left);
            }
            self.advance()?;
            let right = match how.level() {
                Level::Sum => self.arithmetic(Level::Product)?,
                _ => self.sign()?,
            };
            let (of, right) = (left.of(Kind::Number)?, right.of(Kind::Number)?);
            let (at, below) = (of.at, of.height.max(right.height));
            let sides = Box::new((of.expression, right.expression));
            left = self.part(Expression::Arithmetic(how, sides), Kind::Number, at, below)?;
        }
    }

    fn sign(&mut self) -> Result<Part, Error> {
        let at = self.at;
        let negative = self.token == Token::Sign(Sign::Minus);
        if !negative && self.token != Token::Sign(Sign::Plus) {
            return self.whole();
        }
        self.advance()?;
        // The least long has no positive counterpart: number and sign are read together.
        if let Some(literal) = self.token.literal(negative) {
            let literal = literal.map_err(|problem| Error::new(at, problem))?;
            self.advance()?;
            return self.part(Expression::Literal(literal), Kind::Number, at, 0);
        }
        let part = self.nested(Self::sign)?.of(Kind::Number)?;
        if !negative {
            // It says what `+` needs, and changes nothing.
            return Ok(Part { kind: Kind::Number, at, ..part });
        }
        self.part(Expression::Negate(Box::new(part.expression)), Kind::Number, at, part.height)
    }

    fn whole(&mut self) -> Result<Part, Error> {
        let at = self.at;
        if let Some(literal) = self.token.literal(false) {
            let literal = literal.map_err(|problem| Error::new(at, problem))?;
            self.advance()?;
            return self.part(Expression::Literal(literal), Kind::Number, at, 0);
        }
        let (literal, kind) = match &self.token {
            Token::Sign(Sign::Open) => return self.parentheses(),
            Token::Name(name) => return self.name(name.clone()),
            Token::Keyword(Keyword::True) => (Literal::Boolean(true), Kind::Condition),
            Token::Keyword(Keyword::False) => (Literal::Boolean(false), Kind::Condition),
            Token::Text(text) => (Literal::Text(text.clone()), Kind::Text),
            Token::Keyword(Keyword::XPath) => return Err(Error::new(at, Problem::Body("XPATH"))),
            Token::Keyword(Keyword::XQuery) => return Err(Error::new(at, Problem::Body("XQUERY"))),
            _ => return Err(self.expected("a name, a value or a part in parentheses")),
        };
        self.advance()?;
        self.part(Expression::Literal(literal), kind, at, 0)
    }

    fn parentheses(&mut self) -> Result<Part, Error> {
        let at = self.at;
        self.advance()?;
        let inside = self.nested(Self::condition)?;
        if !self.take(&Token::Sign(Sign::Close))? {
            return Err(self.expected("a closing parenthesis"));
        }
        Ok(Part { at, ..inside })
    }

    fn name(&mut self, name: Box<str>) -> Result<Part, Error> {
        let at = self.at;
        if self.names.insert(name.clone()) && self.names.len() > limits::SELECTOR_NAMES_MAX {
            return Err(Error::new(at, Problem::Names));
        }
        self.advance()?;
        self.part(Expression::Name(name), Kind::Any, at, 0)
    }
}
