//! Analysis: one pass over the window of the log that recovery needs, which finds out how each transaction ended.
//!
//! After ARIES (Mohan et al. 1992); `docs/design/transactions.md` has the algorithm.

use std::collections::HashMap;

use super::checkpoint::{ActiveTransaction, Checkpoint};
use super::error::{ChainFault, RecordFault, Result, WalError};
use super::ids::TransactionId;
use super::record::{PLAIN_TAG_MIN, RecordType, WalRecord};
use crate::lsn::Lsn;
use crate::read::Snapshot;

/// How a transaction stood at the end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Incomplete,
    Committed,
    Aborted,
}

/// What is known of one transaction: from its first record to its last. A number that was used again is another
/// transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) transaction: TransactionId,
    /// No record of it lies before.
    pub(super) first: Lsn,
    /// `None` if it has no record: a checkpoint's list names it.
    pub(super) last: Option<Lsn>,
    pub(super) begun: bool,
    pub(super) fate: Fate,
    /// The checkpoint that recovery starts at lists it, with records from before the window.
    pub(super) carried: bool,
    /// `last` is what the checkpoint says, and lies in the window: records of the window come before it.
    last_is_ahead: bool,
}

/// What analysis found.
#[derive(Debug)]
pub(super) struct Findings {
    /// Sorted by number and first record.
    pub(super) transactions: Vec<Seen>,
    pub(super) records: u64,
    /// Whether one of them tells of a change.
    pub(super) changes: bool,
}

/// Reads the records of `snapshot` from `window` on. The `checkpoint` is the one whose redo point `window` is, or a
/// later one.
pub(super) fn analyse(snapshot: &Snapshot, window: Lsn, checkpoint: Option<Checkpoint<'_>>) -> Result<Findings> {
    let mut analysis = Analysis { snapshot, window, open: HashMap::new(), ended: Vec::new() };
    let listed = checkpoint.map_or(&[][..], |checkpoint| checkpoint.active_transactions());
    for active in listed {
        analysis.seed(active);
    }
    let (mut records, mut changes) = (0, false);
    for record in snapshot.range(window..) {
        let record = record?;
        records += 1;
        changes |=
            record.tag() >= PLAIN_TAG_MIN || RecordType::from_code(record.tag()).is_some_and(RecordType::is_data);
        if record.tag() < PLAIN_TAG_MIN {
            analysis.pass(&WalRecord::parse(&record)?)?;
        }
    }
    if let (Some(checkpoint), Some(lost)) = (checkpoint, analysis.lost()) {
        let (lsn, target) = (checkpoint.lsn(), lost.last);
        return Err(WalError::chain(lsn, target, ChainFault::Missing));
    }
    Ok(Findings { transactions: analysis.finish(), records, changes })
}

struct Analysis<'s> {
    snapshot: &'s Snapshot,
    window: Lsn,
    open: HashMap<TransactionId, Seen>,
    ended: Vec<Seen>,
}

