//! What the preparing task does, step by step, the most urgent first.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::ended::Ended;
use super::growth::Growth;
use super::pace::{AHEAD_LEN_MAX, Pace};
use super::pool::Pool;
use super::settling::Settling;
use super::state::{ActiveFilling, Spare, State};
use crate::error::{Error, Result};
use crate::events::report;
use crate::format::name;
use crate::format::position::Position;
use crate::log::stats::Counters;
use crate::segment::Segment;
use crate::segment::filling::{Filling, LARGE_PAGE_LEN, PAGE_LEN, page_start};
use crate::segment::prepare::Resting;
#[cfg(feature = "testing")]
use crate::storage::Preparation;
use crate::storage::workers::{Code, Next, Task, Urgency, Work};
use crate::storage::{Storage, survive};

/// How long after its start the task waits for the first appender before it makes a spare. A process that opens a log
/// usually reads most of it, and needs the machine for that.
const GRACE: Duration = Duration::from_millis(100);
/// Walked at a time: as much as a step makes ready at the most. After each such step it is done once, so that appenders that keep the task
/// busy find little left to be counted when a segment is sealed.
const WALK_LEN: usize = LARGE_PAGE_LEN;

/// What the task and the appenders share.
#[derive(Debug)]
pub(super) struct PreparerCore {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) log_id: u128,
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
    /// Segments to be walked and up to where, oldest first. Taken for a moment, with or without the state locked.
    pub(super) unwalked: Mutex<VecDeque<(Weak<Segment>, usize)>>,
    pub(super) ended: Ended,
    /// None where all is to be done in line.
    pub(super) task: OnceLock<Task>,
    /// [`State::is_complete`]. Relaxed: a hint, since what takes a spare looks at the state.
    pub(super) is_complete: AtomicBool,
    pub(super) pace: Pace,
    pub(super) pool: Arc<Pool>,
    pub(super) counters: Arc<Counters>,
    /// Byte offset up to which the segment that takes appends shall be ready soon. Relaxed: a hint.
    pub(super) wanted_end: AtomicUsize,
    /// Syncs have come near to what is not settled, and the task has been woken, or is at it. Relaxed: a hint.
    pub(super) is_settling_asked: AtomicBool,
    pub(super) settling: Settling,
    /// Where larger pages were used last, as positions, and how large. Relaxed: hints.
    pub(super) large: [AtomicU64; 2],
    pub(super) large_len: AtomicUsize,
}

/// One step.
enum Job {
    /// More room for the appenders.
    Room(ActiveFilling),
    /// A segment to go on in.
    Spare,
    /// More of that segment, since it will be needed soon.
    SpareRoom(Resting),
    /// Some of a segment that was filled.
    Walk,
    /// Some of what is ready to the device, before small syncs come to it.
    Settle(ActiveFilling),
    /// What can be done at any time: make some more ready.
    Idle(ActiveFilling),
}

