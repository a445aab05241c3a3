//! What the commands about branches print for a person.

use std::fmt::Write;

use super::Decision;
use crate::cli::CliError;
use crate::cli::queue::print::{age, plain};
use crate::ids::Millis;
use crate::server::words::{BranchLine, BranchState, BranchesEnd};

const ENOUGH: &str = "a string takes all";

/// A branch in a few lines.
pub(in crate::cli) fn branch(now: Millis, branch: &BranchLine) -> String {
    let BranchLine { xid, sent, settled, .. } = branch;
    let since = age(now, Some(branch.at));
    let mut text = format!("{xid}  {} {since} ago", state(branch.state));
    if let Some(client) = &branch.client {
        write!(text, ", begun by {}", plain(client)).expect(ENOUGH);
    }
    text.push('\n');
    writeln!(text, "    sent {sent}, settled {settled}").expect(ENOUGH);
    if branch.state != BranchState::Prepared {
        return text;
    }
    for work in &branch.queues {
        let (name, sent, settled) = (plain(&work.name), work.sent, work.settled);
        writeln!(text, "    {name}: sent {sent}, settled {settled}").expect(ENOUGH);
    }
    let others = (sent + settled).saturating_sub(branch.broken_down);
    if others > 0 {
        writeln!(text, "    and {others} more messages, there or in other queues").expect(ENOUGH);
    }
    text
}

fn state(state: BranchState) -> &'static str {
    match state {
        BranchState::Prepared => "prepared",
        BranchState::HeuristicallyCommitted => "heuristically committed",
        BranchState::HeuristicallyRolledBack => "heuristically rolled back",
    }
}

/// The end of a list.
pub(super) fn counts(end: BranchesEnd) -> String {
    let BranchesEnd { prepared, decided, .. } = end;
    format!("{prepared} prepared, {decided} decided by operators\n")
}

/// What a decision would do.
pub(super) fn plan(decision: Decision, branch: &BranchLine) -> Result<String, CliError> {
    let BranchLine { xid, sent, settled, .. } = branch;
    let prepared = branch.state == BranchState::Prepared;
    Ok(match decision {
        Decision::Commit if prepared => format!(
            "would commit it: {sent} sent messages would come into their queues, {settled} settled \
             ones would be gone for good; its transaction manager, if it asks, would be told \
             XA_HEURCOM\nnothing is changed; `escrowmq xa commit {xid} --yes` does it\n"
        ),
        Decision::Rollback if prepared => format!(
            "would roll it back: {sent} sent messages would be gone for good, {settled} settled \
             ones would come back to their queues; its transaction manager, if it asks, would be \
             told XA_HEURRB\nnothing is changed; `escrowmq xa rollback {xid} --yes` does it\n"
        ),
        Decision::Forget if !prepared => format!(
            "would forget this decision: its transaction manager, if it asks, would be told that \
             there is no such branch (XAER_NOTA), and so could not tell that it was {}\nnothing is \
             changed; `escrowmq xa forget {xid} --yes` does it\n",
            state(branch.state)
        ),
        Decision::Commit | Decision::Rollback => {
            return Err(format!(
                "an operator has decided of this branch already: its manager will hear of it, and \
                 `escrowmq xa forget {xid}` is for one that never asks"
            )
            .into());
        }
        Decision::Forget => {
            return Err(format!(
                "no operator has decided of this branch: it is prepared, and `escrowmq xa commit \
                 {xid}` or `escrowmq xa rollback {xid}` decides of it"
            )
            .into());
        }
    })
}

/// What a decision has done.
pub(super) fn done(decision: Decision, branch: &BranchLine) -> String {
    let BranchLine { xid, sent, settled, .. } = branch;
    let manager = |code| {
        format!(
            "its transaction manager, if it asks, is told {code}; `escrowmq xa forget {xid}` is \
             for one that never will\n"
        )
    };
    match decision {
        Decision::Commit => format!(
            "committed it: {sent} sent messages are in their queues, {settled} settled ones are \
             gone; {}",
            manager("XA_HEURCOM")
        ),
        Decision::Rollback => format!(
            "rolled it back: {sent} sent messages are gone, {settled} settled ones are back in \
             their queues; {}",
            manager("XA_HEURRB")
        ),
        Decision::Forget => "forgot this decision\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::words::QueueWork;

    fn prepared() -> BranchLine {
        let work = |name: &str, sent, settled| QueueWork { name: name.to_owned(), sent, settled };
        BranchLine {
            xid: "7:6f:01".to_owned(),
            state: BranchState::Prepared,
            at: 1_000_000,
            client: Some("a\x1bclient".to_owned()),
            sent: 5000,
            settled: 3,
            queues: vec![work("out", 4000, 0), work("in\n", 0, 3)],
            broken_down: 4003,
        }
    }

    #[test]
    fn a_branch_is_told_with_its_queues_and_without_control_characters() {
        let expected = "\
7:6f:01  prepared 1 min 5 s ago, begun by a\\u{1b}client
    sent 5000, settled 3
    out: sent 4000, settled 0
    in\\n: sent 0, settled 3
    and 1000 more messages, there or in other queues
";
        assert_eq!(branch(Millis(1_065_000), &prepared()), expected);
        let state = BranchState::HeuristicallyRolledBack;
        let decided = BranchLine { state, client: None, ..prepared() };
        let expected = "\
7:6f:01  heuristically rolled back 1 min 5 s ago
    sent 5000, settled 3
";
        assert_eq!(branch(Millis(1_065_000), &decided), expected);
    }

    #[test]
    fn only_what_can_be_decided_is_planned() {
        let decided = BranchLine { state: BranchState::HeuristicallyCommitted, ..prepared() };
        for (decision, branch, possible) in [
            (Decision::Commit, prepared(), true),
            (Decision::Rollback, prepared(), true),
            (Decision::Forget, prepared(), false),
            (Decision::Commit, decided.clone(), false),
            (Decision::Rollback, decided.clone(), false),
            (Decision::Forget, decided, true),
        ] {
            assert_eq!(plan(decision, &branch).is_ok(), possible, "{decision:?} {branch:?}");
        }
    }
}
