//! Sealed segments, for an archiver.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::Log;
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::format::link::SegmentEnd;
use crate::format::name;
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::memory::Region;
use crate::segment::Segment;
use crate::storage::{Access, StorageFile};

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
/// use mapwal::{Lsn, SealedSegment};
///
/// log.append(1, b"to be archived")?;
/// log.rotate()?;
/// log.sync()?; // what is sealed counts as such once it is durable
/// let segment: &SealedSegment = &log.sealed(0)?[0];
/// assert_eq!((segment.number(), segment.first_lsn(), segment.next_lsn()), (1, Lsn(1), Lsn(2)));
/// assert_eq!(segment.file_len_bytes(), 64 << 10);
/// println!("copy {} bytes of {}", segment.bytes().len(), segment.path().display());
/// println!("or of the open file {:?}, with CRC {:08x}", segment.file(), segment.checksum());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
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
    /// Its number: later segments have higher ones.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The path of its file, which is there until the segment is trimmed.
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
}

impl Log {
    /// The sealed segments with numbers above `after`, oldest first, as far as they are durable: no crash takes back
    /// what is archived. 0 asks for all.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be opened.
    pub fn sealed(&self, after: u64) -> Result<Vec<SealedSegment>> {
        let shared = &*self.shared;
        shared.check_process()?;
        let durable = shared.durability.position();
        let segments = shared.segments.load();
        let wanted = segments.as_slice().iter().filter(|segment| segment.number() > after);
        let sealed = wanted.filter_map(|segment| Some((segment, segment.end()?)));
        sealed
            .take_while(|(segment, end)| Position::new(segment.number(), end.offset) <= durable)
            .filter_map(|(segment, end)| shared.sealed_segment(segment, end).transpose())
            .collect()
    }
}

impl Shared {
    /// `None` if the segment has been trimmed or truncated away meanwhile.
    fn sealed_segment(&self, segment: &Segment, end: SegmentEnd) -> Result<Option<SealedSegment>> {
        let (path, number) = (segment.path(), segment.number());
        let file = match self.storage.open(&name::segment(number), Access::Read) {
            Ok(file) => file,
            // A segment leaves the list before its file loses its name.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_listed(number) => return Ok(None),
            Err(source) => return Err(Error::io("open", &path, source)),
        };
        Ok(Some(SealedSegment {
            path,
            number,
            size: segment.info().size,
            first_lsn: segment.base_lsn(),
            end,
            region: segment.region()?,
            file,
        }))
    }

    pub(super) fn is_listed(&self, number: u64) -> bool {
        self.segments.with(|list| list.as_slice().binary_search_by_key(&number, |segment| segment.number()).is_ok())
    }
}
