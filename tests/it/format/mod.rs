//! The bytes on disk, against second implementations of the format: one in Rust, one in Python.

mod agreement;
mod bytes;
mod chain;
mod frames;
pub(crate) mod golden;
mod independent;
pub(crate) mod page;
pub(crate) mod spec;
pub(crate) mod upgrade;
mod verdict;