impl PreparerCore {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        log_id: u128,
        growth: Growth,
        next_number: u64,
        pool: Arc<Pool>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            storage,
            log_id,
            state: Mutex::new(State::new(next_number, growth)),
            changed: Condvar::new(),
            unwalked: Mutex::default(),
            ended: Ended::default(),
            task: OnceLock::new(),
            is_complete: AtomicBool::new(false),
            pace: Pace::default(),
            pool,
            counters,
            wanted_end: AtomicUsize::new(0),
            is_settling_asked: AtomicBool::new(false),
            settling: Settling::new(),
            large: [AtomicU64::new(0), AtomicU64::new(0)],
            large_len: AtomicUsize::new(PAGE_LEN),
        }
    }

    /// Begins the task, unless all is to be done in line.
    pub(super) fn start(self: &Arc<Self>) -> io::Result<()> {
        #[cfg(feature = "testing")]
        if self.storage.preparation() != Preparation::Background {
            self.prepare_ahead();
            return Ok(());
        }
        let work: Weak<Self> = Arc::downgrade(self);
        let task = Task::new("prepare", Code::Own, work)?;
        self.state.lock().grace = Some(Instant::now() + GRACE);
        self.task.get_or_init(|| task).wake(Urgency::Ordinary);
        Ok(())
    }

    /// Has the task look at what has been changed.
    pub(super) fn wake(&self, urgency: Urgency) {
        if let Some(task) = self.task.get() {
            task.wake(urgency);
        }
    }

    /// The task has ended.
    pub(super) fn end(&self, state: &mut State) {
        state.is_gone = true;
        self.changed.notify_all();
    }

    /// Has a spare made, and waits until the state has changed. `tried` says whether an attempt has begun since this caller came,
    /// and is `None` when it comes.
    ///
    /// # Errors
    /// Why none can be made, once that has been tried.
    pub(super) fn await_spare(&self, state: &mut MutexGuard<'_, State>, tried: &mut Option<bool>) -> Result<()> {
        if let Some(failure) = state.failure.take()
            && *tried == Some(true)
        {
            return Err(failure);
        }
        self.check_task(state)?;
        if tried.is_none() {
            self.counters.stalled();
        }
        *tried = Some(state.want_spare() || *tried == Some(true));
        state.takers += 1;
        self.wake(Urgency::Urgent);
        self.changed.wait(state);
        state.takers -= 1;
        Ok(())
    }

    /// An error if a caller would wait in vain.
    pub(super) fn check_task(&self, state: &State) -> Result<()> {
        if !state.is_gone {
            return Ok(());
        }
        Err(Error::io("prepare a segment in", self.storage.path(), io::Error::other("the task for it has ended")))
    }

    fn run(&self) -> Next {
        let mut state = self.state.lock();
        let now = Instant::now();
        let in_use = state.in_use;
        if state.grace.take_if(|until| in_use || now >= *until).is_some() {
            state.want_spare();
        }
        state.pause.take_if(|until| now >= *until);
        let job = self.next_job(&mut state).or_else(|| self.job_that_can_wait(&mut state));
        let Some(job) = job else {
            return state.grace.into_iter().chain(state.pause).min().map_or(Next::Rest, Next::At);
        };
        let could_wait = matches!(job, Job::Settle(_) | Job::Idle(_));
        drop(state);
        state = self.work(job);
        if could_wait {
            state.pause = Some(Instant::now() + self.pace.pause());
        }
        self.changed.notify_all();
        Next::Again(if self.is_late(&state) { Urgency::Urgent } else { Urgency::Ordinary })
    }

    /// Whether an appender waits for the next step, or soon will.
    fn is_late(&self, state: &State) -> bool {
        let wanted = self.wanted_end.load(Ordering::Relaxed);
        let is_short = state.active.as_ref().is_some_and(|active| active.filling.is_short_of(wanted));
        is_short || (state.in_use && self.is_spare_wanted(state))
    }

    /// Whether a spare is to be made, by the next step that has nothing more urgent to do.
    fn is_spare_wanted(&self, state: &State) -> bool {
        let is_due = || state.pause.is_none() && !state.growth.is_between() && self.is_spare_due(state);
        matches!(state.spare, Spare::Wanted) && (state.takers > 0 || is_due())
    }

    fn next_job(&self, state: &mut State) -> Option<Job> {
        let is_walk_due = std::mem::take(&mut state.is_walk_due) && state.takers == 0;
        if is_walk_due && !self.unwalked.lock().is_empty() {
            return Some(Job::Walk);
        }
        let wanted = self.wanted_end.load(Ordering::Relaxed);
        let is_spare_wanted = self.is_spare_wanted(state);
        // The appenders can make room themselves, but no segment.
        let is_spare_late = is_spare_wanted && (state.takers > 0 || state.room as u64 > state.growth.active_size() / 2);
        if !is_spare_late && let Some(active) = state.active.take_if(|active| active.filling.is_short_of(wanted)) {
            state.is_walk_due = true;
            return Some(Job::Room(active));
        }
        if is_spare_wanted {
            state.spare = Spare::UnderWay;
            return Some(Job::Spare);
        }
        if self.pace.fills_spares()
            && let Some(spare) = state.borrow_spare(AHEAD_LEN_MAX)
        {
            state.is_walk_due = true;
            return Some(Job::SpareRoom(spare));
        }
        (!self.unwalked.lock().is_empty()).then_some(Job::Walk)
    }

    fn job_that_can_wait(&self, state: &mut State) -> Option<Job> {
        if state.pause.is_some() {
            return None;
        }
        let to_settle = self.pace.to_settle(state.active_number);
        if let Some(active) = state.active.take_if(|active| active.filling.is_unsettled(&to_settle)) {
            self.is_settling_asked.store(false, Ordering::Relaxed);
            return Some(Job::Settle(active));
        }
        let is_worth_it = state.in_use && self.pace.is_idling_worth_it();
        state.active.take_if(|active| is_worth_it && !active.filling.is_done()).map(Job::Idle)
    }

    fn work(&self, job: Job) -> MutexGuard<'_, State> {
        match job {
            Job::Room(mut active) => {
                if active.step(&*self.storage, self.pace.page_len()).is_err() {
                    // The appender that needs the room finds out why.
                    self.wanted_end.store(0, Ordering::Relaxed);
                }
                self.put_back(active)
            }
            Job::Spare => {
                let state = self.state.lock();
                let (number, is_awaited) = (state.next_number, state.takers > 0);
                drop(state);
                self.attempt(number, is_awaited)
            }
            Job::SpareRoom(spare) => {
                let spare = self.fill_some(spare);
                let mut state = self.state.lock();
                state.put_spare(spare);
                state
            }
            Job::Walk => {
                self.walk();
                self.state.lock()
            }
            Job::Settle(mut active) => {
                self.settle(&mut active);
                self.put_back(active)
            }
            Job::Idle(active) => self.idle(active),
        }
    }

    /// Begins to write what is ready to the device, before a sync has to.
    fn settle(&self, active: &mut ActiveFilling) {
        let range = active.filling.settle(&self.pace.to_settle(active.number));
        if range.is_empty() {
            return;
        }
        let begin = Position::new(active.number, range.start as u64);
        self.settling.run(begin, || active.file.start_writing(range.start as u64..range.end as u64));
        // A hint. What is mapped stays in the page cache; what begins to be written is made read-only, and so populated once more.
        let _ = self.storage.populate(active.region.mapping(), page_start(range.start)..range.end);
        self.counters.settled(range.len());
    }

    /// `spare`, with some more of it ready.
    fn fill_some(&self, spare: Resting) -> Resting {
        let next = spare.filling.end() + 1;
        // What cannot be opened now is found when it is taken.
        let Ok(Some(file)) = spare.open(&*self.storage) else {
            self.pace.use_single_pages();
            return spare;
        };
        let mut spare = spare.with(file);
        if spare.fill_to(next, &*self.storage, self.pace.page_len()).is_err() {
            self.pace.use_single_pages();
        }
        spare.rest()
    }

    fn idle(&self, mut active: ActiveFilling) -> MutexGuard<'_, State> {
        let ActiveFilling { number, filling, region, file, .. } = &mut active;
        let number = *number;
        if let Err(error) = filling.step(&*self.storage, &**file, region.mapping(), self.pace.page_len()) {
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
    pub(super) fn put_back(&self, active: ActiveFilling) -> MutexGuard<'_, State> {
        if let Some(segment) = active.segment.upgrade() {
            segment.set_page_len(active.filling.page_len());
        }
        let mut state = self.state.lock();
        if active.number == state.active_number {
            self.note_filling(active.number, &active.filling);
            state.room = active.filling.room();
            state.active = Some(active);
        } else {
            drop(state);
            active.give_back();
            state = self.state.lock();
        }
        self.changed.notify_all();
        state
    }

    pub(super) fn note_filling(&self, number: u64, filling: &Filling) {
        self.pace.note_settled(Position::new(number, filling.settled() as u64));
        let (large, len) = filling.large();
        self.large_len.store(len, Ordering::Relaxed);
        for (word, offset) in self.large.iter().zip([large.start, large.end]) {
            word.store(Position::new(number, offset as u64).0, Ordering::Relaxed);
        }
    }

    /// Walks some of the oldest segment that wants it.
    fn walk(&self) {
        let Some((segment, end)) = self.unwalked.lock().front().cloned() else { return };
        // It may be gone, or durable and at rest: then it has been walked. What an error was about comes up again when
        // the segment is synced or read.
        let walked = segment.upgrade().and_then(|segment| {
            let (region, _) = segment.unsynced()?;
            let place = || {
                let counted = segment.count(&region, 0).map_or(usize::MAX, |tally| tally.end as usize);
                (segment.frontier().offset, counted)
            };
            let before = place();
            let target = end.min(before.0 + WALK_LEN);
            segment.count(&region, WALK_LEN);
            segment.advance(&region, |frontier| frontier.offset >= target).ok()?;
            let (walked, counted) = place();
            Some((walked, counted) != before && walked.min(counted) < end)
        });
        if walked != Some(true) {
            let mut unwalked = self.unwalked.lock();
            // There may be more of it by now.
            if unwalked.front().is_some_and(|(_, now)| *now == end) {
                unwalked.pop_front();
            }
        }
    }
}

impl Work for PreparerCore {
    fn step(&self) -> Next {
        survive(|| self.run()).unwrap_or_else(|| {
            // What it had in hand does not come back.
            self.end(&mut self.state.lock());
            Next::Rest
        })
    }
}
