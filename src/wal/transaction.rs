//! A handle for one transaction.

use super::Wal;
use super::logging::Entry;
use super::record::{RecordType, WalRecord};
use super::undo::{Cursor, Undo};
use crate::error::{Error, Result};
use crate::ids::{PageId, TransactionId};
use crate::log::Log;
use crate::lsn::Lsn;
use crate::read::Snapshot;

/// A transaction in progress, that keeps its own chain of records.
///
/// It ends by [`Self::commit`] or [`Self::abort`]. One that is dropped before logs nothing, and says so by an event
/// (`tracing`, *warn*): its transaction stays in progress, recovery would undo it, and [`Wal::resume`] goes on with it.
#[derive(Debug)]
#[must_use = "a transaction that is dropped stays in progress"]
pub struct Transaction<'w> {
    wal: &'w Wal,
    id: TransactionId,
    last: Option<Lsn>,
    is_over: bool,
}

/// A place in a transaction that it can be rolled back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Savepoint {
    transaction: TransactionId,
    /// The last record that stays.
    lsn: Lsn,
}

impl<'w> Transaction<'w> {
    /// Of an open transaction with this last record.
    pub(super) fn new(wal: &'w Wal, id: TransactionId, last: Option<Lsn>) -> Self {
        Self { wal, id, last, is_over: false }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> TransactionId {
        self.id
    }

    /// Its last record; `None` if it has none, and a checkpoint lists it.
    #[must_use]
    pub fn last_lsn(&self) -> Option<Lsn> {
        self.last
    }

    /// Logs an insert. Not durable before the commit.
    ///
    /// # Errors
    /// As [`Wal::log_insert`].
    pub fn insert(&mut self, page: impl Into<Option<PageId>>, data: &[u8]) -> Result<Lsn> {
        self.log(RecordType::Insert, page.into(), None, data)
    }

    /// Logs an update. Not durable before the commit.
    ///
    /// # Errors
    /// As [`Wal::log_insert`].
    pub fn update(&mut self, page: impl Into<Option<PageId>>, data: &[u8]) -> Result<Lsn> {
        self.log(RecordType::Update, page.into(), None, data)
    }

    /// Logs a delete. Not durable before the commit.
    ///
    /// # Errors
    /// As [`Wal::log_insert`].
    pub fn delete(&mut self, page: impl Into<Option<PageId>>, data: &[u8]) -> Result<Lsn> {
        self.log(RecordType::Delete, page.into(), None, data)
    }

    /// The place where the transaction stands. Nothing is logged.
    #[must_use]
    pub fn savepoint(&self) -> Savepoint {
        Savepoint { transaction: self.id, lsn: self.last.unwrap_or_default() }
    }

    /// Undoes what was logged since `savepoint`; the transaction goes on. A savepoint that was rolled past already
    /// undoes nothing.
    ///
    /// `undo` is given the records to be undone, newest first. It undoes each in the engine, and returns the bytes that
    /// redo the undoing: they are logged as a compensation for the same page. After an error, what was undone so far is
    /// logged, and the call can be made again.
    ///
    /// # Errors
    /// What `undo` returns; [`Error::ForeignSavepoint`]; [`Error::BrokenChain`]; as [`Log::append`] and
    /// [`Log::snapshot`].
    pub fn roll_back_to<D, E>(
        &mut self,
        savepoint: Savepoint,
        undo: impl FnMut(&WalRecord<'_>) -> Result<D, E>,
    ) -> Result<(), E>
    where
        D: AsRef<[u8]>,
        E: From<Error>,
    {
        let Savepoint { transaction, lsn } = savepoint;
        if transaction != self.id {
            return Err(Error::ForeignSavepoint { transaction: self.id, savepoint: transaction }.into());
        }
        self.roll_back(lsn, undo)
    }

    /// Commits. Durable on return, unless [`WalOptions::sync_on_commit`](super::WalOptions::sync_on_commit) says
    /// otherwise. Returns the commit's record.
    ///
    /// # Errors
    /// As [`Wal::log_commit`].
    pub fn commit(mut self) -> Result<Lsn> {
        // Whatever goes wrong is told by the error: the drop has nothing to add.
        self.is_over = true;
        self.wal.log_commit(self.id, self.last)
    }

    /// Undoes all that the transaction has logged, as [`Self::roll_back_to`] does, and logs the abort. Returns its
    /// record. Not durable on return, since nothing would come of it: after a crash that takes it back, recovery goes
    /// on with the undo.
    ///
    /// # Errors
    /// As [`Self::roll_back_to`]. The transaction is in progress then: [`Wal::resume`] gives a handle to try again.
    pub fn abort<D, E>(mut self, undo: impl FnMut(&WalRecord<'_>) -> Result<D, E>) -> Result<Lsn, E>
    where
        D: AsRef<[u8]>,
        E: From<Error>,
    {
        self.roll_back(Lsn::ZERO, undo)?;
        let lsn = self.wal.log_abort(self.id, self.last)?;
        self.is_over = true;
        Ok(lsn)
    }

    fn log(
        &mut self,
        record_type: RecordType,
        page: Option<PageId>,
        undo_next: Option<Lsn>,
        data: &[u8],
    ) -> Result<Lsn> {
        let (transaction, prev) = (self.id, self.last);
        let lsn = self.wal.log_entry(Entry { record_type, transaction, prev, page, undo_next, data })?;
        self.last = Some(lsn);
        Ok(lsn)
    }

    /// Undoes what lies behind record `keep`.
    fn roll_back<D, E>(&mut self, keep: Lsn, mut undo: impl FnMut(&WalRecord<'_>) -> Result<D, E>) -> Result<(), E>
    where
        D: AsRef<[u8]>,
        E: From<Error>,
    {
        let Some(last) = self.last else { return Ok(()) };
        let snapshot = published(&self.wal.log, last)?;
        for record in Undo::new(&snapshot, std::iter::once(Cursor::new(self.id, last)), keep) {
            let record = record?;
            let data = undo(&record)?;
            self.log(RecordType::Compensation, record.page(), record.prev_lsn(), data.as_ref())?;
        }
        Ok(())
    }
}

/// A view of the log that has record `lsn`, which has been appended.
fn published(log: &Log, lsn: Lsn) -> Result<Snapshot> {
    loop {
        let snapshot = log.snapshot()?;
        if snapshot.next_lsn() > lsn {
            return Ok(snapshot);
        }
        // An append that began before is still being copied.
        std::thread::yield_now();
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let transaction = self.id.0;
            tracing::warn!(transaction, "a transaction was dropped in progress: recovery would undo it");
        }
    }
}
