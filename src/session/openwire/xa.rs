//! Branches of global transactions, as clients of this wire speak for their managers.
//!
//! The wire does not say whether a branch is new or joined. What the broker answers becomes the
//! exception in which clients look for a code of the specification.

use std::sync::Arc;

use super::OpenWireSession;
use super::answers::{Asked, BranchStep, NOBODY};
use super::fault::Problem;
use super::transactions::{Branch, Transactions, Work, xid};
use crate::broker::command::{
    BranchInfo, Command, Disposition, EndAs, Refusal, Reply, Resolution, StartAs, Vote, XaCommand,
    XaError,
};
use crate::ids::Xid;
use crate::limits;
use crate::protocol::openwire::table::{DataArrayResponse, TransactionVerb, XaTransactionId};
use crate::protocol::openwire::{CommandHead, Structure};

/// Why a branch can only be rolled back that its client may have begun before it came back.
const LOST: &str = "the connection that it began on was lost, and perhaps some of it";

impl OpenWireSession {
    pub(super) fn branch(
        &mut self,
        head: CommandHead,
        id: &XaTransactionId,
        verb: TransactionVerb,
    ) {
        let Some(xid) = xid(id) else {
            return self.fail(head, &Problem::xa(XaError::Inval));
        };
        match verb {
            TransactionVerb::Begin => self.start(head, xid),
            TransactionVerb::End => self.end_work(head, xid),
            TransactionVerb::Prepare => {
                // Its answer may be lost. Others may have ended the branch since.
                if self.transactions.branches.get(&xid).is_some_and(|branch| branch.prepared) {
                    return self.step(head, xid, BranchStep::PrepareAgain);
                }
                self.leave_branch(&xid);
                self.step(head, xid, BranchStep::Prepare);
            }
            TransactionVerb::CommitOnePhase => {
                self.transactions.said.is_new();
                self.leave_branch(&xid);
                self.step(head, xid, BranchStep::CommitOnePhase);
            }
            TransactionVerb::CommitTwoPhase => self.step(head, xid, BranchStep::Commit),
            TransactionVerb::Rollback => {
                self.leave_branch(&xid);
                self.step(head, xid, BranchStep::Rollback);
            }
            TransactionVerb::Forget => self.step(head, xid, BranchStep::Forget),
            TransactionVerb::Recover => self.recover(head),
        }
    }

    fn start(&mut self, head: CommandHead, xid: Xid) {
        let known = self.transactions.branches.get_mut(&xid);
        if let Some(branch) = known.filter(|branch| branch.is_associated()) {
            branch.sessions += 1;
            return self.done(head);
        }
        let known = self.transactions.branches.get(&xid);
        if known.is_some_and(|branch| branch.prepared) {
            return self.fail(head, &Problem::xa(XaError::Proto));
        }
        if known.is_none() && !self.has_room_for_a_branch() {
            return self.fail(head, &Problem::xa(XaError::RmErr));
        }
        let transaction = self.transactions.next_name();
        // What is known of its earlier parts holds for the whole.
        let before = self.transactions.branches.remove(&xid).map(|branch| branch.work);
        let before = before.unwrap_or_else(|| Work::new(transaction));
        let mut work = Work { name: transaction, ..before };
        if self.transactions.said.is_again() {
            work.again.get_or_insert(head.command_id);
        }
        if self.transactions.said.may_go_on() {
            // A client says again what came after it last began the branch, and not what it did in
            // it before: suspended, or in another session.
            work.spoiled.get_or_insert_with(|| LOST.to_owned());
        }
        self.transactions.said.began();
        let branch = Branch { work, sessions: 1, prepared: false };
        self.transactions.branches.insert(xid.clone(), branch);
        let command = XaCommand::Start {
            xid: Arc::new(xid.clone()),
            how: StartAs::Either,
            transaction,
            timeout: None,
            client: self.client.words.as_str().into(),
        };
        let asked = Asked::Branch { head, xid: Box::new(xid), step: BranchStep::Start };
        self.submit(Some(asked), Command::Xa(command));
    }

