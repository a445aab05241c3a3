//! Promises of the log as a whole, on the simulated disk. The parts test themselves.

mod ahead;
mod bench;

mod crash;
mod golden;
mod life;
#[cfg(model_loom)]
mod loom;
mod survey;
mod tail;
mod threads;
