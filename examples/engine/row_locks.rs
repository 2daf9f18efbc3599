//! Which transaction may change which row.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use mapwal::wal::TransactionId;
use parking_lot::Mutex;

/// A page, and the place of a row on it.
pub(crate) type RowId = (u64, usize);

/// A row is locked by the transaction that changed it until that is over, so that undo never takes back what another
/// transaction wrote. No transaction waits for a row: one that finds it locked takes another, so that there is no
/// deadlock either.
#[derive(Default)]
pub(crate) struct RowLocks(Mutex<HashMap<RowId, TransactionId>>);

/// The rows that a transaction has locked, until it is dropped.
pub(crate) struct LockedRows<'l> {
    locks: &'l RowLocks,
    transaction: TransactionId,
    rows: Vec<RowId>,
}

impl RowLocks {
    pub(crate) fn none(&self, transaction: TransactionId) -> LockedRows<'_> {
        LockedRows { locks: self, transaction, rows: Vec::new() }
    }
}

impl LockedRows<'_> {
    /// Whether the row is this transaction's now.
    pub(crate) fn try_lock(&mut self, row: RowId) -> bool {
        match self.locks.0.lock().entry(row) {
            Entry::Occupied(owner) => *owner.get() == self.transaction,
            Entry::Vacant(free) => {
                free.insert(self.transaction);
                self.rows.push(row);
                true
            }
        }
    }
}

impl Drop for LockedRows<'_> {
    fn drop(&mut self) {
        let mut locks = self.locks.0.lock();
        for row in &self.rows {
            locks.remove(row);
        }
    }
}
