//! `src/memory/`, which uses nothing else of the crate, with its models (`src/memory/model.rs`), and how tasks are woken.
#![deny(unsafe_code)]
#![allow(dead_code, unused_imports, reason = "the rest of the crate uses it")]

#[path = "../../src/memory/mod.rs"]
mod memory;
#[path = "../../src/storage/workers/word.rs"]
mod word;
