//! What is durable, and who waits for it: group commit.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};
use crate::format::position::Position;
use crate::lsn::Lsn;

/// The durable watermark, the waiters, and the failure that ends both.
#[derive(Debug)]
pub(crate) struct Durability {
    /// The place up to which everything is durable. Stored by the leader after `msync` returned; appenders read it
    /// relaxed, since any value that it ever had is true for ever.
    position: AtomicU64,
    /// Release by the leader, after the position; acquire by those who acknowledge.
    lsn: AtomicU64,
    /// Set by the first failed sync, before its leader wakes anyone.
    poison: OnceLock<Arc<io::Error>>,
    /// Whether a thread is syncing just now: one `msync` at a time, since two can take each other's error.
    leading: Mutex<bool>,
    changed: Condvar,
}

/// A leader's right to sync; others wait until it is dropped.
pub(crate) struct Leading<'d>(&'d Durability);

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        *self.0.leading.lock() = false;
        self.0.changed.notify_all();
    }
}

impl Durability {
    pub(crate) fn new(lsn: Lsn, position: Position) -> Self {
        Self {
            position: AtomicU64::new(position.0),
            lsn: AtomicU64::new(lsn.0),
            poison: OnceLock::new(),
            leading: Mutex::new(false),
            changed: Condvar::new(),
        }
    }

    #[inline]
    pub(crate) fn position(&self) -> Position {
        Position(self.position.load(Ordering::Relaxed))
    }

    pub(crate) fn lsn(&self) -> Lsn {
        Lsn(self.lsn.load(Ordering::Acquire))
    }

    /// Called by the leader only, so the two never go backwards.
    pub(crate) fn advance(&self, lsn: Lsn, position: Position) {
        self.position.store(position.0, Ordering::Release);
        self.lsn.store(lsn.0, Ordering::Release);
    }

    pub(crate) fn poison(&self, error: io::Error) {
        // The first failure is the one that counts.
        let _ = self.poison.set(Arc::new(error));
    }

    /// An error once a sync has failed.
    pub(crate) fn check(&self) -> Result<()> {
        match self.poison.get() {
            None => Ok(()),
            Some(source) => Err(Error::Poisoned { durable: self.lsn(), source: Arc::clone(source) }),
        }
    }

    /// Returns once `reached`, syncing by `sync` whenever nobody else does. Those who come while a sync runs form the
    /// next group: the first of them to wake leads it.
    pub(crate) fn wait(&self, reached: impl Fn(Lsn, Position) -> bool, sync: impl Fn() -> Result<()>) -> Result<()> {
        loop {
            let done = reached(self.lsn(), Position(self.position.load(Ordering::Acquire)));
            // Read after the watermark: nothing is acknowledged once a sync has failed.
            self.check()?;
            if done {
                return Ok(());
            }
            let Some(leading) = self.lead() else { continue };
            sync()?;
            drop(leading);
        }
    }

    /// Waits until no sync runs. If one ran, returns `None`, and the caller looks whether it was enough.
    pub(crate) fn lead(&self) -> Option<Leading<'_>> {
        let mut leading = self.leading.lock();
        if *leading {
            self.changed.wait(&mut leading);
            return None;
        }
        *leading = true;
        Some(Leading(self))
    }
}
