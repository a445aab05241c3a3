//! Promises of the real process: each test runs the broker as a child, and talks to it as its
//! users do. In one binary, because linking takes longer than most of them.

mod backup;
mod choosing;
mod compaction;
mod crash;
mod durable;
mod flow;
mod gauges;
mod hostile;
mod large;
mod memory;
mod metrics;
mod once;
mod openwire_hostile;
mod openwire_once;
mod openwire_session;
mod operator;
mod producers;
mod redelivery;
mod repair;
mod rights;
mod schedule;
mod security;
mod selectors;
mod stats;
mod store_tools;
mod stories;
mod transactions;
mod virtual_topics;
mod xa;

#[path = "../support/mod.rs"]
mod support;
