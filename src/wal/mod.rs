//! Transactions over the log: what they log, how they end, and what recovery does with them.

mod active;
mod analysis;
mod checkpoint;
mod checkpointing;
mod committed;
mod error;
mod ids;
mod logging;
mod numbers;
mod options;
mod printed;
mod record;
mod recovery;
mod redone;
mod transaction;
mod undo;

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

pub use checkpoint::{ActiveTransaction, Checkpoint, DirtyPage};
pub use checkpointing::BegunCheckpoint;
pub use committed::Committed;
pub use error::{ChainFault, RecordFault, Result, TransactionFault, WalError};
pub use ids::{PageId, TransactionId};
pub use options::{RecoverFrom, WalOptions};
pub use record::{RecordType, WalRecord};
pub use recovery::{History, IncompleteTransaction, PlainRecords, Recovery, Redo};
pub use transaction::{Compensated, Savepoint, Transaction, Undoing};
pub use undo::Undo;

use crate::events::{calling, report};
use crate::log::Log;
use crate::lsn::Lsn;
use active::OpenTransactions;
use checkpointing::LastCheckpoint;
use logging::Entry;
use numbers::Numbers;
use redone::Redone;

/// A transactional write-ahead log: begin, insert, update, delete, commit, abort, checkpoint and compensation records
/// over a [`Log`], and the analysis that recovery needs.
///
/// All methods take `&self` and may be called from any number of threads. A clone is another handle of the same wal, and costs
/// three reference counts.
///
/// The records of a transaction form a chain: each names the one before. [`Wal::begin`] gives a [`Transaction`] that
/// keeps the chain; the `log_` calls leave it to the caller, which gives the transaction's last record as `prev`, or
/// `None` to have it filled in. Any record but the last is refused, so that undo misses none.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use mapwal::wal::{PageId, Wal, WalOptions};
///
/// let dir = tempfile::tempdir()?;
/// let options = WalOptions::new();
///
/// // SAFETY: only this log touches the files of this directory, which is on a local file system.
/// let wal = unsafe { Wal::open(dir.path(), &options) }?;
/// let mut paid = wal.begin()?;
/// paid.insert(PageId(7), b"invoice 1: paid")?;
/// paid.commit()?.applied(); // durable on return, and applied here
///
/// let mut doubtful = wal.begin()?;
/// doubtful.insert(PageId(7), b"invoice 2: paid")?;
/// wal.flush()?; // in the log, not committed
/// let in_progress = doubtful.id();
/// drop(doubtful);
/// drop(wal); // as a crash of the process would
///
/// // SAFETY: as above.
/// let (wal, recovery) = unsafe { Wal::open_and_recover(dir.path(), &options) }?;
/// let mut page = Vec::new();
/// for record in recovery.history() {
///     page.push(record?.data().to_vec()); // what happened, whether it was committed or not
/// }
/// assert_eq!(page.len(), 2);
/// recovery.redone();
/// for open in recovery.incomplete_transactions() {
///     assert_eq!(open.transaction, in_progress);
///     wal.resume(open.transaction)?.abort(|undoing| {
///         assert_eq!(undoing.record().data(), b"invoice 2: paid");
///         page.pop();
///         undoing.compensate("take back invoice 2") // logged, so that a crash in the middle repeats nothing
///     })?;
/// }
/// assert_eq!(page, [b"invoice 1: paid"]);
/// # Ok(())
/// # }
/// ```
///
/// # Two kinds of engines
///
/// What an engine calls depends on when its pages change. One that changes them *after the commit* never has anything of an open
/// transaction in a page, so there is nothing to undo; one that changes them *before the commit* may have, on disk as well.
///
/// | | after the commit | before the commit |
/// |---|---|---|
/// | a change | [`Transaction::insert`] and the like | the same, then the change in the page, under that LSN; [`Transaction::applied`] now and then |
/// | the end | [`Transaction::commit`], the changes in the pages, [`Committed::applied`] | `commit()?.applied()` |
/// | giving up | [`Transaction::discard`] | [`Transaction::abort`], with a closure that undoes each change |
/// | after a crash | [`Recovery::redo`], then `discard` what is open | [`Recovery::history`], then `abort` what is open |
///
/// The example above is of the second kind. The same of the first:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use mapwal::wal::{PageId, Wal, WalOptions};
///
/// let dir = tempfile::tempdir()?;
/// let options = WalOptions::new();
/// // SAFETY: only this log touches the files of this directory, which is on a local file system.
/// let wal = unsafe { Wal::open(dir.path(), &options) }?;
/// let mut page = Vec::new();
///
/// let mut paid = wal.begin()?;
/// paid.insert(PageId(7), b"invoice 1: paid")?;
/// let committed = paid.commit()?;
/// page.push(b"invoice 1: paid".to_vec()); // only now
/// committed.applied();
///
/// let mut doubtful = wal.begin()?;
/// doubtful.insert(PageId(7), b"invoice 2: paid")?;
/// doubtful.discard()?; // no page has it
/// let mut open = wal.begin()?;
/// open.insert(PageId(7), b"invoice 3: paid")?;
/// assert_eq!(wal.open_transactions().len(), 1);
/// wal.flush()?;
/// drop(open);
/// drop(wal); // as a crash of the process would
///
/// // SAFETY: as above.
/// let (wal, recovery) = unsafe { Wal::open_and_recover(dir.path(), &options) }?;
/// let mut recovered = Vec::new();
/// for record in recovery.redo() {
///     recovered.push(record?.data().to_vec()); // what was committed, and nothing else
/// }
/// assert_eq!(recovered, page);
/// recovery.redone();
/// for open in wal.open_transactions() {
///     wal.resume(open.transaction())?.discard()?;
/// }
/// assert!(wal.open_transactions().is_empty());
/// # Ok(())
/// # }
/// ```
///
/// # Durability
///
/// A commit is durable on return, unless [`WalOptions::sync_on_commit`] says otherwise; all that was logged before it
/// is durable as well. Threads that commit at the same time share one sync. Nothing else is durable before the next
/// commit, [`Wal::flush`] or [`Wal::log_checkpoint`]. An engine writes a page to disk only when the log is durable up
/// to the last record that changed the page ([`Wal::flushed_lsn`], [`Log::wait_durable`]).
///
/// # Checkpoints
///
/// [`Wal::begin_checkpoint`], then a look at the pages, then [`BegunCheckpoint::log`]: transactions go on meanwhile. A
/// change that has been logged and is not in any page yet cannot be seen by that look. So it counts as missing, and
/// recovery would redo it, until the engine says otherwise: by [`Committed::applied`] after a commit, and by
/// [`Recovery::redone`] after a recovery.
///
/// # A full disk
///
/// Room is held back for the calls that allow a trim: a segment beside the spare. So when calls that begin a
/// transaction or log a change return [`Error::NoSpace`](crate::Error::NoSpace), those that commit, compensate, abort
/// and take a checkpoint go on working. An engine then ends what is open, takes a checkpoint, calls
/// [`Wal::truncate_before_checkpoint`], and has room again. That is enough for half a segment of compensations, also if
/// there is one crash in between; `docs/design/transactions.md` has the rule. [`Recovery`] and snapshots keep the room
/// of the records that they show for as long as they are there.
///
/// # What else is in the log
///
/// Metadata slots 14 and 15 of the log are the wal's. Other slots are free, and so are type numbers from 0x8000 on:
/// records that the application appends with them ([`Wal::append_plain`]) belong to no transaction, and are neither
/// redone nor undone. Append records of your own by [`Wal::append_plain`], not by [`Log::append`]: that takes smaller
/// tags too, and the next open of the wal fails on such a record. Truncating, resetting or
/// trimming the log below by hand ([`Log::truncate_after`], [`Log::reset_to`], [`Log::trim_before`], `mapwal trim
/// --force`) may take away records of transactions that this value believes to be open, and what the last checkpoint
/// needs: open the wal again afterwards, with [`RecoverFrom::OldestRecord`] if the checkpoint or what it needs is gone,
/// and take a checkpoint.
#[derive(Clone)]
pub struct Wal {
    log: Log,
    shared: Arc<Shared>,
}

