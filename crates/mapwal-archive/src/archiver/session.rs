//! Where an archiver goes on: which epoch, and after which segment.

use std::time::Instant;

use mapwal::inspect::SegmentCheck;
use mapwal::{Lsn, SegmentTip};
use object_store::path::Path;

use super::pin::Pinned;
use super::source::{Prefix, Sealed};
use crate::epoch::SessionNote;
use crate::object::ArchivedSegment;

/// The place in the log up to which an epoch has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The end of the last segment, which the next one must name; `None` if the epoch has nothing before it.
    pub(crate) tip: Option<SegmentTip>,
    /// The number of the last segment; the next one has a higher one.
    pub(crate) after: u64,
    /// The first record of the next one.
    pub(crate) next: Lsn,
}

/// What is archived of the segment that takes appends.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) number: u64,
    /// Byte offset up to which it is.
    pub(crate) end: u64,
    pub(crate) next: Lsn,
    pub(crate) keys: Vec<Path>,
    /// Of the frames before `end`, or of fewer.
    pub(crate) check: SegmentCheck,
}

/// Where a log goes on in an epoch.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) parts: Option<Parts>,
    /// Objects of the epoch that were found to be damaged on the way.
    pub(crate) damaged: Vec<ArchivedSegment>,
}

impl Found {
    pub(crate) fn at(place: Place) -> Self {
        Self { place, parts: None, damaged: Vec::new() }
    }
}

/// An archiver's right to write an epoch.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) epoch: u64,
    pub(crate) note: SessionNote,
    pub(crate) place: Place,
    /// Where it is: at `place`, or before it when that is yet to be moved, or must not be.
    pub(crate) pin: Pinned,
    /// Whether the pin says whose it is in this session.
    pub(crate) is_told: bool,
    /// The first record before `place` that the log has and the archive lacks: the pin does not pass it.
    pub(crate) held: Option<Lsn>,
    /// When it was moved last.
    pub(crate) moved: Option<Instant>,
    pub(crate) parts: Option<Parts>,
    /// Objects of the epoch that were damaged when it began.
    pub(crate) damaged: Vec<ArchivedSegment>,
    /// Parts of segments before `place`, yet to be deleted.
    pub(crate) superseded: Vec<Path>,
    /// The next segment, made ready while the one before was uploaded.
    pub(crate) prepared: Option<Sealed>,
    /// When it was looked how far the log is.
    pub(crate) observed: Option<Instant>,
    /// When the archive was compared with what was confirmed.
    pub(crate) audited: Option<Instant>,
    /// When a part was uploaded last.
    pub(crate) parted: Option<Instant>,
    /// Since when records wait in the segment after `place`.
    pub(crate) waiting: Option<(Lsn, Instant)>,
}

impl Session {
    pub(crate) fn new(epoch: u64, note: SessionNote, pin: Pinned, Found { place, parts, damaged }: Found) -> Self {
        Self {
            epoch,
            note,
            place,
            pin,
            is_told: false,
            held: None,
            moved: None,
            parts,
            damaged,
            superseded: Vec::new(),
            prepared: None,
            observed: None,
            audited: None,
            parted: None,
            waiting: None,
        }
    }

    /// The record before which the log may trim all.
    pub(crate) fn released(&self) -> Lsn {
        self.held.map_or(self.place.next, |held| held.min(self.place.next))
    }

    /// The record before which all was confirmed in the epoch, be it there or not.
    pub(crate) fn confirmed(&self) -> Lsn {
        self.pin.confirmed().max(self.place.next)
    }

    /// Whether `segment` is the one after what the epoch has, with all that parts have of it. Otherwise the log has another history.
    pub(crate) fn continues_with(&self, segment: &Sealed) -> bool {
        self.follows((segment.tip.number, segment.tip.end_bytes), segment.predecessor, segment.first_lsn)
    }

    /// As [`Self::continues_with`].
    pub(crate) fn continues_in(&self, prefix: &Prefix) -> bool {
        self.follows((prefix.number, prefix.bytes.len() as u64), prefix.predecessor, prefix.first_lsn)
    }

    /// Notes how the pin is that was moved, if it was.
    pub(crate) fn pinned(&mut self, moved: Option<Pinned>) {
        if let Some(moved) = moved {
            (self.pin, self.is_told) = (moved, true);
        }
    }

    fn follows(&self, (number, end): (u64, u64), predecessor: Option<SegmentTip>, first: Lsn) -> bool {
        let has_parts = |parts: &Parts| parts.number == number && parts.end <= end;
        let is_of_parts = self.parts.as_ref().is_none_or(has_parts);
        is_of_parts && first == self.place.next && (self.place.tip.is_none() || predecessor == self.place.tip)
    }

    pub(crate) fn passed(&mut self, segment: &Sealed) {
        self.place = Place { tip: Some(segment.tip), after: segment.tip.number, next: segment.next_lsn };
        self.waiting = None;
        self.superseded.extend(self.parts.take().into_iter().flat_map(|parts| parts.keys));
    }
}
