//! Pins: what keeps trim away from a position.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::Log;
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::lsn::Lsn;

/// The pins of one log: how many there are at each record.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<BTreeMap<Lsn, usize>>);

/// The pins, locked: none comes or goes until this is dropped.
pub(crate) struct PinsGuard<'p>(MutexGuard<'p, BTreeMap<Lsn, usize>>);

impl Pins {
    /// Taken by a trim from before it decides until the segments are out of the list, and by a new pin from before it
    /// looks at the list until it is set.
    pub(crate) fn lock(&self) -> PinsGuard<'_> {
        PinsGuard(self.0.lock())
    }
}

impl PinsGuard<'_> {
    /// The oldest record pinned.
    pub(crate) fn oldest(&self) -> Option<Lsn> {
        self.0.keys().next().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.values().sum()
    }

    fn add(&mut self, lsn: Lsn) {
        *self.0.entry(lsn).or_default() += 1;
    }

    fn remove(&mut self, lsn: Lsn) {
        if let Some(count) = self.0.get_mut(&lsn) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&lsn);
            }
        }
    }
}

/// Keeps a record, and all behind it, from being trimmed until it is dropped.
///
/// It does not outlive this process, and holds nothing against [`Log::truncate_after`] and [`Log::reset_to`].
#[derive(Debug)]
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

    /// Moves the pin forward to record `lsn`: what lies before may be trimmed. A number below its own is ignored.
    pub fn advance(&mut self, lsn: Lsn) {
        if lsn > self.lsn {
            let mut pins = self.shared.pins.lock();
            pins.add(lsn);
            pins.remove(self.lsn);
            self.lsn = lsn;
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.shared.pins.lock().remove(self.lsn);
    }
}

impl Log {
    /// Keeps record `lsn`, which may be the next one to come, and all behind it from being trimmed. Not durable: named
    /// pins are what survives a restart.
    ///
    /// # Errors
    /// [`Error::Trimmed`] or [`Error::NotAppended`] when `lsn` is not in the log nor next.
    pub fn pin(&self, lsn: Lsn) -> Result<Pin> {
        let shared = &self.shared;
        let mut pins = shared.pins.lock();
        let (first, next) = (self.first_lsn(), self.next_lsn());
        if lsn < first {
            return Err(Error::Trimmed { lsn, first });
        }
        if lsn > next {
            return Err(Error::NotAppended { lsn, next });
        }
        pins.add(lsn);
        Ok(Pin { shared: Arc::clone(shared), lsn })
    }
}
