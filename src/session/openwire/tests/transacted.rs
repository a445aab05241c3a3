//! Transactions of clients and of their managers.

use super::*;
use crate::broker::command::{
    BranchInfo, Disposition, EndAs, Resolution, StartAs, Vote, XaCommand, XaError,
};
use crate::ids::{TransactionName, Xid};
use crate::protocol::openwire::table::{SessionInfo, XaTransactionId};

const BEGIN: i8 = 0;
const PREPARE: i8 = 1;
const COMMIT: i8 = 2;
const COMMIT_TWO_PHASE: i8 = 3;
const ROLLBACK: i8 = 4;
const RECOVER: i8 = 5;
const FORGET: i8 = 6;
const END: i8 = 7;

pub(super) fn branch(number: u8) -> TransactionId {
    XaTransactionId {
        format_id: 7,
        global_transaction_id: Some(Bytes::from(vec![number])),
        branch_qualifier: Some(Bytes::from_static(b"b")),
    }
    .into()
}

/// What a broker tells of the branch of that number.
fn waiting(number: u8, decided: Option<Resolution>) -> BranchInfo {
    BranchInfo {
        xid: Xid::new(7, &[number], b"b").unwrap(),
        decided,
        at: Millis(1),
        transaction: None,
        sent: 0,
        settled: 0,
        client: "c".into(),
    }
}

fn within(mut message: Message, id: TransactionId) -> Message {
    message.head.transaction_id = Some(id);
    message
}

fn xa(commands: &[Command]) -> Vec<&XaCommand> {
    let xa = commands.iter().filter_map(|command| match command {
        Command::Xa(command) => Some(command),
        _ => None,
    });
    xa.collect()
}

/// A client with a message that it has taken in a transaction.
fn taken(id: &TransactionId) -> (Wire, Message) {
    let mut wire = Wire::alone();
    wire.consume(1, queue("q"), 5);
    wire.deliver(1, 1, stored("text"));
    let message = wire.dispatched().remove(0);
    wire.say(&transaction(id.clone(), BEGIN));
    wire.answer_all();
    let taken = MessageAck { transaction_id: Some(id.clone()), ..ack(&message, 2, 1) };
    wire.say(&taken);
    let asks = wire.asks();
    let transact = asks.iter().find(|it| matches!(it, Command::Transact { .. }));
    assert!(transact.is_some(), "{asks:?}");
    let _ = wire.frames();
    (wire, message)
}

#[test]
fn what_is_done_in_a_transaction_is_the_brokers_to_do_as_one() {
    let mut wire = Wire::alone();
    wire.say(&transaction(local(4), BEGIN));
    wire.say(&transaction(local(4), BEGIN));
    wire.say(&within(text(1, queue("q")), local(4)));
    let asks = wire.asks();
    let [Command::Begin { transaction: name }, Command::Once(once)] = &asks[..] else {
        panic!("{asks:?}")
    };
    assert!(matches!(once.command(), Command::Transact { transaction, .. } if transaction == name));
    wire.answer(Ok(Reply::Done));
    let _ = wire.frames();
    wire.say(&transaction(local(4), COMMIT));
    assert_eq!(wire.frames(), []);
    wire.answer(Ok(Reply::Done));
    assert!(matches!(wire.frames()[..], [Structure::Response(_)]));
    wire.say(&transaction(local(4), COMMIT));
    assert!(exception(&wire.frames()[0]).1.contains("TX:c:4' has not been started"));
}

#[test]
fn a_commit_is_answered_though_its_client_takes_leave_meanwhile() {
    let answer = |result: Result<Reply, Refusal>| {
        let mut wire = Wire::alone();
        wire.say(&transaction(local(4), BEGIN));
        wire.answer_all();
        let _ = wire.frames();
        wire.say(&transaction(local(4), COMMIT));
        wire.say(&removal(WireConnectionId { value: Text::new("c") }, -2));
        wire.answer(result);
        wire.frames()
    };
    assert!(matches!(answer(Ok(Reply::Done))[..], [Structure::Response(_)]));
    let refusal = Refusal::TooManyTransactions { limit: 1 };
    assert!(matches!(answer(Err(refusal))[..], [Structure::ExceptionResponse(_)]));
}

