//! A handle for one transaction.

use std::marker::PhantomData;

use super::Wal;
use super::committed::Committed;
use super::error::{Result, TransactionFault, WalError};
use super::ids::{PageId, TransactionId};
use super::logging::Entry;
use super::record::{RecordType, WalRecord};
use super::undo::{Cursor, Undo};
use crate::events::{calling, report};
use crate::log::{CopyWait, Log};
use crate::lsn::Lsn;
use crate::read::Snapshot;

/// A transaction in progress, that keeps its own chain of records.
///
/// It ends by [`Self::commit`], [`Self::abort`] or [`Self::discard`]. One that is dropped before logs nothing, and says so by an event
/// (`tracing`, *warn*): its transaction stays in progress, recovery would undo it, and [`Wal::resume`] goes on with it.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let options = mapwal::wal::WalOptions::new().log(mapwal::Options::new().segment_size_bytes(64 << 10));
/// # let wal = unsafe { mapwal::wal::Wal::open(dir.path(), &options) }?;
/// use mapwal::wal::{Compensated, PageId, Savepoint, Transaction, Undoing, WalError};
///
/// let page = PageId(7);
/// let mut transaction: Transaction<'_> = wal.begin()?;
/// transaction.insert(page, b"+ row 1")?;
/// let savepoint: Savepoint = transaction.savepoint();
/// transaction.update(page, b"~ row 1")?;
/// let last = transaction.delete(page, b"- row 2")?;
/// assert_eq!(transaction.last_lsn(), Some(last));
///
/// /// Undoes a record in the page, and logs how to redo that.
/// fn undo<'u>(undoing: Undoing<'u, '_>) -> Result<Compensated<'u>, WalError> {
///     println!("undo {:?}", undoing.record().data().escape_ascii().to_string());
///     let compensated = undoing.compensate(b"as it was before")?;
///     println!("the page has LSN {} now", compensated.lsn());
///     Ok(compensated)
/// }
/// transaction.roll_back_to(savepoint, undo)?; // the delete, then the update
/// transaction.applied(); // the page has all of it: checkpoints need not wait for the commit
/// transaction.commit()?.applied();
///
/// let mut doubtful = wal.begin()?;
/// doubtful.insert(page, b"+ row 3")?;
/// println!("transaction {} is given up", doubtful.id());
/// doubtful.abort(undo)?;
/// wal.begin()?.discard()?; // one that no page has anything of
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

/// A record that is to be undone by [`Transaction::roll_back_to`] or [`Transaction::abort`].
pub struct Undoing<'u, 'w> {
    transaction: &'u mut Transaction<'w>,
    record: &'u WalRecord<'u>,
}

