//! What a store knows of commits that it does not remember any more: when the newest of them was.

use super::*;
use crate::broker::Limits;

const COMMITS: u64 = 100;
/// The newest commits, of which one is made each 100 ms; some that are older are remembered, too.
const REMEMBERED: u64 = 16;
const APART: u64 = 100;

fn limited() -> Settings {
    let limits = Limits { names_per_scope: REMEMBERED as usize, ..settings().limits };
    Settings { limits, ..settings() }
}

fn id(number: u64) -> Identity {
    Identity::of(format!("commit {number}").as_bytes())
}

fn outcome(bench: &mut Bench, number: u64) -> Result<Reply, Refusal> {
    bench.ask(Command::Once(Once::outcome(id(number))))
}

/// Writes the store of this version: `cargo test --lib write_forgotten -- --ignored`.
#[test]
#[ignore = "writes the golden store of this version, by name; it is never rewritten"]
fn write_forgotten() {
    let disk = SimDisk::new();
    let mut bench = Bench::open_with(&disk, HOUR, &limited());
    let transaction = TransactionName(1);
    for number in 1..=COMMITS {
        bench.now.0 += APART;
        bench.done(Command::Begin { transaction });
        let work = Work::Send { to: queue("committed"), message: message(When::AtOnce) };
        bench.done(Command::Transact { transaction, work });
        let operations = Identity::of(b"a send");
        bench.done(Command::Once(Once::commit(id(number), transaction, operations)));
    }
    // What has been forgotten is in the index alone.
    bench.pass(10 * settings().checkpoint_millis);
    write_newest("forgotten", &disk.kill());
}

#[test]
fn of_what_a_store_has_forgotten_nobody_hears_that_it_never_was() {
    let ends = HOUR + COMMITS * APART;
    for path in stores("forgotten") {
        let mut bench = Bench::open_with(&unpack(&path), ends + 20_000, &limited());
        for number in COMMITS - REMEMBERED + 1..=COMMITS {
            assert_eq!(outcome(&mut bench, number), Ok(Reply::Repeated), "{number}");
        }
        for number in [1, COMMITS / 2, COMMITS + 1] {
            let Ok(Reply::OutcomeForgotten { millis }) = outcome(&mut bench, number) else {
                panic!("it may have been")
            };
            let until = bench.now.0 - millis;
            let between = ends - 2 * REMEMBERED * APART..=ends - REMEMBERED * APART;
            assert!(between.contains(&until), "{until}");
        }
        assert_eq!(bench.depth("committed"), COMMITS);
    }
}
