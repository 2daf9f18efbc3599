//! `src/memory/`, which uses nothing else of the crate, with its models (`src/memory/model.rs`).
#![deny(unsafe_code)]
#![allow(dead_code, unused_imports, reason = "the rest of the crate uses it")]

#[path = "../../src/memory/mod.rs"]
mod memory;
