//! One store in a log at a time.

use std::sync::{Arc, Weak};

use mapwal::Log;
use parking_lot::Mutex;

use crate::error::{Error, Result};

/// The logs of this process that have a store.
static CLAIMED: Mutex<Vec<Weak<Claim>>> = Mutex::new(Vec::new());

/// A log that has a store, until this is dropped.
pub(crate) struct Claim(Log);

impl Claim {
    /// # Errors
    /// [`Error::InUse`].
    pub(crate) fn new(log: &Log) -> Result<Arc<Self>> {
        let mut claimed = CLAIMED.lock();
        claimed.retain(|claim| claim.strong_count() > 0);
        // Dropped once nothing is locked: one of them may be the last handle of its log by then.
        let others: Vec<_> = claimed.iter().filter_map(Weak::upgrade).collect();
        let is_free = !others.iter().any(|other| other.0.is_same(log));
        let claim = Arc::new(Self(log.clone()));
        if is_free {
            claimed.push(Arc::downgrade(&claim));
        }
        drop(claimed);
        if is_free { Ok(claim) } else { Err(Error::InUse { path: log.directory().to_owned() }) }
    }
}
