//! Looking for frames where no walk leads: at every step, in bytes that may hold anything.

use std::convert::Infallible;
use std::ops::Range;

use super::frame::{self, ALIGN, Frame, FrameHasher, HEADER_LEN};
use super::range_sum::RangeSums;

/// The longest payload whose checksum is computed at once. Bytes that look like the start of a frame at every step cost no
/// more than that for each.
const SHORT_LEN: usize = 1 << 10;

/// Shows to `found` every intact frame that begins in `range` of a segment's `bytes` and that `matters`, in order, with its
/// offset. What lies inside of one that was shown is not looked at.
pub(crate) fn search<'b>(
    bytes: &'b [u8],
    salt: u32,
    range: Range<usize>,
    matters: impl Fn(&Frame<'b>, usize) -> bool,
    mut found: impl FnMut(&Frame<'b>, usize),
) {
    let mut offset = range.start.next_multiple_of(ALIGN);
    let mut sums = PayloadSums { bytes, start: offset, hasher: FrameHasher::new(), ranges: None };
    while offset < range.end && offset + HEADER_LEN <= bytes.len() {
        let stated = Frame::parse(&bytes[offset..]).ok().filter(|frame| matters(frame, offset));
        let intact = stated.filter(|frame| frame.checksum_with(salt, sums.of(frame, offset)) == frame.crc());
        offset += match intact {
            Some(frame) => {
                found(&frame, offset);
                frame.padded_len()
            }
            None => ALIGN,
        };
    }
}

/// Checksums of payloads, wherever frames may begin.
struct PayloadSums<'b> {
    bytes: &'b [u8],
    start: usize,
    hasher: FrameHasher,
    /// Made when the first long payload comes.
    ranges: Option<RangeSums>,
}

impl PayloadSums<'_> {
    fn of(&mut self, frame: &Frame<'_>, offset: usize) -> u32 {
        let payload = frame.payload();
        if payload.len() <= SHORT_LEN {
            return self.hasher.sum(payload);
        }
        let bytes = self.bytes;
        let mut read = |at: u64, into: &mut [u8]| {
            let at = at as usize;
            into.copy_from_slice(&bytes[at..at + into.len()]);
            Ok::<(), Infallible>(())
        };
        let start = (offset + frame::HEADER_LEN) as u64;
        let ranges = if let Some(ranges) = &self.ranges {
            ranges
        } else {
            let Ok(ranges) = RangeSums::new(self.start as u64..bytes.len() as u64, &mut read);
            self.ranges.insert(ranges)
        };
        let Ok(sum) = ranges.sum(start..start + payload.len() as u64, &mut read);
        sum
    }
}
