//! A tree as a row of steps on a stack, and how these are run.
//!
//! AND and OR leave out what cannot change the outcome. Always: a run takes no more than
//! [`limits::SELECTOR_STEPS_MAX`] steps; one that would take more ends as unknown.

use super::Subject;
use super::ast::{Expression, Literal};
use super::like::{BYTES_A_STEP, Pattern};
use super::value::{self, Arithmetic, Comparison, Value};
use crate::limits;

#[derive(Clone, Debug)]
pub(super) struct Program {
    steps: Box<[Step]>,
    names: Box<[Box<str>]>,
    /// Values on the stack at most.
    stack: usize,
    converts: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Literal(Literal),
    /// The value of the name of this number.
    Load(usize),
    Negate,
    Arithmetic(Arithmetic),
    Compare(Comparison),
    Between {
        negated: bool,
    },
    In {
        negated: bool,
        /// In order.
        list: Box<[Box<str>]>,
    },
    Like {
        negated: bool,
        pattern: Pattern,
    },
    IsNull {
        negated: bool,
    },
    Not,
    /// The last value as a condition.
    Condition,
    /// Goes on there where the last condition is this.
    SkipIf(bool, usize),
    And,
    Or,
}

impl Program {
    /// The steps of a tree.
    pub(super) fn compile(expression: &Expression, converts: bool) -> Self {
        let mut compiler = Compiler::default();
        compiler.add(expression);
        compiler.push(Step::Condition, 0);
        let Compiler { steps, names, most, .. } = compiler;
        Self { steps: steps.into(), names: names.into(), stack: most, converts }
    }

    /// What the condition is; `None` is unknown.
    pub(super) fn run(&self, subject: &impl Subject) -> Option<bool> {
        let names = vec![None; self.names.len()];
        let stack = Vec::with_capacity(self.stack);
        let budget = limits::SELECTOR_STEPS_MAX;
        Run { program: self, subject, names, stack, budget }.run()
    }
}

#[derive(Default)]
struct Compiler {
    steps: Vec<Step>,
    names: Vec<Box<str>>,
    /// Values on the stack now.
    held: usize,
    most: usize,
}

impl Compiler {
    /// Adds a step that takes so many values and leaves one.
    fn push(&mut self, step: Step, taken: usize) {
        self.steps.push(step);
        self.held = self.held + 1 - taken.max(1);
        self.most = self.most.max(self.held);
    }

    fn load(&mut self, step: Step) {
        self.steps.push(step);
        self.held += 1;
        self.most = self.most.max(self.held);
    }

    fn add(&mut self, expression: &Expression) {
        match expression {
            Expression::Literal(literal) => self.load(Step::Literal(literal.clone())),
            Expression::Name(name) => {
                let known = self.names.iter().position(|other| other == name);
                let number = known.unwrap_or_else(|| {
                    self.names.push(name.clone());
                    self.names.len() - 1
                });
                self.load(Step::Load(number));
            }
            Expression::Or(parts) => self.add_row(parts, true),
            Expression::And(parts) => self.add_row(parts, false),
            Expression::Not(part) => {
                self.add(part);
                self.push(Step::Not, 1);
            }
            Expression::Negate(part) => {
                self.add(part);
                self.push(Step::Negate, 1);
            }
            Expression::Compare(how, sides) => {
                self.add(&sides.0);
                self.add(&sides.1);
                self.push(Step::Compare(*how), 2);
            }
            Expression::Arithmetic(how, sides) => {
                self.add(&sides.0);
                self.add(&sides.1);
                self.push(Step::Arithmetic(*how), 2);
            }
            Expression::Between { negated, of } => {
                self.add(&of.0);
                self.add(&of.1);
                self.add(&of.2);
                self.push(Step::Between { negated: *negated }, 3);
            }
            Expression::In { negated, what, list } => {
                self.add(what);
                let mut list = list.clone();
                list.sort_unstable();
                self.push(Step::In { negated: *negated, list: list.into() }, 1);
            }
            Expression::Like { negated, what, pattern, escape } => {
                self.add(what);
                let pattern = Pattern::new(pattern, *escape).expect("parsed before");
                self.push(Step::Like { negated: *negated, pattern }, 1);
            }
            Expression::IsNull { negated, what } => {
                self.add(what);
                self.push(Step::IsNull { negated: *negated }, 1);
            }
        }
    }

    /// Conditions of which one that is `decides` makes the others idle.
    fn add_row(&mut self, parts: &[Expression], decides: bool) {
        let mut skips = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            if number > 0 {
                skips.push(self.steps.len());
                self.steps.push(Step::SkipIf(decides, 0));
            }
            self.add(part);
            match number {
                0 => self.push(Step::Condition, 1),
                _ => self.push(if decides { Step::Or } else { Step::And }, 2),
            }
        }
        let end = self.steps.len();
        for at in skips {
            self.steps[at] = Step::SkipIf(decides, end);
        }
    }
}