#[test]
fn after_a_rollback_the_message_is_in_the_same_hands() {
    let (mut wire, message) = taken(&local(1));
    wire.say(&ack(&message, 4, 1));
    assert_eq!(settled(&wire.asks()), [], "it is the transaction's");
    wire.say(&transaction(local(1), ROLLBACK));
    let asks = wire.asks();
    let [Command::Rollback { disposition: Disposition::Keep, .. }] = asks[..] else {
        panic!("{asks:?}")
    };
    wire.say(&ack(&message, 4, 1));
    assert_eq!(settled(&wire.asks()), [(Which::One(Tag(1)), Outcome::Accepted)]);
}

#[test]
fn what_was_rolled_back_elsewhere_is_not_dispatched_again_where_it_was_taken() {
    for (code, told) in [(XaError::NotA, ROLLBACK), (XaError::HeurRollback, FORGET)] {
        let (mut wire, message) = taken(&branch(1));
        wire.say(&transaction(branch(1), END));
        wire.answer_all();
        let _ = (wire.frames(), wire.asks());
        // Nobody has told this client.
        wire.deliver_again(1, 2, 1, stored("text"));
        assert_eq!(wire.dispatched(), []);
        // Another message is not held back.
        wire.deliver_again(1, 3, 3, stored("other"));
        assert_eq!(wire.dispatched().len(), 1);
        wire.say(&transaction(branch(1), if told == FORGET { COMMIT_TWO_PHASE } else { told }));
        wire.answer(Err(Refusal::Xa(code)));
        if told == FORGET {
            wire.say(&transaction(branch(1), told));
            wire.answer(Ok(Reply::Done));
        }
        let _ = (wire.frames(), wire.asks());
        // The client delivers it by itself, and what it says of it is about the new delivery.
        wire.say(&ack(&message, 4, 1));
        assert_eq!(settled(&wire.asks()), [(Which::One(Tag(2)), Outcome::Accepted)]);
    }
}

#[test]
fn what_was_rolled_back_elsewhere_may_come_after_its_client_has_heard_of_that() {
    for transacted in [false, true] {
        let (mut wire, message) = taken(&branch(1));
        wire.say(&transaction(branch(1), END));
        wire.answer_all();
        wire.say(&transaction(branch(1), ROLLBACK));
        wire.answer(Err(Refusal::Xa(XaError::NotA)));
        if transacted {
            wire.say(&transaction(local(5), BEGIN));
            wire.say(&MessageAck { transaction_id: Some(local(5)), ..ack(&message, 4, 1) });
            wire.answer_all();
        }
        let _ = (wire.frames(), wire.asks());
        wire.deliver_again(1, 2, 1, stored("text"));
        assert_eq!(wire.dispatched(), []);
        if transacted {
            wire.say(&transaction(local(5), ROLLBACK));
        }
        let _ = wire.asks();
        wire.say(&ack(&message, 4, 1));
        assert_eq!(settled(&wire.asks()), [(Which::One(Tag(2)), Outcome::Accepted)]);
        // Now it has been acknowledged, and what comes is another one.
        wire.deliver_again(1, 3, 1, stored("text"));
        assert_eq!(wire.dispatched().len(), 1);
    }
}

#[test]
fn a_transaction_that_counts_on_a_delivery_of_before_can_only_be_rolled_back() {
    for gone in [false, true] {
        let (_, message) = taken(&local(1));
        // The client has come back, and says again what it had said in the transaction.
        let mut wire = Wire::alone();
        wire.consume(1, queue("q"), 5);
        if gone {
            wire.say(&removal(consumer_id(1), -2));
        }
        wire.say(&transaction(local(1), BEGIN));
        wire.answer_all();
        wire.say(&within(text(1, queue("out")), local(1)));
        wire.answer_all();
        wire.say(&MessageAck { transaction_id: Some(local(1)), ..ack(&message, 2, 1) });
        let _ = (wire.frames(), wire.asks());
        wire.say(&transaction(local(1), COMMIT));
        let asks = wire.asks();
        assert!(!asks.iter().any(|it| matches!(it, Command::Commit { .. })), "{asks:?}");
        let frames = wire.frames();
        assert!(exception(frames.last().unwrap()).1.contains("Unmatched"), "{frames:?}");
    }
}

