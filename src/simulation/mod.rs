//! The whole broker under simulation: real engine, log, index and helpers on a simulated disk,
//! with clients that crash and retry, from a seed.
//!
//! At every storage operation before which a power cut could lose something, the disk is crashed,
//! recovered and compared with what the clients were promised. A failure prints its seed;
//! `one_seed` runs it again.

mod clients;
mod model;
mod node;
mod random;
mod world;

use std::collections::BTreeMap;
use std::panic::catch_unwind;

use crate::mutant::{self, Mutant};

use world::{Plan, Report, Weather, run};

fn plan(seed: u64) -> Plan {
    Plan { seed, steps: 1500, crashes_per_moment: 1, weather: Weather::Fair }
}

#[test]
fn one_seed() {
    let seed = std::env::var("ESCROW_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let report = run(plan(seed)).unwrap_or_else(|problem| panic!("{problem}"));
    println!("{report:#?}");
}