/// What the handles of a wal share beside its log.
struct Shared {
    open: OpenTransactions,
    numbers: Numbers,
    /// The last checkpoint that is durable.
    checkpoint: Mutex<Option<LastCheckpoint>>,
    /// Held while a checkpoint is logged and synced, or used by a trim, so that these come one after the other. Nothing
    /// else waits for it. Taken before every other lock.
    checkpointing: Mutex<()>,
    redone: Redone,
    sync_on_commit: bool,
}

impl Wal {
    /// Opens the log in directory `path`, and finds out what has to be redone and undone.
    ///
    /// The transactions that were open are open still: the engine rolls them back, by [`Wal::resume`] or by the `log_`
    /// calls. On return, everything that can be read is durable.
    ///
    /// # Errors
    /// As [`Log::open`]; [`WalError::Record`] when a record of a transaction makes no sense; [`WalError::NoCheckpoint`] and
    /// [`WalError::Metadata`] when the metadata slots do not lead to the last checkpoint; [`Error::Trimmed`](crate::Error::Trimmed) when
    /// records that recovery needs have been trimmed by another way than [`Wal::truncate_before_checkpoint`]. After the last
    /// and after `NoCheckpoint`, [`RecoverFrom::OldestRecord`] opens what is kept.
    ///
    /// # Safety
    /// As for [`Log::open`]. For as long as the wal, or anything read from it, lives:
    ///
    /// - nothing but this library writes to the files of the directory or makes them shorter;
    /// - the directory is on a local file system, whose mappings and writes are coherent.
    #[expect(unsafe_code, reason = "as for `Log::open`, whose contract is passed on")]
    pub unsafe fn open_and_recover(path: impl AsRef<Path>, options: &WalOptions) -> Result<(Self, Recovery)> {
        // SAFETY: the caller vouches for the same.
        let log = unsafe { Log::open(path, &options.log.clone().without_trims_at_first()) }?;
        Self::over(log, options)
    }

