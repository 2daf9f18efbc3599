//! openraft 0.10's suite, and what its traits want beyond it.

mod machine;
#[path = "../../../tests/it/shaken.rs"]
mod shaken;
mod suite;
mod support;
mod truncated;
