//! The program `mapwal`, run as a user would.
//!
//! Planted, and noticed: `verify` that says 0 of a torn end, `dump` that does not escape, `salvage` that says 0 of gaps.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "tests are read for what they show")]

mod appended;
mod asides;
mod backed_up;
mod benched;
mod child;
mod copied;
mod cramped;
mod differed;
mod documents;
mod dumped;
mod durably;
#[path = "../it/support/file_system.rs"]
mod file_system;
mod flipped;
mod forced;
mod frugal;
mod generated;
mod guided;
mod handed_over;
mod heard;
mod incremental;
mod inspected;
mod killed;
mod logs;
mod matrix;
mod mistaken;
#[allow(dead_code, reason = "a kit: each test uses what it needs")]
#[path = "../it/support/mounted.rs"]
mod mounted;
mod narrow;
mod pages;
mod pictures;
mod piped;
mod program;
mod refused;
mod remains;
mod repaired;
mod resumed;
mod salvaged;
mod schema;
mod scraped;
mod states;
mod streams;
mod tailed;
mod tears;
mod terminal;
mod trimmed;
mod trimming;
mod under_load;
mod verified;
#[allow(dead_code, reason = "a kit: each test uses what it needs")]
#[path = "../it/support/wait.rs"]
mod wait;
