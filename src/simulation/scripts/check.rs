//! What a crash has left, compared with the model, and what is asked again after it.
//!
//! Who has heard no answer asks again: what has happened must not happen twice, and what has not
//! happened must happen then. A manager commits its branch, and forgets what an operator has
//! decided of it; a program sends under the same numbers, and commits under the same name.

use crate::broker::command::{Command, Once, Refusal, Reply, Vote, XaError};
use crate::broker::delta::Resolution;
use crate::ids::Xid;
use crate::io::sim::SimDisk;

use super::model::{Bond, Model, Phase, Standing};
use super::play::{
    Actor, Answer, Checked, NAME, Tried, commit_name, commit_once, numbered, send, xid,
};
use super::{Operation, RETURN, Script, Step};

/// What is sent under numbers after a crash is numbered from here.
const AGAIN: u64 = 30;
/// Numbers of the producer that are used in scripts, and one that is not.
const SEQUENCES: [u64; 3] = [1, 2, 3];
/// What is sent in a transaction that is committed again.
const COMMITTED: u64 = 40;

const COMMIT: Step = Step::Outcome(Resolution::Commit, RETURN);
const ROLLBACK: Step = Step::Outcome(Resolution::Rollback, RETURN);

/// Recovers a crashed disk, which must be as one of these models says.
pub(super) fn check(
    disk: &SimDisk,
    allowed: &[Model],
    script: &Script,
    tried: &mut Tried,
) -> Checked {
    let again = disk.kill();
    let mut actor = Actor::recover(disk)?;
    let found = actor.found()?;
    let branches = actor.branches()?;
    let mut allowed: Vec<Model> = allowed.iter().map(Model::crashed).collect();
    allowed.dedup();
    let as_found = |it: &&Model| it.found() == found && listed(it.phase) == branches;
    let candidates: Vec<_> = allowed.iter().filter(as_found).collect();
    let Some((first, others)) = candidates.split_first() else {
        let allowed = allowed.iter().map(|it| (it.found(), listed(it.phase)));
        let allowed: Vec<_> = allowed.collect();
        return Err(format!("found {found:?} and {branches:?}; allowed is {allowed:?}"));
    };
    tried.decided += u64::from(first.phase == Phase::Prepared);
    let mut checked = check_answers(actor, &again, first, script);
    // What is only remembered is not found by looking.
    for other in others {
        if checked.is_ok() {
            break;
        }
        let other = check_answers(Actor::recover(&again.kill())?, &again, other, script);
        checked = checked.or(other);
    }
    checked
}

/// Asks what the model says the answers to.
fn check_answers(mut actor: Actor, again: &SimDisk, model: &Model, script: &Script) -> Checked {
    let mut model = model.clone();
    if model.phase == Phase::Prepared {
        let (mut actor, mut model) = (Actor::recover(&again.kill())?, model.clone());
        decide(&mut actor, &mut model, ROLLBACK)?;
        send_again(&mut actor, &mut model, script)?;
        expect(&actor.drain()?, &model.delivered(), "rolled back after a start")?;
    }
    if script.has_commit() {
        ask_of_commit(&mut Actor::recover(&again.kill())?, &model)?;
    }
    send_again(&mut actor, &mut model, script)?;
    decide(&mut actor, &mut model, COMMIT)?;
    send_again(&mut actor, &mut model, script)?;
    forget(&mut actor, &mut model)?;
    if script.has_commit() {
        commit_again(&mut actor, &mut model)?;
    }
    expect(&actor.drain()?, &model.delivered(), "after a start")
}

/// A manager asks for an outcome.
fn decide(actor: &mut Actor, model: &mut Model, step: Step) -> Checked {
    let answer = actor.decide(step)?;
    expect(&answer, &expected_answer(step, model), &format!("{step:?} after a start"))?;
    model.take(step, 0);
    Ok(())
}

/// A manager has heard what an operator decided.
fn forget(actor: &mut Actor, model: &mut Model) -> Checked {
    if let Phase::Decided(_) = model.phase {
        decide(actor, model, Step::Forget)?;
        expect(&actor.branches()?, &Vec::new(), "forgotten")?;
        decide(actor, model, COMMIT)?;
    }
    Ok(())
}

/// A producer that has heard nothing sends again under its numbers.
fn send_again(actor: &mut Actor, model: &mut Model, script: &Script) -> Checked {
    if !script.has_numbers() {
        return Ok(());
    }
    for sequence in SEQUENCES {
        let (queue, number) = (0, AGAIN + sequence);
        let command = Once::numbered(numbered(sequence), send(queue, number, true));
        let answer = actor.try_ask(Command::Once(command))?;
        let expected = match model.standing(sequence) {
            Standing::Free => Ok(Reply::Done),
            Standing::Pending => Err(Refusal::NumberPending),
            Standing::Taken => Ok(Reply::Repeated),
        };
        expect(&answer, &expected, &format!("{sequence} sent again"))?;
        if answer == Ok(Reply::Done) {
            model.send(queue, number, Some(sequence));
        }
    }
    Ok(())
}

/// A program that has heard nothing of its commit does it again, and once more.
fn commit_again(actor: &mut Actor, model: &mut Model) -> Checked {
    let (queue, transaction) = (1, NAME);
    for _ in 0..2 {
        actor.ask(Command::Begin { transaction })?;
        actor.ask(send(queue, COMMITTED, true).within(Some(transaction)))?;
        let expected = if model.committed { Reply::Repeated } else { Reply::Done };
        expect(&actor.ask(commit_once())?, &expected, "committed again")?;
        if !model.committed {
            model.send(queue, COMMITTED, None);
            model.committed = true;
        }
    }
    Ok(())
}

