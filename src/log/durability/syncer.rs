//! What the tasks in the background do with the log.

use std::io;
use std::sync::{Arc, Weak};

use super::Goal;
use super::background::{State, Wanted};
use super::teller::Callback;
use crate::error::{Error, Result};
use crate::format::position::Position;
use crate::log::shared::Shared;
use crate::storage::survive;
use crate::storage::workers::{Code, Next, Task, Urgency, Work};

impl Shared {
    /// Begins the task that syncs unless it has begun.
    pub(crate) fn start_syncing(self: &Arc<Self>) -> Result<()> {
        self.ensure_syncer(&mut self.background.lock())
    }

    /// Calls `callback` once what `find` returns, which has been appended, is durable, or will not be.
    pub(crate) fn call_when_durable(
        self: &Arc<Self>,
        find: impl FnOnce() -> Result<Goal>,
        callback: Callback,
    ) -> Result<()> {
        let mut state = self.background.lock();
        // With the callbacks locked, so that no truncation can pass between this and the last line.
        if state.is_stopping() {
            return Err(Error::Closed);
        }
        let goal = find()?;
        self.ensure_syncer(&mut state)?;
        let failed = |source| Error::io("start the calling thread for", self.storage.path(), source);
        self.background.teller.ensure().map_err(failed)?;
        state.push(goal, callback);
        Ok(())
    }

    /// In a callback or a waker of this log, where no other one can be called: has each future of what has been appended so far be over.
    /// Not inside of an `append_with` closure there.
    pub(super) fn end_waiting_inside(&self) {
        if self.background.teller.is_inside() {
            // An error is the outcome of those that it concerns.
            let _ = self.wait(self.everything());
            self.background.call_back(&self.durability);
        }
    }

    fn ensure_syncer(self: &Arc<Self>, state: &mut State) -> Result<()> {
        if state.syncer.is_none() {
            let work: Weak<Self> = Arc::downgrade(self);
            let failed = |source| Error::io("start the syncing thread for", self.storage.path(), source);
            let task = Task::new("sync", Code::Own, work).map_err(failed)?;
            task.wake(Urgency::Urgent);
            state.syncer = Some(task);
        }
        Ok(())
    }

    fn sync_up_to(&self, goal: Goal) {
        let waited = survive(|| self.wait(goal));
        let _ = waited.unwrap_or_else(|| Err(self.poison(io::Error::other("a sync has panicked"))));
        self.background.call_back(&self.durability);
    }

    /// Has appends tell when as many bytes are not durable as the options allow, which may be the case already after a sync. Called
    /// after each sync.
    pub(in crate::log) fn set_due(&self) {
        let Some(bytes) = self.background.bytes else { return };
        let end = self.reserved_end();
        let left = bytes.saturating_sub(self.unsynced_bytes());
        // Beyond the end of the segment any position of the next one is due, so a rotation syncs early, never late.
        let position = Position(end.0.saturating_add(left));
        self.durability.set_due(position);
        if self.reserved_end() >= position {
            self.background.notify();
        }
    }
}

impl Work for Shared {
    fn step(&self) -> Next {
        if self.durability.check().is_err() {
            // All that is left to do is to report it to callbacks that are still added.
            self.background.call_back(&self.durability);
            return Next::Rest;
        }
        self.set_due();
        match self.background.wanted() {
            Wanted::UpTo(goal) => self.sync_up_to(goal),
            Wanted::Everything => self.sync_up_to(self.everything()),
            Wanted::Nothing(None) => return Next::Rest,
            Wanted::Nothing(Some(at)) => return Next::At(at),
        }
        Next::Again(Urgency::Urgent)
    }
}