struct Run<'a, S> {
    program: &'a Program,
    subject: &'a S,
    /// Each name is looked up once at most.
    names: Vec<Option<Value<'a>>>,
    stack: Vec<Value<'a>>,
    budget: usize,
}

/// What looking up a name takes, in steps.
const LOOKUP_STEPS: usize = 16;

impl<'a, S: Subject> Run<'a, S> {
    fn run(mut self) -> Option<bool> {
        let program = self.program;
        let mut at = 0;
        while let Some(step) = program.steps.get(at) {
            self.spend(1)?;
            at += 1;
            if let Step::SkipIf(decides, end) = step {
                let last = self.stack.last().expect("a condition comes before");
                if *last == Value::Boolean(*decides) {
                    at = *end;
                }
                continue;
            }
            let value = self.step(step)?;
            self.stack.push(value);
        }
        match self.stack.pop() {
            Some(Value::Boolean(it)) => Some(it),
            _ => None,
        }
    }

    fn spend(&mut self, steps: usize) -> Option<()> {
        self.budget = self.budget.checked_sub(steps)?;
        Some(())
    }

    fn pop(&mut self) -> Value<'a> {
        self.stack.pop().expect("each step leaves what the next ones take")
    }

    /// The value that a step leaves; `None` where it would take too long.
    fn step(&mut self, step: &'a Step) -> Option<Value<'a>> {
        let converts = self.program.converts;
        Some(match step {
            Step::Literal(literal) => match literal {
                Literal::Boolean(it) => Value::Boolean(*it),
                Literal::Long(it) => Value::Long(*it),
                Literal::Double(it) => Value::Double(*it),
                Literal::Text(text) => Value::Text(text),
            },
            Step::Load(number) => self.load(*number)?,
            Step::Negate => value::negate(self.pop(), converts),
            Step::Arithmetic(how) => {
                let (right, left) = (self.pop(), self.pop());
                how.of(left, right, converts)
            }
            Step::Compare(how) => {
                let (right, left) = (self.pop(), self.pop());
                self.spend(bytes_of(left).min(bytes_of(right)) / BYTES_A_STEP)?;
                how.of(left, right, converts).into()
            }
            Step::Between { negated } => {
                let (most, least, value) = (self.pop(), self.pop(), self.pop());
                between(value, least, most, *negated, converts).into()
            }
            Step::In { negated, list } => match self.pop() {
                Value::Null => Value::Null,
                Value::Text(text) => {
                    self.spend(LOOKUP_STEPS)?;
                    let found = list.binary_search_by(|other| (**other).cmp(text)).is_ok();
                    Value::Boolean(found != *negated)
                }
                _ => Value::Boolean(*negated),
            },
            Step::Like { negated, pattern } => match self.pop() {
                Value::Null => Value::Null,
                Value::Text(text) => {
                    let fits = pattern.fits(text, &mut self.budget)?;
                    Value::Boolean(fits != *negated)
                }
                _ => Value::Boolean(*negated),
            },
            Step::IsNull { negated } => Value::Boolean((self.pop() == Value::Null) != *negated),
            Step::Not => self.pop().truth(converts).map(|it| !it).into(),
            Step::Condition => self.pop().truth(converts).into(),
            Step::And => {
                let (right, left) = (self.pop().truth(converts), self.pop().truth(converts));
                and(left, right).into()
            }
            Step::Or => {
                let (right, left) = (self.pop().truth(converts), self.pop().truth(converts));
                or(left, right).into()
            }
            Step::SkipIf(..) => unreachable!("taken before"),
        })
    }

    fn load(&mut self, number: usize) -> Option<Value<'a>> {
        if let Some(value) = self.names[number] {
            return Some(value);
        }
        self.spend(LOOKUP_STEPS)?;
        let value = self.subject.value(&self.program.names[number]);
        self.names[number] = Some(value);
        Some(value)
    }
}

fn bytes_of(value: Value<'_>) -> usize {
    if let Value::Text(text) = value { text.len() } else { 0 }
}

/// As JMS writes it out: NOT BETWEEN is less or greater, so a value of another type is neither.
pub(super) fn between(
    value: Value<'_>,
    least: Value<'_>,
    most: Value<'_>,
    negated: bool,
    converts: bool,
) -> Option<bool> {
    if negated {
        let below = Comparison::Less.of(value, least, converts);
        return or(below, Comparison::Greater.of(value, most, converts));
    }
    let above = Comparison::GreaterOrEqual.of(value, least, converts);
    and(above, Comparison::LessOrEqual.of(value, most, converts))
}

pub(super) fn and(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

pub(super) fn or(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}
