//! What a copy of a log is to hold, said beside it.

use std::ops::RangeInclusive;

use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::segment::control;

/// From where to where a copy of a log goes. As its control page this makes a copy that is not whole, or that loses its first
/// or its last segments later, a damaged log, where it would otherwise be taken for one that was trimmed, or for an older one.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let copy = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::Lsn;
/// use mapwal::inspect::{Extent, Inspection, SegmentScan};
///
/// # log.append(1, b"a")?;
/// # log.close()?;
/// let found = Inspection::open(dir.path())?;
/// let [file] = found.segments() else { panic!("a small log") };
/// let mut scan = SegmentScan::open(&file.path)?;
/// while scan.next()?.is_some() {}
/// let (number, end) = (file.number, scan.offset());
/// let extent = Extent::new(found.log_id(), number..=number, end, Lsn(1));
/// std::fs::write(copy.path().join("control"), extent.control_page())?; // first, then the segments
/// assert!(Inspection::open(copy.path()).is_err(), "no segment is there yet");
/// # std::fs::copy(&file.path, copy.path().join(file.path.file_name().expect("it has one")))?;
/// assert_eq!(Inspection::open(copy.path())?.faults().count(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extent {
    /// The identity of the log.
    pub log_id: u128,
    /// The number of its first segment.
    pub oldest_segment: u64,
    /// The number of its last segment.
    pub newest_segment: u64,
    /// Where the frames of that end: a byte offset.
    pub end: u64,
    /// Its last record.
    pub last: Lsn,
}

impl Extent {
    /// That of a copy of log `log_id`: `segments` are the numbers of its first and its last segment, the frames of the last one end
    /// at byte `end`, and `last` is the last record.
    #[must_use]
    pub const fn new(log_id: u128, segments: RangeInclusive<u64>, end: u64, last: Lsn) -> Self {
        Self { log_id, oldest_segment: *segments.start(), newest_segment: *segments.end(), end, last }
    }

    /// The bytes of the file `control`, which is to be durable before any segment has its name.
    #[must_use]
    pub fn control_page(&self) -> Vec<u8> {
        // Offsets fit: a segment is at most 4 GiB long.
        let end = Position::new(self.newest_segment, self.end);
        control::page_of_copy(self.log_id, self.oldest_segment, self.newest_segment, (end, self.last))
    }
}