    /// As [`Wal::open_and_recover`], for a caller that needs nothing redone or undone: everything counts as redone, as
    /// after [`Recovery::redone`], and the next checkpoint leaves it out.
    ///
    /// # Errors
    /// As [`Wal::open_and_recover`].
    ///
    /// # Safety
    /// As for [`Wal::open_and_recover`].
    #[expect(unsafe_code, reason = "as for `Log::open`, whose contract is passed on")]
    pub unsafe fn open(path: impl AsRef<Path>, options: &WalOptions) -> Result<Self> {
        // SAFETY: the caller vouches for the same.
        let opened = unsafe { Self::open_and_recover(path, options) };
        opened.map(|(wal, recovery)| {
            recovery.redone();
            wal
        })
    }

    fn over(log: Log, options: &WalOptions) -> Result<(Self, Recovery)> {
        let _calling = calling();
        let named = checkpointing::named_by(&log)?;
        let recovery = Recovery::analyse(&log, named, options.recover_from)?;
        let checkpoint = recovery.checkpoint()?.map(|found| LastCheckpoint::found(found, recovery.redo_lsn()));
        let incomplete = recovery.incomplete_transactions().len();
        let records = recovery.records_processed();
        report!(info, records, incomplete, "log analysed");
        if let Some(found) = &checkpoint {
            *log.hold_requests() = found.needed();
        }
        let numbers = Numbers::open(&log, recovery.largest_transaction())?;
        let open = OpenTransactions::new(recovery.open());
        let sync_on_commit = options.sync_on_commit;
        let (checkpoint, checkpointing) = (Mutex::new(checkpoint), Mutex::default());
        let redone = recovery.redone_state();
        log.hold_back();
        let shared = Shared { open, numbers, checkpoint, checkpointing, redone, sync_on_commit };
        Ok((Self { log, shared: Arc::new(shared) }, recovery))
    }

