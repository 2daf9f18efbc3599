//! A fixed view of the log.

use std::iter::FusedIterator;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, OnceLock};

use super::look_up::{get_ref, index_of, record_in};
use super::read_ahead::ReadAhead;
use super::record::{Record, RecordRef, SegmentBytes};
use super::{CHUNK_BYTES, ahead_from};
use crate::error::{Damage, Error, Result};
use crate::format::frame::{Frame, FrameKind};
use crate::format::segment_header;
use crate::lsn::Lsn;
use crate::memory::{Process, Region, replaced_pages};
use crate::segment::{Segment, Segments};

/// The records of a log as they were at one moment. One of a [`Log`](crate::Log) keeps the segments that it sees: their bytes stay
/// readable for as long as it lives, even if they are trimmed meanwhile. One of a [`LogReader`](crate::LogReader) keeps the segments
/// that it has read from: others may be trimmed before it comes to them, which is [`Error::Trimmed`], unless a
/// [named pin](crate::PinDirectory) keeps them.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::{Iter, Lsn, Record, Snapshot};
///
/// log.append_batch(&[(1, b"a".as_slice()), (1, b"b")])?;
/// let snapshot: Snapshot = log.snapshot()?;
/// log.append(1, b"not in the view")?;
///
/// assert_eq!((snapshot.first_lsn(), snapshot.next_lsn()), (Lsn(1), Lsn(3)));
/// assert_eq!(snapshot.iter().count(), 2);
/// assert_eq!(snapshot.iter().rev().next().expect("a record")?.lsn(), Lsn(2)); // the newest
/// let mut from_two: Iter<'_> = snapshot.range(Lsn(2)..);
/// let record: Record<'_> = from_two.next().expect("a record")?;
/// assert_eq!(record.payload(), b"b");
/// assert_eq!(snapshot.get(Lsn(1))?.expect("a record").payload(), b"a");
/// let both = snapshot.get_many(&[Lsn(2), Lsn(1)])?.into_iter().flatten();
/// assert_eq!(both.map(|record| record.payload()).collect::<Vec<_>>(), [b"b", b"a"]);
/// let kept = [snapshot.get_ref(Lsn(1))?.expect("a record"), snapshot.own(&record).expect("one of this view")];
/// drop(snapshot);
/// assert_eq!(kept.map(|record| record.payload().to_vec()), [b"a", b"b"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Snapshot {
    segments: Arc<Segments>,
    /// The mappings that records handed out borrow from, one for each segment once it is looked at.
    regions: Box<[OnceLock<Arc<Region>>]>,
    next: Lsn,
    ahead: Arc<ReadAhead>,
    /// That which has made it.
    process: Process,
}

impl Snapshot {
    /// Of the records of `segments` before number `next`, all of which are published.
    pub(crate) fn new(segments: Arc<Segments>, next: Lsn, ahead: Arc<ReadAhead>) -> Self {
        let regions = segments.as_slice().iter().map(|_| OnceLock::new()).collect();
        ahead.expect(&segments);
        Self { segments, regions, next, ahead, process: Process::current() }
    }

    /// The first record in view, or [`Self::next_lsn`] if there is none.
    #[must_use]
    pub fn first_lsn(&self) -> Lsn {
        self.segments.first_lsn().min(self.next)
    }

