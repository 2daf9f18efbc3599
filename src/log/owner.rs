//! What the handles of an open log share beside the log: the lock on its directory, and the end of its tasks.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::shared::Shared;
use crate::error::{Error, Result};
use crate::segment::prepare::Resting;
use crate::storage::LockGuard;

/// Dropped with the last handle.
pub(super) struct Owner {
    shared: Arc<Shared>,
    /// Until the log is closed. Fields are dropped after `Drop for Owner` has run, so the lock outlives every task that may
    /// still write.
    lock: Mutex<Option<Box<dyn LockGuard>>>,
    is_closing: AtomicBool,
}

impl Owner {
    pub(super) fn new(shared: Arc<Shared>, lock: Box<dyn LockGuard>) -> Self {
        Self { shared, lock: Mutex::new(Some(lock)), is_closing: AtomicBool::new(false) }
    }

    /// Leaves this process's number in the lock.
    pub(super) fn write_pid(&self) -> io::Result<()> {
        self.lock.lock().as_ref().map_or(Ok(()), |lock| lock.write_pid())
    }

    /// For the one call that closes the log: all others are too late, and do not wait for it, since it may wait for a callback
    /// that is one of them.
    pub(super) fn begin_to_close(&self) -> Result<()> {
        if self.is_closing.swap(true, Ordering::Relaxed) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Lets the directory go.
    pub(super) fn let_go(&self) {
        drop(self.lock.lock().take());
    }
}

impl Shared {
    /// Ends the log's tasks and followers; returns the spares. What was under way is over when it returns.
    pub(super) fn stop_tasks(&self) -> Vec<Resting> {
        self.requests.stop();
        self.background.stop(&self.durability);
        let spares = self.preparer.stop();
        self.end_followers();
        self.housekeeper.stop();
        spares
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // In a child its tasks are not run, and what it says to others is not this process's to say.
        if self.shared.process.is_current() && self.lock.get_mut().is_some() {
            self.shared.stop_tasks();
        }
    }
}
