//! Where a follower is, and what it finds there.

use std::sync::Arc;

use super::record::{Record, RecordRef};
use super::ship::Frames;
use super::source::Source;
use super::{CHUNK_BYTES, ahead_from};
use crate::error::{Corruption, Damage, Result};
use crate::format::frame::FrameKind;
use crate::lsn::Lsn;
use crate::memory::Region;
use crate::segment::{Segment, Segments};

/// A place between two frames of a segment.
#[derive(Debug)]
pub(super) struct FollowerPlace {
    pub(super) segment: Arc<Segment>,
    pub(super) region: Arc<Region>,
    pub(super) offset: usize,
    /// Byte offset up to which frames have been checked.
    pub(super) checked: usize,
    /// Byte offset from which on the next segment is read ahead.
    pub(super) ahead_from: usize,
    /// Byte offset up to which pages have been let go.
    released: usize,
}

/// Pages are let go in steps of so much: each step interrupts the other processors that run the process.
const RELEASE_BYTES: usize = 8 << 20;

/// Frames in a row, by their offsets in the segment and their numbers.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) first: Lsn,
    pub(super) next: Lsn,
}

impl FollowerPlace {
    /// Before record `lsn`, or before earlier ones that are not there yet.
    pub(super) fn before(lsn: Lsn, segment: Arc<Segment>) -> Result<Self> {
        let region = segment.region()?;
        let offset = offset_of(&segment, &region, lsn)?;
        let ahead_from = ahead_from(&segment, offset);
        Ok(Self { segment, region, offset, checked: 0, ahead_from, released: offset })
    }

