//! How a log is verified, and what is found.

use std::path::PathBuf;

use crate::error::Corruption;
use crate::lsn::Lsn;

/// How a log is checked.
///
/// # Example
/// ```
/// use mapwal::inspect::VerifyOptions;
///
/// let beside_a_writer = VerifyOptions::new().live(true);
/// let against_the_device = VerifyOptions::new().device(true);
/// let of_copies = VerifyOptions::new().archive(true);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct VerifyOptions {
    pub(super) live: bool,
    pub(super) device: bool,
    pub(super) archive: bool,
}

impl VerifyOptions {
    /// The defaults: a whole log that nothing writes to, as the page cache has it.
    pub fn new() -> Self {
        Self::default()
    }

    /// A process may be writing the log: what is missing at its end may still come, and spares may be taken at any moment.
    pub fn live(mut self, live: bool) -> Self {
        self.live = live;
        self
    }

    /// Compare what the page cache holds with what the device does. In a live log that is done for segments that are full
    /// and durable. It finds nothing where the file system gives no more than its page cache: overlayfs, files of btrfs that are
    /// compressed.
    pub fn device(mut self, device: bool) -> Self {
        self.device = device;
        self
    }

    /// The directory holds copies of sealed segments, and the segment that the last of them names need not be there.
    pub fn archive(mut self, archive: bool) -> Self {
        self.archive = archive;
        self
    }
}

/// What a segment is, once all of it has been looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SegmentState {
    /// It takes no more frames, and is whole.
    Sealed,
    /// It takes, or took, appends.
    Active,
    /// Prepared, and not used.
    Spare,
    /// A torn end, or torn tail: a crash has left something at its end, or all of it, that was never acknowledged as
    /// durable. It is dropped when the log is opened.
    Torn,
    /// Something that was durable does not pass its checks.
    Damaged,
    /// It does not count any more, and is removed when the log is opened.
    Superseded,
}

/// What was found in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentReport {
    /// Its number.
    pub number: u64,
    /// Its file.
    pub path: PathBuf,
    /// What it is.
    pub state: SegmentState,
    /// The number of its first record, or of the next one if there is none; `None` if it has not been begun, or that is not
    /// known.
    pub first_lsn: Option<Lsn>,
    /// The number after its last record that counts.
    pub next_lsn: Option<Lsn>,
    /// Records in it that count and pass their checks, without voided ones.
    pub records: u64,
    /// Bytes up to the end of its last frame that counts; 0 if it has none.
    pub len_bytes: u64,
    /// Bytes that were never acknowledged as durable, and do not count.
    pub torn_bytes: u64,
    /// Records in these that pass their checks.
    pub torn_records: u64,
}

/// What was found in a log.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Each segment, by number.
    pub segments: Vec<SegmentReport>,
    /// All damage. Without evidence it shows by its place: a header, or a link between segments, is durable before it is used.
    pub damage: Vec<Corruption>,
    /// Whether the log ends with a clean shutdown.
    pub closed: bool,
    /// How many segments were compared with what the device holds, as [`VerifyOptions::device`] asks for, and how many bytes of
    /// them: none where the file system does not let the device be read.
    pub compared_segments: usize,
    /// See `compared_segments`.
    pub compared_bytes: u64,
}

impl VerifyReport {
    /// Records that count and pass their checks.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.segments.iter().map(|segment| segment.records).sum()
    }

    /// Bytes that opening the log would drop as a torn end.
    #[must_use]
    pub fn torn_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.torn_bytes).sum()
    }

    /// Records in these that pass their checks, and are dropped as well: records before them are missing.
    #[must_use]
    pub fn torn_records(&self) -> u64 {
        self.segments.iter().map(|segment| segment.torn_records).sum()
    }
}
