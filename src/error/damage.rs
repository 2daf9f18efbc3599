//! Damage to the bytes of a log: where it is, what is wrong, and what proves it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::Error;
use crate::lsn::Lsn;

/// Damage to a log, with where it is and what shows that it is damage rather than a torn end (torn tail).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{} is damaged at offset {offset}{}: {damage}{}", path.display(), At(*lsn), Proof(evidence.as_ref()))]
pub struct Corruption {
    /// The file.
    pub path: PathBuf,
    /// Byte offset in the file.
    pub offset: u64,
    /// The record expected there, where that is known.
    pub lsn: Option<Lsn>,
    /// What is wrong.
    pub damage: Damage,
    /// What proves that the damaged bytes had been durable; `None` where nothing has to, since what is wrong is never the work of
    /// a crash, and where nothing was looked for.
    pub evidence: Option<Evidence>,
}

impl From<Corruption> for Error {
    fn from(corruption: Corruption) -> Self {
        Self::Corrupt(Box::new(corruption))
    }
}

/// What shows that damaged bytes had been durable, so that they are no torn end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Evidence {
    /// A frame written later, whose header says that the log was durable beyond the damage when it was appended.
    Frame {
        /// The number of the segment that holds the frame.
        segment: u64,
        /// Its byte offset there.
        offset: u64,
        /// The LSN in its header.
        lsn: Lsn,
    },
    /// The log's control page, which says how far the log was durable: written after a sync that had made it so.
    ControlPage {
        /// The number of the segment up to which it was.
        segment: u64,
        /// The byte offset there.
        offset: u64,
        /// The last record before that.
        lsn: Lsn,
    },
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame { segment, offset, .. } => {
                write!(f, "the frame at offset {offset} of segment {segment} says that it was durable")
            }
            Self::ControlPage { segment, offset, lsn } => {
                let what = "the control page says that the log was durable up to";
                write!(f, "{what} record {lsn}, offset {offset} of segment {segment}")
            }
        }
    }
}

/// The record concerned, for a message.
pub(super) struct At(pub(super) Option<Lsn>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |lsn| write!(f, " (record {lsn})"))
    }
}

struct Proof<'a>(Option<&'a Evidence>);

impl fmt::Display for Proof<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |e| write!(f, "; {e}"))
    }
}

/// What is wrong with a file or a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// A segment does not start with the magic bytes.
    #[error("wrong magic bytes")]
    Magic,
    /// A segment's header states another version than the one by which its checksum is right.
    #[error("version {0} contradicts the checksum")]
    HeaderVersion(u32),
    /// A named pin is of a version of the format that this library does not know; its last magic byte.
    #[error("version {0} is not known")]
    UnknownVersion(u32),
    /// A checksum does not match.
    #[error("checksum is {found:#010x}, expected {expected:#010x}")]
    Checksum {
        /// Computed from the bytes.
        expected: u32,
        /// Stored with them.
        found: u32,
    },
    /// Reserved bytes or bits, or padding, are not zero.
    #[error("reserved bytes are not zero")]
    Reserved,
    /// A segment's header states a size that is not a power of two in range.
    #[error("segment size {0} is not a power of two from 64 KiB to 4 GiB")]
    SegmentSize(u64),
    /// A file is not as long as its header says.
    #[error("file is {found} bytes long, instead of {expected}")]
    FileLength {
        /// From the header.
        expected: u64,
        /// From the file system.
        found: u64,
    },
    /// A segment's header has another number than its file name.
    #[error("segment number is {found}, its name says {expected}")]
    SegmentNumber {
        /// From the name.
        expected: u64,
        /// From the header.
        found: u64,
    },
    /// A segment belongs to another log.
    #[error("segment belongs to log {found:032x}, this is log {expected:032x}")]
    ForeignSegment {
        /// This log's identity.
        expected: u128,
        /// The segment's.
        found: u128,
    },
    /// The control page belongs to another log.
    #[error("it belongs to log {found:032x}, this is log {expected:032x}")]
    ForeignPage {
        /// This log's identity.
        expected: u128,
        /// The page's.
        found: u128,
    },
    /// A control page of another length than it has.
    #[error("it is {found} bytes long, a control page has 4096")]
    PageLength {
        /// The file's.
        found: u64,
    },
    /// A segment is missing that a later one, or a record, refers to.
    #[error("segment is missing; {referrer} refers to it")]
    MissingSegment {
        /// The number of the segment that refers to it.
        referrer: u64,
    },
    /// The oldest segment is missing, and the control page does not say that it was trimmed.
    #[error("segment is missing; the control page says that it is the oldest")]
    MissingOldest,
    /// The segment that the log goes up to is missing, and all between it and the newest that is there.
    #[error("segment is missing, and any after segment {after}")]
    MissingEnd {
        /// The number of the newest segment that is there, or 0.
        after: u64,
    },
    /// No segment is left of a log; the record is the last that is known to have been there. To begin a new log in the directory, remove the
    /// witness too.
    #[error("all segments are missing; {witness} says that there were some")]
    AllSegmentsMissing {
        /// The file beside them that says so: the control page, or a named pin.
        witness: String,
    },
    /// A named pin without a limit keeps records that are not there: no trim takes them.
    #[error("it keeps records that are missing; the log begins with {first}")]
    PinnedMissing {
        /// The first record that is there.
        first: Lsn,
    },
    /// There are bytes where a frame must be, and nothing at all was written.
    #[error("frame is missing")]
    MissingFrame,
    /// A frame's length is below its header's or beyond the segment.
    #[error("frame length {0} is out of range")]
    FrameLength(u32),
    /// A frame's kind is unknown, or not allowed in its place.
    #[error("frame kind {0} is not expected here")]
    FrameKind(u8),
    /// A frame has another number than its place.
    #[error("frame has number {found}, expected {expected}")]
    FrameLsn {
        /// From its place.
        expected: Lsn,
        /// From its header.
        found: Lsn,
    },
    /// The frames of a segment are not those that its seal or its close has counted and summed.
    #[error("frames before it are not those that it counts")]
    SegmentSum,
    /// The contents of a link, seal or metadata frame make no sense.
    #[error("contents of the frame are invalid")]
    FrameContents,
    /// A segment does not end where and as its successor says.
    #[error("segment ends at offset {found}, its successor says {expected}")]
    SegmentEnd {
        /// From the successor.
        expected: u64,
        /// From the walk.
        found: u64,
    },
    /// A batch has no last frame, and more follows.
    #[error("batch is incomplete")]
    IncompleteBatch,
    /// The device holds other bytes than were read through the page cache.
    #[error("device and page cache differ")]
    DeviceMismatch,
    /// A named pin's file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::ErrorKind),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proves_damage_is_told_as_a_frame_by_its_place() {
        let evidence = Some(Evidence::Frame { segment: 2, offset: 4096, lsn: Lsn(101) });
        let path = PathBuf::from("log/1.seg");
        let damage = Corruption { path, offset: 4200, lsn: Some(Lsn(3)), damage: Damage::MissingFrame, evidence };
        assert_eq!(
            damage.to_string(),
            "log/1.seg is damaged at offset 4200 (record 3): frame is missing; \
             the frame at offset 4096 of segment 2 says that it was durable"
        );
    }
}
