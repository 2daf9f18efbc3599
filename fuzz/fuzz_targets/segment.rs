//! Segments that were changed are verified: nothing panics, and what is accepted is as the specification says.

#![no_main]

#[allow(dead_code, clippy::unwrap_used, reason = "shared with the tests, which use other parts of it")]
#[path = "../../tests/it/format/spec.rs"]
mod spec;
#[allow(dead_code, reason = "shared by the targets, which use different parts of it")]
mod support;

use libfuzzer_sys::fuzz_target;
use mapwal::inspect::verify_segment;
use support::Change;

fuzz_target!(|input: (Vec<Change>, Vec<u8>)| {
    let (changes, bytes) = input;
    drop(verify_segment(&bytes));
    let segments = support::changed(&changes);
    for (_, segment) in segments.into_iter().filter(|segment| !support::golden().contains(segment)) {
        let Ok(summary) = verify_segment(&segment) else { continue };
        assert!(summary.len_bytes <= segment.len() as u64);
        assert!(summary.records <= summary.next_lsn.0 - summary.first_lsn.0);
        // A part of a file is accepted as well.
        if summary.file_len_bytes == segment.len() as u64 {
            let parsed = spec::Segment::parse(&segment);
            assert_eq!((parsed.header.number, parsed.end()), (summary.number, summary.len_bytes));
            let _ = parsed.link();
        }
    }
});
