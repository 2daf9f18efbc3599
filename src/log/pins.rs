//! Pins: what keeps trim away from a position.

use std::sync::Arc;

use super::Log;
use super::shared::Shared;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::segment::check_there_or_next;

/// Keeps a record, and all after it, from being trimmed until this is dropped.
///
/// It does not outlive this process: a named pin ([`Log::create_pin`]) does. It does not stop [`Log::truncate_after`]
/// and [`Log::reset_to`].
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::{Lsn, Pin};
///
/// # log.append_batch(&[(1, b"a".as_slice()), (1, b"b")])?;
/// let mut backup: Pin = log.pin(Lsn(1))?;
/// assert_eq!(log.trim_before(Lsn(3))?, 0);
/// backup.advance(Lsn(2)); // record 1 is copied
/// assert_eq!(backup.lsn(), Lsn(2));
/// drop(backup); // nothing is kept any more
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pin {
    shared: Arc<Shared>,
    lsn: Lsn,
}

impl Pin {
    /// The first record that is kept.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Moves the pin forward to record `lsn`: records before it may be trimmed. A number below its own is ignored. As a drop of the
    /// pin, it waits for a trim that is writing to the device, for a truncation, and for changes of named pins.
    pub fn advance(&mut self, lsn: Lsn) {
        if lsn > self.lsn && self.shared.process.is_current() {
            let mut pins = self.shared.pins.lock();
            pins.add(lsn);
            pins.remove(self.lsn);
            self.shared.counters.guarded(pins.oldest_guarded());
            self.lsn = lsn;
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if self.shared.process.is_current() {
            let mut pins = self.shared.pins.lock();
            pins.remove(self.lsn);
            self.shared.counters.guarded(pins.oldest_guarded());
        }
    }
}

impl Log {
    /// Keeps record `lsn`, which may be the next one to come, and all after it from being trimmed. Waits as [`Pin::advance`] does.
    ///
    /// # Errors
    /// [`Error::Trimmed`] or [`Error::NotAppended`] when `lsn` is not in the log nor next.
    pub fn pin(&self, lsn: Lsn) -> Result<Pin> {
        self.shared.check_open()?;
        let mut pins = self.shared.pins.lock();
        self.check_pinnable(lsn)?;
        pins.add(lsn);
        self.shared.counters.guarded(pins.oldest_guarded());
        Ok(Pin { shared: Arc::clone(&self.shared), lsn })
    }

    /// An error if record `lsn` is neither in the log nor next. The pins are locked, so nothing is trimmed meanwhile.
    pub(super) fn check_pinnable(&self, lsn: Lsn) -> Result<()> {
        check_there_or_next(lsn, self.first_lsn(), self.next_lsn())
    }
}
