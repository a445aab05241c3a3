//! Promises of branches whose names were there before.

use super::*;

#[test]
fn a_branch_under_a_name_of_before_is_answered_for_itself_whatever_became_of_the_other() {
    let no_branch = no(XaError::NotA);
    let rollback = Disposition::Return;
    type Do<'a> = &'a dyn Fn(&mut Bench);
    let commits = |bench: &mut Bench| assert_eq!(bench.commit_branch(1, false), YES);
    let rolls_back = |bench: &mut Bench| assert_eq!(bench.rollback_branch(1, rollback), YES);
    let befores: [Do<'_>; 2] = [&commits, &rolls_back];
    for before in befores {
        let mut bench = Bench::new();
        bench.prepared(1);
        before(&mut bench);
        let there = bench.waiting("q");
        // It lives, and nothing that is remembered speaks for it.
        bench.start(1, 1);
        assert_eq!(bench.commit_branch(1, true), no(XaError::Proto));
        assert_eq!(bench.rollback_branch(1, rollback), no(XaError::Proto));
        bench.send_within(1, "q", Durability::Persistent);
        bench.end_branch(1, 1);
        assert_eq!(bench.rollback_branch(1, rollback), YES);
        assert_eq!(bench.rollback_branch(1, rollback), no_branch);
        assert_eq!(bench.commit_branch(1, true), no_branch);
        // One that ends with its life, before it has voted.
        bench.prepared(1);
        before(&mut bench);
        bench.start(1, 1);
        bench.send_within(1, "q", Durability::Persistent);
        bench.end_branch(1, 1);
        bench.restart();
        bench.settle_down(Effects::new());
        assert_eq!(bench.commit_branch(1, true), no_branch);
        assert_eq!(bench.waiting("q"), 2 * there);
        // One with nothing in it.
        bench.prepared(1);
        before(&mut bench);
        bench.start(1, 1);
        bench.end_branch(1, 1);
        assert_eq!(bench.commit_branch(1, true), YES);
        bench.restart();
        assert_eq!(bench.commit_branch(1, true), YES, "whoever asks again hears that it is well");
        assert_eq!(bench.rollback_branch(1, rollback), no(XaError::Proto));
        // One whose manager never came back.
        bench.prepared(1);
        before(&mut bench);
        bench.start(1, 1);
        let news = Work::Send { to: topic("t"), message: message(Durability::NonPersistent) };
        bench.do_in(1, news).unwrap();
        bench.close(1);
        let forgotten = bench.now.0 + 3 * Limits::default().branch_millis;
        bench.now = Millis(forgotten);
        bench.settle_down(Effects::new());
        assert_eq!(bench.commit_branch(1, true), no_branch);
    }
}

/// A client that comes back before it has heard of a commit says all of the branch again; what it
/// had sent is known, and so nothing is done.
#[test]
fn a_commit_is_answered_again_whoever_has_said_meanwhile_what_was_done_before_it() {
    let mut bench = Bench::new();
    bench.prepared(1);
    assert_eq!(bench.commit_branch(1, false), YES);
    bench.restart();
    assert_eq!(bench.start_as(1, 1, StartAs::Either), YES);
    assert_eq!(bench.end_as(1, 1, EndAs::Lost), YES);
    assert_eq!(bench.prepare(1), no(XaError::RbRollback));
    for _ in 0..2 {
        assert_eq!(bench.commit_branch(1, false), YES);
        bench.restart();
    }
    assert_eq!(bench.waiting("q"), 1);
    // But not where something new was done under its name.
    assert_eq!(bench.start_as(1, 1, StartAs::Either), YES);
    bench.send_within(1, "q", Durability::Persistent);
    assert_eq!(bench.end_as(1, 1, EndAs::Lost), YES);
    assert_eq!(bench.prepare(1), no(XaError::RbRollback));
    assert_eq!(bench.commit_branch(1, false), no(XaError::NotA));
}
