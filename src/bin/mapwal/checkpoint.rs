//! What recovery of transactions needs of a log.

use mapwal::wal::{ActiveTransaction, WalRecord};
use mapwal::{Error, Lsn, Snapshot};

/// The metadata slots of a log of transactions, as `docs/design/transactions.md` has them.
const NUMBERS_SLOT: usize = 14;
const CHECKPOINT_SLOT: usize = 15;

/// The records that recovery needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needed {
    /// The first of them.
    pub(crate) first: Lsn,
    /// The last checkpoint; `None` if there has been none.
    pub(crate) checkpoint: Option<Lsn>,
}

/// Of the log with these metadata slots; `None` if it is not one of transactions.
pub(crate) fn needed(meta: impl Fn(usize) -> Option<Vec<u8>>, snapshot: &Snapshot) -> mapwal::Result<Option<Needed>> {
    match meta(CHECKPOINT_SLOT) {
        Some(value) => from_checkpoint(&value, snapshot),
        None if meta(NUMBERS_SLOT).is_some_and(|value| value.len() == size_of::<u64>()) => from_start(snapshot),
        None => Ok(None),
    }
}

fn from_checkpoint(value: &[u8], snapshot: &Snapshot) -> mapwal::Result<Option<Needed>> {
    let Ok(number) = value.try_into().map(u64::from_le_bytes) else { return Ok(None) };
    let record = match snapshot.get(Lsn(number)) {
        Err(Error::Trimmed { .. } | Error::NotAppended { .. }) => None,
        found => found?,
    };
    let record = record.and_then(|record| WalRecord::parse(&record).ok());
    let Some(checkpoint) = record.as_ref().and_then(WalRecord::checkpoint) else { return Ok(None) };
    let first = checkpoint.active_transactions().iter().filter_map(ActiveTransaction::first_lsn);
    Ok(Some(Needed { first: first.fold(checkpoint.redo_lsn(), Lsn::min), checkpoint: Some(Lsn(number)) }))
}

/// There has never been a checkpoint: recovery needs all.
fn from_start(snapshot: &Snapshot) -> mapwal::Result<Option<Needed>> {
    let first = snapshot.iter().next().transpose()?;
    let is_of_transactions = first.is_some_and(|record| WalRecord::parse(&record).is_ok());
    Ok(is_of_transactions.then(|| Needed { first: snapshot.first_lsn(), checkpoint: None }))
}
