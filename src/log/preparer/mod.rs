//! Keeps room ahead of the appenders: the next segment, and the rest of the one that takes appends, page by page.
//!
//! A task does it, on the threads that all logs share. Appenders that outrun it make a little room themselves.

mod ended;
pub(crate) mod growth;
mod held_back;
mod pace;
mod page_size;
pub(crate) mod pool;
mod settling;
mod spare;
mod state;
mod task;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::format::position::Position;
use crate::log::stats::Counters;
use crate::memory::Process;
use crate::segment::Segment;
use crate::segment::filling::{Filling, LARGE_PAGE_LEN, PAGE_LEN};
use crate::segment::prepare::{Prepared, Resting, abandon, failed};
#[cfg(feature = "testing")]
use crate::storage::Preparation;
use crate::storage::Storage;
use crate::storage::workers::Urgency;
use ended::Ended;
use growth::{Extent, Growth};
use pool::Pool;
use state::{ActiveFilling, Taken};
use task::PreparerCore;

/// What a segment is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// What may be refused when the disk is full.
    Ordinary,
    /// What makes room in the end.
    Essential,
}

/// Hands out prepared segments, and room in the one that takes appends.
#[derive(Debug)]
pub(crate) struct Preparer {
    shared: Arc<PreparerCore>,
    size_max: u64,
    /// More room has been asked for in the segment that takes appends. Relaxed: it only saves asking again.
    asked: AtomicBool,
    /// That which has begun the task.
    process: Process,
}

/// Has the preparer look again, for as long as there is one.
#[derive(Debug)]
pub(crate) struct Waker(Weak<PreparerCore>);

impl Waker {
    /// There is a file that may become a segment.
    pub(crate) fn wake(&self) {
        if let Some(preparer) = self.0.upgrade() {
            preparer.wake(Urgency::Ordinary);
        }
    }
}

impl Preparer {
    /// Begins with segment `next_number`, above every number ever used.
    pub(crate) fn start(
        storage: Arc<dyn Storage>,
        log_id: u128,
        growth: Growth,
        next_number: u64,
        pool: Arc<Pool>,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let size_max = growth.size_max();
        let shared = Arc::new(PreparerCore::new(storage, log_id, growth, next_number, pool, counters));
        shared.start()?;
        Ok(Self { shared, size_max, asked: AtomicBool::new(false), process: Process::current() })
    }

    /// Holds `count` segments back, beside the spare: only what is essential uses them.
    pub(crate) fn hold_back(&self, count: usize) {
        let mut state = self.shared.state.lock();
        state.held_max = count;
        state.fill_held();
        self.shared.note(&state);
        drop(state);
        #[cfg(feature = "testing")]
        if self.shared.storage.preparation() != Preparation::Background {
            self.shared.prepare_ahead();
        }
    }

    /// A spare of `size` bytes at least, which are no more than segments may have; waits for one if there is none, or if none may be
    /// taken but those that are held back. A failure of an earlier attempt is not reported but tried again, so that a disk that was
    /// full is found to have room again.
    pub(crate) fn take(&self, need: Need, size: u64) -> Result<Prepared> {
        let mut state = self.shared.state.lock();
        state.growth.need(size);
        let keep = if need == Need::Essential { 0 } else { state.held_max };
        #[cfg(feature = "testing")]
        if self.shared.storage.preparation() != Preparation::Background {
            drop(state);
            return self.shared.take_in_line(keep);
        }
        state.in_use = true;
        let mut tried = None;
        loop {
            if let Some(Taken { spare, short }) = state.take_spare(keep) {
                self.shared.note(&state);
                self.shared.changed.notify_all();
                drop(state);
                self.shared.wake(Urgency::Urgent);
                self.shared.abandon(short);
                if let Some(spare) = self.shared.open(spare)? {
                    return Ok(spare);
                }
                state = self.shared.state.lock();
                state.growth.give_up();
                state.growth.need(size);
            }
            if let Err(error) = self.shared.await_spare(&mut state, &mut tried) {
                state.growth.need(0);
                return Err(error);
            }
        }
    }

