//! Syncing in the background: for callbacks, and by interval or bytes where the options ask for it.
//!
//! One thread syncs, another one calls back: what the application does in a callback keeps nothing from becoming durable.

use std::collections::VecDeque;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{Durability, Goal};
use crate::error::{Error, Result};
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::storage;

pub(crate) type Callback = Box<dyn FnOnce(Result<()>) + Send>;

/// The thread that syncs without being waited for, once there is something for it to do.
#[derive(Default)]
pub(crate) struct Background {
    state: Mutex<State>,
    /// For the thread that syncs, and for the one that calls back.
    changed: Condvar,
    to_tell: Condvar,
    pub(crate) interval: Option<Duration>,
    pub(crate) bytes: Option<u64>,
}

#[derive(Default)]
pub(super) struct State {
    callbacks: Vec<(Goal, Callback)>,
    /// Those whose records were truncated.
    cut: Vec<(Lsn, Callback)>,
    pub(super) thread: Option<JoinHandle<()>>,
    /// Those to be told, in this order, by the other thread.
    told: VecDeque<(Callback, Result<()>)>,
    pub(super) teller: Option<JoinHandle<()>>,
    /// Appends have reached the position that was set for them.
    pub(super) due: bool,
    stopping: bool,
    /// The thread that syncs has ended, and all that are to be told are in `told`.
    has_synced: bool,
}

/// What the thread is to make durable.
pub(super) enum Next {
    UpTo(Goal),
    /// What has been appended by then.
    Everything,
}

/// The callbacks, locked: none is added until this is dropped.
pub(crate) struct CallbacksGuard<'b>(#[expect(dead_code, reason = "held, not looked at")] MutexGuard<'b, State>);

impl State {
    /// Whether no callback is taken any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
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

    /// Has `callback` called, by threads that run, for `goal`, which has been appended. `state` has been locked since before
    /// that was seen, so that no truncation has passed since.
    pub(super) fn push(&self, mut state: MutexGuard<'_, State>, goal: Goal, callback: Callback) {
        state.callbacks.push((goal, callback));
        self.changed.notify_all();
    }

    /// Enough bytes have been appended.
    pub(crate) fn notify(&self) {
        self.state.lock().due = true;
        self.changed.notify_all();
    }

    /// Has the thread tell the callbacks that wait for a record after `kept` that it is gone: what they do then may
    /// need the locks that a truncation holds.
    pub(crate) fn cut(&self, kept: Lsn) -> CallbacksGuard<'_> {
        let mut state = self.state.lock();
        let State { callbacks, cut, .. } = &mut *state;
        let gone = callbacks.extract_if(.., |(goal, _)| goal.lsn > kept);
        cut.extend(gone.map(|(goal, callback)| (goal.lsn, callback)));
        self.changed.notify_all();
        CallbacksGuard(state)
    }

    /// Stops the threads. Callbacks that still wait for a record that is not durable are told that the log is closed.
    /// On return all have been told, unless one of them has called this.
    pub(crate) fn stop(&self, durability: &Durability) {
        let mut state = self.state.lock();
        state.stopping = true;
        let thread = state.thread.take();
        drop(state);
        self.changed.notify_all();
        if let Some(thread) = thread {
            // It runs nothing of the application, so this is not called by it. A panic in it has been reported.
            let _ = thread.join();
        }
        self.call_back(durability);
        let mut state = self.state.lock();
        let rest = std::mem::take(&mut state.callbacks);
        state.told.extend(rest.into_iter().map(|(_, callback)| (callback, Err(Error::Closed))));
        state.has_synced = true;
        let teller = state.teller.take();
        drop(state);
        self.to_tell.notify_all();
        // A callback that drops the log stops the thread from within; it ends by itself, when it has told the rest.
        if let Some(teller) = teller.filter(|teller| teller.thread().id() != std::thread::current().id()) {
            let _ = teller.join();
        }
    }

    /// Calls back, one after the other, with nothing locked.
    pub(super) fn tell(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some((callback, outcome)) = state.told.pop_front() {
                drop(state);
                call(callback, outcome);
                state = self.state.lock();
            } else if state.has_synced {
                return;
            } else {
                self.to_tell.wait(&mut state);
            }
        }
    }

    /// What to sync next; waits until there is something. `None` when the thread shall end.
    pub(super) fn next_sync(&self) -> Option<Next> {
        let mut state = self.state.lock();
        loop {
            if state.stopping {
                return None;
            }
            if !state.cut.is_empty() {
                // Nothing to sync, and something to call back.
                return Some(Next::UpTo(Goal { lsn: Lsn::ZERO, position: Position::ZERO }));
            }
            // The first to be reached of each kind: places come before numbers, and a sync for one covers the other.
            let goals = state.callbacks.iter().map(|(goal, _)| *goal);
            if let Some(goal) = goals.min_by_key(|goal| (goal.lsn, goal.position)) {
                return Some(Next::UpTo(goal));
            }
            let elapsed = match self.interval {
                _ if state.due => false,
                Some(interval) => self.changed.wait_for(&mut state, interval).timed_out(),
                None => {
                    self.changed.wait(&mut state);
                    false
                }
            };
            if std::mem::take(&mut state.due) || elapsed {
                return Some(Next::Everything);
            }
        }
    }

    /// After a failed sync all that is left to do is to report it to callbacks that are still added.
    pub(super) fn wait_for_callbacks(&self) -> bool {
        let mut state = self.state.lock();
        while state.callbacks.is_empty() && state.cut.is_empty() && !state.stopping {
            self.changed.wait(&mut state);
        }
        !state.stopping
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
        state.told.extend(cut.chain(reached));
        drop(state);
        self.to_tell.notify_all();
    }
}

fn call(callback: Callback, outcome: Result<()>) {
    // The callback is gone in any case.
    storage::survive(|| callback(outcome));
}
