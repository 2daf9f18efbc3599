//! A log whose control page has any words is read, followed and opened: nothing panics, and what opens works.

#![no_main]

#[allow(dead_code, reason = "shared by the targets, which use different parts of it")]
mod support;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut files = support::specimen().clone();
    let control = files.iter_mut().find(|(name, _)| name == "control");
    let (_, page) = control.expect("a log has a control page");
    // Each a word's number, what is done to it, and the operand.
    for (&[at, change, operand], _) in std::iter::successors(data.split_first_chunk(), |(_, rest)| rest.split_first_chunk()) {
        let at = usize::from(at % 72) * 8;
        let word = u64::from_le_bytes(page[at..at + 8].try_into().expect("eight bytes"));
        let shifted = u64::from(operand) << (u32::from(change >> 2) % 64);
        let word = match change & 3 {
            0 => word.wrapping_add(shifted),
            1 => word.wrapping_sub(shifted),
            2 => word ^ shifted,
            _ => shifted,
        };
        page[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    support::read_all(support::lay_out(&files).path());
});
