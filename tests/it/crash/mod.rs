//! Crashes: of the machine, of the process, and calls that fail or panic.

mod any_failure;
mod crashes;
pub(crate) mod killed;
mod panics;
mod signals;
mod simulated;
