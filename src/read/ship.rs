//! Runs of frames in place, for shipping to another log.

use std::fs::File;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::format::shipment::{self, ShipmentHeader};
use crate::lsn::Lsn;
use crate::segment::Segment;

/// Consecutive frames of one segment, in place: whole batches, with the voided records and control frames between them.
///
/// To ship them, send [`Self::header`] and then [`Self::bytes`]; what arrives, one after the other in one buffer, is
/// what [`Log::append_frames`](crate::Log::append_frames) takes.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use std::io::{Read, Seek, SeekFrom};
/// use std::time::Duration;
///
/// use mapwal::{Follower, Frames, Lsn, Visibility};
///
/// # log.append(1, b"a")?;
/// let mut follower: Follower = log.follow(Lsn(1), Visibility::Published)?;
/// let frames: Frames<'_> = follower.next_batch_timeout(1 << 20, Duration::from_secs(1))?.expect("a record");
/// assert_eq!((frames.first_lsn(), frames.next_lsn()), (Lsn(1), Lsn(2)));
/// let header: [u8; Frames::HEADER_LEN] = frames.header();
/// // A receiver learns from the header how much follows.
/// assert_eq!(Frames::len_after(&header), Some(frames.bytes().len() as u64));
///
/// // They can be sent from the file as well, by `sendfile`.
/// println!("from {} at {}", frames.path().display(), frames.offset());
/// let mut file = frames.open_file()?;
/// file.seek(SeekFrom::Start(frames.offset()))?;
/// let mut bytes = vec![0; frames.bytes().len()];
/// file.read_exact(&mut bytes)?;
/// assert_eq!(bytes, frames.bytes());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Frames<'a> {
    segment: &'a Segment,
    offset: usize,
    bytes: &'a [u8],
    first: Lsn,
    next: Lsn,
}

impl<'a> Frames<'a> {
    /// Bytes of a header.
    pub const HEADER_LEN: usize = shipment::HEADER_LEN;

    pub(crate) fn new(segment: &'a Segment, offset: usize, bytes: &'a [u8], first: Lsn, next: Lsn) -> Self {
        Self { segment, offset, bytes, first, next }
    }

    /// What is sent before the frames.
    #[must_use]
    pub fn header(&self) -> [u8; shipment::HEADER_LEN] {
        zerocopy::transmute!(ShipmentHeader::new(self.segment.info().layout.salt, self.first, self.bytes.len()))
    }

    /// The number of bytes that follow a header; `None` if it is not a header.
    #[must_use]
    pub fn len_after(header: &[u8; shipment::HEADER_LEN]) -> Option<u64> {
        ShipmentHeader::frames_len(header)
    }

    /// The frames.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The number of the first of them.
    #[must_use]
    pub fn first_lsn(&self) -> Lsn {
        self.first
    }

    /// The number after the last of them.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.next
    }

    /// The absolute path of the file that they are in.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.segment.absolute_path()
    }

    /// Their offset in the file, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset as u64
    }

    /// Opens the file that they are in, for `sendfile` from [`Self::offset`] on.
    ///
    /// # Errors
    /// [`Error::Io`], also when the segment has been trimmed meanwhile.
    pub fn open_file(&self) -> Result<File> {
        self.segment.open_file().map_err(|source| Error::io("open", &self.segment.path(), source))
    }
}

impl std::fmt::Debug for Frames<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Frames");
        out.field("first_lsn", &self.first).field("next_lsn", &self.next).field("len", &self.bytes.len()).finish()
    }
}