    /// Those with which the connection has done may get their outcome elsewhere, and nobody tells:
    /// they are forgotten where there are many.
    fn has_room_for_a_branch(&mut self) -> bool {
        let branches = &mut self.transactions.branches;
        if branches.len() < limits::TRANSACTIONS_MAX {
            return true;
        }
        let done = branches.iter().find(|(_, branch)| !branch.is_associated());
        let done = done.map(|(xid, _)| xid.clone());
        done.is_some_and(|xid| branches.remove(&xid).is_some())
    }

    fn end_work(&mut self, head: CommandHead, xid: Xid) {
        let known = self.transactions.branches.get_mut(&xid);
        if let Some(branch) = known.filter(|branch| branch.sessions > 1) {
            branch.sessions -= 1;
            return self.done(head);
        }
        match self.leaving(&xid) {
            Some(command) => {
                let asked = Asked::Branch { head, xid: Box::new(xid), step: BranchStep::End };
                self.submit(Some(asked), Command::Xa(command));
            }
            None => match self.spoiled(&xid) {
                Some(why) => self.fail(head, &Problem::xa_because(XaError::RbRollback, &why)),
                None => self.done(head),
            },
        }
    }

    /// What was refused of a branch here.
    fn spoiled(&self, xid: &Xid) -> Option<String> {
        self.transactions.branches.get(xid)?.work.spoiled.clone()
    }

    /// Ends all association with a branch, if there is any: it cannot vote before.
    fn leave_branch(&mut self, xid: &Xid) {
        if let Some(command) = self.leaving(xid) {
            let (head, xid) = (NOBODY, Box::new(xid.clone()));
            let asked = Asked::Branch { head, xid, step: BranchStep::End };
            self.submit(Some(asked), Command::Xa(command));
        }
    }

    /// A branch that this connection is not associated with can only be rolled back, unless it has
    /// voted: then it takes nobody in.
    pub(super) fn doom(&mut self, xid: Arc<Xid>) {
        let transaction = self.transactions.next_name();
        let client = self.client.words.as_str().into();
        let (how, timeout) = (StartAs::Join, None);
        let join = XaCommand::Start { xid: Arc::clone(&xid), how, transaction, timeout, client };
        self.submit(Some(Asked::Doom), Command::Xa(join));
        let how = EndAs::Fail;
        let end = XaCommand::End { xid, transaction, how };
        self.submit(Some(Asked::Doom), Command::Xa(end));
    }

    fn leaving(&mut self, xid: &Xid) -> Option<XaCommand> {
        let Transactions { branches, said, .. } = &mut self.transactions;
        let branch = branches.get_mut(xid)?;
        if std::mem::take(&mut branch.sessions) == 0 {
            return None;
        }
        branch.work.miss(said);
        // What was refused here was never known to the broker, and must not be committed.
        let how = match branch.work.spoiled {
            Some(_) if branch.work.is_lost() => EndAs::Lost,
            Some(_) => EndAs::Fail,
            None => EndAs::Success,
        };
        Some(XaCommand::End { xid: Arc::new(xid.clone()), transaction: branch.work.name, how })
    }

    fn step(&mut self, head: CommandHead, xid: Xid, step: BranchStep) {
        let name = Arc::new(xid.clone());
        let command = match step {
            BranchStep::Prepare | BranchStep::PrepareGone => XaCommand::Prepare { xid: name },
            BranchStep::PrepareAgain => XaCommand::Find { xid: name },
            BranchStep::CommitOnePhase => XaCommand::Commit { xid: name, one_phase: true },
            BranchStep::Commit => XaCommand::Commit { xid: name, one_phase: false },
            BranchStep::Rollback => {
                // Who has worked in it delivers again what it has taken; others do not know.
                let mine = self.transactions.branches.contains_key(&xid);
                let disposition = if mine { Disposition::Keep } else { Disposition::Return };
                XaCommand::Rollback { xid: name, disposition }
            }
            BranchStep::Forget => XaCommand::Forget { xid: name },
            BranchStep::Start | BranchStep::End => unreachable!("asked where they are known"),
        };
        let asked = Asked::Branch { head, xid: Box::new(xid), step };
        self.submit(Some(asked), Command::Xa(command));
    }

