//! The segments of a log, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::Segment;
use crate::error::{Damage, Error, Result};
use crate::format::position::Position;
use crate::lsn::Lsn;

/// The segments that count, oldest first. Readers take an immutable version and keep it.
#[derive(Debug, Default)]
pub(crate) struct SegmentList {
    current: RwLock<Arc<Segments>>,
    /// How often a suffix has been replaced. Release, after the list was changed.
    truncations: AtomicU64,
}

/// One version of the list.
#[derive(Debug, Default, Clone)]
pub(crate) struct Segments(Vec<Arc<Segment>>);

impl SegmentList {
    pub(crate) fn new(segments: Vec<Arc<Segment>>) -> Self {
        Self { current: RwLock::new(Arc::new(Segments(segments))), truncations: AtomicU64::new(0) }
    }

    /// The list as it is now.
    pub(crate) fn load(&self) -> Arc<Segments> {
        Arc::clone(&self.current.read())
    }

    /// The newest segment.
    pub(crate) fn last(&self) -> Option<Arc<Segment>> {
        self.current.read().0.last().cloned()
    }

    /// Runs `look` on the list as it is now, without counting a reference. `look` is short and takes no lock but a
    /// segment's.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Segments) -> T) -> T {
        look(&self.current.read())
    }

    /// Changes the list, in place if nobody holds the current version.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Vec<Arc<Segment>>) -> T) -> T {
        change(&mut Arc::make_mut(&mut self.current.write()).0)
    }

    /// Changes the list so that records which were in it are not any more, or have other contents.
    pub(crate) fn truncate<T>(&self, change: impl FnOnce(&mut Vec<Arc<Segment>>) -> T) -> T {
        let changed = self.change(change);
        self.truncations.fetch_add(1, Ordering::Release);
        changed
    }

    /// How often [`Self::truncate`] has been called. Acquire: whoever sees a new number sees the new list.
    pub(crate) fn truncations(&self) -> u64 {
        self.truncations.load(Ordering::Acquire)
    }
}

impl Segments {
    pub(crate) fn as_slice(&self) -> &[Arc<Segment>] {
        &self.0
    }

    pub(crate) fn last(&self) -> Option<&Arc<Segment>> {
        self.0.last()
    }

    /// The number of the first record kept, or of the next one if there is none.
    pub(crate) fn first_lsn(&self) -> Lsn {
        self.0.first().map_or(Lsn::ZERO, |segment| segment.base_lsn())
    }

    /// The number of the record behind the last one published: up to it, all are. What lies before `durable` is taken
    /// for published without a look; if it is not there, that shows when it is read.
    pub(crate) fn next_published(&self, durable: Position) -> Result<Lsn> {
        let is_durable = |segment: &Arc<Segment>| {
            segment.end().is_some_and(|end| Position::new(segment.number(), end.offset) <= durable)
        };
        let mut next = Lsn::FIRST;
        for segment in &self.0[self.0.partition_point(is_durable)..] {
            let region = segment.region()?;
            let frontier = segment.advance(&region, |_| false)?;
            next = segment.lsn_at(frontier);
            if !segment.ends_by(frontier.offset) {
                if segment.position(frontier.offset) < durable {
                    let offset = frontier.offset as u64;
                    return Err(Error::corrupt(&segment.path(), offset, Some(next), Damage::MissingFrame));
                }
                return Ok(next);
            }
        }
        // Without a segment behind the durable position, the last one's end says it.
        Ok(self.0.last().and_then(|segment| segment.end()).map_or(next, |end| end.next_lsn))
    }

    /// The index of the segment that holds record `lsn`, if it is not below the first.
    pub(crate) fn find(&self, lsn: Lsn) -> Option<usize> {
        self.0.partition_point(|segment| segment.base_lsn() <= lsn).checked_sub(1)
    }
}
