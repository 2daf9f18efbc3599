//! What the preparing thread does, step by step, the most urgent first.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::AHEAD_LEN_IN_BULK;
use super::state::{Spare, State};
use crate::error::{Error, Result};
use crate::events::{in_words, report};
use crate::format::name;
use crate::format::position::Position;
use crate::memory::Region;
use crate::segment::Segment;
use crate::segment::filling::{Filling, Pages};
use crate::segment::prepare::{Prepared, prepare};
#[cfg(feature = "testing")]
use crate::storage::Preparation;
use crate::storage::{self, Storage};

/// Between two steps of what nobody waits for: 64 MiB take half a second.
const PAUSE: Duration = Duration::from_millis(1);
/// How long after its start the thread waits for the first appender before it makes a spare. Who opens a log has to read
/// most of it, as a rule, and wants the machine for that.
const GRACE: Duration = Duration::from_millis(100);
/// Walked at a time.
const WALK_LEN: usize = 256 << 10;

/// What the thread and the appenders share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) storage: Arc<dyn Storage>,
    log_id: u128,
    pub(super) segment_size: u64,
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
    /// Segments to be walked and up to where, oldest first. Taken for a moment, with or without the state locked.
    pub(super) unwalked: Mutex<VecDeque<(Weak<Segment>, usize)>>,
    /// Set once, with the lock held.
    pub(super) stopping: AtomicBool,
    /// [`State::is_complete`]. Relaxed: a hint, since what takes a spare looks at the state.
    pub(super) is_complete: AtomicBool,
    /// Many bytes come between two syncs, so large pages are the ones to use. Relaxed: a hint.
    pub(super) is_bulk: AtomicBool,
    /// Byte offset up to which the segment that takes appends shall be ready soon. Relaxed: a hint.
    pub(super) wanted_end: AtomicUsize,
    /// Where large pages were used last, as positions. Relaxed: hints.
    pub(super) large: [AtomicU64; 2],
}

/// Says that the thread has ended, however it does.
struct Ending<'s>(&'s Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.state.lock().is_gone = true;
        self.0.changed.notify_all();
    }
}

/// The segment that takes appends, as far as it is ready.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) number: u64,
    pub(super) filling: Filling,
    pub(super) region: Arc<Region>,
    pub(super) segment: Weak<Segment>,
}

impl Active {
    pub(super) fn step(&mut self, storage: &dyn Storage, pages: Pages) -> io::Result<()> {
        self.filling.step(storage, self.region.mapping(), pages)
    }
}

/// One step.
enum Job {
    /// More room for the appenders.
    Room(Active),
    /// A segment to go on in.
    Spare,
    /// More of that segment, since it will be needed soon.
    SpareRoom(Prepared),
    /// Some of a segment that was filled.
    Walk,
    /// What can be done at any time: settle some of what is ready, or make some more ready.
    Idle(Active),
}

impl Shared {
    pub(super) fn new(storage: Arc<dyn Storage>, log_id: u128, segment_size: u64, next_number: u64) -> Self {
        Self {
            storage,
            log_id,
            segment_size,
            state: Mutex::new(State::new(next_number)),
            changed: Condvar::new(),
            unwalked: Mutex::default(),
            stopping: AtomicBool::new(false),
            is_complete: AtomicBool::new(false),
            is_bulk: AtomicBool::new(false),
            wanted_end: AtomicUsize::new(0),
            large: [AtomicU64::new(0), AtomicU64::new(0)],
        }
    }

    /// The thread, unless all is to be done in line.
    pub(super) fn start_thread(self: &Arc<Self>) -> io::Result<Option<JoinHandle<()>>> {
        #[cfg(feature = "testing")]
        if self.storage.preparation() != Preparation::Background {
            self.prepare_ahead();
            return Ok(None);
        }
        let worker = Arc::clone(self);
        storage::spawn("mapwal-prepare", move || worker.run()).map(Some)
    }

