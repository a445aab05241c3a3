//! What a transaction manager may ask of a branch, and what comes of it: one pure table.
//!
//! Owns the error codes of the XA specification and the answer to every verb in every state.
//! Leaves to others: how a state is found, and how a step is taken.

use crate::broker::delta::Resolution;

/// A code of the XA specification that says no, or what has become of a branch.
///
/// Those that are not here are never true: branches wait for no lock and break no constraint
/// (`RBDEADLOCK`, `RBINTEGRITY`), a step out of turn changes nothing (`RBPROTO`), a branch ends as
/// a whole (`HEURMIX`, `HEURHAZ`), every step is answered when it is done (`ASYNC`), and a broker
/// knows no threads, and no work outside of branches that excludes one (`NOMIGRATE`, `OUTSIDE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the specification, and tell the rest")]
#[repr(i32)]
pub enum XaError {
    RbRollback = 100,
    RbCommFail = 101,
    RbOther = 104,
    RbTimeout = 106,
    RbTransient = 107,
    HeurCommit = 7,
    HeurRollback = 6,
    Retry = 4,
    RmErr = -3,
    NotA = -4,
    Inval = -5,
    Proto = -6,
    RmFail = -7,
    DupId = -8,
}

impl XaError {
    /// The number that the specification gives it.
    #[must_use]
    pub fn code(self) -> i32 {
        self as i32
    }

    fn words(self) -> &'static str {
        match self {
            Self::RbRollback => "XA_RBROLLBACK: the branch was rolled back",
            Self::RbCommFail => {
                "XA_RBCOMMFAIL: rolled back, because a connection that worked in it ended"
            }
            Self::RbOther => "XA_RBOTHER: the branch was rolled back",
            Self::RbTimeout => "XA_RBTIMEOUT: rolled back, because it took longer than its time",
            Self::RbTransient => "XA_RBTRANSIENT: rolled back; the same may work later",
            Self::HeurCommit => "XA_HEURCOM: an operator has committed the branch",
            Self::HeurRollback => "XA_HEURRB: an operator has rolled the branch back",
            Self::Retry => "XA_RETRY: not now; the same may work later",
            Self::RmErr => "XAER_RMERR: the broker cannot do this",
            Self::NotA => "XAER_NOTA: there is no such branch",
            Self::Inval => "XAER_INVAL: the arguments make no sense",
            Self::Proto => "XAER_PROTO: the branch is in no state for this",
            Self::RmFail => "XAER_RMFAIL: the broker cannot do this now",
            Self::DupId => "XAER_DUPID: there is such a branch already",
        }
    }
}

impl std::fmt::Display for XaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.words())
    }
}

/// Who is associated with a branch, as one association sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bond {
    /// Nobody: the branch is idle.
    Free,
    /// Others than the one who asks.
    Others,
    /// The one who asks.
    Mine,
    /// The one who asks, suspended.
    Suspended,
}

/// What is in an open branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nothing.
    Empty,
    /// Work.
    Sound,
    /// It can only be rolled back, for this cause.
    Broken(XaError),
}

/// The state of a branch, for the one who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing is known of it.
    Absent,
    /// It takes work.
    Open(Bond, Health),
    /// It has voted.
    Prepared,
    /// An operator has decided it.
    Heuristic(Resolution),
    /// It has ended, and that is remembered.
    Done(Resolution),
}

/// How an association begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAs {
    /// `TMNOFLAGS`: with a new branch.
    New,
    /// `TMJOIN`: with a branch that there is.
    Join,
    /// With a branch that there is, or with a new one: for a wire that tells no difference.
    Either,
    /// `TMRESUME`: one that was suspended goes on.
    Resume,
}

