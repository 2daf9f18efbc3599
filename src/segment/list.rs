//! The segments of a log, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::Segment;
use crate::error::{Damage, Error, Result};
use crate::format::link::SegmentEnd;
use crate::format::position::Position;
use crate::lsn::Lsn;

/// Truncations remembered for followers that do not know of them yet.
const TRUNCATIONS_MAX: usize = 1024;

/// The segments that count, oldest first. Readers take an immutable version and keep it.
#[derive(Debug, Default)]
pub(crate) struct SegmentList {
    current: RwLock<Arc<Segments>>,
    /// How often a suffix has been replaced. Release, after the list was changed and before anything is appended to it.
    truncations: AtomicU64,
    /// Which truncation, counted from 1, replaced the records from which number on. Those that a later one went below
    /// are left out, so both parts ascend.
    replaced: Mutex<Vec<(u64, Lsn)>>,
}

/// How far a log has been published.
pub(crate) struct Published {
    /// The number after the last record.
    pub(crate) next: Lsn,
    /// Where that ends, if segments follow.
    pub(crate) hole: Option<Position>,
    /// The index of the segment in which that is, and the end of what is sound there, if the next segment names another one.
    pub(crate) cut: Option<(usize, SegmentEnd)>,
}

/// One version of the list.
#[derive(Debug, Default, Clone)]
pub(crate) struct Segments(Vec<Arc<Segment>>);

impl SegmentList {
    pub(crate) fn new(segments: Vec<Arc<Segment>>) -> Self {
        Self { current: RwLock::new(Arc::new(Segments(segments))), ..Self::default() }
    }

    /// The list as it is now.
    pub(crate) fn load(&self) -> Arc<Segments> {
        Arc::clone(&self.current.read())
    }

    /// The same; `None` if a thread has it locked, as for [`Self::try_with`].
    pub(crate) fn try_load(&self) -> Option<Arc<Segments>> {
        self.current.try_read().map(|segments| Arc::clone(&segments))
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

    /// As [`Self::with`]; `None` if a thread has the list locked: for a forked child, where that thread is not there.
    pub(crate) fn try_with<T>(&self, look: impl FnOnce(&Segments) -> T) -> Option<T> {
        self.current.try_read().map(|segments| look(&segments))
    }

    /// Changes the list, in place if no reader holds the current version.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Vec<Arc<Segment>>) -> T) -> T {
        change(&mut Arc::make_mut(&mut self.current.write()).0)
    }

    /// Makes `segments` the list, in which the records from `replaced` on are not those that were there before; returns
    /// the list as it was. Called by one thread at a time.
    pub(crate) fn truncate(&self, replaced: Lsn, segments: Vec<Arc<Segment>>) -> Vec<Arc<Segment>> {
        let before = self.change(|current| std::mem::replace(current, segments));
        let truncation = self.truncations.load(Ordering::Relaxed) + 1;
        let mut all = self.replaced.lock();
        all.retain(|&(_, lsn)| lsn < replaced);
        all.push((truncation, replaced));
        if all.len() > TRUNCATIONS_MAX {
            // A follower that has missed that many goes back further than needed.
            all[1].1 = all[0].1;
            all.remove(0);
        }
        self.truncations.store(truncation, Ordering::Release);
        before
    }

    /// The lowest number replaced by any truncation after the first `seen`.
    pub(crate) fn replaced_since(&self, seen: u64) -> Option<Lsn> {
        self.replaced.lock().iter().find(|&&(truncation, _)| truncation > seen).map(|&(_, lsn)| lsn)
    }