/// A program that has heard nothing of its commit asks what became of it.
fn ask_of_commit(actor: &mut Actor, model: &Model) -> Checked {
    let outcome = Command::Once(Once::outcome(commit_name()));
    let expected = if model.committed { Reply::Repeated } else { Reply::NotCommitted };
    for _ in 0..2 {
        expect(&actor.ask(outcome.clone())?, &expected, "asked what became of the commit")?;
    }
    // What was said is true for ever.
    let transaction = NAME;
    actor.ask(Command::Begin { transaction })?;
    let expected = if model.committed { Ok(Reply::Repeated) } else { Err(Refusal::CommitVoid) };
    expect(&actor.try_ask(commit_once())?, &expected, "committed after the question")?;
    expect(&actor.drain()?, &model.delivered(), "after the question")
}

pub(super) fn expect<T: PartialEq + std::fmt::Debug>(
    found: &T,
    expected: &T,
    what: &str,
) -> Checked {
    let same = found == expected;
    if same { Ok(()) } else { Err(format!("{what}: {found:?}, not {expected:?}")) }
}

/// What a step is answered, by the model before it.
pub(super) fn expected_answer(step: Step, before: &Model) -> Answer {
    let xa = |error| Err(Refusal::Xa(error));
    match (step, before.broken) {
        (Step::Do(operation), why) => expected_of_operation(operation, why, before),
        // Who works in it hears at its next step that it was undone.
        (Step::Join | Step::Resume, Some(why)) => xa(why),
        (Step::Leave | Step::End | Step::Suspend | Step::Fail, Some(why)) => xa(why),
        (Step::Prepare | Step::OnePhase, Some(why)) if before.is_free() => xa(why),
        (Step::Prepare, _) => expected_vote(before),
        (Step::OnePhase | Step::Outcome(..) | Step::Decide(_) | Step::Forget, _) => {
            expected_end(step, before)
        }
        _ => Ok(Reply::Done),
    }
}

fn expected_of_operation(operation: Operation, why: Option<XaError>, before: &Model) -> Answer {
    let by_other = before.sends_by_other() && !matches!(operation, Operation::Settle { .. });
    if before.bond == Bond::Rests && !by_other {
        return Err(Refusal::Xa(XaError::Proto));
    }
    if let Some(why) = why {
        return Err(Refusal::RollbackOnly { because: Box::new(Refusal::Xa(why)) });
    }
    match operation {
        Operation::Number { sequence, .. } if before.standing(sequence) != Standing::Free => {
            Ok(Reply::Repeated)
        }
        _ => Ok(Reply::Done),
    }
}

fn expected_vote(before: &Model) -> Answer {
    let xa = |error| Err(Refusal::Xa(error));
    match before.phase {
        Phase::None => xa(XaError::NotA),
        Phase::Open if !before.is_free() => xa(XaError::Proto),
        Phase::Open if before.is_empty() => Ok(Reply::Vote(Vote::ReadOnly)),
        Phase::Open => Ok(Reply::Vote(Vote::Ok)),
        Phase::Over(Resolution::Rollback) => xa(XaError::RbRollback),
        Phase::Prepared | Phase::Over(_) | Phase::Decided(_) => xa(XaError::Proto),
    }
}

/// What who ends a branch is answered, or who forgets it.
fn expected_end(step: Step, before: &Model) -> Answer {
    use Resolution::{Commit, Rollback};
    let xa = |error| Err(Refusal::Xa(error));
    match (step, before.phase) {
        (_, Phase::None) => xa(XaError::NotA),
        (Step::Forget, Phase::Decided(_)) => Ok(Reply::Done),
        (Step::Forget | Step::Decide(_), Phase::Over(_)) => xa(XaError::NotA),
        (Step::Decide(_), Phase::Prepared) => Ok(Reply::Done),
        (Step::Forget | Step::Decide(_), _) => xa(XaError::Proto),
        (_, Phase::Decided(Commit)) => xa(XaError::HeurCommit),
        (_, Phase::Decided(Rollback)) => xa(XaError::HeurRollback),
        (Step::OnePhase | Step::Outcome(Rollback, _), Phase::Open) if before.is_free() => {
            Ok(Reply::Done)
        }
        (Step::Outcome(..), Phase::Prepared) => Ok(Reply::Done),
        (_, Phase::Open | Phase::Prepared) => xa(XaError::Proto),
        (Step::OnePhase | Step::Outcome(Commit, _), Phase::Over(Commit)) => Ok(Reply::Done),
        (Step::OnePhase, Phase::Over(Rollback)) => xa(XaError::RbRollback),
        // In two phases nobody commits what was rolled back: there is no such branch.
        (Step::Outcome(Commit, _), Phase::Over(Rollback)) => xa(XaError::NotA),
        (_, Phase::Over(Rollback)) => Ok(Reply::Done),
        (_, Phase::Over(Commit)) => xa(XaError::Proto),
    }
}

/// What recovery lists.
fn listed(phase: Phase) -> Vec<(Xid, Option<Resolution>)> {
    let decided = match phase {
        Phase::Prepared => None,
        Phase::Decided(resolution) => Some(resolution),
        _ => return Vec::new(),
    };
    vec![(Xid::clone(&xid()), decided)]
}
