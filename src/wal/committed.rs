//! What a commit leaves to the engine: to apply it.

use super::Wal;
use super::ids::TransactionId;
use crate::events::{calling, report};
use crate::lsn::Lsn;

/// A transaction that has committed, and that the engine may still have to apply.
///
/// A checkpoint cannot see whether a change has arrived in the engine's pages. So it counts what was logged as missing
/// there until the engine says otherwise, by [`Self::applied`]; recovery redoes it if the checkpoint was begun before.
/// An engine that applies its changes before it commits says so at once; one that waits for the commit does when all
/// pages that it has changed count as dirty.
///
/// One that is dropped instead, by an error or a panic in between, says so by an event (`tracing`, *warn*) and counts as
/// missing for as long as the wal is open: the redo point of later checkpoints stays before it, and the next recovery
/// redoes it.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let options = mapwal::wal::WalOptions::new().log(mapwal::Options::new().segment_size_bytes(64 << 10));
/// # let wal = unsafe { mapwal::wal::Wal::open(dir.path(), &options) }?;
/// use mapwal::wal::{Committed, PageId};
///
/// let mut transaction = wal.begin()?;
/// transaction.insert(PageId(7), b"+ row 1")?;
/// let committed: Committed<'_> = transaction.commit()?;
/// println!("durable, as record {}", committed.lsn());
/// // An engine that applies changes here says so by `committed.applied()`. One that does it elsewhere:
/// let (id, lsn) = committed.defer();
/// wal.commit_applied(id, lsn); // when the page has it
/// # let mut transaction = wal.begin()?;
/// # transaction.insert(PageId(7), b"+ row 1")?;
/// # transaction.commit()?.applied();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "until `applied` is called, checkpoints keep the log from this transaction's first change on"]
pub struct Committed<'w> {
    wal: &'w Wal,
    pub(super) transaction: TransactionId,
    lsn: Lsn,
    /// Whether there is nothing to be said by the drop.
    is_settled: bool,
}

impl<'w> Committed<'w> {
    pub(super) fn new(wal: &'w Wal, transaction: TransactionId, lsn: Lsn) -> Self {
        Self { wal, transaction, lsn, is_settled: false }
    }

    /// The commit's record.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// For an engine that applies it elsewhere, where nothing can be held that borrows the wal: the transaction and the
    /// commit's record, for [`Wal::commit_applied`].
    #[must_use = "they are needed to say that it is applied"]
    pub fn defer(mut self) -> (TransactionId, Lsn) {
        self.is_settled = true;
        (self.transaction, self.lsn)
    }

    /// Says that all the transaction's changes are in the engine's pages, and that each of these pages is durable or
    /// counts as dirty. Returns the commit's record.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it says")]
    pub fn applied(mut self) -> Lsn {
        self.wal.commit_applied(self.transaction, self.lsn);
        self.is_settled = true;
        self.lsn
    }
}

impl Wal {
    /// Says of what [`Committed::defer`] has returned what [`Committed::applied`] says.
    pub fn commit_applied(&self, transaction: TransactionId, commit: Lsn) {
        // In a forked child it does not matter, and a thread that is not there may hold the lock.
        if self.log.check_process().is_ok() {
            self.shared.open.commit_applied(transaction, commit);
        }
    }
}

impl Drop for Committed<'_> {
    fn drop(&mut self) {
        if !self.is_settled && self.wal.log.check_process().is_ok() {
            let _calling = calling();
            let (transaction, lsn) = (self.transaction.0, self.lsn.0);
            report!(warn, transaction, lsn, "a commit was dropped before it was said to be applied: the log grows");
        }
    }
}