/// How an association ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndAs {
    /// `TMSUCCESS`: its work is done.
    Success,
    /// `TMFAIL`: the branch can only be rolled back.
    Fail,
    /// The same where it may repeat one that has ended: that is not forgotten for it.
    Lost,
    /// `TMSUSPEND`: it does not end, and rests.
    Suspend,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Start(StartAs),
    End(EndAs),
    Prepare,
    Commit {
        one_phase: bool,
    },
    Rollback,
    Forget,
    /// An operator decides.
    Decide(Resolution),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Begin,
    Join,
    Resume,
    Suspend,
    /// The association ends; where there is a cause, the branch is broken, and that is the answer
    /// if it was before.
    Leave(Option<XaError>),
    LeaveBroken(XaError),
    /// The branch goes, and its vote is that there was nothing.
    ReadOnly,
    Prepare,
    /// The branch is rolled back and goes, and this is the answer.
    Break(XaError),
    /// An open branch is committed.
    CommitOpen,
    RollbackOpen,
    /// A prepared one gets its outcome.
    Complete(Resolution),
    /// It gets it from an operator.
    Decide(Resolution),
    Forget,
    /// It was done before: the answer is yes.
    Repeat,
}

/// What a verb comes to in a state.
pub(crate) fn next(state: State, verb: Verb) -> Result<Step, XaError> {
    match (verb, state) {
        (Verb::Start(how), state) => start(state, how),
        (Verb::End(how), state) => end(state, how),
        // The only verb whose answer for an end that is remembered is as if nothing were.
        (Verb::Forget, State::Absent | State::Done(_)) => Err(XaError::NotA),
        (Verb::Decide(_), State::Absent | State::Done(_)) => Err(XaError::NotA),
        (_, State::Absent) => Err(XaError::NotA),
        (Verb::Forget, State::Heuristic(_)) => Ok(Step::Forget),
        (Verb::Decide(resolution), State::Prepared) => Ok(Step::Decide(resolution)),
        (Verb::Forget | Verb::Decide(_), _) => Err(XaError::Proto),
        (Verb::Prepare, state) => prepare(state),
        (Verb::Commit { one_phase }, state) => commit(state, one_phase),
        (Verb::Rollback, state) => rollback(state),
    }
}

fn start(state: State, how: StartAs) -> Result<Step, XaError> {
    match (how, state) {
        // A name may be used again; what is remembered of it is the newest.
        (StartAs::New | StartAs::Either, State::Absent | State::Done(_)) => Ok(Step::Begin),
        (StartAs::New, _) => Err(XaError::DupId),
        (_, State::Absent | State::Done(_)) => Err(XaError::NotA),
        (StartAs::Join | StartAs::Either, State::Open(Bond::Mine | Bond::Suspended, _)) => {
            Err(XaError::Proto)
        }
        (StartAs::Resume, State::Open(Bond::Free | Bond::Others | Bond::Mine, _)) => {
            Err(XaError::Proto)
        }
        (_, State::Open(_, Health::Broken(why))) => Err(why),
        (StartAs::Join | StartAs::Either, State::Open(..)) => Ok(Step::Join),
        (StartAs::Resume, State::Open(..)) => Ok(Step::Resume),
        (_, State::Prepared | State::Heuristic(_)) => Err(XaError::Proto),
    }
}

fn end(state: State, how: EndAs) -> Result<Step, XaError> {
    match (how, state) {
        (_, State::Absent | State::Done(_)) => Err(XaError::NotA),
        (EndAs::Suspend, State::Open(Bond::Suspended, _)) => Err(XaError::Proto),
        // Told at the first chance; the association is over all the same.
        (_, State::Open(Bond::Mine | Bond::Suspended, Health::Broken(why))) => {
            Ok(Step::LeaveBroken(why))
        }
        (EndAs::Success, State::Open(Bond::Mine | Bond::Suspended, _)) => Ok(Step::Leave(None)),
        (EndAs::Fail | EndAs::Lost, State::Open(Bond::Mine | Bond::Suspended, _)) => {
            Ok(Step::Leave(Some(XaError::RbRollback)))
        }
        (EndAs::Suspend, State::Open(Bond::Mine, _)) => Ok(Step::Suspend),
        _ => Err(XaError::Proto),
    }
}

fn prepare(state: State) -> Result<Step, XaError> {
    match state {
        State::Open(Bond::Free, Health::Empty) => Ok(Step::ReadOnly),
        State::Open(Bond::Free, Health::Sound) => Ok(Step::Prepare),
        // After this vote nobody asks for a rollback.
        State::Open(Bond::Free, Health::Broken(why)) => Ok(Step::Break(why)),
        State::Done(Resolution::Rollback) => Err(XaError::RbRollback),
        _ => Err(XaError::Proto),
    }
}

