//! A log whose segments were changed, are missing or too many is read, followed and opened: nothing panics, and what opens
//! works.

#![no_main]

#[allow(dead_code, clippy::unwrap_used, reason = "shared with the tests, which use other parts of it")]
#[path = "../../tests/it/format/spec.rs"]
mod spec;
#[allow(dead_code, reason = "shared by the targets, which use different parts of it")]
mod support;

use libfuzzer_sys::fuzz_target;
use support::Change;

fuzz_target!(|changes: Vec<Change>| {
    support::read_all(support::lay_out(&support::changed(&changes)).path());
});