/// That a record has been undone: its compensation is logged. Only [`Undoing::compensate`] makes one.
#[derive(Debug)]
pub struct Compensated<'u> {
    lsn: Lsn,
    /// Ties it to the [`Undoing`] that it came from: one cannot replace another.
    of: PhantomData<&'u mut ()>,
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

    /// The transaction's place at this moment. Nothing is logged.
    #[must_use]
    pub fn savepoint(&self) -> Savepoint {
        Savepoint { transaction: self.id, lsn: self.last.unwrap_or_default() }
    }

    /// Undoes what was logged since `savepoint`; the transaction goes on. A savepoint that was rolled past already
    /// undoes nothing.
    ///
    /// `undo` is given the records to be undone, newest first. For each it first logs the compensation, the change that
    /// undoes the record, by [`Undoing::compensate`], and then makes that change in the engine, under the LSN that this
    /// returns. A record that was compensated is not handed out again, not even after an error: if the engine has not
    /// made the change by then, it has to do so as redo would, from the compensation. For the records before it the
    /// call can be made again.
    ///
    /// # Errors
    /// What `undo` returns; [`TransactionFault::ForeignSavepoint`]; [`RecordFault::Chain`](super::RecordFault::Chain); as [`Log::snapshot`].
    pub fn roll_back_to<E: From<WalError>>(
        &mut self,
        savepoint: Savepoint,
        undo: impl for<'u> FnMut(Undoing<'u, 'w>) -> Result<Compensated<'u>, E>,
    ) -> Result<(), E> {
        let Savepoint { transaction, lsn } = savepoint;
        self.wal.log.check_open().map_err(WalError::from)?;
        if transaction != self.id {
            let fault = TransactionFault::ForeignSavepoint { savepoint: transaction };
            return Err(WalError::transaction(self.id, fault).into());
        }
        self.roll_back(lsn, undo)
    }

    /// Says that all that the transaction has logged so far is in the engine's pages, and that each of these pages is
    /// durable or counts as dirty. Nothing is logged.
    ///
    /// Only for an engine that changes pages before the commit, and for it only a matter of speed: until this is
    /// called, or the transaction is over, checkpoints keep their redo points before its first change, as they cannot
    /// know whether it has arrived in a page. So a long transaction makes recovery longer.
    pub fn applied(&mut self) {
        if self.wal.log.check_process().is_ok() {
            self.wal.shared.open.applied(self.id);
        }
    }

    /// Commits. Durable on return, unless [`WalOptions::sync_on_commit`](super::WalOptions::sync_on_commit) says
    /// otherwise. The value returned is for the engine to say that it has applied the changes.
    ///
    /// # Errors
    /// As [`Wal::log_commit`].
    pub fn commit(mut self) -> Result<Committed<'w>> {
        // Whatever goes wrong is told by the error: the drop has nothing to add.
        self.is_over = true;
        self.wal.log_commit(self.id, self.last)
    }

    /// Undoes all that the transaction has logged, as [`Self::roll_back_to`] does, and then logs the abort: by then
    /// everything has been undone in the engine's pages, and these count as dirty. Returns the abort's record. It is
    /// not durable on return, which does no harm: after a crash that takes it back, recovery goes on with the undo.
    ///
    /// # Errors
    /// As [`Self::roll_back_to`]. The transaction is in progress then: [`Wal::resume`] gives a handle to try again.
    pub fn abort<E: From<WalError>>(
        mut self,
        undo: impl for<'u> FnMut(Undoing<'u, 'w>) -> Result<Compensated<'u>, E>,
    ) -> Result<Lsn, E> {
        self.roll_back(Lsn::ZERO, undo)?;
        let lsn = self.wal.log_abort(self.id, self.last)?;
        self.is_over = true;
        Ok(lsn)
    }

    /// Logs the abort, and nothing else: for an engine that changes pages after the commit, whose pages have nothing of the
    /// transaction. Returns the abort's record. It is not durable on return, which does no harm: after a crash that takes it back, the
    /// transaction is open, and discarded once more.
    ///
    /// Not for an engine that changes pages before: what they have of the transaction would stay, and [`Recovery::history`](super::Recovery::history)
    /// would repeat it. [`Self::abort`] undoes it.
    ///
    /// # Errors
    /// As [`Wal::log_abort`]. The transaction is in progress then: [`Wal::resume`] gives a handle to try again.
    pub fn discard(mut self) -> Result<Lsn> {
        // Whatever goes wrong is told by the error.
        self.is_over = true;
        self.wal.log_abort(self.id, self.last)
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

    /// Undoes what comes after record `keep`.
    fn roll_back<E: From<WalError>>(
        &mut self,
        keep: Lsn,
        mut undo: impl for<'u> FnMut(Undoing<'u, 'w>) -> Result<Compensated<'u>, E>,
    ) -> Result<(), E> {
        let Some(last) = self.last else { return Ok(()) };
        let snapshot = published(&self.wal.log, last)?;
        for record in Undo::new(&snapshot, std::iter::once(Cursor::new(self.id, last)), keep) {
            undo(Undoing { transaction: self, record: &record? })?;
        }
        Ok(())
    }
}

impl<'u> Undoing<'u, '_> {
    /// The record.
    #[must_use]
    pub fn record(&self) -> &'u WalRecord<'u> {
        self.record
    }

    /// Logs a compensation for the same page: `data` is the change that undoes the record. Not durable before the
    /// commit.
    ///
    /// # Errors
    /// As [`Log::append`]. The record is still to be undone then.
    pub fn compensate(self, data: impl AsRef<[u8]>) -> Result<Compensated<'u>> {
        let Self { transaction, record } = self;
        let lsn = transaction.log(RecordType::Compensation, record.page(), record.prev_lsn(), data.as_ref())?;
        Ok(Compensated { lsn, of: PhantomData })
    }
}

impl Compensated<'_> {
    /// The compensation's record: what a page's LSN becomes when the undoing is done on it.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }
}

/// A view of the log that has record `lsn`, which has been appended.
fn published(log: &Log, lsn: Lsn) -> Result<Snapshot> {
    let mut wait = CopyWait::new();
    loop {
        let snapshot = log.snapshot()?;
        if snapshot.next_lsn() > lsn {
            return Ok(snapshot);
        }
        log.wait_for_copy(&mut wait)?;
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.is_over && self.wal.log.check_process().is_ok() {
            let _calling = calling();
            let transaction = self.id.0;
            report!(warn, transaction, "a transaction was dropped in progress: recovery would undo it");
        }
    }
}
