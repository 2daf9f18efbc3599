//! What becomes of the files of segments that are out of the log: no call waits for it, since a file system may take a
//! tenth of a second to free the blocks of one.
//!
//! Files lose their names oldest first, each durably before the next: without a control page, a segment that is missing after
//! one that is there is lost. What is not done when the log is dropped is done at the next open.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::preparer::Waker;
use super::preparer::pool::Pool;
use super::stats::Counters;
use crate::error::{Error, Result};
use crate::events::{in_words, report};
use crate::format::name;
use crate::memory::Process;
use crate::segment::{Segment, retire};
#[cfg(feature = "testing")]
use crate::storage::Preparation;
use crate::storage::workers::{Code, Next, Task, Urgency, Work};
use crate::storage::{Storage, survive};

/// A log that is dropped waits no longer than this for files to be removed.
const PATIENCE: Duration = Duration::from_secs(1);
/// After so much time without a trim, fewer files are kept.
const AGE: Duration = Duration::from_secs(30);

/// Takes the files of dropped segments away.
#[derive(Debug)]
pub(crate) struct Housekeeper {
    shared: Arc<HousekeeperCore>,
    /// Begun when there is something to do for the first time; `None` if it could not be.
    task: OnceLock<Option<Task>>,
    /// That which may have begun the task.
    process: Process,
}

#[derive(Debug)]
struct HousekeeperCore {
    storage: Arc<dyn Storage>,
    pool: Arc<Pool>,
    /// What makes segments of the files in the pool: it may have nothing else to look for until a segment is full.
    preparer: Waker,
    counters: Arc<Counters>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is true or not by itself")]
struct State {
    /// Oldest first.
    dropped: VecDeque<Arc<Segment>>,
    /// How many have been taken away.
    count: u64,
    /// The file of one more is being taken away.
    is_busy: bool,
    /// The first could not be taken away. It is tried again when that is asked for.
    is_stuck: bool,
    /// That was asked for while it was being tried: what fails then may have begun to fail before, and is tried once more.
    is_asked: bool,
    /// Why, until that has been told to a caller, or it has been taken away all the same.
    failure: Option<Error>,
    /// The last attempt failed, and that has been reported.
    is_failing: bool,
    stopping: bool,
    /// When fewer files are kept, if there is no trim before.
    age_at: Option<Instant>,
}

impl Housekeeper {
    pub(crate) fn new(storage: Arc<dyn Storage>, pool: Arc<Pool>, preparer: Waker, counters: Arc<Counters>) -> Self {
        let shared =
            HousekeeperCore { storage, pool, preparer, counters, state: Mutex::default(), changed: Condvar::new() };
        Self { shared: Arc::new(shared), task: OnceLock::new(), process: Process::current() }
    }

    /// Has the files of `segments`, oldest first, taken away, after those that are still to be. They are in no list any more,
    /// and that is durable, or [`Self::finish`] is called next.
    pub(crate) fn drop_segments(&self, segments: Vec<Arc<Segment>>) {
        let mut state = self.shared.state.lock();
        state.dropped.extend(segments);
        state.ask();
        if state.dropped.is_empty() {
            return;
        }
        if let Some(task) = self.background(&state) {
            task.wake(Urgency::Ordinary);
            return;
        }
        #[cfg(feature = "testing")]
        if self.shared.storage.preparation() == Preparation::OnDemand {
            return;
        }
        drop(self.shared.work_off(state));
    }

    /// Returns once all is done that was to be done before the call.
    ///
    /// # Errors
    /// What has kept a file from being removed.
    pub(crate) fn finish(&self) -> Result<()> {
        let mut state = self.shared.state.lock();
        state.ask();
        if let Some(task) = self.task() {
            task.wake(Urgency::Urgent);
            while state.is_busy || (!state.dropped.is_empty() && !state.is_stuck) {
                self.shared.changed.wait(&mut state);
            }
        } else {
            state = self.shared.work_off(state);
        }
        state.failure.take().map_or(Ok(()), Err)
    }

    /// Removes the files that are kept, but for those that the options ask for, and that readers see.
    pub(crate) fn give_back(&self) {
        self.shared.pool.forget_use();
        self.shared.remove_surplus();
    }

    /// Whether there is nothing that has failed. What is just being taken away is tried once more if that fails.
    pub(crate) fn is_at_rest(&self) -> bool {
        let mut state = self.shared.state.lock();
        state.is_asked |= state.is_busy;
        state.failure.is_none() && !state.is_stuck
    }

    /// How many files have been taken away.
    pub(crate) fn count(&self) -> u64 {
        self.shared.state.lock().count
    }

    /// As [`Self::finish`]; false if there was nothing to do, and no more than `before` have been taken away: what has met a full
    /// disk since then may have done so before the last of them was.
    pub(crate) fn finish_some(&self, before: u64) -> bool {
        let state = self.shared.state.lock();
        let is_idle = state.dropped.is_empty() && !state.is_busy;
        if is_idle && state.count > before {
            return true;
        }
        drop(state);
        // What it fails with is told by the next trim.
        !is_idle && self.finish().map_err(|failure| self.shared.state.lock().failure = Some(failure)).is_ok()
    }

