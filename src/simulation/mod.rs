//! The whole broker under simulation: real engine, log, index and helpers on a simulated disk,
//! with clients that crash and retry, from a seed.
//!
//! At every storage operation before which a power cut could lose something, the disk is crashed,
//! recovered and compared with what the clients were promised. A failure prints its seed and
//! weather; `one_seed` runs them again.

mod again;
mod answers;
mod backup;
mod bodies;
mod branches;
mod clients;
mod falls;
mod flow;
mod full_disk;
mod kept;
mod model;
mod node;
mod older;
mod once;
mod operators;
mod random;
mod rest;
mod restart;
mod reuse;
mod scripts;
mod settled;
mod slow_checkpoint;
mod special;
mod taste;
mod uneven;
mod units;
mod world;

use std::ops::RangeInclusive;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::mutant::{self, Mutant};

use falls::DEEPEST;
use world::{Plan, Report, Verdict, Weather, run};

/// Distinct crash points that the test run tries at least.
const MOMENTS_MIN: u64 = 100_000;

fn plan(seed: u64) -> Plan {
    // Most seeds have fair weather; a disk that fills or fails has its own dangers.
    let weather = match seed % 8 {
        6 => Weather::Filling,
        7 => Weather::Failing,
        _ => Weather::Fair,
    };
    Plan { seed, steps: 4000, crashes_per_moment: 1, weather }
}

/// A run whose panics are problems like others.
fn try_run(plan: Plan) -> Verdict {
    catch_unwind(|| run(plan)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(format!("panic: {text}; {plan:?}"))
    })
}

/// Runs seeds from `first` on two threads until `enough` says so, and adds up what they saw.
fn run_seeds(first: u64, enough: impl Fn(u64) -> bool + Sync) -> Report {
    let (next, tried) = (AtomicU64::new(first), AtomicU64::new(0));
    let worker = || {
        let mut sum = Report::default();
        while !enough(tried.load(Ordering::Relaxed)) {
            let report = try_run(plan(next.fetch_add(1, Ordering::Relaxed)));
            let report = report.unwrap_or_else(|problem| panic!("{problem}"));
            tried.fetch_add(report.moments.values().sum(), Ordering::Relaxed);
            sum.add(&report);
        }
        sum
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(worker);
        let mut sum = worker();
        sum.add(&other.join().expect("the seed is in the panic's message"));
        sum
    })
}

fn print(report: &Report) {
    let width = report.moments.keys().map(String::len).max().unwrap_or(0);
    let most = report.moments.values().copied().max().unwrap_or(1);
    for (label, count) in &report.moments {
        let bar = "#".repeat((count * 40 / most) as usize);
        println!("{label:width$} {count:8} {bar}");
    }
    report.falls.print();
    println!(
        "{} crash points, {} crashes recovered and checked, {} lives, {} messages sent, \
         {} backups restored, {} cut off",
        report.moments.values().sum::<u64>(),
        report.crashes,
        report.lives,
        report.sent,
        report.backups,
        report.backups_cut_off
    );
}

#[test]
fn no_crash_at_any_of_100_000_points_breaks_a_promise() {
    let report = run_seeds(1, |tried| tried >= MOMENTS_MIN);
    print(&report);
    // A run that hardly meets a kind of point proves nothing about it.
    for (label, least) in [
        ("write wal-", 500),
        ("sync wal-", 2000),
        ("sync index", 2000),
        ("write index", 5000),
        ("sync_dir", 2000),
        ("rename wal-", 1000),
        ("link seal-", 500),
        ("link claim-", 500),
        ("rename spare-", 5),
        ("create tmp-pack-", 50),
        ("write tmp-pack-", 500),
        ("sync tmp-pack-", 250),
        ("rename pack-", 50),
        ("remove pack-", 30),
    ] {
        let met = report.moments.get(label).copied().unwrap_or(0);
        assert!(met >= least, "{label}: only {met} crashes fell there");
    }
    // The same for recoveries cut off in recoveries, as deep as they are tried.
    let deepest = report.falls.at_depth(DEEPEST);
    assert!(deepest >= 2000, "only {deepest} times {DEEPEST} starts in a row were cut off");
    for label in ["sync_dir", "link claim-", "link seal-", "write tmp-wal-", "rename wal-"] {
        let met = report.falls.at(DEEPEST, label);
        assert!(met >= 50, "{label}: only {met} starts were cut off there after four others");
    }
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in [3, 6, 7] {
        let (one, other) = (try_run(plan(seed)), try_run(plan(seed)));
        assert_eq!(one, other);
    }
}

