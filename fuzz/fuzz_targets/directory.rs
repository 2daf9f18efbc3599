//! A log whose segments were changed is read, followed and opened: nothing panics, and what opens works.

#![no_main]

#[allow(dead_code, reason = "shared by the targets, which use different parts of it")]
mod support;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut files = support::specimen().clone();
    support::change(&mut files, data);
    support::read_all(support::lay_out(&files).path());
});
