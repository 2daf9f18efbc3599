//! The transactions that a checkpoint has to know: those that are open, and those that have committed and are not
//! applied yet.

use std::collections::HashMap;

use parking_lot::{Mutex, MutexGuard};

use super::checkpoint::ActiveTransaction;
use super::error::{Result, TransactionFault, WalError};
use super::ids::TransactionId;
use super::record::RecordType;
use crate::lsn::Lsn;

/// This many transactions can log at the same time; a power of two.
const SHARDS: usize = 64;

/// An open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Open {
    /// `None` while it has no record at all: a checkpoint's list named it.
    pub(super) first: Option<Lsn>,
    pub(super) last: Option<Lsn>,
    /// The oldest of its records that the engine may not have applied: the first that changed data since the engine
    /// said that all before was applied.
    pub(super) unapplied: Option<Lsn>,
    /// Whether its first record is a begin.
    pub(super) begun: bool,
}

/// The open transactions of a log, spread over many locks.
///
/// A transaction's lock is held while one of its records is appended, so that the order of its records is the order of
/// its chain, and never while a thread waits for the disk to sync. The locks are taken before any lock of the log;
/// several are taken in order.
#[derive(Debug)]
pub(super) struct OpenTransactions([Mutex<Shard>; SHARDS]);

#[derive(Debug, Default)]
pub(super) struct Shard {
    open: HashMap<TransactionId, Open>,
    /// For each transaction and commit that the engine has not said to have applied, the oldest unapplied record. A number
    /// alone may be another commit's: that of an earlier log whose end was lost.
    committed: HashMap<(TransactionId, Lsn), Lsn>,
}

/// All transactions: none logs anything, ends or counts as applied until this is dropped.
pub(super) struct AllLocked<'t>(Vec<MutexGuard<'t, Shard>>);

impl OpenTransactions {
    pub(super) fn new(open: impl Iterator<Item = (TransactionId, Open)>) -> Self {
        let table = Self(std::array::from_fn(|_| Mutex::default()));
        for (transaction, state) in open {
            table.lock(transaction).open.insert(transaction, state);
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
        self.lock(transaction).get(transaction)
    }

    /// The engine has applied all that open `transaction` has logged.
    pub(super) fn applied(&self, transaction: TransactionId) {
        if let Some(open) = self.lock(transaction).open.get_mut(&transaction) {
            open.unapplied = None;
        }
    }

    /// The engine has applied what `transaction` has changed, whose commit is record `commit`.
    pub(super) fn commit_applied(&self, transaction: TransactionId, commit: Lsn) {
        self.lock(transaction).committed.remove(&(transaction, commit));
    }

    /// The first record of the oldest.
    pub(super) fn oldest(&self) -> Option<Lsn> {
        self.0.iter().filter_map(|shard| shard.lock().open.values().filter_map(|open| open.first).min()).min()
    }
}

impl AllLocked<'_> {
    /// The oldest record that the engine may not have applied.
    pub(super) fn unapplied(&self) -> Option<Lsn> {
        let open = self.0.iter().flat_map(|shard| shard.open.values()).filter_map(|open| open.unapplied);
        let committed = self.0.iter().flat_map(|shard| shard.committed.values().copied());
        open.chain(committed).min()
    }

    /// Those that are open, as a checkpoint lists them.
    pub(super) fn list(&self) -> impl Iterator<Item = ActiveTransaction> {
        self.0.iter().flat_map(|shard| shard.open.iter()).map(|(&transaction, open)| {
            ActiveTransaction::with_lsns(transaction, open.first, open.last).begun(open.begun)
        })
    }
}

impl Shard {
    pub(super) fn get(&self, transaction: TransactionId) -> Option<Open> {
        self.open.get(&transaction).copied()
    }

    /// Takes account of a record that was appended as `transaction`'s last.
    pub(super) fn note(&mut self, transaction: TransactionId, record_type: RecordType, lsn: Lsn) {
        match record_type {
            RecordType::Commit => self.commit(transaction, lsn),
            RecordType::Abort => drop(self.open.remove(&transaction)),
            _ => self.open.entry(transaction).or_default().note(record_type, lsn),
        }
    }

