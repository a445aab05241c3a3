//! Every short transaction there is, crashed at every step of its protocol: where the rest of the
//! simulation draws from a seed, nothing is left to chance here.
//!
//! A script is up to three operations on two queues, in a local transaction or in a branch, and an
//! end. It is crashed around every write to the log and after every answer; what a start then
//! finds is compared with a plain model (`model`), message by message: either all of the
//! transaction or nothing, as far as the log went. Branches that have voted are then decided both
//! ways, and whoever has heard nothing asks again (`check`). `play` drives the engine and makes the
//! crashes.
//!
//! The first alphabet is what is sent and settled, in all triples and with all ends: commits under
//! a name and what an operator decides and a manager forgets are among these. The second (`wide`)
//! is sends under numbers and what happens to a branch meanwhile: others join it and go, it rests
//! and goes on, fails, and takes too long. What needs no crash, and is told from the same place,
//! is in `doomed`, `renewed`, `upkeep` and `warned`.

mod check;
mod doomed;
mod model;
mod play;
mod renewed;
mod upkeep;
mod warned;
mod wide;

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::broker::command::Disposition;
use crate::broker::delta::Resolution;
use crate::mutant::{self, Mutant};

use play::{Base, Pace, Tried};

/// Operations of a script at most.
const OPERATIONS_MAX: usize = 3;

/// What can be done in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Send {
        queue: usize,
        persistent: bool,
    },
    /// A send under a number of its producer's.
    Number {
        queue: usize,
        sequence: u64,
    },
    /// Settles the next delivery of a queue.
    Settle {
        queue: usize,
        returned: bool,
    },
}

const OPERATIONS: [Operation; 8] = [
    Operation::Send { queue: 0, persistent: true },
    Operation::Send { queue: 0, persistent: false },
    Operation::Send { queue: 1, persistent: true },
    Operation::Send { queue: 1, persistent: false },
    Operation::Settle { queue: 0, returned: false },
    Operation::Settle { queue: 0, returned: true },
    Operation::Settle { queue: 1, returned: false },
    Operation::Settle { queue: 1, returned: true },
];

/// One thing that is asked, or that happens to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Begin,
    Start,
    /// In no transaction where none has begun. What is sent in a branch is sent by the other
    /// connection where that has joined it.
    Do(Operation),
    Commit,
    /// The same under a name that no other commit has.
    CommitOnce,
    Rollback(Disposition),
    /// Another connection joins the branch.
    Join,
    /// Its association ends.
    Leave,
    /// It is gone.
    LoseOther,
    /// The association with the branch rests.
    Suspend,
    Resume,
    /// The association with the branch ends.
    End,
    /// The same, and the branch can only be rolled back.
    Fail,
    /// So much time goes by that a branch that has not voted has taken too long.
    Expire,
    Prepare,
    OnePhase,
    /// The outcome of a branch, from its manager.
    Outcome(Resolution, Disposition),
    /// The same, from an operator.
    Decide(Resolution),
    /// Its manager has heard that, and nobody need remember it.
    Forget,
    /// The connection is gone.
    Lose,
}

const RETURN: Disposition = Disposition::Return;
const KEEP: Disposition = Disposition::Keep;

/// How a local transaction ends. What comes before the last step is crashed in the script that
/// ends there.
const LOCAL_ENDS: [&[Step]; 5] = [
    &[Step::Lose],
    &[Step::Commit],
    &[Step::CommitOnce],
    &[Step::Rollback(RETURN)],
    &[Step::Rollback(KEEP)],
];

/// How a branch ends.
const BRANCH_ENDS: [&[Step]; 13] = {
    use Step::{Decide, End, Forget, Lose, OnePhase, Outcome, Prepare};
    const COMMIT: Resolution = Resolution::Commit;
    const ROLLBACK: Resolution = Resolution::Rollback;
    [
        &[Lose],
        &[End, Lose],
        &[End, OnePhase],
        &[End, Outcome(ROLLBACK, RETURN)],
        &[End, Outcome(ROLLBACK, KEEP)],
        &[End, Prepare, Lose],
        &[End, Prepare, Outcome(COMMIT, RETURN)],
        &[End, Prepare, Outcome(ROLLBACK, RETURN)],
        &[End, Prepare, Outcome(ROLLBACK, KEEP)],
        &[End, Prepare, Decide(COMMIT)],
        &[End, Prepare, Decide(ROLLBACK)],
        &[End, Prepare, Decide(COMMIT), Forget],
        &[End, Prepare, Decide(ROLLBACK), Forget],
    ]
};