    /// The broker has answered for a branch.
    pub(super) fn branch_answered(
        &mut self,
        head: CommandHead,
        xid: Xid,
        step: BranchStep,
        result: Result<Reply, Refusal>,
    ) {
        match (step, result) {
            (BranchStep::PrepareAgain, Ok(Reply::Branches(found))) => {
                self.stands(head, xid, found.first());
            }
            (BranchStep::Prepare | BranchStep::PrepareGone, Ok(Reply::Vote(vote))) => {
                if vote == Vote::ReadOnly {
                    self.transactions.branches.remove(&xid);
                } else if let Some(branch) = self.transactions.branches.get_mut(&xid) {
                    branch.prepared = true;
                }
                self.voted(head, vote);
            }
            (_, Ok(_)) => {
                self.branch_over(&xid, step);
                self.done(head);
            }
            (BranchStep::Start, Err(refusal)) => {
                // The broker knows of no association: the next start is to ask again. What was said
                // meanwhile has not come into it, and its client need not have waited for this.
                if let Some(branch) = self.transactions.branches.get_mut(&xid) {
                    branch.sessions = 0;
                    let because = format!("a part of it did not begin: {refusal}");
                    branch.work.spoiled.get_or_insert(because);
                }
                self.doom(Arc::new(xid.clone()));
                if refusal == Refusal::Xa(XaError::NotA) {
                    self.branch_over(&xid, BranchStep::Rollback);
                }
                let code = match refusal {
                    Refusal::Xa(code) => code,
                    _ => XaError::RmErr,
                };
                self.fail(head, &Problem::xa(code));
            }
            // It was committed, or its name is another's now.
            (BranchStep::PrepareGone, Err(Refusal::Xa(XaError::Proto))) => {
                self.branch_refused(head, &xid, BranchStep::Prepare, &Refusal::Xa(XaError::NotA));
            }
            (BranchStep::PrepareGone, Err(refusal)) => {
                self.branch_refused(head, &xid, BranchStep::Prepare, &refusal);
            }
            (step, Err(refusal)) => self.branch_refused(head, &xid, step, &refusal),
        }
    }

    /// A vote that its client asks for again is true while the branch waits for its outcome, or for
    /// its manager to hear that an operator has committed it.
    fn stands(&mut self, head: CommandHead, xid: Xid, found: Option<&BranchInfo>) {
        match found.map(|branch| branch.decided) {
            None => self.step(head, xid, BranchStep::PrepareGone),
            Some(Some(Resolution::Rollback)) => {
                let refusal = Refusal::Xa(XaError::RbRollback);
                self.branch_refused(head, &xid, BranchStep::Prepare, &refusal);
            }
            Some(None | Some(Resolution::Commit)) => self.voted(head, Vote::Ok),
        }
    }

    fn branch_refused(
        &mut self,
        head: CommandHead,
        xid: &Xid,
        step: BranchStep,
        refusal: &Refusal,
    ) {
        let name = Arc::new(xid.clone());
        let command = match step {
            BranchStep::Prepare => XaCommand::Prepare { xid: name },
            BranchStep::Commit => XaCommand::Commit { xid: name, one_phase: false },
            BranchStep::CommitOnePhase => XaCommand::Commit { xid: name, one_phase: true },
            _ => XaCommand::Forget { xid: name },
        };
        let code = command.code_of(refusal);
        let here = self.spoiled(xid);
        // A branch that was rolled back is over; its client is told so now or by its vote.
        let over = (100..=107).contains(&code.code())
            && matches!(step, BranchStep::Prepare | BranchStep::CommitOnePhase);
        if over || code == XaError::NotA {
            self.branch_over(xid, BranchStep::Rollback);
        }
        let quiet = !head.response_required && step == BranchStep::End;
        if !quiet {
            let problem = match (refusal, here) {
                (Refusal::Xa(XaError::RbRollback), Some(because)) => {
                    Problem::xa_because(code, &because)
                }
                (Refusal::Xa(_), _) => Problem::xa(code),
                (Refusal::RollbackOnly { because }, _) => {
                    Problem::xa_because(code, &because.to_string())
                }
                (refusal, _) => Problem::xa_because(code, &refusal.to_string()),
            };
            self.fail(head, &problem);
        }
    }

