//! Frames where they stand on disk: found by the specification, not by the code under test, and changed in place.

#![allow(dead_code, reason = "a kit: each test uses what it needs")]

use std::ops::Range;
use std::path::Path;

use super::files;
use crate::format::spec::{self, DATA, VOID, crc32};

pub(crate) const HEADER_LEN: usize = spec::SEGMENT_HEADER_LEN;
/// Bytes of a frame before its payload.
pub(crate) const FRAME_HEADER_LEN: usize = 24;

/// Fields of a segment's header.
pub(crate) const VERSION: Range<usize> = 8..12;
pub(crate) const SALT: Range<usize> = 12..16;
pub(crate) const SEGMENT_SIZE: Range<usize> = 16..24;
pub(crate) const NUMBER: Range<usize> = 24..32;
pub(crate) const LOG_ID: Range<usize> = 32..48;
pub(crate) const INCOMPATIBLE: Range<usize> = 56..60;
pub(crate) const READ_ONLY: Range<usize> = 60..64;
pub(crate) const COMPATIBLE: Range<usize> = 64..68;
/// After the last field but the checksum.
pub(crate) const FIELDS_END: usize = 68;
pub(crate) const HEADER_CRC: Range<usize> = HEADER_LEN - 4..HEADER_LEN;

/// Fields of a frame's header.
pub(crate) const LEN: Range<usize> = 0..4;
pub(crate) const CRC: Range<usize> = 4..8;
pub(crate) const LSN: Range<usize> = 8..16;
pub(crate) const KIND: usize = 20;
pub(crate) const FLAGS: usize = 21;
pub(crate) const TAG: Range<usize> = 22..24;

/// A place in the files of a log: segment number and byte offset as one number.
pub(crate) fn position(segment: u64, offset: usize) -> u64 {
    (segment << 32) + offset as u64
}

/// A frame found in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredFrame {
    pub(crate) segment: u64,
    pub(crate) offset: usize,
    /// Header and payload.
    pub(crate) len: usize,
    /// After the frame and its padding.
    pub(crate) end: usize,
    pub(crate) lsn: u64,
    pub(crate) kind: u8,
    /// The position up to which the log was durable when the frame was appended, as far as it tells.
    pub(crate) durable_then: u64,
}

impl StoredFrame {
    fn new(segment: u64, frame: &spec::Frame) -> Self {
        Self {
            segment,
            offset: usize::try_from(frame.offset).unwrap(),
            len: frame.len as usize,
            end: usize::try_from(frame.end()).unwrap(),
            lsn: frame.lsn,
            kind: frame.kind,
            durable_then: frame.durable_then(segment).unwrap_or(0),
        }
    }

    pub(crate) fn position(&self) -> u64 {
        position(self.segment, self.offset)
    }

    pub(crate) fn is_record(&self) -> bool {
        matches!(self.kind, DATA | VOID)
    }
}

/// The frames of segment `number`, which is undamaged.
pub(crate) fn frames(directory: &Path, number: u64) -> Vec<StoredFrame> {
    let bytes = std::fs::read(files::segment(directory, number)).expect("the segment is readable");
    spec::Segment::parse(&bytes).frames.iter().map(|frame| StoredFrame::new(number, frame)).collect()
}

/// The frames of all segments in `directory`, which are undamaged.
pub(crate) fn all_frames(directory: &Path) -> Vec<StoredFrame> {
    files::segment_numbers(directory).into_iter().flat_map(|number| frames(directory, number)).collect()
}

/// The frame of record `lsn`.
pub(crate) fn frame_of(directory: &Path, lsn: u64) -> StoredFrame {
    let mut frames = all_frames(directory).into_iter();
    frames.find(|frame| frame.is_record() && frame.lsn == lsn).expect("the record is in the log")
}

/// Makes the checksum of a segment's header right again.
pub(crate) fn seal_header(bytes: &mut [u8]) {
    let crc = crc32(0, &bytes[..HEADER_CRC.start]);
    bytes[HEADER_CRC].copy_from_slice(&crc.to_le_bytes());
}

/// Says of a segment that its file was another one before.
pub(crate) fn recycle(bytes: &mut [u8]) {
    bytes[INCOMPATIBLE].copy_from_slice(&spec::RECYCLED.to_le_bytes());
    seal_header(bytes);
}

/// Makes the checksum of the frame at `offset` right again.
pub(crate) fn seal_frame(bytes: &mut [u8], offset: usize) {
    let crc = spec::checksum_of(u32_in(bytes, SALT), &bytes[offset..]);
    bytes[offset + CRC.start..offset + CRC.end].copy_from_slice(&crc.to_le_bytes());
}

fn u32_in(bytes: &[u8], field: Range<usize>) -> u32 {
    u32::from_le_bytes(bytes[field].try_into().expect("four bytes"))
}