    /// The record whose frame, padding included, is from `start` to `end`.
    pub(super) fn record(&self, start: usize, end: usize) -> Result<Record<'_>> {
        let bytes = self.region.bytes(0..end).expect("checked frames are published");
        Ok(Record::new(self.segment.frame_at(&self.region, bytes, start)?))
    }

    /// As [`Self::record`], with a share in its mapping.
    pub(super) fn record_ref(&self, start: usize, end: usize) -> RecordRef {
        RecordRef::new(Arc::clone(&self.region), start, end - start)
    }

    pub(super) fn frames(&self, run: &Run) -> Frames<'_> {
        let bytes = self.region.bytes(run.start..run.end).expect("checked frames are published");
        Frames::new(&self.segment, run.start, bytes, run.first, run.next)
    }

    /// Whether what was `found` at this place, if any, and does not pass its checks, may be what a crash has left, as far as anything
    /// tells.
    pub(super) fn is_torn(at: Option<&Self>, source: &dyn Source, found: &Corruption) -> Result<bool> {
        let Some(at) = at else { return Ok(false) };
        let is_here = found.damage != Damage::SegmentSum && found.path == at.segment.path();
        let proven = if is_here { source.proven()? } else { None };
        let offset = usize::try_from(found.offset).unwrap_or(usize::MAX);
        Ok(proven.is_some_and(|proven| at.segment.position(offset) >= proven))
    }

    /// Whether there are sound frames from here to an end of the segment that its successor contradicts: a snapshot shows them, and so
    /// does a follower, however much was walked at a time.
    pub(super) fn take_sound(&mut self) -> bool {
        let before = self.checked;
        let sound = self.segment.sound_end(&self.region).map_or(0, |end| end.offset as usize);
        self.checked = before.max(sound);
        self.checked > before
    }

    /// Has the next segment read, if there is one and this one has been read far enough to want it soon.
    #[inline]
    pub(super) fn read_ahead(&mut self, source: &dyn Source) {
        if self.checked >= self.ahead_from {
            self.ahead_from = usize::MAX;
            let (segments, number) = (source.segments(), self.segment.number());
            let index = segments.as_slice().partition_point(|segment| segment.number() <= number);
            if let Some(next) = segments.as_slice().get(index) {
                source.ahead().read(next);
            }
        }
    }

    /// Lets the pages go that it has passed, if they are many. It does not read them again, and its mapping may stay in use, or in the
    /// cache, for long.
    #[inline]
    fn release_passed(&mut self) {
        if self.offset.saturating_sub(self.released) >= RELEASE_BYTES {
            self.release_now();
        }
    }

    #[cold]
    fn release_now(&mut self) {
        self.region.release_pages(self.released..self.offset);
        self.released = self.offset;
    }

    /// Lets those go that are left, as the segment is.
    pub(super) fn release(self) {
        self.region.release_pages(self.released..self.region.len());
    }

    /// Whether the next record is in a later segment: because this one ends here, or because it has been trimmed,
    /// perhaps before its end was known here.
    pub(super) fn is_over_for(&self, segments: &Segments) -> bool {
        let is_trimmed = segments.as_slice().first().is_some_and(|first| first.number() > self.segment.number());
        is_trimmed || self.segment.ends_by(self.offset)
    }

    /// The bounds of the next record from number `next` to `limit`, if it is there, and the number after it. Passes
    /// over it, and over what comes before it.
    pub(super) fn next_record(&mut self, next: &mut Lsn, limit: Lsn) -> Result<Option<(usize, usize)>> {
        self.release_passed();
        loop {
            if self.offset >= self.checked {
                self.checked = self.segment.readable_from(&self.region, self.offset, CHUNK_BYTES)?;
                if self.offset >= self.checked {
                    return Ok(None);
                }
            }
            let bytes = self.region.bytes(0..self.checked).expect("checked frames are published");
            let frame = self.segment.frame_at(&self.region, bytes, self.offset)?;
            if frame.kind().takes_lsn() && frame.lsn() > limit {
                return Ok(None);
            }
            let start = self.offset;
            self.offset += frame.padded_len();
            // Records that were published since it was asked for may come before the record wanted.
            if !frame.kind().takes_lsn() || frame.lsn() < *next {
                continue;
            }
            *next = frame.lsn().next();
            if frame.kind() == FrameKind::Data {
                self.region.prefetch_after(start..self.offset);
                return Ok(Some((start, self.offset)));
            }
        }
    }

    /// The frames from record `first` on that are there, up to record `limit` and a batch's end; passes over them. Of
    /// at most `max_bytes`, unless the first batch is longer.
    pub(super) fn next_run(&mut self, first: Lsn, limit: Lsn, max_bytes: usize) -> Result<Option<Run>> {
        self.release_passed();
        loop {
            self.checked = self.segment.readable_from(&self.region, self.offset, max_bytes.max(CHUNK_BYTES))?;
            let run = self.checked_run(first, limit, max_bytes)?;
            if run.next != first {
                self.offset = run.end;
                return Ok(Some(run));
            }
            if run.end == self.offset {
                return Ok(None);
            }
            // Only control frames: they are passed over.
            self.offset = run.end;
        }
    }

    /// As [`Self::next_run`], among the frames that have been checked; without a record if none is there.
    fn checked_run(&self, first: Lsn, limit: Lsn, max_bytes: usize) -> Result<Run> {
        let bytes = self.region.bytes(0..self.checked).expect("checked frames are published");
        let mut run = Run { start: self.offset, end: self.offset, first, next: first };
        let (mut offset, mut next) = (run.end, run.next);
        while offset < self.checked {
            let frame = self.segment.frame_at(&self.region, bytes, offset)?;
            offset += frame.padded_len();
            if frame.kind().takes_lsn() {
                if frame.lsn() > limit {
                    break;
                }
                if frame.lsn() < first {
                    // Published since the first one wanted was asked for.
                    (run.start, run.end) = (offset, offset);
                    continue;
                }
                next = frame.lsn().next();
            }
            let is_full = offset - run.start > max_bytes && run.next > first;
            if is_full {
                break;
            }
            // A truncation may have cut through a batch: what it kept is whole.
            if !frame.batch_continues() || self.segment.ends_by(offset) {
                (run.end, run.next) = (offset, next);
            }
        }
        Ok(run)
    }
}

/// Where record `lsn` is in `segment`, or a place that it does not come before.
fn offset_of(segment: &Segment, region: &Region, lsn: Lsn) -> Result<usize> {
    loop {
        if let Some(offset) = segment.locate_once(region, lsn)? {
            return Ok(offset);
        }
        // Another thread may just have walked over it.
        let frontier = segment.frontier();
        if segment.lsn_at(frontier) <= lsn {
            return Ok(frontier.offset);
        }
    }
}