    /// Takes back a spare that has been taken, and not used.
    pub(crate) fn put_back(&self, spare: Prepared) {
        let mut state = self.shared.state.lock();
        state.put_back(spare.rest());
        self.shared.note(&state);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Spare `number`, which has been taken, cannot be used.
    pub(crate) fn abandon(&self, number: u64) {
        abandon(&*self.shared.storage, number);
        self.shared.state.lock().growth.give_up();
        self.shared.wake(Urgency::Ordinary);
    }

    /// Returns once a spare is ready that is not held back; at once if one is being made and the segment that takes appends
    /// `has_room` meanwhile.
    pub(crate) fn complete(&self, has_room: bool) -> Result<()> {
        let mut state = self.shared.state.lock();
        #[cfg(feature = "testing")]
        if self.shared.storage.preparation() != Preparation::Background {
            let keep = state.held_max;
            let is_waited_for = state.is_failing || !has_room;
            drop(state);
            if is_waited_for {
                state = self.shared.make_until_more_than(keep, true);
                return if state.is_complete() { Ok(()) } else { state.failure.take().map_or(Ok(()), Err) };
            }
            return Ok(());
        }
        state.in_use = true;
        let mut tried = None;
        while !state.is_complete() {
            if has_room && !state.is_failing {
                state.want_spare();
                self.shared.wake(Urgency::Urgent);
                break;
            }
            self.shared.await_spare(&mut state, &mut tried)?;
        }
        Ok(())
    }

    /// The size of segments once the log has grown, in bytes.
    pub(crate) fn size_max(&self) -> u64 {
        self.size_max
    }

    /// What the segments hold and take that come before the one which takes appends.
    pub(crate) fn note_before(&self, before: Extent) {
        self.shared.state.lock().growth.note_before(before);
        // There may be room for a spare.
        self.shared.wake(Urgency::Ordinary);
    }

    /// Segments whose unused end is still to be given back.
    pub(crate) fn ended(&self) -> &Ended {
        &self.shared.ended
    }

    /// `segment`, which is ready as `filling` says, takes appends from now on, after those that hold and take `before`. Returns the room
    /// in it.
    pub(crate) fn begin(&self, segment: &Arc<Segment>, filling: Filling, before: Extent) -> usize {
        let (region, file) = segment.unsynced().expect("it has not ended");
        let (number, room) = (segment.number(), filling.room());
        segment.set_page_len(filling.page_len());
        self.shared.pool.note_begun();
        let mut state = self.shared.state.lock();
        self.shared.wanted_end.store(0, Ordering::Relaxed);
        self.shared.note_filling(number, &filling);
        state.active_number = number;
        state.room = room;
        state.growth.begin(segment.info().size, region.published(), before);
        let (segment, taken) = (Arc::downgrade(segment), segment.taken_from_now_on());
        state.active = Some(ActiveFilling { number, filling, region, file, segment, taken });
        state.announced = false;
        // The sync that comes next has two segments to write.
        state.pause = Some(Instant::now() + self.shared.pace.pause());
        drop(state);
        self.asked.store(false, Ordering::Relaxed);
        self.shared.changed.notify_all();
        self.shared.wake(Urgency::Ordinary);
        room
    }

    /// The room in segment `number`, which takes appends: up to byte `end` at least, which lies within.
    pub(crate) fn room_to(&self, number: u64, end: usize) -> Result<usize> {
        let shared = &*self.shared;
        let mut state = shared.state.lock();
        let mut has_stalled = false;
        loop {
            if state.room >= end {
                self.asked.store(false, Ordering::Relaxed);
                let room = state.room;
                drop(state);
                if has_stalled {
                    // It may have found nothing to do while an appender had the segment.
                    shared.wake(Urgency::Ordinary);
                }
                return Ok(room);
            }
            if !std::mem::replace(&mut has_stalled, true) {
                shared.counters.stalled();
            }
            if let Some(mut active) = state.active.take() {
                drop(state);
                let is_long = end - active.filling.room() >= LARGE_PAGE_LEN;
                let page_len = if is_long { LARGE_PAGE_LEN } else { shared.pace.page_len() };
                let filled = active.step(&*shared.storage, page_len);
                state = shared.put_back(active);
                let size = state.growth.active_size();
                filled.map_err(|source| failed(&*shared.storage, number, size, source))?;
            } else {
                shared.check_task(&state)?;
                // Another thread has it, for one step.
                shared.changed.wait(&mut state);
            }
        }
    }

    /// Has more room made, since appenders have come to byte `offset` of the segment. `unsynced` says how many bytes of
    /// records are not durable.
    #[inline]
    pub(crate) fn ask(&self, offset: usize, unsynced: impl FnOnce() -> u64) {
        if !self.asked.load(Ordering::Relaxed) {
            self.ask_once(offset, unsynced);
        }
    }

    #[cold]
    #[inline(never)]
    fn ask_once(&self, offset: usize, unsynced: impl FnOnce() -> u64) {
        if self.asked.swap(true, Ordering::Relaxed) {
            return;
        }
        let ahead = self.shared.pace.plan(unsynced());
        self.shared.wanted_end.store(offset + ahead, Ordering::Relaxed);
        let mut state = self.shared.state.lock();
        state.in_use = true;
        state.growth.reach(offset);
        drop(state);
        self.shared.pool.look_again();
        self.shared.wake(Urgency::Urgent);
        #[cfg(feature = "testing")]
        if self.shared.storage.preparation() != Preparation::Background {
            self.shared.prepare_ahead();
        }
    }

    /// How much a sync of a few bytes at byte `offset` of segment `number` writes: one page.
    pub(crate) fn page_len_at(&self, number: u64, offset: usize) -> usize {
        let [start, end] = [0, 1].map(|at| self.shared.large[at].load(Ordering::Relaxed));
        let is_large = (start..end).contains(&Position::new(number, offset as u64).0);
        if is_large { self.shared.large_len.load(Ordering::Relaxed) } else { PAGE_LEN }
    }

    /// Whether many small syncs in a row wrote large pages: the segment is better left. Then single pages are used from now
    /// on, until many bytes come between two syncs again.
    pub(crate) fn wants_single_pages(&self) -> bool {
        self.shared.pace.has_many_small_syncs()
    }

    /// An error, once, if what was settled so far could not be written: called by a sync after its own writing of what comes before byte
    /// `end` of segment `number`, before it says success.
    pub(crate) fn check_settled(&self, number: u64, end: usize) -> io::Result<()> {
        self.shared.settling.check(Position::new(number, end as u64))
    }

    /// A sync of `len` bytes, up to byte `end` of segment `number`, took `time`. Called by the leader only.
    pub(crate) fn note_sync(&self, number: u64, end: usize, len: usize, time: Duration) {
        let position = Position::new(number, end as u64);
        self.shared.pace.note_page(self.page_len_at(number, end), len);
        self.shared.pace.note_sync(position, len, time);
        if self.shared.pace.wants_settling(position) && !self.shared.is_settling_asked.swap(true, Ordering::Relaxed) {
            self.shared.wake(Urgency::Ordinary);
        }
    }

    /// No sync so far was one of what appenders append.
    pub(crate) fn forget_syncs(&self) {
        self.shared.pace.forget_syncs();
    }

    /// Walks `segment` up to byte `end`, as soon as there is time: its frames are to be counted, or more than an appender can walk is to be
    /// walked, until which slots among the appenders' are not free.
    pub(crate) fn walk_later(&self, segment: &Arc<Segment>, end: usize) {
        let mut unwalked = self.shared.unwalked.lock();
        match unwalked.back_mut() {
            Some((last, last_end)) if last.as_ptr() == Arc::as_ptr(segment) => *last_end = end.max(*last_end),
            _ => unwalked.push_back((Arc::downgrade(segment), end)),
        }
        drop(unwalked);
        self.shared.wake(Urgency::Ordinary);
    }

    /// For what keeps files that can become segments.
    pub(crate) fn waker(&self) -> Waker {
        Waker(Arc::downgrade(&self.shared))
    }

    /// What segments can be made of.
    pub(crate) fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    /// Whether a spare is ready that is not held back.
    pub(crate) fn has_spare(&self) -> bool {
        self.shared.is_complete.load(Ordering::Relaxed)
    }

    /// Whether [`Self::take`] gives one that is not held back without a wait: none is being made ready in large pages just now.
    pub(crate) fn has_spare_at_hand(&self) -> bool {
        self.shared.state.lock().has_spare_at_hand()
    }

    /// Segments that are ready, and files that can become some.
    pub(crate) fn spare_count(&self) -> usize {
        self.shared.state.lock().ready() + self.pool().len()
    }

    /// Their length.
    #[cfg(feature = "metrics")]
    pub(crate) fn spare_bytes(&self) -> u64 {
        self.shared.state.lock().ready_bytes() + self.pool().bytes()
    }

    /// Stops the task; returns the spares that were not taken.
    pub(crate) fn stop(&self) -> Vec<Resting> {
        if let Some(task) = self.shared.task.get() {
            task.stop();
        }
        let mut state = self.shared.state.lock();
        self.shared.end(&mut state);
        let newest = state.take_newest();
        state.held.drain(..).chain(newest).collect()
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        if self.process.is_current() {
            self.stop();
        }
    }
}