#[test]
fn a_transaction_said_again_with_a_gap_can_only_be_rolled_back() {
    // The client has come back, and the numbers of its commands tell what was lost.
    for (numbers, whole) in [([7, 8, 9], true), ([7, 8, 10], false), ([7, 9, 10], false)] {
        for reconnected in [true, false] {
            let mut wire = Wire::opened_again(&Arc::default(), reconnected);
            wire.say(&TransactionInfo { command_id: numbers[0], ..transaction(local(1), BEGIN) });
            wire.answer_all();
            let mut message = within(text(1, queue("out")), local(1));
            message.head.command_id = numbers[1];
            wire.say(&message);
            wire.answer_all();
            let _ = (wire.frames(), wire.asks());
            wire.say(&TransactionInfo { command_id: numbers[2], ..transaction(local(1), COMMIT) });
            let commits = wire.asks().iter().any(|it| matches!(it, Command::Commit { .. }));
            assert_eq!(commits, whole || !reconnected, "{numbers:?}");
        }
    }
}

/// How the only association of a branch ends that a client begins and asks to vote on, and whether
/// the broker hears of what was sent in it. The numbers of its commands tell what is lost of it.
fn begun_and_voted(wire: &mut Wire, number: u8, lost: i32) -> (EndAs, bool) {
    let first = 100 * i32::from(number);
    let numbered = |verb, offset| TransactionInfo {
        command_id: first + offset,
        ..transaction(branch(number), verb)
    };
    wire.say(&numbered(BEGIN, 0));
    wire.answer_all();
    let mut message = within(text(number.into(), queue("q")), branch(number));
    message.head.command_id = first + 1 + lost;
    wire.say(&message);
    let sends = !wire.asks().is_empty();
    wire.answer_all();
    wire.say(&numbered(END, 2 + lost));
    let asks = wire.asks();
    let [XaCommand::End { how, .. }] = xa(&asks)[..] else { panic!("{asks:?}") };
    wire.answer_all();
    wire.say(&numbered(PREPARE, 3 + lost));
    wire.answer(Err(Refusal::Xa(XaError::RbRollback)));
    (*how, sends)
}

#[test]
fn a_branch_that_may_have_begun_before_its_client_came_back_can_only_be_rolled_back() {
    let mut wire = Wire::opened_again(&Arc::default(), true);
    let session = |value| SessionInfo {
        session_id: Some(SessionId { connection_id: Text::new("c"), value }),
        ..SessionInfo::default()
    };
    wire.say(&session(1));
    wire.answer_all();
    let _ = wire.frames();
    // Nobody tells the broker of one that it takes nobody into, but for this.
    wire.say(&transaction(branch(9), BEGIN));
    wire.answer(Err(Refusal::TooManyTransactions { limit: 1 }));
    assert!(is_doomed(&wire.asks()));
    wire.answer_all();
    let _ = wire.frames();
    // Its client says nothing of what came before it last began the branch.
    for number in 1..=3 {
        assert_eq!(begun_and_voted(&mut wire, number, 0), (EndAs::Lost, false));
        let words = exception(wire.frames().last().unwrap()).1;
        assert!(words.contains("was lost") && words.ends_with("xaErrorCode:100"), "{words}");
    }
    // It would have said all of that by now. What it says in time is whole, or has a gap.
    wire.now += limits::OPENWIRE_AGAIN;
    assert_eq!(begun_and_voted(&mut wire, 4, 0), (EndAs::Success, true));
    assert_eq!(begun_and_voted(&mut wire, 5, 1), (EndAs::Lost, true));
    wire.now += limits::OPENWIRE_AGAIN_MAX;
    assert_eq!(begun_and_voted(&mut wire, 6, 1), (EndAs::Success, true));
}

