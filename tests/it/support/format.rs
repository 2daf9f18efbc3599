//! The format on disk, written down a second time: so that a test finds frames without the code that it tests.

use std::ops::Range;
use std::path::Path;

use super::files;

/// Bytes of a segment in front of its first frame.
pub(crate) const HEADER_LEN: usize = 4096;
/// Bytes of a frame in front of its payload.
pub(crate) const FRAME_HEADER_LEN: usize = 24;

/// Fields of a segment's header.
pub(crate) const VERSION: Range<usize> = 8..12;
pub(crate) const SALT: Range<usize> = 12..16;
pub(crate) const SEGMENT_SIZE: Range<usize> = 16..24;
pub(crate) const NUMBER: Range<usize> = 24..32;
pub(crate) const LOG_ID: Range<usize> = 32..48;
pub(crate) const HEADER_CRC: Range<usize> = 56..60;

/// Fields of a frame's header.
pub(crate) const LEN: Range<usize> = 0..4;
pub(crate) const CRC: Range<usize> = 4..8;
pub(crate) const LSN: Range<usize> = 8..16;
pub(crate) const DURABLE_LAG: Range<usize> = 16..20;
pub(crate) const KIND: usize = 20;
pub(crate) const FLAGS: usize = 21;

pub(crate) const DATA: u8 = 1;
pub(crate) const VOID: u8 = 2;
pub(crate) const LINK: u8 = 3;
pub(crate) const SEAL: u8 = 4;
pub(crate) const CLOSE: u8 = 6;

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
    pub(crate) lsn: u64,
    pub(crate) durable_lag: u32,
    pub(crate) kind: u8,
}

impl StoredFrame {
    pub(crate) fn position(&self) -> u64 {
        position(self.segment, self.offset)
    }

    /// Where it stands in its segment, padding included.
    pub(crate) fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len.next_multiple_of(8)
    }

    /// The place up to which the log was durable when the frame was appended, as far as it tells.
    pub(crate) fn durable_then(&self) -> u64 {
        if self.durable_lag == u32::MAX { 0 } else { self.position() - u64::from(self.durable_lag) * 8 }
    }

    pub(crate) fn is_record(&self) -> bool {
        matches!(self.kind, DATA | VOID)
    }
}

/// The frames of an undamaged segment.
pub(crate) fn frames(segment: u64, bytes: &[u8]) -> Vec<StoredFrame> {
    let mut frames = Vec::new();
    let mut offset = HEADER_LEN;
    while offset + FRAME_HEADER_LEN <= bytes.len() && number(&bytes[offset..], LEN) != 0 {
        let header = &bytes[offset..];
        let frame = StoredFrame {
            segment,
            offset,
            len: usize::try_from(number(header, LEN)).expect("within the segment"),
            lsn: number(header, LSN),
            durable_lag: u32::try_from(number(header, DURABLE_LAG)).expect("four bytes"),
            kind: header[KIND],
        };
        offset = frame.range().end;
        frames.push(frame);
    }
    frames
}

/// The frames of all segments in `directory`.
pub(crate) fn all_frames(directory: &Path) -> Vec<StoredFrame> {
    let read = |number| frames(number, &std::fs::read(files::segment(directory, number)).expect("a segment"));
    files::segment_numbers(directory).into_iter().flat_map(read).collect()
}

/// Makes the checksum of a segment's header right again.
pub(crate) fn seal_header(bytes: &mut [u8]) {
    let crc = crc32fast::hash(&bytes[..HEADER_CRC.start]);
    bytes[HEADER_CRC].copy_from_slice(&crc.to_le_bytes());
}

/// Makes the checksum of the frame at `offset` right again.
pub(crate) fn seal_frame(bytes: &mut [u8], offset: usize) {
    let len = u32::try_from(number(&bytes[offset..], LEN)).expect("four bytes");
    let salt = u32::try_from(number(bytes, SALT)).expect("four bytes");
    let covered = &bytes[offset + CRC.end..offset + len as usize];
    let mut hasher = crc32fast::Hasher::new_with_initial(salt ^ len);
    hasher.update(covered);
    let crc = hasher.finalize();
    bytes[offset + CRC.start..offset + CRC.end].copy_from_slice(&crc.to_le_bytes());
}

/// The little-endian number in `field`.
fn number(bytes: &[u8], field: Range<usize>) -> u64 {
    bytes[field].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
