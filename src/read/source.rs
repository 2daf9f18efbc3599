//! Where readers get what they read from.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use super::read_ahead::ReadAhead;
use crate::error::{Error, Result};
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::segment::Segments;
use crate::segment::control::Channel;

/// How often a caller looks that cannot be woken.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Where a follower gets its segments: the log of this process, or the directory of another's.
pub(crate) trait Source: Debug + Send + Sync {
    /// The segments that count, as known.
    fn segments(&self) -> Arc<Segments>;

    /// What reads ahead.
    fn ahead(&self) -> &ReadAhead;

    /// Finds out what has changed since, as far as this source does not know by itself; also without a sign of change if
    /// what is known `is_stale`.
    fn refresh(&self, is_stale: bool) -> Result<()>;

    /// The cause of `error`, if more can be found out than the caller that met it knows.
    fn explain(&self, error: Error) -> Error {
        error
    }

    /// An error where this thread must not wait for the log.
    fn check_wait(&self) -> Result<()> {
        Ok(())
    }

    /// Waits until something happens on `channel`, at most for `timeout`, and not at all if `ready`. False, at once, if the caller cannot be
    /// woken.
    fn wait(&self, channel: Channel, timeout: Duration, ready: &mut dyn FnMut() -> Result<bool>) -> Result<bool>;

    /// As [`Self::wait`]; a caller that cannot be woken sleeps a little.
    fn wait_or_sleep(
        &self,
        channel: Channel,
        timeout: Duration,
        ready: &mut dyn FnMut() -> Result<bool>,
    ) -> Result<()> {
        if !self.wait(channel, timeout, ready)? {
            std::thread::sleep(timeout.min(POLL_INTERVAL));
        }
        Ok(())
    }

    /// How often a suffix of the log has been replaced, as far as is known.
    fn truncations(&self) -> u64;

    /// The lowest number replaced by any truncation after the first `seen`.
    fn replaced_since(&self, seen: u64) -> Option<Lsn>;

    /// Whether record `lsn` is published, as far as a follower that begins there must ask: one of another process's log begins with what
    /// a view of it has shown, or with the next record after that.
    fn has_published(&self, _lsn: Lsn) -> Result<bool> {
        Ok(true)
    }

    /// Whether nothing can be appended any more.
    fn is_over(&self) -> bool;

    /// The last record known to be durable, and where its segment was durable to.
    fn durable(&self) -> (Lsn, Position);

    /// Up to where the log is known to have been durable, by all that tells of it: what is missing or bad after that may be a torn end.
    /// `None` if all that is there is sound, so that what is not is damaged.
    fn proven(&self) -> Result<Option<Position>> {
        Ok(None)
    }
}