/// The steps of a script, and where crashes are tried: each beginning that several scripts share
/// is crashed in one of them.
#[derive(Clone, Debug)]
struct Script {
    steps: Vec<Step>,
    crashed: Vec<bool>,
}

impl Script {
    fn new(first: Step, operations: &[Operation], end: &[Step]) -> Self {
        let mut steps = vec![first];
        steps.extend(operations.iter().map(|operation| Step::Do(*operation)));
        let last_of_work = steps.len() - 1;
        steps.extend(end);
        let last = steps.len() - 1;
        let crashed = |(at, step): (usize, &Step)| {
            let lost = end[end.len() - 1] == Step::Lose;
            let shared = lost && (end.len() == 1 && at == last_of_work || *step == Step::Prepare);
            at == last || shared
        };
        let crashed = steps.iter().enumerate().map(crashed).collect();
        Self { steps, crashed }
    }

    /// Something is sent under a number.
    fn has_numbers(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Do(Operation::Number { .. })))
    }

    /// Something is committed under a name.
    fn has_commit(&self) -> bool {
        self.steps.contains(&Step::CommitOnce)
    }
}

/// All sequences of operations up to a length.
fn sequences(longest: usize) -> Vec<Vec<Operation>> {
    let mut all = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..longest {
        let to = all.len();
        for at in from..to {
            for operation in OPERATIONS {
                let mut longer: Vec<Operation> = all[at].clone();
                longer.push(operation);
                all.push(longer);
            }
        }
        from = to;
    }
    all
}

fn scripts(longest: usize) -> Vec<Script> {
    let mut all = Vec::new();
    for operations in sequences(longest) {
        all.extend(LOCAL_ENDS.map(|end| Script::new(Step::Begin, &operations, end)));
        all.extend(BRANCH_ENDS.map(|end| Script::new(Step::Start, &operations, end)));
    }
    all
}

fn play_all(scripts: &[Script], pace: Pace) -> Tried {
    let base = Base::new();
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut tried = Tried::default();
        while let Some(script) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = base.play(script, pace, &mut tried);
            result.unwrap_or_else(|problem| panic!("{:?}: {problem}", script.steps));
        }
        tried
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(worker);
        let tried = worker();
        tried.and(other.join().expect("the script is in the panic's message"))
    })
}

#[test]
fn every_script_crashed_at_every_step_is_whole_or_undone() {
    let scripts = scripts(OPERATIONS_MAX);
    assert_eq!(scripts.len(), (1 + 8 + 64 + 512) * (LOCAL_ENDS.len() + BRANCH_ENDS.len()));
    let tried = [Pace::Single, Pace::Gathered].map(|pace| play_all(&scripts, pace));
    println!("{} scripts, {tried:?}", scripts.len());
    // Fewer would not be all of them.
    let single = Tried { points: 47_840, decided: 6_752 };
    let gathered = Tried { points: 36_664, decided: 4_580 };
    assert_eq!(tried, [single, gathered]);
}

#[test]
fn scripts_catch_defects_of_transactions() {
    let scripts = scripts(1);
    for (mutant, says) in [
        (Mutant::AnswerBeforeSync, "CommitOnce as step 1: Told: asked what became of the commit"),
        (Mutant::ForgetLent, "number: 1, returns: 0, redelivered: false"),
        (Mutant::ForgetHolds, "left says 1 are held, and 0 are"),
        (Mutant::CommitOpen, "number: 11, returns: 0"),
        (Mutant::ForgetPrepared, "Prepare as step 3: Whole: found"),
        (Mutant::ForgetOutcomes, "Err(Xa(NotA)), not Ok(Done)"),
        (Mutant::ForgetDecisions, "Decide(Commit) as step 4: Whole: found"),
        (Mutant::ForgetNames, "asked what became of the commit: NotCommitted, not Repeated"),
    ] {
        catch(mutant, &scripts, says);
    }
}

/// A defect is caught by one of these scripts, which says so.
fn catch(mutant: Mutant, scripts: &[Script], says: &str) {
    mutant::set(Some(mutant));
    let base = Base::new();
    let mut played =
        scripts.iter().map(|script| base.play(script, Pace::Single, &mut Tried::default()));
    let caught = played.find_map(Result::err);
    mutant::set(None);
    let caught = caught.unwrap_or_else(|| panic!("nobody noticed {mutant:?}"));
    assert!(caught.contains(says), "{mutant:?}: {caught}");
}