    /// What was taken in a branch is gone, or in the hands of its consumers again; perhaps: whoever
    /// asks for a rollback hears that all is well where another was first.
    fn branch_over(&mut self, xid: &Xid, step: BranchStep) {
        let over = !matches!(step, BranchStep::Start | BranchStep::End);
        let Some(mut branch) = over.then(|| self.transactions.branches.remove(xid)).flatten()
        else {
            return;
        };
        branch.work.taken.iter_mut().for_each(|(_, _, held)| held.doubtful = true);
        if step == BranchStep::Rollback {
            self.give_back(branch.work);
        }
    }

    pub(super) fn recover(&mut self, head: CommandHead) {
        self.transactions.recovers.push_back(head);
    }

    /// Makes the next answer to those who want to hear of branches, when there is room for it.
    pub(super) fn recover_next(&mut self) {
        if self.transactions.recovering || self.out.len() >= limits::SESSION_OUT_BYTES_MAX {
            return;
        }
        let Some(head) = self.transactions.recovers.pop_front() else { return };
        self.transactions.recovering = true;
        let command = Command::Xa(XaCommand::Recover { after: None });
        self.submit(Some(Asked::Recover { head, found: Vec::new() }), command);
    }

    /// Some of the branches that wait; the answer is all of them.
    pub(super) fn recovered(
        &mut self,
        head: CommandHead,
        mut found: Vec<Xid>,
        result: Result<Reply, Refusal>,
    ) {
        let page = match result {
            Ok(Reply::Branches(page)) => page,
            Ok(_) => Vec::new(),
            Err(refusal) => {
                self.transactions.recovering = false;
                return self.fail(head, &Problem::refused(&refusal));
            }
        };
        let more = !page.is_empty() && found.len() < limits::OPENWIRE_RECOVERED_MAX;
        found.extend(page.into_iter().map(|branch| branch.xid));
        if let (true, Some(last)) = (more, found.last()) {
            let after = Some(Arc::new(last.clone()));
            let command = Command::Xa(XaCommand::Recover { after });
            return self.submit(Some(Asked::Recover { head, found }), command);
        }
        self.transactions.recovering = false;
        found.truncate(limits::OPENWIRE_RECOVERED_MAX);
        let id = |xid: Xid| {
            let part = |bytes: &[u8]| Some(bytes::Bytes::copy_from_slice(bytes));
            Some(Structure::XaTransactionId(XaTransactionId {
                format_id: xid.format(),
                global_transaction_id: part(xid.global()),
                branch_qualifier: part(xid.branch()),
            }))
        };
        let data = Some(found.into_iter().map(id).collect());
        let correlation_id = head.command_id;
        self.answer(head, &DataArrayResponse { correlation_id, data, ..Default::default() });
    }

    /// The client goes: its branches that have not voted can only be rolled back. What another has
    /// made vote meanwhile is not to be touched, so each is joined first: a branch that has voted
    /// takes nobody in.
    pub(super) fn abandon_branches(&mut self) {
        for (xid, branch) in std::mem::take(&mut self.transactions.branches) {
            if branch.prepared {
                continue;
            }
            let xid = Arc::new(xid);
            if !branch.is_associated() {
                self.doom(xid);
                continue;
            }
            let transaction = branch.work.name;
            let how = if branch.work.again.is_some() { EndAs::Lost } else { EndAs::Fail };
            self.submit(None, Command::Xa(XaCommand::End { xid, transaction, how }));
        }
    }
}
