//! What ties the segments of a log together, from `docs/design/format.md` alone.

use super::spec::{SEAL, Segment, TRUNCATE};

/// Checks what ties `segments`, in order, together.
pub(crate) fn check_chain(segments: &[Segment]) {
    assert_eq!(segments[0].link().previous, (0, 0, 0), "the first segment has none before it");
    for pair in segments.windows(2) {
        check_tie(&pair[0], &pair[1]);
    }
    let mut durable = 0;
    for segment in segments {
        let number = segment.header.number;
        for frame in &segment.frames {
            let claim = frame.durable_then(number).unwrap_or(durable);
            assert!(claim >= durable, "what is durable only grows: segment {number}, offset {}", frame.offset);
            assert!(claim <= number << 32 | frame.offset, "no frame is durable before it is written");
            durable = claim;
        }
    }
}

/// Checks that `segment` follows `before`, perhaps in the place of its last frames.
fn check_tie(before: &Segment, segment: &Segment) {
    let number = segment.header.number;
    assert_eq!(segment.header.log_id, before.header.log_id);
    let (previous, end, crc) = segment.link().previous;
    assert_eq!(previous, before.header.number, "the segment before {number}");
    let last = before.frames.iter().find(|frame| frame.end() == end).expect("a frame ends there");
    assert_eq!((last.crc, last.next_lsn()), (crc, segment.frames[0].lsn), "the end before segment {number}");
    let truncated = end < before.end();
    assert_eq!(segment.frames[1].kind == TRUNCATE, truncated, "segment {number}");
    if truncated {
        assert_eq!(segment.frames[1].payload, (segment.frames[0].lsn - 1).to_le_bytes(), "the last record kept");
    }
    if last.kind == SEAL {
        assert_eq!(last.payload[..8], number.to_le_bytes(), "seal of segment {previous}");
    }
}
