//! Any bytes are verified as a segment, and so are those of a segment that was changed: nothing panics.

#![no_main]

#[allow(dead_code, reason = "shared by the targets, which use different parts of it")]
mod support;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    drop(mapwal::verify_segment(data));
    let mut files = support::specimen().clone();
    support::change(&mut files, data);
    for (_, bytes) in files.iter().filter(|(name, _)| name.ends_with(".seg")) {
        drop(mapwal::verify_segment(bytes));
    }
});
