//! The program `mapwal`, run as a user would.
//!
//! Each of these has been seen to fail with the program broken: `append --sync each` printing a number before it waits
//! (`killed`), `verify` taking every gap for a torn end (`states`, `verified`), text without escaping and JSON with the
//! payload forced into a string (`dumped`), `salvage` without numbers for lost records (`salvaged`), `tail` without a look
//! behind a rotation (`tailed`), usage errors with exit code 2 (`generated`).

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
