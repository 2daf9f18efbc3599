//! Checking one segment with nothing but its bytes.

use std::path::Path;

use crate::error::{Corruption, Damage, Result};
use crate::format::frame::{ALIGN, FrameKind};
use crate::format::search;
use crate::format::segment_header::{self, Layout, SegmentHeader};
use crate::format::walk::{Check, Walk};
use crate::lsn::Lsn;
use crate::read::SegmentTip;
use crate::segment::directory::{self, FirstFrame};

/// What the bytes of a segment hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentSummary {
    /// The identity of the log that it belongs to.
    pub log_id: u128,
    /// Its number.
    pub number: u64,
    /// The length of its file in bytes.
    pub file_len_bytes: u64,
    /// The number of its first record; the same as `next_lsn` if it has none.
    pub first_lsn: Lsn,
    /// The number after its last record.
    pub next_lsn: Lsn,
    /// Records in it, without voided ones.
    pub records: u64,
    /// Bytes up to the end of its last frame.
    pub len_bytes: u64,
    /// Whether it ends with a seal: it was filled, or rotated, and not cut short by a crash, a truncation or a close.
    pub sealed: bool,
    /// The end of its frames, as the segment after it says if all of them count.
    pub tip: SegmentTip,
    /// The tip of the segment before it; `None` if it is the first one of a log, or after a reset.
    pub predecessor: Option<SegmentTip>,
}

/// Checks a segment from its bytes alone: the whole file, or as many bytes as a [`SealedSegment`](crate::SealedSegment)
/// has. After the last frame there may only be zeros, or, in a file that was another segment before, anything but
/// frames of this one.
///
/// # Errors
/// [`Error::Format`](crate::Error::Format), or [`Error::Corrupt`](crate::Error::Corrupt) with the offset of what is wrong, and an empty path.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::error::{Corruption, Damage, Evidence};
/// use mapwal::inspect::{SegmentSummary, verify_segment};
/// use mapwal::{Error, Lsn};
///
/// log.append(1, b"to be archived")?;
/// log.rotate()?;
/// log.sync()?; // what is sealed counts as such once it is durable
/// let mut copy = log.sealed(0)?[0].bytes().to_vec();
/// let summary: SegmentSummary = verify_segment(&copy)?;
/// assert_eq!((summary.first_lsn, summary.records, summary.sealed), (Lsn(1), 1, true));
/// assert_eq!((summary.tip, summary.predecessor), (log.sealed(0)?[0].tip(), None));
///
/// let at = copy.windows(8).position(|bytes| bytes == b"archived").expect("a payload");
/// copy[at] ^= 1;
/// let Err(Error::Corrupt(corruption)) = verify_segment(&copy) else { panic!("a flipped bit is found") };
/// let Corruption { offset, lsn, damage, evidence, .. } = *corruption;
/// assert!(matches!(damage, Damage::Checksum { .. }));
/// assert_eq!((lsn, offset < at as u64), (Some(Lsn(1)), true));
/// let _: Option<Evidence> = evidence; // of later frames, in a whole log
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn verify_segment(bytes: &[u8]) -> Result<SegmentSummary> {
    let corrupt = |offset: usize, lsn, damage| {
        Corruption { path: Path::new("").to_owned(), offset: offset as u64, lsn, damage, evidence: None }.into()
    };
    let Some((header, frames)) = bytes.split_first_chunk::<{ segment_header::LEN }>() else {
        let (expected, found) = (segment_header::LEN as u64, bytes.len() as u64);
        return Err(corrupt(0, None, Damage::FileLength { expected, found }));
    };
    let header = SegmentHeader::parse(header).map_err(|fault| fault.into_error(Path::new("")))?;
    let FirstFrame::Link(link) = directory::first_frame(frames, header) else {
        return Err(corrupt(segment_header::LEN, None, Damage::MissingFrame));
    };
    let mut walk = Walk::new(header.layout(), Check::Full, segment_header::LEN, link.base_lsn);
    let (mut records, mut sealed, mut checksum) = (0, false, 0);
    while walk.place().offset < bytes.len() {
        let offset = walk.place().offset;
        match walk.step(&bytes[offset..]) {
            Ok(_) if sealed => return Err(corrupt(offset, None, Damage::FrameContents)),
            Ok(frame) => {
                records += u64::from(frame.kind() == FrameKind::Data);
                sealed = frame.kind() == FrameKind::Seal;
                checksum = frame.crc();
            }
            Err(_) if ends_at(bytes, header.layout(), offset, sealed) => break,
            Err(damage) => return Err(corrupt(offset, Some(walk.place().next_lsn), damage)),
        }
    }
    Ok(SegmentSummary {
        log_id: header.log_id(),
        number: header.number(),
        file_len_bytes: header.segment_size(),
        first_lsn: link.base_lsn,
        next_lsn: walk.place().next_lsn,
        records,
        len_bytes: walk.place().offset as u64,
        sealed,
        tip: SegmentTip { number: header.number(), end_bytes: walk.place().offset as u64, checksum },
        predecessor: SegmentTip::before(&link.link),
    })
}

/// Whether the frames of a segment may end at `offset`, where no good one is: nothing of the segment follows.
fn ends_at(bytes: &[u8], layout: Layout, offset: usize, is_sealed: bool) -> bool {
    if !layout.is_recycled {
        return bytes[offset..].iter().all(|&b| b == 0);
    }
    let mut is_last = true;
    if !is_sealed {
        search::search(bytes, layout.salt, offset + ALIGN..bytes.len(), |_, _| true, |_, _| is_last = false);
    }
    is_last
}