    /// The number after the last record in view.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.next
    }

    /// Record `lsn`; `None` if it was given up while it was written.
    ///
    /// # Errors
    /// [`Error::Trimmed`] or [`Error::NotAppended`] outside of the view, [`Error::Trimmed`] also as said of [`Snapshot`],
    /// [`Error::Corrupt`] when it is damaged, [`Error::Io`] when its segment cannot be opened.
    #[inline]
    pub fn get(&self, lsn: Lsn) -> Result<Option<Record<'_>>> {
        match self.known(lsn) {
            Some(record) => Ok(Some(record)),
            None => self.look_up(lsn),
        }
    }

    /// Has the processor fetch record `lsn`, if it is known where that is.
    #[inline]
    pub(super) fn prefetch(&self, lsn: Lsn) {
        let Some(at) = self.segments.find(lsn) else { return };
        let region = self.regions.get(at).and_then(OnceLock::get);
        let offset = self.segments.as_slice().get(at).and_then(|segment| segment.known(lsn));
        if let Some((region, offset)) = region.zip(offset) {
            region.prefetch(offset);
        }
    }

    /// Record `lsn`, if it or one of its neighbours has been looked up before.
    #[inline]
    fn known(&self, lsn: Lsn) -> Option<Record<'_>> {
        let at = self.segments.find(lsn).filter(|_| lsn < self.next && self.process.is_current())?;
        let region = self.regions.get(at)?.get().filter(|region| !region.has_failed())?;
        let offset = self.segments.as_slice().get(at)?.known(lsn)?;
        let bytes = region.bytes(0..region.published())?;
        // If there is no record, the caller finds out why.
        Frame::parse_record(bytes.get(offset..)?).map(Record::new)
    }

    #[cold]
    fn look_up(&self, lsn: Lsn) -> Result<Option<Record<'_>>> {
        let at = self.index_of(lsn)?;
        let (segment, region) = (&self.segments.as_slice()[at], self.region(at)?);
        Ok(record_in(segment, region, lsn, Segment::locate)?.map(|(record, _)| record))
    }

    /// As [`Self::get`], without remembering where the record is: for callers that look at each record once.
    pub(crate) fn get_once(&self, lsn: Lsn) -> Result<Option<Record<'_>>> {
        let at = self.index_of(lsn)?;
        let (segment, region) = (&self.segments.as_slice()[at], self.region(at)?);
        Ok(record_in(segment, region, lsn, Segment::locate_once)?.map(|(record, _)| record))
    }

    /// As [`Self::get`], with a share in the mapping of its own.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn get_ref(&self, lsn: Lsn) -> Result<Option<RecordRef>> {
        self.check_process()?;
        get_ref(&self.segments, self.next, lsn)
    }

    /// A record of this view, with a share in the mapping of its own. Nothing is looked up or checked. `None` if the record is
    /// not borrowed from this view.
    #[must_use]
    pub fn own(&self, record: &Record<'_>) -> Option<RecordRef> {
        let region = self.regions.get(self.segments.find(record.lsn())?)?.get()?;
        let bytes = record.frame_bytes();
        let start = bytes.as_ptr().addr().checked_sub(region.bytes(0..region.published())?.as_ptr().addr())?;
        let len = crate::format::frame::padded(bytes.len());
        (start + len <= region.published()).then(|| RecordRef::new(Arc::clone(region), start, len))
    }

    /// The bytes of the segment that a record of this view is in, to be owned once for many records. `None` if the record is not
    /// borrowed from this view.
    #[must_use]
    pub fn segment_bytes(&self, record: &Record<'_>) -> Option<SegmentBytes> {
        let region = self.regions.get(self.segments.find(record.lsn())?)?.get()?;
        let segment = SegmentBytes::new(Arc::clone(region));
        let (all, part) = (segment.as_ptr_range(), record.frame_bytes().as_ptr_range());
        (all.start <= part.start && part.end <= all.end).then_some(segment)
    }

    /// All records in view, in order. Nothing is allocated for a record; records not yet checked in this process are
    /// checked as they are reached.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        self.range(..)
    }

    /// The records in view whose numbers lie in `range`.
    #[must_use]
    pub fn range(&self, range: impl RangeBounds<Lsn>) -> Iter<'_> {
        let start = match range.start_bound() {
            Bound::Included(&lsn) => lsn,
            Bound::Excluded(&lsn) => lsn.next(),
            Bound::Unbounded => Lsn::ZERO,
        };
        let end = match range.end_bound() {
            Bound::Included(&lsn) => lsn.next(),
            Bound::Excluded(&lsn) => lsn,
            Bound::Unbounded => self.next,
        };
        Iter::new(self, start.max(self.first_lsn()), end.min(self.next))
    }

    fn check_process(&self) -> Result<()> {
        if self.process.is_current() { Ok(()) } else { Err(Error::Forked) }
    }

    fn index_of(&self, lsn: Lsn) -> Result<usize> {
        self.check_process()?;
        index_of(&self.segments, self.next, lsn)
    }

    fn region(&self, at: usize) -> Result<&Arc<Region>> {
        self.check_process()?;
        let cell = &self.regions[at];
        if let Some(region) = cell.get() {
            return Ok(region);
        }
        let region = self.segments.as_slice()[at].region()?;
        Ok(cell.get_or_init(|| region))
    }
}

impl<'s> IntoIterator for &'s Snapshot {
    type Item = Result<Record<'s>>;
    type IntoIter = Iter<'s>;

    fn into_iter(self) -> Iter<'s> {
        self.iter()
    }
}

/// An iterator over the records of a [`Snapshot`]. After an error it ends.
pub struct Iter<'s> {
    snapshot: &'s Snapshot,
    /// The next record to be handed out, and the one to stop before.
    pub(super) next: Lsn,
    pub(super) end: Lsn,
    /// Frames that have been checked and come next.
    rest: &'s [u8],
    at: Option<At<'s>>,
}

/// Where an iterator is.
#[derive(Debug)]
struct At<'s> {
    index: usize,
    segment: &'s Segment,
    region: &'s Region,
    /// Byte offset after [`Iter::rest`].
    checked: usize,
    /// Byte offset from which on the next segment is read ahead: a reader that has come this far will want it.
    ahead_from: usize,
}