    /// What has kept a file from being removed, if that has not been told yet.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.shared.state.lock().failure.take()
    }

    /// Ends the task once all is done, or leaves it to itself if that takes long: then it ends with the file that it is at.
    pub(crate) fn stop(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.state.lock();
        state.stopping = true;
        let Some(task) = self.task() else {
            drop(state);
            return self.shared.remove_kept(deadline);
        };
        task.wake(Urgency::Urgent);
        while !state.is_stuck && (state.is_busy || !state.dropped.is_empty()) {
            if self.shared.changed.wait_until(&mut state, deadline).timed_out() {
                return task.leave();
            }
        }
        drop(state);
        task.stop();
        self.shared.remove_kept(deadline);
    }

    fn task(&self) -> Option<&Task> {
        self.task.get()?.as_ref()
    }

    /// The task, begun if need be; `None` if all is to be done in line, or has to be.
    fn background(&self, state: &State) -> Option<&Task> {
        #[cfg(feature = "testing")]
        if self.shared.storage.preparation() != Preparation::Background {
            return None;
        }
        if state.stopping {
            return None;
        }
        let begin = || {
            let work: Weak<HousekeeperCore> = Arc::downgrade(&self.shared);
            Task::new("remove", Code::Own, work).ok()
        };
        self.task.get_or_init(begin).as_ref()
    }
}

impl Drop for Housekeeper {
    fn drop(&mut self) {
        // In a child the files are not this process's to remove.
        if self.process.is_current() {
            self.stop();
        }
    }
}

impl State {
    /// Whatever is left is tried, if need be once more.
    fn ask(&mut self) {
        self.is_stuck = false;
        self.is_asked = self.is_busy;
    }
}

impl HousekeeperCore {
    /// Nothing is left to do but what comes with time.
    fn rest<'s>(&'s self, mut state: MutexGuard<'s, State>) -> Next {
        let now = Instant::now();
        if state.age_at.is_some_and(|at| at <= now) {
            state.age_at = None;
            drop(state);
            self.pool.age();
            self.remove_surplus();
            state = self.state.lock();
        }
        if self.pool.is_at_rest() {
            return Next::Rest;
        }
        Next::At(*state.age_at.get_or_insert(now + AGE))
    }

    /// The files that are kept are no longer needed. Those that stay are removed at the next open.
    fn remove_kept(&self, deadline: Instant) {
        while Instant::now() < deadline
            && let Some(retired) = self.pool.take_any()
        {
            self.pool.remove(retired);
        }
    }

    fn work_off<'s>(&'s self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        while !state.dropped.is_empty() && !state.is_stuck {
            state = self.take_away(state);
        }
        state
    }

    /// Takes the file of the oldest dropped segment away.
    fn take_away<'s>(&'s self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        let Some(segment) = state.dropped.pop_front() else { return state };
        state.is_busy = true;
        state.is_asked = false;
        state.age_at = None;
        drop(state);
        // Callers that wait for it are told, also of a panic.
        let removed = survive(|| self.remove(&segment)).unwrap_or_else(|| {
            Err(Error::io("remove", &segment.path(), io::Error::other("the task for it has panicked")))
        });
        let mut state = self.state.lock();
        state.is_busy = false;
        state.count += u64::from(removed.is_ok());
        let was_failing = std::mem::replace(&mut state.is_failing, removed.is_err());
        let file = name::segment(segment.number());
        if let Err(error) = removed {
            // Once, however often it is tried.
            if !was_failing {
                let error = in_words(&error);
                report!(warn, error, file, "cannot remove a segment");
            }
            state.dropped.push_front(segment);
            state.is_stuck = !state.is_asked;
            state.failure = Some(error);
        } else {
            // It was this one's, if there was any.
            state.failure = None;
            if was_failing {
                report!(info, file, "segments can be removed again");
            }
        }
        self.changed.notify_all();
        state
    }

    /// No new reader can reach it; readers that have it keep it.
    fn remove(&self, segment: &Arc<Segment>) -> Result<()> {
        if segment.is_shared() {
            segment.keep()?;
        } else {
            segment.forget();
        }
        let failed = |source| Error::io("remove", &segment.path(), source);
        let retired = retire::retire(&*self.storage, segment).map_err(failed)?;
        if let Some(region) = segment.mapped() {
            self.counters.unlinked(Arc::downgrade(&region), segment.info().size);
        }
        self.pool.put(retired);
        self.preparer.wake();
        self.remove_surplus();
        Ok(())
    }

    fn remove_surplus(&self) {
        while let Some(retired) = self.pool.surplus() {
            self.pool.remove(retired);
        }
    }
}

impl Work for HousekeeperCore {
    fn step(&self) -> Next {
        let state = self.state.lock();
        if state.dropped.is_empty() || state.is_stuck {
            return self.rest(state);
        }
        drop(self.take_away(state));
        Next::Again(Urgency::Ordinary)
    }
}
