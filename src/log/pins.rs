//! Pins: what keeps trim away from a position.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::Log;
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::segment::pins::NamedPins;
use crate::segment::pins::files::{PinFiles, PinLock};

/// The pins of one log.
#[derive(Debug)]
pub(crate) struct Pins {
    files: PinFiles,
    table: Mutex<PinTable>,
}

#[derive(Debug)]
pub(crate) struct PinTable {
    /// How many guards there are at each record.
    guards: BTreeMap<Lsn, usize>,
    pub(super) named: NamedPins,
}

impl Pins {
    pub(crate) fn new(files: PinFiles, named: NamedPins) -> Self {
        Self { files, table: Mutex::new(PinTable { guards: BTreeMap::new(), named }) }
    }

    /// Keeps everybody else, also in other processes, from changing named pins, and reads what they are now. Taken before
    /// every other lock of the log: it is waited for.
    pub(crate) fn lock_files(&self) -> Result<PinLock<'_>> {
        let lock = self.files.lock()?;
        let named = NamedPins::read(&lock)?;
        self.table.lock().named = named;
        Ok(lock)
    }

    /// Taken by a trim from before it decides until the segments are out of the list, and by a new pin from before it
    /// looks at the list until it is set.
    pub(crate) fn lock(&self) -> MutexGuard<'_, PinTable> {
        self.table.lock()
    }
}

impl PinTable {
    /// The oldest record that a guard keeps.
    pub(crate) fn oldest_guarded(&self) -> Option<Lsn> {
        self.guards.keys().next().copied()
    }

    /// Guards and named pins together.
    pub(crate) fn len(&self) -> usize {
        self.guards.values().sum::<usize>() + self.named.len()
    }

    fn add(&mut self, lsn: Lsn) {
        *self.guards.entry(lsn).or_default() += 1;
    }

    fn remove(&mut self, lsn: Lsn) {
        if let Some(count) = self.guards.get_mut(&lsn) {
            *count -= 1;
            if *count == 0 {
                self.guards.remove(&lsn);
            }
        }
    }
}

/// Keeps a record, and all behind it, from being trimmed until it is dropped.
///
/// It does not outlive this process: a named pin ([`Log::create_pin`]) does. It holds nothing against
/// [`Log::truncate_after`] and [`Log::reset_to`].
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
        if lsn > self.lsn && self.shared.process.is_current() {
            let mut pins = self.shared.pins.lock();
            pins.add(lsn);
            pins.remove(self.lsn);
            self.lsn = lsn;
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if self.shared.process.is_current() {
            self.shared.pins.lock().remove(self.lsn);
        }
    }
}

impl Log {
    /// Keeps record `lsn`, which may be the next one to come, and all behind it from being trimmed.
    ///
    /// # Errors
    /// [`Error::Trimmed`] or [`Error::NotAppended`] when `lsn` is not in the log nor next.
    pub fn pin(&self, lsn: Lsn) -> Result<Pin> {
        self.shared.check_process()?;
        let mut pins = self.shared.pins.lock();
        self.check_pinnable(lsn)?;
        pins.add(lsn);
        Ok(Pin { shared: Arc::clone(&self.shared), lsn })
    }

    /// An error if record `lsn` is neither in the log nor next. The pins are locked, so nothing is trimmed meanwhile.
    pub(super) fn check_pinnable(&self, lsn: Lsn) -> Result<()> {
        let (first, next) = (self.first_lsn(), self.next_lsn());
        if lsn < first {
            Err(Error::Trimmed { lsn, first })
        } else if lsn > next {
            Err(Error::NotAppended { lsn, next })
        } else {
            Ok(())
        }
    }
}