    /// How often [`Self::truncate`] has been called. Acquire: a thread that sees a new number sees the new list.
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
        // What has not been begun has no record; its first will be this one, as far as can be told.
        self.0.first().map_or(Lsn::FIRST, |segment| segment.base_lsn())
    }

    /// The number after the last published record: all before it are published. Everything before `durable` is taken
    /// for published without a look; if it is not there, that shows when it is read.
    pub(crate) fn next_published(&self, durable: Position) -> Result<Lsn> {
        self.published(durable, false).map(|published| published.next)
    }

    /// As [`Self::next_published`], or less if record `lsn` is published, then above `lsn` at least.
    pub(crate) fn next_published_for(&self, lsn: Lsn, durable: Position) -> Result<Lsn> {
        let segment = self.find(lsn).map(|index| &self.0[index]);
        if segment.is_some_and(|segment| segment.has_published(lsn)) {
            return Ok(lsn.next());
        }
        let next = self.next_published(durable)?;
        if let Some(segment) = segment.filter(|segment| segment.base_lsn() < next) {
            segment.set_reached();
        }
        Ok(next)
    }

    /// As [`Self::next_published`]. Where another process writes, or a crash may have left the log, what a sound frame does not follow
    /// `is_unsure` from `durable` on, also before later segments: it may not be there yet, be a torn end, or be damaged.
    pub(crate) fn published(&self, durable: Position, is_unsure: bool) -> Result<Published> {
        let is_durable = |segment: &Arc<Segment>| {
            segment.end().is_some_and(|end| Position::new(segment.number(), end.offset) <= durable)
        };
        let mut next = Lsn::FIRST;
        let first = self.0.partition_point(is_durable);
        for (index, segment) in self.0.iter().enumerate().skip(first) {
            let region = segment.region()?;
            let frontier = match segment.advance_to_end(&region) {
                Err(Error::Corrupt(found))
                    if is_unsure
                        && found.damage != Damage::SegmentSum
                        && segment.position(segment.frontier().offset) >= durable =>
                {
                    if let Some(end) = segment.sound_end(&region) {
                        let hole = Position::new(segment.number(), end.offset);
                        return Ok(Published { next: end.next_lsn, hole: Some(hole), cut: Some((index, end)) });
                    }
                    segment.frontier()
                }
                advanced => advanced?,
            };
            next = segment.lsn_at(frontier);
            if !segment.ends_by(frontier.offset) {
                if segment.position(frontier.offset) < durable {
                    let offset = frontier.offset as u64;
                    return Err(Error::corrupt(&segment.path(), offset, Some(next), Damage::MissingFrame));
                }
                let is_last = self.0.last().is_some_and(|last| last.number() == segment.number());
                let hole = (!is_last).then(|| segment.position(frontier.offset));
                return Ok(Published { next, hole, cut: None });
            }
        }
        // Without a segment beyond the durable position, the last one's end says it.
        let next = self.0.last().and_then(|segment| segment.end()).map_or(next, |end| end.next_lsn);
        Ok(Published { next, hole: None, cut: None })
    }

    /// The list up to the segment at `index`, which ends at `end`.
    pub(crate) fn cut_at(&self, (index, end): (usize, SegmentEnd)) -> Self {
        let mut segments = self.0[..=index].to_vec();
        segments[index] = Arc::new(segments[index].cut(end));
        Self(segments)
    }

    /// The first record that `new` has others in place of; `None` if it only adds segments to `old` or drops some from the
    /// front.
    pub(crate) fn replaced_from(old: &[Arc<Segment>], new: &[Arc<Segment>]) -> Option<Lsn> {
        let first = new.first()?;
        let kept = &old[old.partition_point(|segment| segment.number() < first.number())..];
        if kept.is_empty() {
            // No known segment is left. Trimmed or replaced, no follower goes on in one.
            return old.last().map(|_| first.base_lsn());
        }
        match kept.iter().zip(new).find(|(old, new)| !Arc::ptr_eq(old, new)) {
            Some((old, new)) => {
                let cut = new.end().filter(|_| old.number() == new.number());
                Some(cut.map_or(new.base_lsn(), |end| end.next_lsn))
            }
            None => kept.get(new.len()).map(|vanished| vanished.base_lsn()),
        }
    }

    /// The index of the segment that holds record `lsn`, if it is not below the first.
    pub(crate) fn find(&self, lsn: Lsn) -> Option<usize> {
        self.0.partition_point(|segment| segment.base_lsn() <= lsn).checked_sub(1)
    }
}

/// An error if record `lsn` is neither in a log that has records from `first` on, nor its `next` one.
pub(crate) fn check_there_or_next(lsn: Lsn, first: Lsn, next: Lsn) -> Result<()> {
    if lsn < first {
        Err(Error::Trimmed { lsn, first })
    } else if lsn > next {
        Err(Error::NotAppended { lsn, next })
    } else {
        Ok(())
    }
}