#[test]
fn an_acknowledgement_is_of_what_it_names_alone_where_some_of_it_has_come_again() {
    let mut wire = Wire::alone();
    wire.consume(1, queue("q"), 9);
    (1..=4).for_each(|tag| wire.deliver(1, tag, stored("text")));
    let messages = wire.dispatched();
    wire.say(&transaction(branch(1), BEGIN));
    wire.say(&MessageAck { transaction_id: Some(branch(1)), ..ack(&messages[1], 4, 1) });
    wire.say(&transaction(branch(1), END));
    wire.answer_all();
    wire.deliver_again(1, 5, 2, stored("text"));
    let _ = (wire.frames(), wire.asks());
    // The third and the fourth came between, and are still being worked on.
    wire.say(&ack(&messages[1], 2, 2));
    let one = |tag| (Which::One(Tag(tag)), Outcome::Accepted);
    assert_eq!(settled(&wire.asks()), [one(1), one(5)]);
    wire.say(&ack(&messages[3], 2, 2));
    assert_eq!(settled(&wire.asks()), [one(3), one(4)]);
}

#[test]
fn a_commit_that_is_refused_is_a_rollback_with_a_code() {
    let (mut wire, message) = taken(&local(1));
    wire.say(&transaction(local(1), COMMIT));
    let because = Box::new(Refusal::StorageFull);
    wire.answer(Err(Refusal::RollbackOnly { because }));
    let frames = wire.frames();
    let (class, words) = exception(&frames[0]);
    assert_eq!(class, "javax.transaction.xa.XAException");
    assert!(words.ends_with("xaErrorCode:100"), "{words}");
    assert!(matches!(wire.asks()[..], [Command::Rollback { .. }]));
    wire.say(&ack(&message, 4, 1));
    assert_eq!(settled(&wire.asks()).len(), 1);
}

#[test]
fn a_vote_of_no_says_why_and_ends_with_its_code() {
    for code in [XaError::RbRollback, XaError::RbTransient] {
        let mut wire = Wire::alone();
        wire.say(&transaction(branch(1), BEGIN));
        wire.answer_all();
        wire.say(&transaction(branch(1), PREPARE));
        wire.answer(Ok(Reply::Done));
        let _ = wire.frames();
        let because = Box::new(Refusal::StorageFull);
        wire.answer(Err(match code {
            XaError::RbRollback => Refusal::RollbackOnly { because },
            _ => *because,
        }));
        let words = exception(&wire.frames()[0]).1;
        assert!(words.contains(&Refusal::StorageFull.to_string()), "{words}");
        assert!(words.ends_with(&format!("xaErrorCode:{}", code.code())), "{words}");
    }
}

#[test]
fn what_was_refused_here_spoils_its_transaction() {
    let mut wire = Wire::alone();
    wire.say(&transaction(local(1), BEGIN));
    wire.answer_all();
    let nowhere = place(DestinationKind::TempQueue, "d:1");
    wire.say(&within(text(1, nowhere), local(1)));
    let _ = wire.frames();
    wire.say(&transaction(local(1), COMMIT));
    assert!(matches!(wire.asks()[..], [Command::Rollback { .. }]));
    assert!(exception(&wire.frames()[0]).1.ends_with("xaErrorCode:100"));
}

#[test]
fn a_branch_of_two_sessions_is_left_with_the_last_of_them() {
    let mut wire = Wire::alone();
    wire.say(&transaction(branch(1), BEGIN));
    wire.answer_all();
    wire.say(&transaction(branch(1), BEGIN));
    wire.say(&transaction(branch(1), END));
    assert!(wire.asks().is_empty(), "one association, and it goes on");
    wire.say(&within(text(1, queue("q")), branch(1)));
    assert!(wire.asks().iter().any(|command| command.works_in().is_some()));
    wire.say(&transaction(branch(1), END));
    let asks = wire.asks();
    let [XaCommand::End { how: EndAs::Success, .. }] = xa(&asks)[..] else { panic!("{asks:?}") };
}