fn commit(state: State, one_phase: bool) -> Result<Step, XaError> {
    match (state, one_phase) {
        (State::Open(Bond::Free, Health::Broken(why)), true) => Ok(Step::Break(why)),
        (State::Open(Bond::Free, _), true) => Ok(Step::CommitOpen),
        (State::Prepared, false) => Ok(Step::Complete(Resolution::Commit)),
        (State::Heuristic(resolution), _) => Err(heuristic(resolution)),
        (State::Done(Resolution::Commit), _) => Ok(Step::Repeat),
        (State::Done(Resolution::Rollback), true) => Err(XaError::RbRollback),
        // With two phases the specification has no code that says rolled back, for only a manager
        // that has asked for that itself comes here: what it names is no branch any more.
        (State::Done(Resolution::Rollback), false) => Err(XaError::NotA),
        _ => Err(XaError::Proto),
    }
}

fn rollback(state: State) -> Result<Step, XaError> {
    match state {
        State::Open(Bond::Free, _) => Ok(Step::RollbackOpen),
        State::Prepared => Ok(Step::Complete(Resolution::Rollback)),
        State::Heuristic(resolution) => Err(heuristic(resolution)),
        State::Done(Resolution::Rollback) => Ok(Step::Repeat),
        // Never a yes to what is not so: the one who asks is to look.
        _ => Err(XaError::Proto),
    }
}