/// One seed again: `ESCROW_SEED=17 cargo test --lib one_seed -- --nocapture`.
#[test]
fn one_seed() {
    let seed = std::env::var("ESCROW_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let report = try_run(plan(seed)).unwrap_or_else(|problem| panic!("{problem}"));
    print(&report);
}

/// Ten minutes of new seeds: `cargo test --release --lib ten_minutes -- --ignored --nocapture`.
/// `ESCROW_SECONDS` changes the time, `ESCROW_SEED` the first seed.
#[test]
#[ignore = "takes ten minutes; run it by name"]
fn ten_minutes_of_seeds() {
    let number = |name: &str, or| {
        std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(or)
    };
    let (began, long) = (Instant::now(), Duration::from_secs(number("ESCROW_SECONDS", 600)));
    print(&run_seeds(number("ESCROW_SEED", 1_000_000), |_| began.elapsed() >= long));
}

/// What seeds complain of while a defect is had.
fn complaints(
    seeds: RangeInclusive<u64>,
    mutant: Option<Mutant>,
    weather: Weather,
) -> impl Iterator<Item = String> {
    seeds.filter_map(move |seed| {
        mutant::set(mutant);
        let verdict = try_run(Plan { weather, ..plan(seed) });
        mutant::set(None);
        verdict.err()
    })
}

#[test]
fn nothing_is_caught_where_there_is_no_defect() {
    let problem = complaints(1..=3, None, Weather::Fair).next();
    assert_eq!(problem, None);
}

/// A defect on purpose, and what its victims say: some other complaint does not show that this
/// one was caught.
struct Defect {
    name: &'static str,
    /// The first seed that is tried: of what hides well, near one that shows it.
    first: u64,
    mutant: Option<Mutant>,
    weather: Weather,
    says: &'static str,
}

impl Defect {
    fn mutant(name: &'static str, mutant: Mutant, says: &'static str) -> Self {
        Self { name, first: 1, mutant: Some(mutant), weather: Weather::Fair, says }
    }

    fn from(self, first: u64) -> Self {
        Self { first, ..self }
    }

    fn weather(name: &'static str, weather: Weather, says: &'static str) -> Self {
        Self { name, first: 1, mutant: None, weather, says }
    }
}

#[test]
fn every_defect_on_purpose_is_caught() {
    // What a start says of a log that has lost what was durable, or a needed segment.
    const CORRUPT: &str = "is corrupt at offset";
    const GONE: &str = "is missing: it holds what the store still needs";
    let defects = [
        Defect::weather("a sync of the log is skipped", Weather::LyingSync, CORRUPT),
        Defect::weather(
            "a sync of the directory is skipped",
            Weather::LyingSyncDir,
            "its identity is lost",
        ),
        Defect::mutant("answers do not wait", Mutant::AnswerBeforeSync, "is lost"),
        Defect::mutant("the index runs ahead of the log", Mutant::IndexBeforeLog, CORRUPT),
        Defect::mutant("checksums are ignored", Mutant::IgnoreChecksum, "is another's"),
        Defect::mutant("deliveries are forgotten", Mutant::ForgetLent, "is not flagged"),
        Defect::mutant("living segments are given back", Mutant::RetireTheLiving, GONE),
        Defect::mutant("bodies outlive their messages", Mutant::ForgetPieces, "belongs to nobody"),
        Defect::mutant("bodies outlive their senders", Mutant::ForgetUploads, "is still open"),
        Defect::mutant("bodies with gaps are taken", Mutant::TakeGaps, "is another's"),
        Defect::mutant("held sends are confirmed at once", Mutant::ConfirmHeld, "is lost"),
        Defect::mutant("held sends are forgotten", Mutant::ForgetHeld, "is lost"),
        Defect::mutant("a move forgets one end", Mutant::MoveWithoutLeaving, "is there twice"),
        Defect::mutant("what is set apart is lost", Mutant::DeadLetterIntoNothing, "live bytes"),
        Defect::mutant("what fires waits on", Mutant::FireWithoutLeaving, "is there twice"),
        Defect::mutant("delays never end", Mutant::WakeIntoNothing, "are delayed"),
        Defect::mutant("the index never hears of a pack", Mutant::PackWithoutPlace, GONE),
        Defect::mutant("segments go before the index knows", Mutant::RecycleBeforeIndex, GONE),
        Defect::mutant(
            "what a transaction has settled waits for all",
            Mutant::ForgetHolds,
            " and has ",
        )
        .from(60),
        Defect::mutant(
            "nobody hears where a committed message is",
            Mutant::ForgetEntered,
            "not understood",
        ),
        Defect::mutant("ids are forgotten", Mutant::ForgetNames, "is there twice"),
        Defect::mutant("repetitions do not wait", Mutant::RepeatBeforeSync, "is lost").from(11),
        Defect::mutant("a rollback keeps its ids", Mutant::KeepNames, "is lost"),
        Defect::mutant("open transactions are committed", Mutant::CommitOpen, "refused or removed"),
        Defect::mutant(
            "a commit takes no heed of limits",
            Mutant::CommitWithoutRoom,
            "it holds more than its limit",
        )
        .from(86),
    ];
    catch(defects);
}

#[test]
fn every_defect_of_what_comes_later_is_caught() {
    let (name, says) = ("occurrences are not counted", "its occurrences");
    catch([Defect::mutant(name, Mutant::OccurUncounted, says)]);
}

#[test]
fn every_defect_of_what_is_kept_and_given_back_is_caught() {
    const GONE: &str = "is missing: it holds what the store still needs";
    let defects = [
        Defect::mutant("an unsynced pack is named", Mutant::NameUnsyncedPack, "pack-"),
        Defect::mutant("two states judge a segment", Mutant::JudgeByTwoStates, "not understood"),
        Defect::mutant("segments go as a checkpoint begins", Mutant::RetireBeforeIndex, GONE),
        Defect::mutant("memory judges segments", Mutant::JudgeByMemory, GONE),
        Defect::mutant("a backup loses its hold", Mutant::LoseHold, "a backup failed").from(13),
        Defect::mutant("a copy is not synced", Mutant::ListUnsyncedCopy, "start: copy-"),
    ];
    catch(defects);
}

#[test]
fn every_defect_of_sends_that_wait_is_caught() {
    let defects = [
        Defect::mutant("held sends go unanswered", Mutant::SilenceHeld, "was never answered"),
        Defect::mutant("held sends are answered twice", Mutant::AnswerHeldTwice, "was not asked"),
        Defect::mutant("held sends are done twice", Mutant::RepeatHeld, "is there twice"),
    ];
    catch(defects);
}

#[test]
fn selectors_that_are_ignored_are_caught() {
    catch([Defect::mutant("selectors are ignored", Mutant::SelectAll, "does not match")]);
}

#[test]
fn every_defect_of_numbers_is_caught() {
    catch([
        Defect::mutant("numbers are forgotten", Mutant::ForgetNumbers, "is there twice"),
        Defect::mutant("old numbers count as new", Mutant::TakeBelow, "is there twice"),
        Defect::mutant("a rollback keeps its numbers", Mutant::KeepNumbers, "is lost"),
    ]);
}

#[test]
fn forgotten_votes_and_outcomes_are_caught() {
    catch([
        Defect::mutant("votes are forgotten", Mutant::ForgetPrepared, "is forgotten"),
        Defect::mutant("outcomes are forgotten", Mutant::ForgetOutcomes, "was refused: Xa(NotA)"),
        Defect::mutant("decisions are forgotten", Mutant::ForgetDecisions, "is not told"),
    ]);
}

#[test]
fn a_restored_store_that_forgets_that_it_is_one_is_caught() {
    let (name, says) = ("a restored store forgets", "was restored and is not flagged");
    catch([Defect::mutant(name, Mutant::ForgetRestored, says)]);
}

/// Sees that each is caught; `ESCROW_DEFECT` tries those alone whose names hold these words.
fn catch(defects: impl IntoIterator<Item = Defect>) {
    let only = std::env::var("ESCROW_DEFECT").unwrap_or_default();
    let defects = defects.into_iter().filter(|defect| defect.name.contains(&only));
    for Defect { name, first, mutant, weather, says } in defects {
        let mut others = Vec::new();
        let caught = complaints(first..=first + 120, mutant, weather).find(|complaint| {
            let expected = complaint.contains(says);
            if !expected {
                others.push(complaint.clone());
            }
            expected
        });
        let Some(caught) = caught else {
            panic!("{name}, and nothing said {says:?}, but only {others:#?}");
        };
        println!("{name}: {caught:.150}");
    }
}