/// A connection that has begun and left a branch.
fn left() -> Wire {
    let mut wire = Wire::alone();
    for verb in [BEGIN, END] {
        wire.say(&transaction(branch(1), verb));
        wire.answer_all();
    }
    let _ = wire.frames();
    wire
}

/// That a branch is joined, for others may be in it, and left so that it cannot be committed.
fn is_doomed(asks: &[Command]) -> bool {
    use EndAs::Fail;
    matches!(
        xa(asks)[..],
        [XaCommand::Start { how: StartAs::Join, .. }, XaCommand::End { how: Fail, .. }, ..]
    )
}

#[test]
fn what_is_refused_when_all_have_left_a_branch_dooms_it_whoever_asks_for_its_vote() {
    let mut wire = left();
    for first in [true, false] {
        wire.say(&within(text(1, queue("q")), branch(1)));
        assert!(exception(&wire.frames()[0]).1.ends_with("xaErrorCode:-4"));
        assert_eq!(is_doomed(&wire.asks()), first);
    }
    wire.answer_all();
    wire.say(&transaction(branch(1), PREPARE));
    wire.answer(Err(Refusal::Xa(XaError::RbRollback)));
    let words = exception(&wire.frames()[0]).1;
    assert!(words.contains("because") && words.ends_with("xaErrorCode:100"), "{words}");
}

#[test]
fn what_was_refused_of_a_branch_is_not_forgotten_when_it_begins_again() {
    let mut wire = left();
    wire.say(&within(text(1, queue("q")), branch(1)));
    wire.answer_all();
    for verb in [BEGIN, END] {
        wire.say(&transaction(branch(1), verb));
    }
    let asks = wire.asks();
    let [.., XaCommand::End { how: EndAs::Fail, .. }] = xa(&asks)[..] else { panic!("{asks:?}") };
}

#[test]
fn a_part_of_a_branch_that_did_not_begin_dooms_it_and_its_end_says_so() {
    let mut wire = Wire::alone();
    wire.say(&transaction(branch(1), BEGIN));
    wire.say(&within(text(1, queue("q")), branch(1)));
    wire.answer(Err(Refusal::TooManyTransactions { limit: 1 }));
    assert!(is_doomed(&wire.asks()));
    wire.answer_all();
    let _ = wire.frames();
    wire.say(&transaction(branch(1), END));
    let words = exception(&wire.frames()[0]).1;
    assert!(words.contains("did not begin") && words.ends_with("xaErrorCode:100"), "{words}");
    // Of one that this connection has never begun nobody knows who else is in it.
    wire.say(&within(text(2, queue("q")), branch(2)));
    assert!(is_doomed(&wire.asks()));
}

#[test]
fn the_branches_that_wait_are_listed_for_one_after_the_other() {
    let mut wire = Wire::alone();
    let scan = TransactionInfo { transaction_id: None, ..transaction(branch(0), RECOVER) };
    (0..3).for_each(|_| wire.say(&scan));
    for left in (0..3).rev() {
        assert_eq!(xa(&wire.asks()).len(), 1, "the others wait");
        assert_eq!(wire.session.transactions.recovers.len(), left);
        wire.answer(Ok(Reply::Branches(vec![waiting(1, None)])));
        assert_eq!(xa(&wire.asks()).len(), 1, "from there on");
        wire.answer(Ok(Reply::Branches(Vec::new())));
        assert_eq!(wire.frames().len(), 1);
    }
    assert!(wire.asks().is_empty());
}

#[test]
fn a_branch_is_begun_or_joined_and_voted_on_and_ends_by_its_outcome() {
    let (mut wire, message) = taken(&branch(1));
    wire.say(&transaction(branch(1), END));
    let asks = wire.asks();
    let [XaCommand::End { how: EndAs::Success, .. }] = xa(&asks)[..] else { panic!("{asks:?}") };
    wire.answer(Ok(Reply::Done));
    wire.say(&transaction(branch(1), PREPARE));
    wire.answer(Ok(Reply::Vote(Vote::Ok)));
    wire.say(&transaction(branch(1), PREPARE));
    wire.answer(Ok(Reply::Branches(vec![waiting(1, None)])));
    let answers: Vec<_> = wire.frames().into_iter().skip(1).collect();
    let [Structure::IntegerResponse(vote), Structure::IntegerResponse(again)] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!((vote.result, again.result), (0, 0));
    wire.say(&transaction(branch(1), ROLLBACK));
    let asks = wire.asks();
    let [XaCommand::Rollback { disposition: Disposition::Keep, .. }] = xa(&asks)[..] else {
        panic!("{asks:?}")
    };
    wire.answer(Ok(Reply::Done));
    wire.say(&ack(&message, 4, 1));
    assert_eq!(settled(&wire.asks()).len(), 1, "it is in the same hands");
}