fn heuristic(resolution: Resolution) -> XaError {
    match resolution {
        Resolution::Commit => XaError::HeurCommit,
        Resolution::Rollback => XaError::HeurRollback,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list in which nothing can be missing: each is a pattern too, and what matches none of them
    /// does not compile. It may have a row of answers.
    macro_rules! whole {
        ($it:ident: $type:ty { $([$($each:tt)+] $($row:literal)?)+ } $(and $more:pat)?) => {
            impl $type {
                #[expect(dead_code, reason = "that it compiles is all")]
                fn is_listed(self) {
                    match self {
                        $($($each)+ => {})+
                        $($more => {})?
                    }
                }
            }
            const $it: &[($type, &str)] = &[$(($($each)+, concat!($($row)?))),+];
        };
    }

    use Bond::{Free, Mine, Others, Suspended};
    use Health::{Broken, Empty, Sound};
    use Resolution::{Commit, Rollback};
    use State::{Absent, Done, Heuristic, Open, Prepared};

    whole!(VERBS: Verb {
        [Verb::Start(StartAs::New)]
        [Verb::Start(StartAs::Join)]
        [Verb::Start(StartAs::Either)]
        [Verb::Start(StartAs::Resume)]
        [Verb::End(EndAs::Success)]
        [Verb::End(EndAs::Fail)]
        [Verb::End(EndAs::Lost)]
        [Verb::End(EndAs::Suspend)]
        [Verb::Prepare]
        [Verb::Commit { one_phase: true }]
        [Verb::Commit { one_phase: false }]
        [Verb::Rollback]
        [Verb::Forget]
        [Verb::Decide(Commit)]
        [Verb::Decide(Rollback)]
    });

    // One cause stands for all: the table hands it on.
    const TIMEOUT: XaError = XaError::RbTimeout;

    // The columns are those of VERBS.
    whole!(STATES: State {
        [Absent] "begin -4 begin -4  -4 -4 -4 -4  -4  -4 -4 -4  -4 -4 -4"
        [Open(Free, Empty)] "-8 join join -6  -6 -6 -6 -6  rdonly  do -6 undo  -6 -6 -6"
        [Open(Free, Sound)] "-8 join join -6  -6 -6 -6 -6  vote  do -6 undo  -6 -6 -6"
        [Open(Free, Broken(TIMEOUT))] "-8 106 106 -6  -6 -6 -6 -6  undo!  undo! -6 undo  -6 -6 -6"
        [Open(Others, Empty)] "-8 join join -6  -6 -6 -6 -6  -6  -6 -6 -6  -6 -6 -6"
        [Open(Others, Sound)] "-8 join join -6  -6 -6 -6 -6  -6  -6 -6 -6  -6 -6 -6"
        [Open(Others, Broken(TIMEOUT))] "-8 106 106 -6  -6 -6 -6 -6  -6  -6 -6 -6  -6 -6 -6"
        [Open(Mine, Empty)] "-8 -6 -6 -6  leave break break rest  -6  -6 -6 -6  -6 -6 -6"
        [Open(Mine, Sound)] "-8 -6 -6 -6  leave break break rest  -6  -6 -6 -6  -6 -6 -6"
        [Open(Mine, Broken(TIMEOUT))] "-8 -6 -6 -6 out! out! out! out! -6 -6 -6 -6 -6 -6 -6"
        [Open(Suspended, Empty)] "-8 -6 -6 resume  leave break break -6  -6  -6 -6 -6  -6 -6 -6"
        [Open(Suspended, Sound)] "-8 -6 -6 resume  leave break break -6  -6  -6 -6 -6  -6 -6 -6"
        [Open(Suspended, Broken(TIMEOUT))] "-8 -6 -6 106 out! out! out! -6 -6 -6 -6 -6 -6 -6 -6"
        [Prepared] "-8 -6 -6 -6  -6 -6 -6 -6  -6  -6 commit roll  -6 hcom hrb"
        [Heuristic(Commit)] "-8 -6 -6 -6  -6 -6 -6 -6  -6  7 7 7  forget -6 -6"
        [Heuristic(Rollback)] "-8 -6 -6 -6  -6 -6 -6 -6  -6  6 6 6  forget -6 -6"
        [Done(Commit)] "begin -4 begin -4  -4 -4 -4 -4  -6  yes yes -6  -4 -4 -4"
        [Done(Rollback)] "begin -4 begin -4  -4 -4 -4 -4  100  100 -4 yes  -4 -4 -4"
    } and Open(Free | Others | Mine | Suspended, Broken(_)));

    fn short(result: Result<Step, XaError>) -> &'static str {
        match result {
            Ok(Step::Begin) => "begin",
            Ok(Step::Join) => "join",
            Ok(Step::Resume) => "resume",
            Ok(Step::Suspend) => "rest",
            Ok(Step::Leave(None)) => "leave",
            Ok(Step::Leave(Some(_))) => "break",
            Ok(Step::LeaveBroken(XaError::RbTimeout)) => "out!",
            Ok(Step::ReadOnly) => "rdonly",
            Ok(Step::Prepare) => "vote",
            Ok(Step::Break(XaError::RbTimeout)) => "undo!",
            Ok(Step::CommitOpen) => "do",
            Ok(Step::RollbackOpen) => "undo",
            Ok(Step::Complete(Commit)) => "commit",
            Ok(Step::Complete(Rollback)) => "roll",
            Ok(Step::Decide(Commit)) => "hcom",
            Ok(Step::Decide(Rollback)) => "hrb",
            Ok(Step::Forget) => "forget",
            Ok(Step::Repeat) => "yes",
            Ok(Step::LeaveBroken(_) | Step::Break(_)) => "another cause",
            Err(XaError::RbTimeout) => "106",
            Err(XaError::RbRollback) => "100",
            Err(XaError::HeurCommit) => "7",
            Err(XaError::HeurRollback) => "6",
            Err(XaError::NotA) => "-4",
            Err(XaError::Proto) => "-6",
            Err(XaError::DupId) => "-8",
            Err(_) => "another code",
        }
    }

    #[test]
    fn every_verb_has_its_answer_in_every_state() {
        for (state, row) in STATES {
            let answers: Vec<_> =
                VERBS.iter().map(|(verb, _)| short(next(*state, *verb))).collect();
            assert_eq!(answers, row.split_whitespace().collect::<Vec<_>>(), "{state:?}");
        }
    }

    #[test]
    fn codes_are_those_of_the_specification() {
        let codes = [
            (XaError::RbRollback, 100),
            (XaError::RbCommFail, 101),
            (XaError::RbOther, 104),
            (XaError::RbTimeout, 106),
            (XaError::RbTransient, 107),
            (XaError::HeurCommit, 7),
            (XaError::HeurRollback, 6),
            (XaError::Retry, 4),
            (XaError::RmErr, -3),
            (XaError::NotA, -4),
            (XaError::Inval, -5),
            (XaError::Proto, -6),
            (XaError::RmFail, -7),
            (XaError::DupId, -8),
        ];
        assert!(codes.iter().all(|(error, code)| error.code() == *code));
    }
}
