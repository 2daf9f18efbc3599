//! What an archiver copies: segments that will not change any more, and what is durable of the one that takes appends.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::frame::FrameKind;
use crate::format::link::{Link, Predecessor, SegmentEnd};
use crate::format::name;
use crate::format::position::Position;
use crate::format::segment_header::{self, SegmentHeader};
use crate::format::walk::{Check, Walk};
use crate::lsn::Lsn;
use crate::memory::Region;
use crate::segment::directory::{self, FirstFrame};
use crate::segment::{Segment, Segments};
use crate::storage::{Access, Storage, StorageFile};

/// Where the frames of a segment end that count, as the segment after it says: two segments follow each other if the later
/// one's *predecessor* is the tip of the earlier one. After a restart, or a truncation, the predecessor may end before the
/// frames that its file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentTip {
    /// The segment's number.
    pub number: u64,
    /// Byte offset after its last frame that counts.
    pub end_bytes: u64,
    /// The checksum of that frame.
    pub checksum: u32,
}

impl SegmentTip {
    pub(crate) fn of(number: u64, end: SegmentEnd) -> Self {
        Self { number, end_bytes: end.offset, checksum: end.crc }
    }

    /// What `link` says of the segment before; `None` in the first segment of a log, and after a reset.
    pub(crate) fn before(link: &Link) -> Option<Self> {
        let Predecessor { number, end, crc } = link.previous?;
        Some(Self { number, end_bytes: end, checksum: crc })
    }
}

/// A segment that is complete, durable, and will never change. Its bytes stay readable for as long as this value lives.
///
/// A directory of copies of such segments, each as long as its original and under its original name, opens as a log with
/// [`Options::archive`](crate::Options::archive).
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::{Lsn, SealedSegment, SegmentTip};
///
/// log.append(1, b"to be archived")?;
/// log.rotate()?;
/// log.sync()?; // what is sealed counts as such once it is durable
/// let segment: &SealedSegment = &log.sealed(0)?[0];
/// assert_eq!((segment.number(), segment.first_lsn(), segment.next_lsn()), (1, Lsn(1), Lsn(2)));
/// assert_eq!(segment.file_len_bytes(), 64 << 10);
/// println!("copy {} bytes of {}", segment.bytes().len(), segment.path().display());
/// println!("or of the open file {:?}, with CRC {:08x}", segment.file(), segment.checksum());
///
/// let SegmentTip { number, end_bytes, .. } = segment.tip();
/// assert_eq!((number, end_bytes), (1, segment.bytes().len() as u64));
/// assert_eq!(segment.predecessor(), None); // it is the first one
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SealedSegment {
    path: PathBuf,
    number: u64,
    size: u64,
    first_lsn: Lsn,
    end: SegmentEnd,
    region: Arc<Region>,
    file: Box<dyn StorageFile>,
}

impl SealedSegment {
    /// Of `segment` in `storage`, which ends at `end`, durably. `None` if its file is gone.
    pub(crate) fn open(storage: &dyn Storage, segment: &Segment, end: SegmentEnd) -> Result<Option<Self>> {
        let path = segment.absolute_path();
        let file = match storage.open(&name::segment(segment.number()), Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::io("open", &path, source)),
        };
        let (number, size, first_lsn) = (segment.number(), segment.info().size, segment.base_lsn());
        Ok(Some(Self { path, number, size, first_lsn, end, region: segment.region()?, file }))
    }

    /// Its number: later segments have higher ones.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The absolute path of its file, which is there until the segment is trimmed.
    #[must_use]
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// The number of its first record; the same as [`Self::next_lsn`] if it has none.
    #[must_use]
    pub fn first_lsn(&self) -> Lsn {
        self.first_lsn
    }

    /// The number after its last record.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.end.next_lsn
    }

    /// The length of its file in bytes. What comes after [`Self::bytes`] is not used.
    #[must_use]
    pub fn file_len_bytes(&self) -> u64 {
        self.size
    }

    /// Its open file, if it is on a disk.
    #[must_use]
    pub fn file(&self) -> Option<&File> {
        self.file.as_file()
    }

    /// Header and frames, in place.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // A segment's end was checked when it was found.
        let end = usize::try_from(self.end.offset).unwrap_or(usize::MAX);
        self.region.bytes(0..end).expect("what is durable is published")
    }

    /// The CRC-32 (IEEE) of [`Self::bytes`]. Reads all of them.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        crc32fast::hash(self.bytes())
    }

    /// Where its frames end, as the segment after it says.
    #[must_use]
    pub fn tip(&self) -> SegmentTip {
        SegmentTip::of(self.number, self.end)
    }

    /// The tip of the segment before it; `None` if it is the first one of the log, or after a reset.
    #[must_use]
    pub fn predecessor(&self) -> Option<SegmentTip> {
        predecessor(self.bytes())
    }
}