#[test]
fn a_vote_that_is_asked_for_again_is_true_of_the_branch_as_it_is_by_then() {
    let refused = |code| Some(Err(Refusal::Xa(code)));
    for (found, then, code) in [
        (vec![waiting(1, None)], None, 0),
        // Its manager hears at the commit what an operator has done.
        (vec![waiting(1, Some(Resolution::Commit))], None, 0),
        (vec![waiting(1, Some(Resolution::Rollback))], None, 100),
        (Vec::new(), refused(XaError::RbRollback), 100),
        (Vec::new(), refused(XaError::NotA), -4),
        (Vec::new(), refused(XaError::Proto), -4),
    ] {
        let (mut wire, message) = taken(&branch(1));
        wire.say(&transaction(branch(1), PREPARE));
        wire.answer(Ok(Reply::Done));
        wire.answer(Ok(Reply::Vote(Vote::Ok)));
        let _ = (wire.frames(), wire.asks());
        wire.say(&transaction(branch(1), PREPARE));
        let asks = wire.asks();
        assert!(matches!(xa(&asks)[..], [XaCommand::Find { .. }]), "{asks:?}");
        assert_eq!(wire.frames(), []);
        wire.answer(Ok(Reply::Branches(found)));
        if let Some(result) = then {
            let asks = wire.asks();
            assert!(matches!(xa(&asks)[..], [XaCommand::Prepare { .. }]), "{asks:?}");
            wire.answer(result);
        }
        let frames = wire.frames();
        if let [Structure::IntegerResponse(vote)] = &frames[..] {
            assert_eq!((vote.result, code), (0, 0));
            continue;
        }
        let words = exception(&frames[0]).1;
        assert!(words.ends_with(&format!("xaErrorCode:{code}")), "{words}");
        // It is over, and its client delivers again what it has taken.
        wire.deliver_again(1, 2, 1, stored("text"));
        wire.say(&ack(&message, 4, 1));
        assert_eq!(settled(&wire.asks()), [(Which::One(Tag(2)), Outcome::Accepted)]);
    }
}

#[test]
fn a_start_names_a_branch_that_may_be_there() {
    let mut wire = Wire::alone();
    wire.say(&transaction(branch(1), BEGIN));
    wire.say(&transaction(branch(1), BEGIN));
    let asks = wire.asks();
    let [XaCommand::Start { how: StartAs::Either, transaction, .. }] = xa(&asks)[..] else {
        panic!("{asks:?}")
    };
    assert_eq!(*transaction, TransactionName(1));
}

#[test]
fn a_start_that_was_refused_is_asked_again() {
    let mut wire = Wire::alone();
    wire.say(&transaction(branch(1), BEGIN));
    wire.answer(Err(Refusal::TooManyBranches { limit: 1 }));
    assert!(exception(&wire.frames()[0]).1.ends_with("xaErrorCode:-3"));
    let _ = wire.asks();
    wire.say(&transaction(branch(1), BEGIN));
    let asks = wire.asks();
    assert!(matches!(xa(&asks)[..], [XaCommand::Start { .. }]), "{asks:?}");
}

#[test]
fn a_vote_that_there_was_nothing_is_a_three() {
    let mut wire = Wire::alone();
    wire.say(&transaction(branch(1), PREPARE));
    wire.answer(Ok(Reply::Vote(Vote::ReadOnly)));
    let [Structure::IntegerResponse(vote)] = &wire.frames()[..] else { panic!("a vote") };
    assert_eq!(vote.result, 3);
}