impl Analysis<'_> {
    /// Takes over a transaction from a checkpoint's list, unless all its records lie in the window and are seen anyway.
    fn seed(&mut self, active: &ActiveTransaction) {
        if active.first_lsn().is_some_and(|first| first >= self.window) {
            return;
        }
        let (transaction, last) = (active.transaction(), active.last_lsn());
        let seen = Seen {
            transaction,
            first: active.first_lsn().unwrap_or(self.window),
            last,
            begun: active.has_begun(),
            fate: Fate::Incomplete,
            carried: active.first_lsn().is_some(),
            last_is_ahead: last.is_some_and(|last| last >= self.window),
        };
        self.open.insert(transaction, seen);
    }

    fn pass(&mut self, record: &WalRecord<'_>) -> Result<()> {
        match record.record_type() {
            RecordType::Checkpoint => Ok(()),
            RecordType::Begin => self.begin(record),
            RecordType::Insert | RecordType::Update | RecordType::Delete => self.extend(record),
            RecordType::Compensation => self.compensate(record),
            RecordType::Commit => self.end(record, Fate::Committed),
            RecordType::Abort => self.end(record, Fate::Aborted),
        }
    }

    fn begin(&mut self, record: &WalRecord<'_>) -> Result<()> {
        let (transaction, lsn) = (record.transaction(), record.lsn());
        if self.open.get(&transaction).is_some_and(|seen| seen.last.is_some()) {
            return Err(WalError::record(lsn, RecordFault::AlreadyBegun { transaction }));
        }
        if let Some(prev) = record.prev_lsn() {
            return Err(self.broken(record, Some(prev)));
        }
        self.open.insert(transaction, Seen { begun: true, ..Seen::starting(transaction, lsn) });
        Ok(())
    }

    fn extend(&mut self, record: &WalRecord<'_>) -> Result<()> {
        let (transaction, lsn) = (record.transaction(), record.lsn());
        let mut seen = match (self.known(record)?, record.prev_lsn()) {
            (Some(seen), _) => seen,
            (None, None) => Seen::starting(transaction, lsn),
            (None, prev) => return Err(self.broken(record, prev)),
        };
        seen.last = Some(lsn);
        seen.last_is_ahead = false;
        self.open.insert(transaction, seen);
        Ok(())
    }

    fn compensate(&mut self, record: &WalRecord<'_>) -> Result<()> {
        if self.known(record)?.is_none() {
            return Err(self.unknown(record));
        }
        match record.undo_next() {
            Some(next) if next >= record.lsn() || next == Lsn::ZERO => Err(self.broken(record, Some(next))),
            _ => self.extend(record),
        }
    }

    fn end(&mut self, record: &WalRecord<'_>, fate: Fate) -> Result<()> {
        let (transaction, lsn) = (record.transaction(), record.lsn());
        let Some(seen) = self.known(record)? else {
            return Err(self.unknown(record));
        };
        if fate == Fate::Committed && !seen.begun {
            return Err(WalError::record(lsn, RecordFault::NotOpen { transaction }));
        }
        self.open.remove(&transaction);
        self.ended.push(Seen { fate, last: Some(lsn), ..seen });
        Ok(())
    }

    /// The open transaction that `record` belongs to, whose last record it points to. One that began before the window,
    /// and ended before the checkpoint began, is known by its first record of the window, also if the engine has listed
    /// it as one without records.
    fn known(&self, record: &WalRecord<'_>) -> Result<Option<Seen>> {
        let (transaction, prev) = (record.transaction(), record.prev_lsn());
        let before_window = prev.filter(|&prev| prev < self.window && prev != Lsn::ZERO);
        match (self.open.get(&transaction), before_window) {
            (Some(seen), Some(prev)) if seen.last_is_ahead && prev >= seen.first => Ok(Some(*seen)),
            (Some(seen), _) if !seen.last_is_ahead && seen.last == prev => Ok(Some(*seen)),
            (Some(_), None) | (Some(Seen { last: Some(_), .. }), _) => Err(self.broken(record, prev)),
            (_, Some(prev)) => Ok(Some(Seen { begun: true, ..Seen::starting(transaction, prev) })),
            (None, None) => Ok(None),
        }
    }

    /// The error of a record that continues no open transaction.
    fn unknown(&self, record: &WalRecord<'_>) -> WalError {
        match record.prev_lsn().map(|prev| self.fault(record, prev)) {
            None | Some(ChainFault::NotLast) => {
                WalError::record(record.lsn(), RecordFault::NotOpen { transaction: record.transaction() })
            }
            Some(_) => self.broken(record, record.prev_lsn()),
        }
    }

    fn broken(&self, record: &WalRecord<'_>, target: Option<Lsn>) -> WalError {
        let fault = target.map_or(ChainFault::NotLast, |target| self.fault(record, target));
        WalError::chain(record.lsn(), target, fault)
    }

    /// Why `target` is not the record of its transaction that comes before `record`.
    fn fault(&self, record: &WalRecord<'_>, target: Lsn) -> ChainFault {
        if target >= record.lsn() {
            return ChainFault::Forward;
        }
        let Ok(Some(found)) = self.snapshot.get(target) else { return ChainFault::Missing };
        match WalRecord::parse(&found) {
            Ok(found) if found.is_of(record.transaction()) => ChainFault::NotLast,
            _ => ChainFault::OtherTransaction,
        }
    }

    /// A transaction that the checkpoint says has records in the window, and has none.
    fn lost(&self) -> Option<&Seen> {
        self.open.values().find(|seen| seen.last_is_ahead)
    }

    fn finish(self) -> Vec<Seen> {
        let mut transactions = self.ended;
        transactions.extend(self.open.into_values());
        transactions.sort_unstable_by_key(|seen| (seen.transaction, seen.first));
        transactions
    }
}

impl Seen {
    fn starting(transaction: TransactionId, first: Lsn) -> Self {
        let (fate, last) = (Fate::Incomplete, Some(first));
        Self { transaction, first, last, begun: false, fate, carried: false, last_is_ahead: false }
    }
}

impl Findings {
    /// The transaction that record `lsn` with this number belongs to.
    pub(super) fn find(&self, transaction: TransactionId, lsn: Lsn) -> Option<&Seen> {
        let after = self.transactions.partition_point(|seen| (seen.transaction, seen.first) <= (transaction, lsn));
        let seen = &self.transactions[after.checked_sub(1)?];
        (seen.transaction == transaction).then_some(seen)
    }
}
