//! The transactions that are open.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use parking_lot::{Mutex, MutexGuard};

use super::checkpoint::ActiveTransaction;
use crate::error::{Error, Result};
use crate::ids::TransactionId;
use crate::lsn::Lsn;

/// So many transactions can log at the same time; a power of two.
const SHARDS: usize = 64;

/// An open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Open {
    /// `None` while it has no record at all: a checkpoint's list named it.
    pub(super) first: Option<Lsn>,
    pub(super) last: Option<Lsn>,
    /// Whether its first record is a begin.
    pub(super) begun: bool,
}

/// The open transactions of a log, spread over many locks.
///
/// A transaction's lock is held while one of its records is appended, so that the order of its records is the order of
/// its chain, and never while anybody waits for the disk to sync. The locks are taken before any lock of the log; who
/// takes several takes them in order.
#[derive(Debug)]
pub(super) struct OpenTransactions([Mutex<Shard>; SHARDS]);

pub(super) type Shard = HashMap<TransactionId, Open>;

/// All open transactions, which log nothing until this is dropped.
pub(super) struct AllLocked<'t>(Vec<MutexGuard<'t, Shard>>);

impl OpenTransactions {
    pub(super) fn new(open: impl Iterator<Item = (TransactionId, Open)>) -> Self {
        let table = Self(std::array::from_fn(|_| Mutex::default()));
        for (transaction, state) in open {
            table.lock(transaction).insert(transaction, state);
        }
        table
    }

    /// The lock of `transaction`, and of those that share it.
    pub(super) fn lock(&self, transaction: TransactionId) -> MutexGuard<'_, Shard> {
        // Fibonacci hashing: numbers at any regular distance are spread.
        let spread = transaction.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SHARDS.trailing_zeros());
        // Below `SHARDS`, since that many bits are left.
        self.0[spread as usize].lock()
    }

    pub(super) fn lock_all(&self) -> AllLocked<'_> {
        AllLocked(self.0.iter().map(Mutex::lock).collect())
    }

    pub(super) fn get(&self, transaction: TransactionId) -> Option<Open> {
        self.lock(transaction).get(&transaction).copied()
    }

    /// The first record of the oldest.
    pub(super) fn oldest(&self) -> Option<Lsn> {
        self.0.iter().filter_map(|shard| shard.lock().values().filter_map(|open| open.first).min()).min()
    }
}

impl AllLocked<'_> {
    pub(super) fn contains(&self, transaction: TransactionId) -> bool {
        self.0.iter().any(|shard| shard.contains_key(&transaction))
    }

    /// As a checkpoint lists them.
    pub(super) fn list(&self) -> impl Iterator<Item = ActiveTransaction> {
        self.0.iter().flat_map(|shard| shard.iter()).map(|(&transaction, open)| {
            ActiveTransaction::with_lsns(transaction, open.first, open.last).begun(open.begun)
        })
    }
}

/// Takes account of a record that was appended as `transaction`'s last.
pub(super) fn note(shard: &mut Shard, transaction: TransactionId, lsn: Lsn, begins: bool) {
    match shard.entry(transaction) {
        Entry::Vacant(entry) => drop(entry.insert(Open { first: Some(lsn), last: Some(lsn), begun: begins })),
        Entry::Occupied(mut entry) => {
            let open = entry.get_mut();
            open.first.get_or_insert(lsn);
            open.last = Some(lsn);
            open.begun |= begins;
        }
    }
}

impl Open {
    /// The record that the next one of `transaction` points to. `given` is what the caller takes it for, if it says so.
    pub(super) fn prev(&self, transaction: TransactionId, given: Option<Lsn>) -> Result<Option<Lsn>> {
        match given {
            Some(_) if given != self.last => Err(Error::NotLastRecord { transaction, given, last: self.last }),
            _ => Ok(self.last),
        }
    }

    /// An error unless undo of `transaction` may go on with record `undo_next`.
    pub(super) fn check_undo_next(&self, transaction: TransactionId, undo_next: Option<Lsn>) -> Result<()> {
        let (first, last) = (self.first.unwrap_or_default(), self.last.unwrap_or_default());
        match undo_next {
            Some(undo_next) if undo_next < first || undo_next > last || undo_next == Lsn::ZERO => {
                Err(Error::UndoNextOutside { transaction, undo_next, first, last })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_transactions_are_listed_with_their_records() {
        let table = OpenTransactions::new(std::iter::empty());
        for number in 0..1000 {
            let transaction = TransactionId(number);
            note(&mut table.lock(transaction), transaction, Lsn(number + 1), true);
            note(&mut table.lock(transaction), transaction, Lsn(number + 5000), false);
        }
        let all = table.lock_all();
        let mut listed: Vec<_> = all.list().collect();
        listed.sort_by_key(ActiveTransaction::transaction);
        assert_eq!(listed.len(), 1000);
        for (number, active) in (0..).zip(&listed) {
            let expected = (TransactionId(number), Some(Lsn(number + 1)), Some(Lsn(number + 5000)), true);
            assert_eq!((active.transaction(), active.first_lsn(), active.last_lsn(), active.has_begun()), expected);
        }
        assert!(all.contains(TransactionId(999)) && !all.contains(TransactionId(1000)));
        drop(all);
        assert_eq!(table.oldest(), Some(Lsn(1)));
    }

    #[test]
    fn numbers_at_regular_distances_are_spread_over_the_locks() {
        for distance in [1, 64, 1 << 20, 1 << 40] {
            let table = OpenTransactions::new((0..1024).map(|n| (TransactionId(n * distance), Open::default())));
            let used = table.0.iter().filter(|shard| !shard.lock().is_empty()).count();
            assert!(used > SHARDS / 2, "{used} locks for numbers {distance} apart");
        }
    }
}
