//! The second alphabet: what else can be asked of a branch, what time and another connection do to
//! it, and sends under numbers, each crashed at every step like the rest.
//!
//! A beginning is every sequence of operations that makes sense, as far as it has something of this
//! alphabet; ends follow from what the model says that there is to be ended.

use super::model::{Bond, Model, Phase};
use super::play::{Pace, Tried, beginning};
use super::{KEEP, OPERATIONS, OPERATIONS_MAX, Operation, RETURN, Script, Step, catch, play_all};
use crate::broker::delta::Resolution;
use crate::mutant::Mutant;

/// Sends under numbers: the same, and to another queue.
const NUMBERED: [Operation; 2] =
    [Operation::Number { queue: 0, sequence: 1 }, Operation::Number { queue: 1, sequence: 1 }];

/// What triples are made of, beside all that can be asked: one that is sent, one that is settled
/// and was in memory alone, and one under a number.
const FEW: [Operation; 3] = [OPERATIONS[0], OPERATIONS[7], NUMBERED[0]];

/// What is asked of an open branch beside its vote and its end, and what happens to it.
const ASKED: [Step; 8] = [
    Step::Suspend,
    Step::Resume,
    Step::Join,
    Step::Leave,
    Step::LoseOther,
    Step::End,
    Step::Fail,
    Step::Expire,
];

const COMMIT: Resolution = Resolution::Commit;
const ROLLBACK: Resolution = Resolution::Rollback;

/// How a branch ends in which nobody works any more.
const ENDS: [&[Step]; 10] = {
    use Step::{Decide, Expire, Forget, Lose, OnePhase, Outcome, Prepare};
    [
        &[Lose],
        &[OnePhase],
        &[Outcome(ROLLBACK, RETURN)],
        &[Outcome(ROLLBACK, KEEP)],
        &[Prepare, Lose],
        &[Prepare, Outcome(COMMIT, RETURN)],
        &[Prepare, Outcome(ROLLBACK, KEEP)],
        &[Prepare, Decide(COMMIT), Forget],
        &[Prepare, Decide(ROLLBACK), Outcome(COMMIT, RETURN), Forget],
        &[Prepare, Expire, Outcome(COMMIT, RETURN)],
    ]
};

/// How one ends of which the work is undone.
const BROKEN_ENDS: [&[Step]; 6] = {
    use Step::{Expire, Lose, OnePhase, Outcome, Prepare};
    [
        &[Lose],
        &[Prepare, OnePhase],
        &[OnePhase, Prepare],
        &[Outcome(COMMIT, RETURN)],
        &[Outcome(ROLLBACK, RETURN)],
        &[Expire, Outcome(ROLLBACK, RETURN)],
    ]
};

/// A beginning, and what the model says of it.
#[derive(Clone)]
struct Begun {
    steps: Vec<Step>,
    model: Model,
    /// It has something of this alphabet.
    new: bool,
}

impl Begun {
    fn with(&self, step: Step) -> Self {
        let mut next = self.clone();
        next.model.take(step, 10 + next.steps.len() as u64);
        next.steps.push(step);
        next.new |= !matches!(step, Step::Do(Operation::Send { .. } | Operation::Settle { .. }));
        next
    }

    /// Whether there is what a step is about.
    fn may(&self, step: Step) -> bool {
        let model = &self.model;
        let works = model.bond != Bond::None || !model.is_branch();
        match step {
            Step::Do(Operation::Settle { .. }) => works,
            Step::Do(_) => works || model.joined,
            Step::Join => model.is_branch() && !model.joined && model.phase == Phase::Open,
            Step::Leave | Step::LoseOther => model.joined,
            Step::Suspend => model.bond == Bond::Works,
            Step::Resume => model.bond == Bond::Rests,
            Step::End | Step::Fail => model.bond != Bond::None,
            Step::Expire => model.is_branch() && model.phase == Phase::Open,
            _ => false,
        }
    }

    /// Everybody who works in the branch ends that.
    fn closing(&self) -> Vec<Step> {
        let leave = self.model.joined.then_some(Step::Leave);
        let end = (self.model.bond != Bond::None).then_some(Step::End);
        leave.into_iter().chain(end).collect()
    }

