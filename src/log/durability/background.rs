//! Syncing in the background: for callbacks, and by interval or bytes where the options ask for it.
//!
//! One task syncs, another one calls back.

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::teller::{Callback, Teller};
use super::{Durability, Goal};
use crate::error::Error;
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::storage::workers::{Task, Urgency};

/// The task that syncs without being waited for, once there is something for it to do.
#[derive(Default)]
pub(crate) struct Background {
    state: Mutex<State>,
    pub(super) teller: Teller,
    pub(crate) interval: Option<Duration>,
    pub(crate) bytes: Option<u64>,
}

#[derive(Default)]
pub(super) struct State {
    callbacks: Vec<(Goal, Callback)>,
    /// Those whose records were truncated.
    cut: Vec<(Lsn, Callback)>,
    pub(super) syncer: Option<Task>,
    /// Appends have reached the position that was set for them.
    pub(super) due: bool,
    /// When everything is synced that has been appended by then.
    sync_at: Option<Instant>,
    stopping: bool,
}

/// What the task is to make durable.
pub(super) enum Wanted {
    UpTo(Goal),
    /// What has been appended by then.
    Everything,
    /// Nothing, before this time at least.
    Nothing(Option<Instant>),
}

/// The callbacks, locked: none is added until this is dropped.
pub(crate) struct CallbacksGuard<'b>(#[expect(dead_code, reason = "held, not looked at")] MutexGuard<'b, State>);

impl State {
    /// Whether no callback is taken any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Has `callback` called, by tasks that have begun, for `goal`, which has been appended. The state has been locked since
    /// before that was seen, so that no truncation has passed since.
    pub(super) fn push(&mut self, goal: Goal, callback: Callback) {
        self.callbacks.push((goal, callback));
        self.wake();
    }

    fn wake(&self) {
        if let Some(task) = &self.syncer {
            task.wake(Urgency::Urgent);
        }
    }
}

impl Background {
    pub(crate) fn new(interval: Option<Duration>, bytes: Option<u64>) -> Self {
        Self { interval, bytes, ..Self::default() }
    }

    /// Whether the options ask for syncs in the background.
    pub(crate) fn has_policy(&self) -> bool {
        self.interval.is_some() || self.bytes.is_some()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Enough bytes have been appended.
    pub(crate) fn notify(&self) {
        let mut state = self.state.lock();
        state.due = true;
        state.wake();
    }

    /// Has the callbacks told that wait for a record after `kept` that it is gone: what they do then may
    /// need the locks that a truncation holds.
    pub(crate) fn cut(&self, kept: Lsn) -> CallbacksGuard<'_> {
        let mut state = self.state.lock();
        let State { callbacks, cut, .. } = &mut *state;
        let gone = callbacks.extract_if(.., |(goal, _)| goal.lsn > kept);
        cut.extend(gone.map(|(goal, callback)| (goal.lsn, callback)));
        state.wake();
        CallbacksGuard(state)
    }

    /// Stops the tasks. Callbacks that still wait for a record that is not durable are told that the log is closed.
    /// On return all have been told, unless one of them has called this.
    pub(crate) fn stop(&self, durability: &Durability) {
        let mut state = self.state.lock();
        state.stopping = true;
        let syncer = state.syncer.take();
        drop(state);
        if let Some(task) = syncer {
            task.stop();
        }
        self.call_back(durability);
        let mut state = self.state.lock();
        let rest = std::mem::take(&mut state.callbacks);
        self.teller.tell(rest.into_iter().map(|(_, callback)| (callback, Err(Error::Closed))));
        drop(state);
        self.teller.wake();
        self.teller.finish();
    }

    /// What to sync next.
    pub(super) fn wanted(&self) -> Wanted {
        let mut state = self.state.lock();
        if !state.cut.is_empty() {
            // Nothing to sync, and something to call back.
            return Wanted::UpTo(Goal { lsn: Lsn::ZERO, position: Position::ZERO });
        }
        // The first to be reached of each kind: places come before numbers, and a sync for one covers the other.
        let goals = state.callbacks.iter().map(|(goal, _)| *goal);
        if let Some(goal) = goals.min_by_key(|goal| (goal.lsn, goal.position)) {
            state.sync_at = None;
            return Wanted::UpTo(goal);
        }
        let now = Instant::now();
        if std::mem::take(&mut state.due) || state.sync_at.is_some_and(|at| at <= now) {
            state.sync_at = None;
            return Wanted::Everything;
        }
        if state.sync_at.is_none() {
            state.sync_at = self.interval.and_then(|interval| now.checked_add(interval));
        }
        Wanted::Nothing(state.sync_at)
    }

    /// Has all told whose records are durable, or will not be.
    pub(super) fn call_back(&self, durability: &Durability) {
        let mut state = self.state.lock();
        // With the callbacks locked: had the watermark been read before, a truncation could have run meanwhile, and a
        // callback wait by now for a record with the number of one that was durable.
        let is_over = |goal: &Goal| durability.is_reached(*goal).unwrap_or(true);
        let reached: Vec<_> = state.callbacks.extract_if(.., |(goal, _)| is_over(goal)).collect();
        let cut = std::mem::take(&mut state.cut);
        let cut = cut.into_iter().map(|(lsn, callback)| (callback, Err(Error::Truncated { lsn })));
        let reached = reached.into_iter().map(|(_, callback)| (callback, durability.check()));
        // Before a callback can be added for what comes later.
        self.teller.tell(cut.chain(reached));
        drop(state);
        // With nothing locked that a callback needs for its first call.
        self.teller.wake();
    }
}