impl<'s> Iter<'s> {
    fn new(snapshot: &'s Snapshot, next: Lsn, end: Lsn) -> Self {
        Self { snapshot, next, end, rest: &[], at: None }
    }

    /// The next record, if it comes next among the frames that have been checked.
    #[inline]
    fn next_checked(&mut self) -> Option<Record<'s>> {
        if self.next >= self.end || replaced_pages() > 0 {
            return None;
        }
        let frame = Frame::parse_record(self.rest)?;
        self.rest = &self.rest[frame.padded_len()..];
        // Within a segment numbers have no gaps.
        self.next.0 += 1;
        Some(Record::new(frame))
    }

    /// As [`Iterator::next`], whatever has to be done for it.
    #[cold]
    #[inline(never)]
    fn next_slowly(&mut self) -> Option<Result<Record<'s>>> {
        let step = self.step();
        if step.is_err() {
            self.next = self.end;
        }
        step.transpose()
    }

    fn step(&mut self) -> Result<Option<Record<'s>>> {
        while self.next < self.end {
            let Ok(frame) = Frame::parse(self.rest) else {
                self.refill()?;
                continue;
            };
            if replaced_pages() > 0 {
                self.check_again()?;
            }
            self.rest = &self.rest[frame.padded_len()..];
            match frame.kind() {
                FrameKind::Data => {
                    self.next = frame.lsn().next();
                    return Ok(Some(Record::new(frame)));
                }
                FrameKind::Void => self.next = frame.lsn().next(),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Checks on, or goes on to the next segment.
    fn refill(&mut self) -> Result<()> {
        let at = match self.at.take() {
            None => self.enter(self.snapshot.index_of(self.next)?)?,
            // Checked frames parse; should the file have been changed under the log, that is an error all the same.
            Some(at) if !self.rest.is_empty() => {
                let bytes = at.region.bytes(0..at.checked).expect("checked frames are published");
                at.segment.frame_at(at.region, bytes, at.checked - self.rest.len())?;
                at
            }
            Some(at) if at.segment.ends_by(at.checked) => {
                // What has not been checked of the segment that is entered is checked here: by one thread or the other.
                self.read_ahead(at.index + 2);
                At { ahead_from: usize::MAX, ..self.enter(at.index + 1)? }
            }
            Some(at) => at,
        };
        let start = at.checked - self.rest.len();
        let end = at.segment.readable_from(at.region, start, CHUNK_BYTES)?;
        if end <= start && !at.segment.ends_by(start) {
            // What a snapshot sees has been published, so the frame was there.
            let path = at.segment.path();
            return Err(Error::corrupt(&path, start as u64, Some(self.next), Damage::MissingFrame));
        }
        self.rest = at.region.bytes(start..end).unwrap_or_default();
        let mut at = At { checked: end, ..at };
        if end >= at.ahead_from {
            at.ahead_from = usize::MAX;
            self.read_ahead(at.index + 1);
        }
        self.at = Some(at);
        Ok(())
    }

    /// Checks the next frame once more if it may have been lost since.
    #[cold]
    fn check_again(&self) -> Result<()> {
        let Some(at) = &self.at else { return Ok(()) };
        let bytes = at.region.bytes(0..at.checked).expect("checked frames are published");
        at.segment.frame_at(at.region, bytes, at.checked - self.rest.len()).map(drop)
    }

    fn read_ahead(&self, index: usize) {
        let next = self.snapshot.segments.as_slice().get(index).filter(|next| next.base_lsn() < self.end);
        if let Some(next) = next {
            self.snapshot.ahead.read(next);
        }
    }

    fn enter(&self, index: usize) -> Result<At<'s>> {
        let segments = self.snapshot.segments.as_slice();
        let Some(segment) = segments.get(index) else {
            return Err(Error::NotAppended { lsn: self.next, next: self.snapshot.next });
        };
        let region = self.snapshot.region(index)?;
        let offset = if self.next <= segment.base_lsn() {
            segment_header::LEN
        } else {
            let missing = || Error::corrupt(&segment.path(), 0, Some(self.next), Damage::MissingFrame);
            segment.locate_once(region, self.next)?.ok_or_else(missing)?
        };
        let ahead_from = ahead_from(segment, offset);
        Ok(At { index, segment, region, checked: offset, ahead_from })
    }
}

impl<'s> Iterator for Iter<'s> {
    type Item = Result<Record<'s>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.next_checked() {
            Some(record) => Some(Ok(record)),
            None => self.next_slowly(),
        }
    }
}

/// From the end: each record is looked up, and its place remembered, as [`Snapshot::get`] does.
impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        while self.next < self.end {
            self.end = self.end.previous();
            let record = self.snapshot.get(self.end);
            if record.is_err() {
                self.end = self.next;
            }
            if let Some(record) = record.transpose() {
                return Some(record);
            }
        }
        None
    }
}

impl FusedIterator for Iter<'_> {}
