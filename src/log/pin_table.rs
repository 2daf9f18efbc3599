//! What keeps trim away from records: the guards of this process, and named pins.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::error::Result;
use crate::lsn::Lsn;
#[cfg(feature = "metrics")]
use crate::segment::Segments;
use crate::segment::pins::NamedPins;
use crate::segment::pins::files::{PinFiles, PinLock};

/// The pins of one log.
#[derive(Debug)]
pub(crate) struct Pins {
    files: PinFiles,
    table: Mutex<PinTable>,
    /// How many pins there are, as of the last change: the table may be locked for as long as a disk takes to answer. Relaxed: a
    /// number by itself.
    count: AtomicUsize,
}

/// The table, locked.
pub(crate) struct PinTableGuard<'p> {
    table: MutexGuard<'p, PinTable>,
    count: &'p AtomicUsize,
}

impl Deref for PinTableGuard<'_> {
    type Target = PinTable;

    fn deref(&self) -> &PinTable {
        &self.table
    }
}

impl DerefMut for PinTableGuard<'_> {
    fn deref_mut(&mut self) -> &mut PinTable {
        &mut self.table
    }
}

impl Drop for PinTableGuard<'_> {
    fn drop(&mut self) {
        self.count.store(self.table.len(), Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(crate) struct PinTable {
    /// How many guards there are at each record.
    guards: BTreeMap<Lsn, usize>,
    pub(super) named: NamedPins,
}

impl Pins {
    pub(crate) fn new(files: PinFiles, named: NamedPins) -> Self {
        let count = AtomicUsize::new(named.len());
        Self { files, table: Mutex::new(PinTable { guards: BTreeMap::new(), named }), count }
    }

    /// Keeps all others, also in other processes, from changing named pins, and reads what they are now. Taken before
    /// every other lock of the log: it is waited for.
    pub(crate) fn lock_files(&self) -> Result<PinLock<'_>> {
        let lock = self.files.lock()?;
        let named = NamedPins::read(&lock)?;
        self.lock().named = named;
        Ok(lock)
    }

    /// Taken by a trim from before it decides until the segments are out of the list, and by a new pin from before it
    /// looks at the list until it is set.
    pub(crate) fn lock(&self) -> PinTableGuard<'_> {
        PinTableGuard { table: self.table.lock(), count: &self.count }
    }

    /// How many there are, without a wait for what is being changed.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// How many there are, and the oldest record that one keeps; `None` while they are changed. Those of other processes are as they
    /// were when they were read last.
    #[cfg(feature = "metrics")]
    pub(crate) fn summary(&self, segments: &Segments) -> Option<(usize, Option<Lsn>)> {
        let table = self.table.try_lock()?;
        let oldest = [table.oldest_guarded(), table.named.oldest(segments)].into_iter().flatten().min();
        Some((table.len(), oldest))
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

    pub(super) fn add(&mut self, lsn: Lsn) {
        *self.guards.entry(lsn).or_default() += 1;
    }

    pub(super) fn remove(&mut self, lsn: Lsn) {
        if let Some(count) = self.guards.get_mut(&lsn) {
            *count -= 1;
            if *count == 0 {
                self.guards.remove(&lsn);
            }
        }
    }
}
