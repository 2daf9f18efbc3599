//! A record, borrowed from the mapping or owning a share of it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use zerocopy::error::ConvertError;
use zerocopy::{Immutable, KnownLayout, TryFromBytes};

use crate::error::{Error, LayoutMismatch, Result};
use crate::format::frame::Frame;
use crate::lsn::Lsn;
use crate::memory::Region;

/// A record in place: nothing is copied, and the bytes stay as they are for as long as the borrow lives, whatever is
/// trimmed or truncated meanwhile.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::error::LayoutMismatch;
/// use mapwal::{Error, Lsn, Record};
/// use mapwal::zerocopy::little_endian::U64;
///
/// log.append(7, &123_456_u64.to_le_bytes())?;
/// let snapshot = log.snapshot()?;
/// let record: Record<'_> = snapshot.get(Lsn(1))?.expect("a record");
/// assert_eq!((record.lsn(), record.tag(), record.payload().len()), (Lsn(1), 7, 8));
/// assert!(record.frame_bytes().ends_with(record.payload()));
/// assert_eq!(record[..2], 123_456_u64.to_le_bytes()[..2]); // it stands for its payload
///
/// assert_eq!(record.payload_as::<U64>()?.get(), 123_456); // in place
/// let too_long = record.payload_as::<[U64; 2]>();
/// assert!(matches!(too_long, Err(Error::PayloadLayout { reason: LayoutMismatch::Size, .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Record<'a>(Frame<'a>);

impl<'a> Record<'a> {
    pub(crate) fn new(frame: Frame<'a>) -> Self {
        Self(frame)
    }

    /// Its number.
    #[inline]
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.0.lsn()
    }

    /// The type number that it was appended with.
    #[inline]
    #[must_use]
    pub fn tag(&self) -> u16 {
        self.0.tag()
    }

    /// Its bytes. They start at an 8-byte boundary in memory.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.0.payload()
    }

    /// Header and payload as they are stored, without padding.
    #[must_use]
    pub fn frame_bytes(&self) -> &'a [u8] {
        self.0.bytes()
    }

    /// The payload as a `T`, in place.
    ///
    /// # Errors
    /// [`Error::PayloadLayout`] when the payload has another size than a `T`, when `T` is aligned to more than 8 bytes
    /// and the payload happens not to be, or when the bytes are not a valid `T`.
    pub fn payload_as<T>(&self) -> Result<&'a T>
    where
        T: TryFromBytes + KnownLayout + Immutable + ?Sized,
    {
        T::try_ref_from_bytes(self.payload()).map_err(|error| {
            let reason = match error {
                ConvertError::Alignment(_) => LayoutMismatch::Alignment,
                ConvertError::Size(_) => LayoutMismatch::Size,
                ConvertError::Validity(_) => LayoutMismatch::Validity,
            };
            let type_name = std::any::type_name::<T>();
            Error::PayloadLayout { lsn: self.lsn(), len: self.payload().len(), type_name, reason }
        })
    }
}

/// Its payload.
impl Deref for Record<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.payload()
    }
}

/// Its payload.
impl AsRef<[u8]> for Record<'_> {
    fn as_ref(&self) -> &[u8] {
        self.payload()
    }
}

/// The same number, type number and payload, wherever they are.
impl PartialEq for Record<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.lsn(), self.tag(), self.payload()) == (other.lsn(), other.tag(), other.payload())
    }
}

impl Eq for Record<'_> {}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Record");
        out.field("lsn", &self.lsn()).field("tag", &self.tag()).field("len", &self.payload().len()).finish()
    }
}

/// A record that owns a share of its segment's mapping: it can be kept, sent to another thread, and read after the log
/// is closed or its segment is trimmed. The disk space of the segment is held until then.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::{Lsn, RecordRef};
///
/// log.append(7, b"kept")?;
/// let record: RecordRef = log.get(Lsn(1))?.expect("a record");
/// drop(log);
/// let reader = std::thread::spawn(move || (record.lsn(), record.tag(), record.payload().len(), record.record().lsn()));
/// assert_eq!(reader.join().expect("no panic"), (Lsn(1), 7, 4, Lsn(1)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RecordRef {
    region: Arc<Region>,
    /// Of the frame, padding included.
    start: usize,
    end: usize,
}

impl RecordRef {
    /// The frame at `offset` of `region`, which has been checked.
    pub(crate) fn new(region: Arc<Region>, offset: usize, frame_len: usize) -> Self {
        Self { region, start: offset, end: offset + frame_len }
    }

    /// The record, borrowed.
    #[must_use]
    pub fn record(&self) -> Record<'_> {
        let bytes = self.region.bytes(self.start..self.end).expect("checked when it was made, and stable since");
        Record(Frame::parse(bytes).expect("checked when it was made, and stable since, unless its page was lost"))
    }

    /// Its number.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.record().lsn()
    }

    /// The type number that it was appended with.
    #[must_use]
    pub fn tag(&self) -> u16 {
        self.record().tag()
    }

    /// Its bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.record().payload()
    }
}

/// Its payload.
impl Deref for RecordRef {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.payload()
    }
}

/// The same number, type number and payload, wherever they are.
impl PartialEq for RecordRef {
    fn eq(&self, other: &Self) -> bool {
        self.record() == other.record()
    }
}

impl Eq for RecordRef {}

/// Its payload.
impl AsRef<[u8]> for RecordRef {
    fn as_ref(&self) -> &[u8] {
        self.payload()
    }
}

/// All that is published of the segment that a record is in, with a share in its mapping as a [`RecordRef`] has one. For owners of
/// many records in a row, such as `bytes::Bytes::from_owner`, of which each record is a slice.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::{SegmentBytes, Snapshot};
///
/// log.append_batch(&[(1, b"a".as_slice()), (1, b"b")])?;
/// let snapshot: Snapshot = log.snapshot()?;
/// let mut kept: Option<SegmentBytes> = None;
/// let mut places = Vec::new();
/// for record in &snapshot {
///     let record = record?;
///     let segment = kept.get_or_insert(snapshot.segment_bytes(&record).expect("a record of this view"));
///     let start = record.payload().as_ptr().addr() - segment.as_ptr().addr();
///     places.push(start..start + record.payload().len());
/// }
/// drop((snapshot, log));
/// let segment = kept.expect("two records");
/// assert_eq!(places.into_iter().map(|place| &segment[place]).collect::<Vec<_>>(), [b"a", b"b"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SegmentBytes {
    region: Arc<Region>,
    len: usize,
}

impl SegmentBytes {
    pub(crate) fn new(region: Arc<Region>) -> Self {
        let len = region.published();
        Self { region, len }
    }
}

impl Deref for SegmentBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.region.bytes(0..self.len).expect("what is published stays so")
    }
}

impl AsRef<[u8]> for SegmentBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for SegmentBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentBytes").field("len", &self.len).finish_non_exhaustive()
    }
}

impl fmt::Debug for RecordRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record().fmt(f)
    }
}
