//! Undo: the records of transactions that did not commit, newest first over all of them.
//!
//! After ARIES (Mohan et al. 1992): a record already compensated is passed over, since its compensation says where to
//! go on.

use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::iter::FusedIterator;

use super::error::{ChainFault, Result, WalError};
use super::ids::TransactionId;
use super::record::{RecordType, WalRecord};
use crate::error::Error;
use crate::lsn::Lsn;
use crate::read::Snapshot;

/// The records that are to be undone, newest first. After an error it ends.
///
/// It holds one place for each transaction, taken when it is made; nothing is allocated for a record.
pub struct Undo<'r> {
    snapshot: &'r Snapshot,
    pub(super) cursors: BinaryHeap<Cursor>,
    /// Records up to here stay.
    keep: Lsn,
}

/// Where the undo of one transaction goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cursor {
    /// First, since the newest comes first.
    pub(super) next: Lsn,
    /// The record that points to it; itself for the transaction's last.
    from: Lsn,
    transaction: TransactionId,
}

impl Cursor {
    /// Of a transaction with this last record.
    pub(super) fn new(transaction: TransactionId, last: Lsn) -> Self {
        Self { next: last, from: last, transaction }
    }
}

impl<'r> Undo<'r> {
    /// Of the transactions of the cursors, down to record `keep`, which stays.
    pub(super) fn new(snapshot: &'r Snapshot, cursors: impl Iterator<Item = Cursor>, keep: Lsn) -> Self {
        Self { snapshot, cursors: cursors.collect(), keep }
    }

    fn step(&mut self) -> Result<Option<WalRecord<'r>>> {
        while let Some(mut cursor) = self.cursors.peek_mut() {
            if cursor.next <= self.keep {
                PeekMut::pop(cursor);
                continue;
            }
            let record = read(self.snapshot, &cursor)?;
            let target = match record.record_type() {
                RecordType::Compensation => record.undo_next(),
                _ => record.prev_lsn(),
            };
            match target {
                // Each record points before itself, so that this comes to an end.
                Some(target) if target >= record.lsn() => {
                    return Err(WalError::chain(record.lsn(), Some(target), ChainFault::Forward));
                }
                Some(target) => *cursor = Cursor { next: target, from: record.lsn(), ..*cursor },
                None => drop(PeekMut::pop(cursor)),
            }
            if matches!(record.record_type(), RecordType::Insert | RecordType::Update | RecordType::Delete) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

/// The record that `cursor` is at.
fn read<'s>(snapshot: &'s Snapshot, cursor: &Cursor) -> Result<WalRecord<'s>> {
    let broken = |fault| WalError::chain(cursor.from, Some(cursor.next), fault);
    let record = match snapshot.get_once(cursor.next) {
        Ok(Some(record)) => record,
        Ok(None) | Err(Error::Trimmed { .. } | Error::NotAppended { .. }) => return Err(broken(ChainFault::Missing)),
        Err(error) => return Err(error.into()),
    };
    let record = WalRecord::parse(&record)?;
    if !record.is_of(cursor.transaction) {
        return Err(broken(ChainFault::OtherTransaction));
    }
    match record.record_type() {
        RecordType::Commit | RecordType::Abort => Err(broken(ChainFault::Ended)),
        _ => Ok(record),
    }
}

impl<'r> Iterator for Undo<'r> {
    type Item = Result<WalRecord<'r>>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.cursors.clear();
        }
        step.transpose()
    }
}

impl FusedIterator for Undo<'_> {}
