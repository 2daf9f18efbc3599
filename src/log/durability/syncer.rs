//! What the two threads in the background do with the log.

use std::io;
use std::sync::Arc;

use super::Goal;
use super::background::{Callback, Next, State};
use crate::error::{Error, Result};
use crate::format::position::Position;
use crate::log::shared::Shared;
use crate::storage;

impl Shared {
    /// Starts the thread that syncs if it does not run.
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
        self.ensure_teller(&mut state)?;
        self.background.push(state, goal, callback);
        Ok(())
    }

    fn ensure_syncer(self: &Arc<Self>, state: &mut State) -> Result<()> {
        if state.thread.is_none() {
            let worker = Arc::clone(self);
            let spawned = storage::spawn("mapwal-sync", move || worker.sync_in_background());
            let path = self.storage.path();
            state.thread = Some(spawned.map_err(|e| Error::io("start the syncing thread for", path, e))?);
        }
        Ok(())
    }

    fn ensure_teller(self: &Arc<Self>, state: &mut State) -> Result<()> {
        if state.teller.is_none() {
            let worker = Arc::clone(self);
            let spawned = storage::spawn("mapwal-callbacks", move || worker.background.tell());
            let path = self.storage.path();
            state.teller = Some(spawned.map_err(|e| Error::io("start the calling thread for", path, e))?);
        }
        Ok(())
    }

    fn sync_in_background(&self) {
        self.set_due();
        while let Some(next) = self.background.next_sync() {
            let goal = match next {
                Next::UpTo(goal) => goal,
                Next::Everything => self.everything(),
            };
            let waited = storage::survive(|| self.wait(goal));
            let waited = waited.unwrap_or_else(|| Err(self.poison(io::Error::other("a sync has panicked"))));
            if waited.is_ok() {
                self.set_due();
            }
            self.background.call_back(&self.durability);
            if waited.is_err() && self.durability.check().is_err() && !self.background.wait_for_callbacks() {
                return;
            }
        }
    }

    /// Has appends tell when as many bytes are not durable as the options allow, which may be the case already after a sync.
    fn set_due(&self) {
        let Some(bytes) = self.background.bytes else { return };
        let end = self.reserved_end();
        let left = bytes.saturating_sub(self.unsynced_bytes());
        // Beyond the end of the segment any position of the next one is due, so a rotation syncs early, never late.
        let position = Position(end.0.saturating_add(left));
        self.durability.set_due(position);
        if self.reserved_end() >= position {
            self.background.lock().due = true;
        }
    }
}