    /// Has a spare made, and waits until the state has changed.
    ///
    /// # Errors
    /// Why none can be made, once that has been `tried` for this caller.
    pub(super) fn await_spare(&self, state: &mut MutexGuard<'_, State>, tried: &mut bool) -> Result<()> {
        if let Some(failure) = state.failure.take()
            && *tried
        {
            return Err(failure);
        }
        self.check_thread(state)?;
        *tried |= state.want_spare();
        self.changed.notify_all();
        state.takers += 1;
        self.changed.wait(state);
        state.takers -= 1;
        Ok(())
    }

    /// An error if nothing will come that somebody waits for.
    pub(super) fn check_thread(&self, state: &State) -> Result<()> {
        if !state.is_gone {
            return Ok(());
        }
        Err(Error::io("prepare a segment in", self.storage.path(), io::Error::other("the thread for it has ended")))
    }

    fn run(&self) {
        let _ending = Ending(self);
        let mut grace = Some(Instant::now() + GRACE);
        let mut state = self.state.lock();
        while !self.stopping.load(Ordering::Relaxed) {
            if grace.take_if(|until| state.in_use || Instant::now() >= *until).is_some() {
                state.want_spare();
            }
            if let Some(job) = self.next_job(&mut state) {
                drop(state);
                state = self.work(job);
                self.changed.notify_all();
            } else if let Some(until) = grace {
                self.changed.wait_until(&mut state, until);
            } else {
                self.changed.wait(&mut state);
            }
        }
    }

    fn next_job(&self, state: &mut State) -> Option<Job> {
        let wanted = self.wanted_end.load(Ordering::Relaxed);
        let is_spare_wanted = matches!(state.spare, Spare::Wanted);
        // The appenders can make room themselves, but no segment.
        let is_spare_late = is_spare_wanted && (state.takers > 0 || state.room as u64 > self.segment_size / 2);
        if !is_spare_late && let Some(active) = state.active.take_if(|active| active.filling.is_short_of(wanted)) {
            return Some(Job::Room(active));
        }
        if is_spare_wanted {
            return Some(Job::Spare);
        }
        if self.pages() == Pages::Large
            && let Some(spare) = state.borrow_spare(AHEAD_LEN_IN_BULK)
        {
            return Some(Job::SpareRoom(spare));
        }
        if !self.unwalked.lock().is_empty() {
            return Some(Job::Walk);
        }
        let in_use = state.in_use;
        state.active.take_if(|active| in_use && !active.filling.is_done()).map(Job::Idle)
    }

