//! Behaviour through the public interface.

#![allow(clippy::unwrap_used, reason = "a test that fails says so by panicking")]
#![allow(unreachable_pub, reason = "modules of one test crate")]

mod basics;
mod support;
