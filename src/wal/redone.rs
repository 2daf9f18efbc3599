//! Whether the engine has redone what recovery found: no checkpoint may begin before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::{Result, WalError};
use crate::lsn::Lsn;

/// Shared by a recovery, which says it, and its wal, which asks.
#[derive(Debug, Clone)]
pub(super) struct Redone {
    /// The oldest record to be redone.
    from: Lsn,
    /// Release when it is said, acquire when it is asked: the pages that were marked as dirty before are seen to be by a
    /// thread that has begun a checkpoint.
    is_said: Arc<AtomicBool>,
}

impl Redone {
    /// `is_said` if there is nothing to be redone.
    pub(super) fn new(from: Lsn, is_said: bool) -> Self {
        Self { from, is_said: Arc::new(AtomicBool::new(is_said)) }
    }

    pub(super) fn say(&self) {
        self.is_said.store(true, Ordering::Release);
    }

    /// An error unless it has been said.
    pub(super) fn check(&self) -> Result<()> {
        if self.is_said.load(Ordering::Acquire) { Ok(()) } else { Err(WalError::NotRedone { from: self.from }) }
    }
}