    /// The log below.
    ///
    /// Append no record to it with a tag below 0x8000: those tags belong to the wal. The log takes such a record, and the
    /// next [`Wal::open`] fails. [`Wal::append_plain`] refuses it.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The number that the next record will get.
    #[must_use]
    pub fn current_lsn(&self) -> Lsn {
        self.log.next_lsn()
    }

    /// The last record known to be durable, or the number before the first.
    #[must_use]
    pub fn flushed_lsn(&self) -> Lsn {
        self.log.durable_lsn()
    }

    /// Makes durable everything that was logged before the call. Returns the last durable record's number.
    ///
    /// # Errors
    /// As [`Log::sync`].
    pub fn flush(&self) -> Result<Lsn> {
        Ok(self.log.sync()?)
    }

    /// Makes everything durable and shuts the log down cleanly, as [`Log::close`] does: calls by any handle of the wal say
    /// [`Error::Closed`](crate::Error::Closed) from then on. Open transactions stay open: the next open finds them.
    ///
    /// # Errors
    /// As [`Log::close`].
    pub fn close(&self) -> Result<()> {
        Ok(self.log.close()?)
    }

    /// Begins a transaction with a number that no transaction of this log has had, and logs that.
    ///
    /// Numbers are handed out in blocks of 1024, whose end is in a metadata slot of the log; after reopening, the next
    /// block is begun. A log made by [`Log::append_frames`] lacks that slot, since slots are not shipped: there,
    /// numbers go on above those of all records that are kept.
    ///
    /// # Errors
    /// As [`Log::append`]; [`WalError::Exhausted`].
    pub fn begin(&self) -> Result<Transaction<'_>> {
        self.log.check_open()?;
        self.log.keep_room()?;
        let id = self.shared.numbers.take(&self.log)?;
        let (record_type, prev, page, undo_next) = (RecordType::Begin, None, None, None);
        let begin = self.log_entry(Entry { record_type, transaction: id, prev, page, undo_next, data: &[] })?;
        Ok(Transaction::new(self, id, Some(begin)))
    }

    /// The transactions that are open now, by number: those that have begun here and not ended, whether they have a handle or not,
    /// and those that recovery found incomplete. In a forked child none.
    #[must_use]
    pub fn open_transactions(&self) -> Vec<ActiveTransaction> {
        if self.log.check_process().is_err() {
            // A thread that is not there may hold the locks.
            return Vec::new();
        }
        let mut open: Vec<_> = self.shared.open.lock_all().list().collect();
        open.sort_by_key(ActiveTransaction::transaction);
        open
    }

    /// A handle for a transaction that is open already: one that recovery found incomplete, or whose handle was
    /// dropped.
    ///
    /// # Errors
    /// [`TransactionFault::NotOpen`] when it is not open.
    pub fn resume(&self, transaction: TransactionId) -> Result<Transaction<'_>> {
        self.log.check_open()?;
        match self.shared.open.get(transaction) {
            Some(open) => Ok(Transaction::new(self, transaction, open.last)),
            None => Err(WalError::transaction(transaction, TransactionFault::NotOpen)),
        }
    }
}

/// A wal over a log that was opened on another storage than a directory.
#[cfg(feature = "testing")]
pub(crate) mod testing {
    use super::{Recovery, Result, Wal, WalOptions};
    use crate::log::Log;

    /// As [`Wal::open_and_recover`], over `log`.
    ///
    /// # Errors
    /// As [`Wal::open_and_recover`].
    pub fn recover_over(log: Log, options: &WalOptions) -> Result<(Wal, Recovery)> {
        Wal::over(log, options)
    }
}

/// The log below.
impl AsRef<Log> for Wal {
    fn as_ref(&self) -> &Log {
        &self.log
    }
}
