//! Taking checkpoints, and dropping what they make unnecessary.

use zerocopy::IntoBytes;

use super::Wal;
use super::active::AllLocked;
use super::checkpoint::{ActiveTransaction, Checkpoint, DirtyPage, Encoded};
use super::record::{HEADER_LEN, RecordType, TransactionHeader};
use crate::error::{Error, Result};
use crate::events::{calling, report};
use crate::ids::TransactionId;
use crate::log::Log;
use crate::lsn::Lsn;

/// The metadata slot that holds the number of the last checkpoint's record.
const SLOT: usize = 15;

/// What is remembered of the last checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastCheckpoint {
    lsn: Lsn,
    redo_lsn: Lsn,
    oldest_active: Option<Lsn>,
}

impl From<Checkpoint<'_>> for LastCheckpoint {
    fn from(checkpoint: Checkpoint<'_>) -> Self {
        let oldest_active = checkpoint.oldest_active();
        Self { lsn: checkpoint.lsn(), redo_lsn: checkpoint.redo_lsn(), oldest_active }
    }
}

/// The checkpoint that the log's metadata names.
pub(super) fn named_by(log: &Log) -> Result<Option<Lsn>> {
    let Some(value) = log.meta(SLOT) else { return Ok(None) };
    let invalid = |_| Error::WalMetadata { slot: SLOT, len: value.len(), expected: size_of::<u64>() };
    value.as_slice().try_into().map(u64::from_le_bytes).map(|lsn| Some(Lsn(lsn))).map_err(invalid)
}

impl Wal {
    /// The last checkpoint, also of earlier runs; `None` if there is none. It is durable.
    #[must_use]
    pub fn checkpoint_lsn(&self) -> Option<Lsn> {
        self.checkpoint.lock().map(|checkpoint| checkpoint.lsn)
    }

    /// Logs a checkpoint: recovery starts from it. Durable on return.
    ///
    /// `dirty` are the pages whose newest contents are not on disk; all others must be on disk, durably. The redo point
    /// is the least of their recovery LSNs, or the checkpoint itself if there is none. A page given without its
    /// recovery LSN may have been dirty for long: the redo point stays that of the checkpoint before, or the oldest
    /// record kept, and nothing can be trimmed for as long as this goes on.
    ///
    /// The transactions that are open are known, with their first and last records, and are listed whether they are in
    /// `active` or not. `active` adds those that have not logged anything; they count as incomplete unless they end
    /// later. LSNs given there are not used.
    ///
    /// No page may become dirty between the making of the list and the return of this call; for a list that is made
    /// while transactions go on there is [`Wal::log_checkpoint_from`].
    ///
    /// # Errors
    /// [`Error::Trimmed`] when a recovery LSN lies before the oldest record kept; [`Error::RecordTooLarge`] when the
    /// lists do not fit into a segment: a longer list is no checkpoint, so write some pages first. As [`Log::append`]
    /// and [`Log::sync`]. The last checkpoint stays what it was then; after an error of the sync, which one counts
    /// shows when the log is opened again.
    pub fn log_checkpoint(&self, active: &[ActiveTransaction], dirty: &[DirtyPage]) -> Result<Lsn> {
        self.checkpoint_at(None, active, dirty)
    }

    /// As [`Wal::log_checkpoint`], for lists that were made while transactions went on (a fuzzy checkpoint): `begin` is
    /// what [`Wal::current_lsn`] said before the first look at a page, and the redo point does not lie behind it.
    ///
    /// # Errors
    /// As [`Wal::log_checkpoint`]; [`Error::NotAppended`] when `begin` is beyond the next record.
    pub fn log_checkpoint_from(&self, begin: Lsn, active: &[ActiveTransaction], dirty: &[DirtyPage]) -> Result<Lsn> {
        self.checkpoint_at(Some(begin), active, dirty)
    }

