//! Opening regions to appenders, giving them more room, and taking it back.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::atomics::{Ordering, yield_now};
use super::super::region::{ALIGN, Region};
use super::word::Word;
use super::{AppendCursor, Entry, Reservation, SLOTS};

/// A rotating thread looks for frames in this many bytes at most: that takes less than a millisecond, a whole segment
/// of small frames ten times as long.
const WALK_MAX_BYTES: usize = 1 << 20;

/// The one handle that opens, extends, closes and retires regions.
pub(crate) struct CursorControl<C> {
    cursor: Arc<AppendCursor<C>>,
    current: Option<Current>,
    next_slot: usize,
    /// Generations that take no more reservations, and whose slots are not yet empty, oldest first.
    closed: VecDeque<Closed>,
}

struct Current {
    slot: usize,
    region: Arc<Region>,
    /// The position of the region's first byte, as the caller counts.
    start: u64,
    limit: usize,
}

struct Closed {
    slot: usize,
    region: Arc<Region>,
    end: usize,
}

/// What a region that takes no more reservations held.
pub(crate) struct Taken<'r, C> {
    /// The end of what has been reserved.
    pub(crate) offset: usize,
    /// How many records that are.
    pub(crate) ordinal: u32,
    /// Bytes after that, for the caller that closed it.
    pub(crate) trailer: Option<Reservation<'r, C>>,
}

impl<C> CursorControl<C> {
    pub(super) fn new(cursor: Arc<AppendCursor<C>>) -> Self {
        Self { cursor, current: None, next_slot: 0, closed: VecDeque::new() }
    }

    /// Opens `region`, whose first byte is at position `start`, for appenders: from its published end up to `limit`,
    /// with `ordinal` records already in it. The one before must have been closed.
    pub(crate) fn install(&mut self, region: Arc<Region>, start: u64, limit: usize, ordinal: u32, context: C) {
        assert!(self.current.is_none(), "close the open region first");
        let offset = region.published();
        assert!(offset <= limit && offset.is_multiple_of(ALIGN));
        let slot = self.fill_slot(Arc::clone(&region), start, limit, context);
        let word = Word::new(slot, ordinal, limit - offset);
        self.current = Some(Current { slot, region, start, limit });
        // Release: a thread that reserves in this generation sees its slot filled.
        self.cursor.word.0.store(word.0, Ordering::Release);
    }

    /// Gives the appenders of the open region more room: up to `limit`. Nothing changes if none is open.
    pub(crate) fn extend(&mut self, limit: usize, context: C) {
        let Some(Current { slot: before, region, start, limit: limit_before }) = self.current.take() else { return };
        assert!(limit >= limit_before);
        let slot = self.fill_slot(Arc::clone(&region), start, limit, context);
        let mut word = Word(self.cursor.word.0.load(Ordering::Relaxed));
        loop {
            let next = Word::new(slot, word.ordinal(), word.remaining() + limit - limit_before);
            // Release: as in `install`. Relaxed: nothing is read by what the word was.
            match self.cursor.word.0.compare_exchange_weak(word.0, next.0, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => word = Word(now),
            }
        }
        let end = limit_before - word.remaining();
        self.closed.push_back(Closed { slot: before, region: Arc::clone(&region), end });
        self.current = Some(Current { slot, region, start, limit });
    }

    /// Whether the slot that [`Self::install`] and [`Self::extend`] will fill next is empty. It will be once the frames of the
    /// generation that had it last are all published; those two wait for that.
    pub(crate) fn has_slot(&mut self) -> bool {
        let is_taken =
            |cursor_control: &Self| cursor_control.closed.iter().any(|closed| closed.slot == cursor_control.next_slot);
        if !is_taken(self) {
            return true;
        }
        if let Some(closed) = self.closed.front() {
            closed.region.extend(closed.region.published(), |_| true);
        }
        self.retire();
        !is_taken(self)
    }

    /// Fills the next slot, as soon as it is empty.
    fn fill_slot(&mut self, region: Arc<Region>, start: u64, limit: usize, context: C) -> usize {
        while !self.has_slot() {
            yield_now();
        }
        let slot = self.next_slot;
        let entry = Entry::new(region, limit, context);
        let place = self.cursor.slots[slot].0.write();
        // SAFETY: only this handle writes slots. This one is empty, and the word is not of its generation, so that
        // nobody can make a reservation that would read it before it is.
        unsafe { *place = Some(entry) };
        self.cursor.ends[slot].store(start + limit as u64, Ordering::Release);
        self.next_slot = (slot + 1) % SLOTS;
        slot
    }

    /// Stops reservations; `None` if no region is open. With `trailer_len > 0`, that many bytes after the end, which
    /// the region must have beyond its limit, are reserved for the caller.
    pub(crate) fn close(&mut self, trailer_len: usize) -> Option<Taken<'_, C>> {
        self.close_with(|_| trailer_len)
    }

    /// As [`Self::close`], with as many bytes as `trailer_len` says once nothing more can be reserved: it is told the end.
    pub(crate) fn close_with(&mut self, trailer_len: impl FnOnce(usize) -> usize) -> Option<Taken<'_, C>> {
        let Current { slot, region, limit, .. } = self.current.take()?;
        let word = Word(self.cursor.word.0.fetch_or(Word::CLOSED.0, Ordering::AcqRel));
        let (offset, ordinal) = (limit - word.remaining(), word.ordinal());
        let len = region.len();
        // Before the caller's code, which may panic: the slot is not empty.
        self.closed.push_back(Closed { slot, region, end: offset });
        let trailer_len = trailer_len(offset);
        assert!(trailer_len.is_multiple_of(ALIGN) && trailer_len <= len - offset);
        if let Some(closed) = self.closed.back_mut() {
            closed.end += trailer_len;
        }
        if trailer_len == 0 {
            return Some(Taken { offset, ordinal, trailer: None });
        }
        let place = self.cursor.slots[slot].0.read();
        // SAFETY: as in `AppendCursor::reserve`: the trailer lies below the end just recorded and is not published, and this
        // borrow of the only `CursorControl` lasts as long as the reservation.
        let entry = unsafe { &*place };
        let entry = entry.as_ref().expect("the open region has an entry");
        Some(Taken { offset, ordinal, trailer: Some(Reservation::trailer(entry, offset, trailer_len, ordinal)) })
    }

    /// Empties the slots of closed generations that are published to their end, and so drops the regions. It walks
    /// frames that have not been walked only if they take less than [`WALK_MAX_BYTES`]. False if there are more.
    pub(crate) fn retire(&mut self) -> bool {
        while let Some(Closed { slot, region, end }) = self.closed.front() {
            let mut published = region.published();
            if published < *end && *end - published <= WALK_MAX_BYTES {
                (published, _) = region.extend(published, |_| true);
            }
            if published < *end {
                return *end - published <= WALK_MAX_BYTES;
            }
            let place = self.cursor.slots[*slot].0.write();
            // SAFETY: only this handle writes slots. The generation is closed, so no reservation can begin in it, and
            // every one made was below `end` and is published; publishing is the last thing that a reservation does,
            // and the thread that moved `published` over it has acquired it, as the load above acquires that.
            unsafe { *place = None };
            self.closed.pop_front();
        }
        true
    }
}
