//! Behaviour through the public interface.

#![allow(clippy::unwrap_used, reason = "a test that fails says so by panicking")]

mod basics;
mod format;
mod model;
mod replica;
mod scratch;
mod support;
mod tidy;
mod trace;