#[test]
fn who_has_not_worked_in_a_branch_ends_it_for_those_who_wait() {
    let mut wire = Wire::alone();
    wire.say(&transaction(branch(1), ROLLBACK));
    let asks = wire.asks();
    let [XaCommand::Rollback { disposition: Disposition::Return, .. }] = xa(&asks)[..] else {
        panic!("{asks:?}")
    };
}

#[test]
fn a_refusal_has_its_code_at_the_end_of_its_words() {
    let mut wire = Wire::alone();
    for (verb, refusal, code) in [
        (COMMIT_TWO_PHASE, Refusal::Xa(XaError::NotA), -4),
        (COMMIT_TWO_PHASE, Refusal::Xa(XaError::Proto), -6),
        (COMMIT_TWO_PHASE, Refusal::StorageFull, 4),
        (PREPARE, Refusal::StorageFull, 107),
        (COMMIT, Refusal::StorageFull, 107),
        (ROLLBACK, Refusal::Xa(XaError::HeurCommit), 7),
    ] {
        wire.say(&transaction(branch(1), verb));
        wire.answer(Err(refusal));
        let (class, words) = exception(&wire.frames()[0]);
        assert_eq!(class, "javax.transaction.xa.XAException");
        assert!(words.ends_with(&format!("xaErrorCode:{code}")), "{words}");
    }
}

#[test]
fn a_scan_tells_of_all_branches_however_many_pages_they_are() {
    let mut wire = Wire::alone();
    let scan = TransactionInfo { transaction_id: None, ..transaction(branch(0), RECOVER) };
    wire.say(&scan);
    for number in 1..=2 {
        wire.answer(Ok(Reply::Branches(vec![waiting(number, None)])));
        assert_eq!(wire.frames(), []);
    }
    wire.answer(Ok(Reply::Branches(Vec::new())));
    let frames = wire.frames();
    let [Structure::DataArrayResponse(found)] = &frames[..] else { panic!("{frames:?}") };
    let found = found.data.as_ref().unwrap();
    let expected = [branch(1), branch(2)].into_iter().map(|id| match id {
        TransactionId::Xa(id) => Some(Structure::XaTransactionId(id)),
        TransactionId::Local(_) => None,
    });
    assert_eq!(*found, expected.collect::<Vec<_>>());
}

#[test]
fn a_client_that_is_lost_leaves_nothing_undecided_but_what_has_voted() {
    let mut wire = Wire::alone();
    for number in 1..=3 {
        wire.say(&transaction(branch(number), BEGIN));
        wire.answer_all();
    }
    for number in 1..=2 {
        wire.say(&transaction(branch(number), END));
        wire.answer_all();
    }
    wire.say(&transaction(branch(1), PREPARE));
    wire.answer(Ok(Reply::Vote(Vote::Ok)));
    wire.session.handle_gone();
    let asks = wire.asks();
    let said = xa(&asks).into_iter().map(|command| match command {
        XaCommand::Start { xid, how: StartAs::Join, .. } => (xid.global()[0], "join"),
        XaCommand::End { xid, how: EndAs::Fail, .. } => (xid.global()[0], "fail"),
        other => panic!("{other:?} might undo what another has made vote"),
    });
    assert_eq!(said.collect::<Vec<_>>(), [(2, "join"), (2, "fail"), (3, "fail")]);
}

#[test]
fn a_branch_that_has_voted_takes_no_more_work() {
    let mut wire = Wire::alone();
    wire.say(&transaction(branch(1), BEGIN));
    wire.answer_all();
    wire.say(&transaction(branch(1), PREPARE));
    wire.answer(Ok(Reply::Done));
    wire.answer(Ok(Reply::Vote(Vote::Ok)));
    let _ = wire.frames();
    wire.say(&transaction(branch(1), BEGIN));
    assert!(exception(&wire.frames()[0]).1.ends_with("xaErrorCode:-6"));
    wire.session.handle_gone();
    assert!(xa(&wire.asks()).is_empty());
}
