//! Numbers for transactions that no other transaction of the log has had.

use parking_lot::Mutex;

use super::error::{Result, TransactionFault, WalError};
use super::ids::TransactionId;
use crate::log::{Log, Need};

/// The metadata slot that holds a number above those of all transactions.
pub(super) const SLOT: usize = 14;

/// This many numbers are taken at a time: each time costs a metadata frame, each crash leaves the rest of them unused.
const BLOCK: u64 = 1024;

/// Hands out numbers. Those from `bound` on are in no record of the log: the bound is in a metadata slot, and is raised
/// there before a record with a number beyond it is appended. A log that holds the record after a crash holds the bound
/// as well, since it was written before.
#[derive(Debug)]
pub(super) struct Numbers(Mutex<Range>);

#[derive(Debug)]
struct Range {
    next: u64,
    bound: u64,
}

/// An error if `transaction`, which a caller has chosen for one that is not open, leaves too few numbers.
pub(super) fn check_chosen(transaction: TransactionId) -> Result<()> {
    let max = TransactionId::MAX_CHOSEN;
    if transaction <= max {
        return Ok(());
    }
    Err(WalError::transaction(transaction, TransactionFault::NumberTooLarge { max }))
}

impl Numbers {
    /// For `log`, in which a record has number `seen`, and none that was read a larger one. A replica has records and no slot.
    pub(super) fn open(log: &Log, seen: Option<TransactionId>) -> Result<Self> {
        let slot = match log.meta(SLOT) {
            None => 1,
            Some(value) => {
                let expected = size_of::<u64>();
                let invalid = |_| WalError::Metadata { slot: SLOT, len: value.len(), expected };
                u64::from_le_bytes(value.as_slice().try_into().map_err(invalid)?)
            }
        };
        let bound = seen.map_or(slot, |seen| slot.max(seen.0.saturating_add(1)));
        Ok(Self(Mutex::new(Range { next: bound, bound })))
    }

    /// A new number.
    pub(super) fn take(&self, log: &Log) -> Result<TransactionId> {
        let mut range = self.0.lock();
        let number = range.next;
        // The largest number may have been a caller's choice.
        if number == u64::MAX {
            return Err(WalError::Exhausted);
        }
        range.reserve(number, log, Need::Ordinary)?;
        Ok(TransactionId(number))
    }

    /// Never hands out `transaction`, which a caller has chosen, nor one below.
    pub(super) fn reserve(&self, transaction: TransactionId, log: &Log, need: Need) -> Result<()> {
        self.0.lock().reserve(transaction.0, log, need)
    }
}

impl Range {
    fn reserve(&mut self, number: u64, log: &Log, need: Need) -> Result<()> {
        if number < self.next {
            return Ok(());
        }
        let next = number.saturating_add(1);
        if next > self.bound {
            let bound = next.saturating_add(BLOCK - 1);
            log.put_meta_for(need, SLOT, &bound.to_le_bytes())?;
            self.bound = bound;
        }
        self.next = next;
        Ok(())
    }
}
