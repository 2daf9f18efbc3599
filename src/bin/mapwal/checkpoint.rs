//! What recovery of transactions needs of a log.

use mapwal::wal::{ActiveTransaction, WalRecord};
use mapwal::{Error, Lsn, Record, Snapshot};

/// The metadata slots of a log of transactions, as `docs/design/transactions.md` has them: a log that has one of them is theirs.
pub(crate) const NUMBERS_SLOT: usize = 14;
pub(crate) const CHECKPOINT_SLOT: usize = 15;
/// Tags below belong to transactions, others to the application.
pub(crate) const PLAIN_TAG_MIN: u16 = 0x8000;

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
    let value = meta(CHECKPOINT_SLOT);
    if value.is_none() && meta(NUMBERS_SLOT).is_none() {
        return Ok(None);
    }
    let checkpoint = value.map(|value| from_checkpoint(&value, snapshot)).transpose()?.flatten();
    checkpoint.map_or_else(|| from_start(snapshot), |needed| Ok(Some(needed)))
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

/// There is no checkpoint to begin with: recovery needs all, unless the slots are an application's own. The first record that is not
/// the application's tells; if all are, they may be those of an engine that has logged nothing else.
fn from_start(snapshot: &Snapshot) -> mapwal::Result<Option<Needed>> {
    let is_own = |record: &Record<'_>| record.tag() >= PLAIN_TAG_MIN;
    let told = snapshot.iter().find(|record| !record.as_ref().is_ok_and(is_own)).transpose()?;
    let is_of_transactions = told.is_none_or(|record| WalRecord::parse(&record).is_ok());
    Ok(is_of_transactions.then(|| Needed { first: snapshot.first_lsn(), checkpoint: None }))
}
