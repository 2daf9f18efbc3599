//! Crashes, simulated: a disk that loses power at any moment, a model of what must survive, and histories at random.
//!
//! `docs/design/crash-testing.md` explains the rules. These files are a part of `tests/it/` and of `examples/crash_lab.rs`,
//! and `model.rs` is one of `ci/powercut/` as well.

mod damage;
mod directory;
mod disk;
mod engine;
mod fault;
mod history;
mod image;
mod model;
mod run;
mod shrink;
mod transactions;

pub use disk::{AFTER_EFFECTS, Observer, SimDisk};
pub use fault::{Failure, Fault, Operation};
pub use history::History;
pub use image::AfterEffect;
pub use model::{Crash, Rule, Violation};
pub use run::{Tally, run, run_failing};
pub use shrink::shrink;
pub use transactions::run_transactions;
