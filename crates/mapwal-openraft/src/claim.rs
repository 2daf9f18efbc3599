//! One store in a log at a time.

use std::collections::BTreeSet;

use mapwal::Log;
use parking_lot::Mutex;

use crate::error::{Error, Result};

/// The open logs of this process that have a store, by their numbers: a handle would keep a log open.
static CLAIMED: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

/// A log that has a store, until this is dropped.
pub(crate) struct Claim {
    log: u64,
    process: u32,
}

impl Claim {
    /// # Errors
    /// [`Error::InUse`].
    pub(crate) fn new(log: &Log) -> Result<Self> {
        let is_free = CLAIMED.lock().insert(log.instance());
        if !is_free {
            return Err(Error::InUse { path: log.directory().to_owned() });
        }
        Ok(Self { log: log.instance(), process: std::process::id() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // In a forked child another thread may seem to hold the lock for ever.
        if self.process == std::process::id() {
            CLAIMED.lock().remove(&self.log);
        }
    }
}