/// What is durable of the segment that takes appends: header, and whole frames. More may follow, and these bytes never
/// change; they stay readable for as long as this value lives.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::{DurablePrefix, Lsn};
///
/// log.append(1, b"synced")?;
/// log.sync()?;
/// log.append(1, b"not yet")?;
/// let prefix: DurablePrefix = log.durable_prefix()?.expect("what the sync has written");
/// assert_eq!((prefix.number(), prefix.first_lsn(), prefix.next_lsn()), (1, Lsn(1), Lsn(2)));
/// assert_eq!((prefix.file_len_bytes(), prefix.predecessor(), prefix.is_bare()), (64 << 10, None, false));
/// println!("of {}", prefix.path().display());
/// let first = prefix.bytes().len();
///
/// log.sync()?;
/// let longer = log.durable_prefix()?.expect("it has grown");
/// assert_eq!(&longer.bytes()[..first], prefix.bytes());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DurablePrefix {
    path: PathBuf,
    number: u64,
    size: u64,
    first_lsn: Lsn,
    next_lsn: Lsn,
    is_bare: bool,
    end: usize,
    region: Arc<Region>,
}

impl DurablePrefix {
    /// `None` if the segment at the end of what is `durable` takes no more frames and is durable as a whole, or has nothing
    /// durable.
    ///
    /// # Errors
    /// As [`Segment::advance`], of what was not walked before.
    pub(crate) fn of(segments: &Segments, durable: Position) -> Result<Option<Self>> {
        let number = durable.segment();
        let list = segments.as_slice();
        let Ok(at) = list.binary_search_by_key(&number, |segment| segment.number()) else { return Ok(None) };
        let (segment, end) = (&list[at], durable.offset() as usize);
        if segment.ends_by(end) || end <= segment_header::LEN {
            return Ok(None);
        }
        let region = segment.region()?;
        segment.check_to(&region, end)?;
        let Some(bytes) = region.bytes(0..end) else { return Ok(None) };
        let mut walk = Walk::new(segment.info().layout, Check::None, segment_header::LEN, segment.base_lsn());
        // After a reset the link may have metadata that is nowhere else.
        let mut is_bare = number == 1 || predecessor(bytes).is_some();
        while walk.place().offset < end {
            let offset = walk.place().offset;
            let stepped = walk.step(&bytes[offset..]);
            let frame = stepped.map_err(|damage| Error::corrupt(&segment.path(), offset as u64, None, damage))?;
            is_bare &= matches!(frame.kind(), FrameKind::Link | FrameKind::Close);
        }
        let (first_lsn, next_lsn) = (segment.base_lsn(), walk.place().next_lsn);
        let (path, size) = (segment.absolute_path(), segment.info().size);
        Ok(Some(Self { path, number, size, first_lsn, next_lsn, is_bare, end, region }))
    }

    /// The absolute path of its file.
    #[must_use]
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// The segment's number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The number of the segment's first record.
    #[must_use]
    pub fn first_lsn(&self) -> Lsn {
        self.first_lsn
    }

    /// The number after the last record in it.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.next_lsn
    }

    /// Whether it says no more than the segments before it: it has no record, no metadata that was set in it, and is not where the
    /// log was truncated or reset.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.is_bare
    }

    /// The length of the segment's file in bytes.
    #[must_use]
    pub fn file_len_bytes(&self) -> u64 {
        self.size
    }

    /// Header and frames, in place.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.region.bytes(0..self.end).expect("looked at before, and it only grows")
    }

    /// As [`SealedSegment::predecessor`].
    #[must_use]
    pub fn predecessor(&self) -> Option<SegmentTip> {
        predecessor(self.bytes())
    }
}

/// The first of `segments` with a number above `after`, if its frames have an end that is durable. They are checked, unless this
/// process has written them.
///
/// # Errors
/// [`Error::Corrupt`], [`Error::Io`].
pub(crate) fn next_sealed(
    segments: &Segments,
    after: u64,
    durable: Position,
) -> Result<Option<(Arc<Segment>, SegmentEnd)>> {
    let next = segments.as_slice().iter().find(|segment| segment.number() > after);
    let sealed = next.and_then(|segment| Some((segment, segment.end()?)));
    let is_durable =
        |&(segment, end): &(&Arc<Segment>, SegmentEnd)| Position::new(segment.number(), end.offset) <= durable;
    let Some((segment, end)) = sealed.filter(is_durable) else { return Ok(None) };
    segment.check_to(&*segment.region()?, usize::try_from(end.offset).unwrap_or(usize::MAX))?;
    Ok(Some((Arc::clone(segment), end)))
}

fn predecessor(bytes: &[u8]) -> Option<SegmentTip> {
    let (header, frames) = bytes.split_first_chunk::<{ segment_header::LEN }>()?;
    let header = SegmentHeader::parse(header).ok()?;
    match directory::first_frame(frames, header) {
        FirstFrame::Link(frame) => SegmentTip::before(&frame.link),
        FirstFrame::Nothing | FirstFrame::Damaged(_) => None,
    }
}