    fn checkpoint_at(&self, begin: Option<Lsn>, active: &[ActiveTransaction], dirty: &[DirtyPage]) -> Result<Lsn> {
        let _calling = calling();
        let _turn = self.checkpointing.lock();
        let last = *self.checkpoint.lock();
        let checkpoint = {
            // No transaction begins, ends or logs anything between the look at the table and the record.
            let all = self.open.lock_all();
            let next = self.log.next_lsn();
            if let Some(lsn) = begin.filter(|&begin| begin > next) {
                return Err(Error::NotAppended { lsn, next });
            }
            let redo_lsn = self.redo_point(begin.unwrap_or(next), dirty, last)?;
            let open = merge(&all, active);
            let oldest_active = open.iter().filter_map(ActiveTransaction::first_lsn).min();
            let lsn = self.append_checkpoint(redo_lsn, &open, dirty)?;
            LastCheckpoint { lsn, redo_lsn, oldest_active }
        };
        // Behind the record in the log: where the slot is durable, so is the record.
        self.log.put_meta(SLOT, &checkpoint.lsn.0.to_le_bytes())?;
        self.log.sync()?;
        *self.checkpoint.lock() = Some(checkpoint);
        let (lsn, redo_lsn) = (checkpoint.lsn.0, checkpoint.redo_lsn.0);
        report!(info, lsn, redo_lsn, "checkpoint");
        Ok(checkpoint.lsn)
    }

    /// Where recovery has to start for pages that are `dirty`, at most at `begin`.
    fn redo_point(&self, begin: Lsn, dirty: &[DirtyPage], last: Option<LastCheckpoint>) -> Result<Lsn> {
        let first = self.log.first_lsn();
        let unknown = last.map_or(first, |last| last.redo_lsn);
        let of_page = |page: &DirtyPage| page.recovery_lsn().unwrap_or(unknown);
        let redo_lsn = dirty.iter().map(of_page).fold(begin, Lsn::min);
        if redo_lsn < first { Err(Error::Trimmed { lsn: redo_lsn, first }) } else { Ok(redo_lsn) }
    }

    fn append_checkpoint(&self, redo_lsn: Lsn, open: &[ActiveTransaction], dirty: &[DirtyPage]) -> Result<Lsn> {
        let max = self.log.payload_len_max();
        let len = HEADER_LEN as u64 + (size_of_val(open) + size_of_val(dirty)) as u64;
        let contents = Encoded::new(redo_lsn, open, dirty).ok_or(Error::RecordTooLarge { len, max })?;
        let header = TransactionHeader::new(TransactionId(0), None, None, None);
        let [counts, active, dirty] = contents.parts();
        self.log.append_vectored(RecordType::Checkpoint.code(), &[header.as_bytes(), counts, active, dirty])
    }

    /// Drops the segments that no recovery can need, and returns how many went: those that lie wholly before the last
    /// checkpoint's redo point, before the first record of every transaction that was open then or is open now, and
    /// before every [`Pin`](crate::Pin). Without a checkpoint nothing goes. Durable on return.
    ///
    /// # Errors
    /// As [`Log::trim_before`].
    pub fn truncate_before_checkpoint(&self) -> Result<usize> {
        let _calling = calling();
        // Locked meanwhile, so that no checkpoint finds records gone that it has just decided to need.
        let _turn = self.checkpointing.lock();
        let last = *self.checkpoint.lock();
        let Some(LastCheckpoint { redo_lsn, oldest_active, .. }) = last else { return Ok(0) };
        let needed = [oldest_active, self.open.oldest()];
        self.log.trim_before(needed.into_iter().flatten().fold(redo_lsn, Lsn::min))
    }
}

/// All open transactions, and those that only the caller knows of: without records, as far as the log is concerned.
fn merge(all: &AllLocked<'_>, given: &[ActiveTransaction]) -> Vec<ActiveTransaction> {
    let mut list: Vec<_> = all.list().collect();
    let unknown = given.iter().map(ActiveTransaction::transaction).filter(|&transaction| !all.contains(transaction));
    list.extend(unknown.map(ActiveTransaction::new));
    list.sort_unstable_by_key(ActiveTransaction::transaction);
    list.dedup_by_key(|active| active.transaction());
    list
}
