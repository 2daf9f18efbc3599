//! What transactions log, and in which order they may.

use zerocopy::IntoBytes;

use super::Wal;
use super::active::{Open, Shard};
use super::committed::Committed;
use super::error::{Result, TransactionFault, WalError};
use super::ids::{PageId, TransactionId};
use super::numbers::check_chosen;
use super::record::{PLAIN_TAG_MIN, RecordType, TransactionHeader};
use crate::events::calling;
use crate::log::Need;
use crate::lsn::Lsn;

/// A record to be logged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'d> {
    pub(super) record_type: RecordType,
    pub(super) transaction: TransactionId,
    pub(super) prev: Option<Lsn>,
    pub(super) page: Option<PageId>,
    pub(super) undo_next: Option<Lsn>,
    pub(super) data: &'d [u8],
}

impl Wal {
    /// Logs that `transaction` begins. A number may be used again once its transaction is over.
    ///
    /// # Errors
    /// [`TransactionFault::AlreadyBegun`] when it is open; [`TransactionFault::NumberTooLarge`] when the number is above
    /// [`TransactionId::MAX_CHOSEN`]; as [`Log::append`].
    ///
    /// [`Log::append`]: crate::Log::append
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// # let options = mapwal::wal::WalOptions::new().log(mapwal::Options::new().segment_size_bytes(64 << 10));
    /// # let wal = unsafe { mapwal::wal::Wal::open(dir.path(), &options) }?;
    /// use mapwal::wal::{PageId, RecordType, TransactionId};
    ///
    /// // An engine that keeps the chain itself names each last record; `None` has it filled in.
    /// let (id, page) = (TransactionId(7), PageId(3));
    /// let begin = wal.log_begin(id)?;
    /// let insert = wal.log_insert(id, begin, page, b"+ row 1")?;
    /// let update = wal.log_update(id, insert, page, b"~ row 1")?;
    /// let delete = wal.log_delete(id, update, page, b"- row 2")?;
    /// let undone = wal.log_compensation(id, delete, page, update, b"+ row 2")?; // undo goes on with the update
    /// wal.append(RecordType::Update, id, undone, page, b"~ row 1 again")?;
    /// wal.log_commit_unsynced(id, None)?.applied();
    ///
    /// wal.log_begin(TransactionId(8))?;
    /// wal.log_abort(TransactionId(8), None)?; // nothing to undo
    /// wal.append_plain(0x8000, b"the application's own")?;
    /// wal.flush()?;
    /// assert_eq!(wal.flushed_lsn(), wal.current_lsn().previous());
    /// wal.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn log_begin(&self, transaction: TransactionId) -> Result<Lsn> {
        self.append(RecordType::Begin, transaction, None, None, &[])
    }

    /// Logs an insert. `prev` is the transaction's last record, or `None` to have it filled in; `page` may be left out.
    ///
    /// A transaction that has not begun is open from here on, but cannot commit.
    ///
    /// # Errors
    /// [`TransactionFault::NotLast`]; [`TransactionFault::NumberTooLarge`]; as [`Log::append`].
    ///
    /// [`Log::append`]: crate::Log::append
    pub fn log_insert(
        &self,
        transaction: TransactionId,
        prev: impl Into<Option<Lsn>>,
        page: impl Into<Option<PageId>>,
        data: &[u8],
    ) -> Result<Lsn> {
        self.append(RecordType::Insert, transaction, prev, page, data)
    }

    /// Logs an update, as [`Wal::log_insert`] does an insert.
    ///
    /// # Errors
    /// As [`Wal::log_insert`].
    pub fn log_update(
        &self,
        transaction: TransactionId,
        prev: impl Into<Option<Lsn>>,
        page: impl Into<Option<PageId>>,
        data: &[u8],
    ) -> Result<Lsn> {
        self.append(RecordType::Update, transaction, prev, page, data)
    }

    /// Logs a delete, as [`Wal::log_insert`] does an insert.
    ///
    /// # Errors
    /// As [`Wal::log_insert`].
    pub fn log_delete(
        &self,
        transaction: TransactionId,
        prev: impl Into<Option<Lsn>>,
        page: impl Into<Option<PageId>>,
        data: &[u8],
    ) -> Result<Lsn> {
        self.append(RecordType::Delete, transaction, prev, page, data)
    }

    /// Logs that a record was undone, with what redoes the undoing. Undo passes from it to `undo_next`: the record
    /// before the one undone ([`WalRecord::prev_lsn`]), or `None` if nothing is left.
    ///
    /// # Errors
    /// [`TransactionFault::NotOpen`]; [`TransactionFault::NotLast`]; [`TransactionFault::UndoNextOutside`]; as [`Log::append`].
    ///
    /// [`WalRecord::prev_lsn`]: super::WalRecord::prev_lsn
    /// [`Log::append`]: crate::Log::append
    pub fn log_compensation(
        &self,
        transaction: TransactionId,
        prev: impl Into<Option<Lsn>>,
        page: impl Into<Option<PageId>>,
        undo_next: impl Into<Option<Lsn>>,
        data: &[u8],
    ) -> Result<Lsn> {
        let (prev, page, undo_next) = (prev.into(), page.into(), undo_next.into());
        self.log_entry(Entry { record_type: RecordType::Compensation, transaction, prev, page, undo_next, data })
    }

    /// Logs that `transaction` has been rolled back: its compensations have been logged, and what they undo is undone in
    /// the engine's pages, which count as dirty. It is over then: neither redone nor undone. Not durable on return; after a
    /// crash that takes it back, undo goes on where the compensations that are left say. One that has no record yet, since only
    /// a checkpoint's list names it, is begun first.
    ///
    /// # Errors
    /// [`TransactionFault::NotOpen`]; [`TransactionFault::NotLast`]; as [`Log::append`].
    ///
    /// [`Log::append`]: crate::Log::append
    pub fn log_abort(&self, transaction: TransactionId, prev: impl Into<Option<Lsn>>) -> Result<Lsn> {
        self.append(RecordType::Abort, transaction, prev, None, &[])
    }

    /// Logs that `transaction` has committed. Durable on return, unless [`WalOptions::sync_on_commit`] says otherwise.
    /// The value returned is for the engine to say that it has applied the changes.
    ///
    /// # Errors
    /// [`TransactionFault::NotOpen`] when it has not begun or is over; [`TransactionFault::NotLast`]; as
    /// [`Log::append`]: the transaction is still open then. As [`Log::wait_durable`]: the commit is logged then, and
    /// the next open shows whether it holds.
    ///
    /// [`WalOptions::sync_on_commit`]: super::WalOptions::sync_on_commit
    /// [`Log::append`]: crate::Log::append
    /// [`Log::wait_durable`]: crate::Log::wait_durable
    pub fn log_commit(&self, transaction: TransactionId, prev: impl Into<Option<Lsn>>) -> Result<Committed<'_>> {
        let lsn = self.append_commit(transaction, prev.into())?;
        if self.shared.sync_on_commit {
            self.log.wait_durable(lsn)?;
        }
        Ok(Committed::new(self, transaction, lsn))
    }

    /// As [`Wal::log_commit`], without a wait for durability: a crash of the system may take the commit back until
    /// [`Log::wait_durable`], [`Log::on_durable`] or [`Wal::flush`] says that it is durable.
    ///
    /// # Errors
    /// [`TransactionFault::NotOpen`] when it has not begun or is over; [`TransactionFault::NotLast`]; as [`Log::append`].
    ///
    /// [`Log::append`]: crate::Log::append
    /// [`Log::wait_durable`]: crate::Log::wait_durable
    /// [`Log::on_durable`]: crate::Log::on_durable
    pub fn log_commit_unsynced(
        &self,
        transaction: TransactionId,
        prev: impl Into<Option<Lsn>>,
    ) -> Result<Committed<'_>> {
        let lsn = self.append_commit(transaction, prev.into())?;
        Ok(Committed::new(self, transaction, lsn))
    }

    fn append_commit(&self, transaction: TransactionId, prev: Option<Lsn>) -> Result<Lsn> {
        let (record_type, page, undo_next) = (RecordType::Commit, None, None);
        self.log_entry(Entry { record_type, transaction, prev, page, undo_next, data: &[] })
    }

    /// Logs a record of any type but commit, checkpoint and compensation, as the call for its type does, with `data` and
    /// `page` also where that takes none.
    ///
    /// # Errors
    /// [`WalError::RecordTypeNotAllowed`] for a commit, a checkpoint or a compensation, which have calls of their own; as
    /// the call for its type.
    pub fn append(
        &self,
        record_type: RecordType,
        transaction: TransactionId,
        prev: impl Into<Option<Lsn>>,
        page: impl Into<Option<PageId>>,
        data: &[u8],
    ) -> Result<Lsn> {
        self.log.check_open()?;
        if matches!(record_type, RecordType::Commit | RecordType::Checkpoint | RecordType::Compensation) {
            return Err(WalError::RecordTypeNotAllowed { code: record_type.code() });
        }
        // One that is open already has the number that it has.
        check_chosen(transaction).or_else(|error| self.shared.open.get(transaction).map(drop).ok_or(error))?;
        let (prev, page) = (prev.into(), page.into());
        self.log_entry(Entry { record_type, transaction, prev, page, undo_next: None, data })
    }

    /// Appends a record of the application's own, that belongs to no transaction. `tag` is 0x8000 or above.
    ///
    /// Recovery passes over it: [`Recovery::plain_records`] has those from the redo point on. Where such a record tells
    /// of a change to a page, the page counts as dirty *before* the call, with what [`Wal::current_lsn`] said then as its
    /// recovery LSN, and is not written before the change is in it: no transaction holds the redo point back for it.
    ///
    /// # Errors
    /// [`WalError::RecordTypeNotAllowed`] for a smaller tag; as [`Log::append`].
    ///
    /// [`Recovery::plain_records`]: super::Recovery::plain_records
    /// [`Log::append`]: crate::Log::append
    pub fn append_plain(&self, tag: u16, payload: &[u8]) -> Result<Lsn> {
        self.log.check_open()?;
        if tag < PLAIN_TAG_MIN {
            return Err(WalError::RecordTypeNotAllowed { code: tag });
        }
        self.log.keep_room()?;
        Ok(self.log.append(tag, payload)?)
    }

    /// Logs a record, if it is its transaction's turn to.
    pub(super) fn log_entry(&self, entry: Entry<'_>) -> Result<Lsn> {
        self.log.check_open()?;
        let _calling = calling();
        let Entry { record_type, transaction, prev, undo_next, .. } = entry;
        let need = need_of(record_type);
        if need == Need::Ordinary {
            self.log.keep_room()?;
        }
        let mut shard = self.shared.open.lock(transaction);
        let known = shard.get(transaction);
        check_order(record_type, transaction, known)?;
        let open = known.unwrap_or_default();
        if open.last.is_none() {
            self.shared.numbers.reserve(transaction, &self.log, need)?;
        }
        let mut prev = open.prev(transaction, prev)?;
        open.check_undo_next(transaction, undo_next)?;
        if prev.is_none() && matches!(record_type, RecordType::Abort | RecordType::Compensation) {
            // Only a checkpoint's list names it: recovery from a later one knows it by its chain.
            let begin = Entry { record_type: RecordType::Begin, page: None, data: &[], ..entry };
            prev = Some(self.append_entry(&mut shard, begin, need)?);
        }
        self.append_entry(&mut shard, Entry { prev, ..entry }, need)
    }

    fn append_entry(&self, shard: &mut Shard, entry: Entry<'_>, need: Need) -> Result<Lsn> {
        let Entry { record_type, transaction, prev, page, undo_next, data } = entry;
        let header = TransactionHeader::new(transaction, prev, page, undo_next);
        let lsn = self.log.append_for(need, record_type.code(), &[header.as_bytes(), data])?;
        shard.note(transaction, record_type, lsn);
        Ok(lsn)
    }
}

/// What ends transactions is essential: only then can a checkpoint let go of what they have logged.
fn need_of(record_type: RecordType) -> Need {
    match record_type {
        RecordType::Commit | RecordType::Abort | RecordType::Compensation | RecordType::Checkpoint => Need::Essential,
        RecordType::Begin | RecordType::Insert | RecordType::Update | RecordType::Delete => Need::Ordinary,
    }
}

/// An error unless a transaction in this state may log a record of this type.
fn check_order(record_type: RecordType, transaction: TransactionId, known: Option<Open>) -> Result<()> {
    match (record_type, known) {
        (RecordType::Begin, Some(Open { last: Some(_), .. })) => {
            Err(WalError::transaction(transaction, TransactionFault::AlreadyBegun))
        }
        (RecordType::Commit, None | Some(Open { begun: false, .. }))
        | (RecordType::Abort | RecordType::Compensation, None) => {
            Err(WalError::transaction(transaction, TransactionFault::NotOpen))
        }
        _ => Ok(()),
    }
}