    fn work(&self, job: Job) -> MutexGuard<'_, State> {
        match job {
            Job::Room(mut active) => {
                if active.step(&*self.storage, self.pages()).is_err() {
                    // Who needs the room finds out why.
                    self.wanted_end.store(0, Ordering::Relaxed);
                }
                self.put_back(active)
            }
            Job::Spare => {
                let number = self.state.lock().next_number;
                self.attempt(number)
            }
            Job::SpareRoom(mut spare) => {
                let next = spare.filling.end() + 1;
                if spare.fill_to(next, &*self.storage, Pages::Large).is_err() {
                    self.is_bulk.store(false, Ordering::Relaxed);
                }
                let mut state = self.state.lock();
                state.put_spare(spare);
                state
            }
            Job::Walk => {
                self.walk();
                self.state.lock()
            }
            Job::Idle(active) => {
                let mut state = self.idle(active);
                self.changed.wait_for(&mut state, PAUSE);
                state
            }
        }
    }

    fn idle(&self, mut active: Active) -> MutexGuard<'_, State> {
        let Active { number, filling, region, .. } = &mut active;
        let number = *number;
        if !filling.settle(&*self.storage, region.mapping())
            && let Err(error) = filling.step(&*self.storage, region.mapping(), self.pages())
        {
            let file = name::segment(number);
            report!(warn, error = &error as &dyn std::error::Error, file, "cannot make all of a segment ready");
            filling.give_up();
        }
        let is_done = filling.is_done();
        let mut state = self.put_back(active);
        if is_done && !std::mem::replace(&mut state.announced, true) {
            report!(debug, segment = number, "segment ready");
        }
        state
    }

    /// Returns what was taken, with more of it ready, unless another segment takes appends by now.
    pub(super) fn put_back(&self, active: Active) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        if active.number == state.active_number {
            self.note_large(active.number, &active.filling);
            state.room = active.filling.room();
            state.active = Some(active);
        }
        self.changed.notify_all();
        state
    }

    pub(super) fn note_large(&self, number: u64, filling: &Filling) {
        let large = filling.large();
        for (word, offset) in self.large.iter().zip([large.start, large.end]) {
            word.store(Position::new(number, offset as u64).0, Ordering::Relaxed);
        }
    }

    pub(super) fn pages(&self) -> Pages {
        if self.is_bulk.load(Ordering::Relaxed) { Pages::Large } else { Pages::Single }
    }

    /// Prepares segment `number`, and notes how that went.
    fn attempt(&self, number: u64) -> MutexGuard<'_, State> {
        let made = prepare(&*self.storage, self.log_id, number, self.segment_size);
        let mut state = self.state.lock();
        match made {
            Ok(prepared) => {
                let size_bytes = prepared.size;
                report!(debug, segment = number, size_bytes, "segment prepared");
                if std::mem::take(&mut state.is_failing) {
                    report!(info, segment = number, "segments can be prepared again");
                }
                state.next_number = number + 1;
                state.put_spare(prepared);
            }
            Err(error) => {
                let file = name::segment(number);
                // Once, however many appends are refused.
                if !std::mem::replace(&mut state.is_failing, true) {
                    let error = in_words(&error);
                    report!(warn, error, file, "cannot prepare a segment");
                }
                state.failure = Some(error);
                state.spare = Spare::Missing;
            }
        }
        self.note(&state);
        state
    }

    /// Takes down whether as many spares are ready as are to be.
    pub(super) fn note(&self, state: &State) {
        self.is_complete.store(state.is_complete(), Ordering::Relaxed);
    }

    /// Walks some of the oldest segment that wants it.
    fn walk(&self) {
        let Some((segment, end)) = self.unwalked.lock().front().cloned() else { return };
        // It may be gone, or durable and at rest: then it has been walked. What an error was about comes up again when
        // the segment is synced or read.
        let walked = segment.upgrade().and_then(|segment| {
            let (offset, (region, _)) = (segment.frontier().offset, segment.unsynced()?);
            let target = end.min(offset + WALK_LEN);
            let frontier = segment.advance(&region, |frontier| frontier.offset >= target).ok()?;
            let counted = segment.count(&region, 0).map_or(u64::MAX, |tally| tally.end);
            let is_counted =
                segment.count(&region, WALK_LEN).is_none_or(|tally| tally.end >= end as u64 || tally.end == counted);
            Some((frontier.offset > offset && frontier.offset < end) || !is_counted)
        });
        if walked != Some(true) {
            self.unwalked.lock().pop_front();
        }
    }
}

/// Without a thread, so that all that happens on a simulated disk happens in one order.
#[cfg(feature = "testing")]
impl Shared {
    pub(super) fn prepare_ahead(&self) {
        if self.storage.preparation() == Preparation::Ahead {
            // What fails is told by the appender that needs it.
            let keep = self.state.lock().held_max;
            drop(self.make_until_more_than(keep));
        }
    }

    pub(super) fn take_in_line(&self, keep: usize) -> crate::error::Result<Prepared> {
        let mut state = self.make_until_more_than(keep);
        let failure = state.failure.take();
        let Some(prepared) = state.take_spare(keep) else { return Err(failure.expect("nobody cancels it")) };
        self.note(&state);
        drop(state);
        self.prepare_ahead();
        Ok(prepared)
    }

    /// Makes spares until more than `keep` are ready, or one fails.
    pub(super) fn make_until_more_than(&self, keep: usize) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        while state.ready() <= keep {
            let number = state.next_number;
            drop(state);
            state = self.attempt(number);
            if state.is_failing {
                break;
            }
        }
        state
    }
}
