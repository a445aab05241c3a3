//! Promises of the log as a whole, on the simulated disk. The parts test themselves.

mod ahead;
mod bench;

mod crash;
mod golden;
mod golden_pack;
mod life;
#[cfg(model_loom)]
mod loom;
mod pack;
mod survey;
mod tail;
mod threads;
