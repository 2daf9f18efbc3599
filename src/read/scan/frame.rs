//! A frame found by a scan.

use std::fmt;

use crate::format::Version;
use crate::format::frame::{Frame, FrameKind};
use crate::format::link::{self, Link, Seal};
use crate::lsn::Lsn;
use crate::read::{Record, SegmentTip};

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameRole {
    /// A record.
    Record,
    /// A record given up while it was written (voided): a number without a record.
    Void,
    /// A control frame: metadata slots, or what the log notes for itself.
    Control,
}

/// A frame that passes its checks.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::inspect::{FrameRole, Inspection, ScanItem, ScannedFrame, SegmentScan};
///
/// log.append(1, b"a")?;
/// log.put_meta(3, b"a value")?;
/// log.append_void()?;
/// log.rotate()?;
/// let found = Inspection::open(dir.path())?;
/// let file = &found.segments()[0];
/// let mut scan = SegmentScan::open(&file.path)?;
/// let mut found = Vec::new();
/// while let Some(ScanItem::Frame(frame)) = scan.next()? {
///     let frame: ScannedFrame<'_> = frame;
///     println!("{} bytes at {}", frame.len_bytes(), frame.offset());
///     assert_eq!(frame.predecessor(), None); // the first segment has none
///     found.push(match frame.role() {
///         FrameRole::Record => format!("record {}: {:?}", frame.lsn(), frame.record().expect("one").payload()),
///         FrameRole::Void => format!("void {}", frame.lsn()),
///         _ if frame.is_seal() => {
///             assert!(frame.sums_up(), "{:08x} is a checksum of the segment", frame.checksum());
///             format!("goes on in segment {:?}", frame.sealed_into())
///         }
///         _ => format!("{} metadata{}", frame.meta().len(), if frame.is_close() { ", closed" } else { "" }),
///     });
/// }
/// assert_eq!(found, ["0 metadata", "record 1: [97]", "1 metadata", "void 2", "goes on in segment Some(2)"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct ScannedFrame<'a> {
    frame: Frame<'a>,
    offset: u64,
    version: Version,
}

impl<'a> ScannedFrame<'a> {
    pub(super) fn new(frame: Frame<'a>, offset: u64, version: Version) -> Self {
        Self { frame, offset, version }
    }

    /// Where it is: a byte offset in the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What it is for.
    #[must_use]
    pub fn role(&self) -> FrameRole {
        match self.frame.kind() {
            FrameKind::Data => FrameRole::Record,
            FrameKind::Void => FrameRole::Void,
            _ => FrameRole::Control,
        }
    }

    /// Whether it says that the log goes on in another segment.
    #[must_use]
    pub fn is_seal(&self) -> bool {
        self.frame.kind() == FrameKind::Seal
    }

    /// Whether it says that the log was shut down cleanly there.
    #[must_use]
    pub fn is_close(&self) -> bool {
        self.frame.kind() == FrameKind::Close
    }

    /// Its number; in a frame that is no record, the next record's.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.frame.lsn()
    }

    /// Its length with header and padding, in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.frame.padded_len() as u64
    }

    /// Its checksum, with the segment's salt.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        self.frame.crc()
    }

    /// Whether it is a seal that says what all frames before it in the segment come to, so that its checksum is one of
    /// them all. Seals of version 2 do not say so, nor do those of segments that were reopened.
    #[must_use]
    pub fn sums_up(&self) -> bool {
        let seal = self.is_seal().then(|| Seal::parse(self.frame.payload(), self.version).ok()).flatten();
        seal.is_some_and(|seal| seal.tally.is_some())
    }

    /// The record; `None` if it is not one.
    #[must_use]
    pub fn record(&self) -> Option<Record<'a>> {
        (self.role() == FrameRole::Record).then(|| Record::new(self.frame))
    }

    /// The metadata slots that it sets, with their values.
    #[must_use]
    pub fn meta(&self) -> Vec<(usize, Vec<u8>)> {
        let payload = self.frame.payload();
        match self.frame.kind() {
            FrameKind::Meta => {
                link::parse_meta(payload, self.version).map(|(slot, value)| vec![(slot, value.to_vec())]).ok()
            }
            FrameKind::Link => Link::parse(payload, self.version)
                .map(|link| link.meta.iter().map(|(slot, value)| (slot, value.to_vec())).collect())
                .ok(),
            _ => None,
        }
        .unwrap_or_default()
    }

    pub(crate) fn frame(&self) -> &Frame<'a> {
        &self.frame
    }

    pub(crate) fn kind(&self) -> FrameKind {
        self.frame.kind()
    }

    /// The end of the segment before, as the first frame of a segment says; `None` for every other frame, and if there is none.
    #[must_use]
    pub fn predecessor(&self) -> Option<SegmentTip> {
        let link = (self.kind() == FrameKind::Link).then(|| Link::parse(self.frame.payload(), self.version).ok());
        SegmentTip::before(&link.flatten()?)
    }

    /// The segment that a seal says comes next, whose file was there before it; `None` for every other frame.
    #[must_use]
    pub fn sealed_into(&self) -> Option<u64> {
        let seal =
            (self.kind() == FrameKind::Seal).then(|| Seal::parse(self.frame.payload(), self.version).ok()).flatten();
        seal.map(|seal| seal.next)
    }
}

impl fmt::Debug for ScannedFrame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ScannedFrame");
        out.field("offset", &self.offset).field("kind", &self.kind()).field("lsn", &self.lsn()).finish()
    }
}
