//! The program `mapwal`, run as a user would.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "tests are read for what they show")]

mod appended;
mod dumped;
mod generated;
mod killed;
mod logs;
mod program;
mod salvaged;
mod states;
mod tailed;
mod verified;
