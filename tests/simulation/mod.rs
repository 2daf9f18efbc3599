//! Crashes, simulated: a disk that loses power at any moment, a model of what must survive, and histories at random.
//!
//! `docs/design/crash-testing.md` explains the rules. These files are a part of `tests/it/` and of `examples/crash_lab.rs`,
//! and `model.rs` is one of `ci/powercut/` as well.

mod damage;
mod engine;
mod history;
mod model;
mod run;
mod shrink;
mod transactions;

pub use history::History;
pub use mapwal::internals::{AFTER_EFFECTS, AfterEffect, Crash, Failure, Fault, Observer, Operation, SimDisk};
pub use model::{Rule, Violation};
pub use run::{Tally, run, run_failing};
pub use shrink::shrink;
pub use transactions::run_transactions;