    fn commit(&mut self, transaction: TransactionId, lsn: Lsn) {
        let ended = self.open.remove(&transaction);
        if let Some(unapplied) = ended.and_then(|open| open.unapplied) {
            self.committed.insert((transaction, lsn), unapplied);
        }
    }
}

impl Open {
    fn note(&mut self, record_type: RecordType, lsn: Lsn) {
        self.first.get_or_insert(lsn);
        self.last = Some(lsn);
        self.begun |= record_type == RecordType::Begin;
        if record_type.is_data() {
            self.unapplied.get_or_insert(lsn);
        }
    }

    /// The record that the next one of `transaction` points to. `given` is what the caller takes it for, if it says so.
    pub(super) fn prev(&self, transaction: TransactionId, given: Option<Lsn>) -> Result<Option<Lsn>> {
        match given {
            Some(_) if given != self.last => {
                let fault = TransactionFault::NotLast { given, last: self.last };
                Err(WalError::transaction(transaction, fault))
            }
            _ => Ok(self.last),
        }
    }

    /// An error unless undo of `transaction` may go on with record `undo_next`.
    pub(super) fn check_undo_next(&self, transaction: TransactionId, undo_next: Option<Lsn>) -> Result<()> {
        let (first, last) = (self.first.unwrap_or_default(), self.last.unwrap_or_default());
        match undo_next {
            Some(undo_next) if undo_next < first || undo_next > last || undo_next == Lsn::ZERO => {
                let fault = TransactionFault::UndoNextOutside { undo_next, first, last };
                Err(WalError::transaction(transaction, fault))
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
            table.lock(transaction).note(transaction, RecordType::Begin, Lsn(number + 1));
            table.lock(transaction).note(transaction, RecordType::Insert, Lsn(number + 5000));
        }
        let all = table.lock_all();
        let mut listed: Vec<_> = all.list().collect();
        listed.sort_by_key(ActiveTransaction::transaction);
        assert_eq!(listed.len(), 1000);
        for (number, active) in (0..).zip(&listed) {
            let expected = (TransactionId(number), Some(Lsn(number + 1)), Some(Lsn(number + 5000)), true);
            assert_eq!((active.transaction(), active.first_lsn(), active.last_lsn(), active.has_begun()), expected);
        }
        drop(all);
        assert_eq!(table.oldest(), Some(Lsn(1)));
    }

    #[test]
    fn a_record_is_unapplied_until_the_engine_says_otherwise_also_after_the_commit() {
        let table = OpenTransactions::new(std::iter::empty());
        let note = |number, record_type, lsn| {
            let transaction = TransactionId(number);
            table.lock(transaction).note(transaction, record_type, Lsn(lsn));
        };
        let unapplied = || table.lock_all().unapplied().map(u64::from);
        note(1, RecordType::Begin, 1);
        note(2, RecordType::Begin, 2);
        assert_eq!(unapplied(), None, "a begin changes nothing");
        note(1, RecordType::Insert, 3);
        note(2, RecordType::Update, 4);
        note(1, RecordType::Delete, 5);
        assert_eq!(unapplied(), Some(3));
        table.applied(TransactionId(1));
        assert_eq!(unapplied(), Some(4));
        note(1, RecordType::Compensation, 6);
        note(2, RecordType::Commit, 7);
        // The number may begin another life meanwhile.
        note(2, RecordType::Begin, 8);
        note(2, RecordType::Insert, 9);
        table.applied(TransactionId(2));
        assert_eq!(unapplied(), Some(4));
        table.commit_applied(TransactionId(2), Lsn(7));
        assert_eq!(unapplied(), Some(6));
        note(1, RecordType::Abort, 10);
        assert_eq!(unapplied(), None, "what was rolled back has been undone");
    }

    #[test]
    fn numbers_at_regular_distances_are_spread_over_the_locks() {
        for distance in [1, 64, 1 << 20, 1 << 40] {
            let table = OpenTransactions::new((0..1024).map(|n| (TransactionId(n * distance), Open::default())));
            let used = table.0.iter().filter(|shard| !shard.lock().open.is_empty()).count();
            assert!(used > SHARDS / 2, "{used} locks for numbers {distance} apart");
        }
    }
}