    fn ends(&self) -> Vec<Vec<Step>> {
        if !self.model.is_branch() {
            return super::LOCAL_ENDS.map(<[Step]>::to_vec).into();
        }
        let closing = self.closing();
        let ends = if self.model.broken.is_some() { &BROKEN_ENDS[..] } else { &ENDS[..] };
        let closed = ends.iter().map(|end| [&closing[..], end].concat());
        let lost = (!closing.is_empty()).then(|| vec![Step::Lose]);
        lost.into_iter().chain(closed).collect()
    }

    /// One script for each end; what they share is crashed in the first that has it, and what a
    /// shorter beginning has in that one.
    fn scripts(&self) -> Vec<Script> {
        let mut played: Vec<Vec<Step>> = Vec::new();
        let script = |end: Vec<Step>| {
            let first = played.is_empty();
            let new = |to: usize| !played.iter().any(|other| other.starts_with(&end[..to]));
            let mut crashed = vec![false; self.steps.len() - 1];
            crashed.push(first);
            crashed.extend((1..=end.len()).map(new));
            let steps = [&self.steps[..], &end].concat();
            played.push(end);
            Script { steps, crashed }
        };
        self.ends().into_iter().map(script).collect()
    }
}

/// All beginnings up to a length of these operations and all that can be asked.
fn beginnings(first: Step, longest: usize, works: &[Operation]) -> Vec<Begun> {
    let begun = Begun { steps: Vec::new(), model: beginning(), new: false };
    let mut all = vec![Begun { new: false, ..begun.with(first) }];
    let works = works.iter().map(|operation| Step::Do(*operation));
    let steps: Vec<_> = works.chain(ASKED).collect();
    let mut from = 0;
    for _ in 0..longest {
        let to = all.len();
        for at in from..to {
            let next = steps.iter().filter(|step| all[at].may(**step));
            let next: Vec<_> = next.map(|step| all[at].with(*step)).collect();
            all.extend(next);
        }
        from = to;
    }
    all.retain(|begun| begun.new);
    all
}

/// Sends under numbers in no transaction: each is true when it is answered.
fn alone() -> Vec<Script> {
    let script = |steps: Vec<Step>| Script { crashed: vec![true; steps.len()], steps };
    let pairs =
        NUMBERED.map(|first| NUMBERED.map(|next| script(vec![Step::Do(first), Step::Do(next)])));
    pairs.into_iter().flatten().collect()
}

/// All pairs of everything, and triples of `FEW` and all that can be asked.
fn scripts(longest: usize) -> Vec<Script> {
    let every = [&OPERATIONS[..], &NUMBERED].concat();
    let mut all = alone();
    for first in [Step::Begin, Step::Start] {
        let pairs = beginnings(first, longest.min(2), &every);
        let mut triples = beginnings(first, longest, &FEW);
        // The step before them all is one, too.
        triples.retain(|begun| begun.steps.len() > 3);
        all.extend(pairs.iter().chain(&triples).flat_map(Begun::scripts));
    }
    all
}

#[test]
fn everything_asked_of_a_branch_or_numbered_crashed_at_every_step_is_whole_or_undone() {
    let scripts = scripts(OPERATIONS_MAX);
    let tried = [Pace::Single, Pace::Gathered].map(|pace| play_all(&scripts, pace));
    println!("{} scripts, {tried:?}", scripts.len());
    // Fewer would not be all of them.
    let single = Tried { points: 14_848, decided: 2_594 };
    let gathered = Tried { points: 9_992, decided: 1_696 };
    assert_eq!(tried, [single, gathered]);
}

#[test]
fn scripts_catch_defects_of_what_else_is_asked() {
    let scripts = scripts(1);
    for (mutant, says) in [
        (Mutant::KeepNumbers, "1 sent again: Ok(Repeated), not Ok(Done)"),
        (Mutant::ForgetLent, "redelivered: false"),
        (Mutant::CommitOpen, "number: 1"),
    ] {
        catch(mutant, &scripts, says);
    }
}
