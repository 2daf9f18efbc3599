//! Taking checkpoints, and dropping what they make unnecessary.

use zerocopy::IntoBytes;

use super::Wal;
use super::checkpoint::{ActiveTransaction, COUNTS_LEN, Checkpoint, DirtyPage, Encoded};
use super::error::{Result, WalError};
use super::numbers::check_chosen;
use super::record::{RecordType, TransactionHeader};
use crate::error::Error;
use crate::events::{calling, report};
use crate::log::{Log, Need};
use crate::lsn::Lsn;

/// The metadata slot that holds the number of the last checkpoint's record.
const SLOT: usize = 15;

/// What is remembered of the last checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastCheckpoint {
    lsn: Lsn,
    /// The next record when it began; for one of an earlier run its own number, since all that begin now begin later.
    begin: Lsn,
    redo_lsn: Lsn,
    oldest_active: Option<Lsn>,
}

impl LastCheckpoint {
    /// That of an earlier run, from which recovery has read from `redo_lsn` on. That is what counts, whatever the record says:
    /// pages that were lost may need more.
    pub(super) fn found(checkpoint: Checkpoint<'_>, redo_lsn: Lsn) -> Self {
        let lsn = checkpoint.lsn();
        Self { lsn, begin: lsn, redo_lsn, oldest_active: checkpoint.oldest_active() }
    }

    /// Recovery from it needs no record before this one.
    pub(super) fn needed(&self) -> Lsn {
        self.oldest_active.map_or(self.redo_lsn, |oldest| oldest.min(self.redo_lsn))
    }
}

/// A checkpoint that has begun: it knows which transactions were open at that moment, and which records the engine may
/// not have applied by then. Dropped, it leaves nothing.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let options = mapwal::wal::WalOptions::new().log(mapwal::Options::new().segment_size_bytes(64 << 10));
/// # let wal = unsafe { mapwal::wal::Wal::open(dir.path(), &options) }?;
/// use mapwal::wal::{ActiveTransaction, BegunCheckpoint, DirtyPage, PageId, TransactionId, WalRecord};
///
/// let begun: BegunCheckpoint<'_> = wal.begin_checkpoint()?;
/// // Transactions go on meanwhile; the engine looks which pages are dirty, and since which record.
/// let dirty = [DirtyPage::new(PageId(7), Some(begun.begin_lsn())), PageId(9).into()];
/// assert_eq!((dirty[0].page(), dirty[1].recovery_lsn()), (PageId(7), None));
/// let silent = ActiveTransaction::new(TransactionId(5)); // has logged nothing yet
/// let lsn = begun.log(&[silent], &dirty)?;
/// assert_eq!(wal.checkpoint_lsn(), Some(lsn));
///
/// let snapshot = wal.log().snapshot()?;
/// let record = WalRecord::parse(&snapshot.get(lsn)?.expect("a record"))?;
/// let checkpoint = record.checkpoint().expect("a checkpoint");
/// assert_eq!(checkpoint.lsn(), lsn);
/// assert!(checkpoint.redo_lsn() <= lsn);
/// assert_eq!(checkpoint.dirty_pages(), dirty);
/// let active = checkpoint.active_transactions()[0];
/// assert_eq!((active.transaction(), active.first_lsn(), active.last_lsn()), (TransactionId(5), None, None));
/// assert!(!active.has_begun());
///
/// let lsn = wal.begin_checkpoint()?.log_with_data(&[], &[], b"root: page 7")?;
/// let snapshot = wal.log().snapshot()?;
/// let record = WalRecord::parse(&snapshot.get(lsn)?.expect("a record"))?;
/// assert_eq!(record.checkpoint().expect("a checkpoint").data(), b"root: page 7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "no checkpoint is taken before `log` is called"]
pub struct BegunCheckpoint<'w> {
    wal: &'w Wal,
    view: View,
}

/// What the table of transactions and the log say at one moment.
#[derive(Debug)]
struct View {
    /// The next record.
    next: Lsn,
    /// The oldest record before that the engine may not have applied.
    unapplied: Option<Lsn>,
    open: Vec<ActiveTransaction>,
}

/// The checkpoint that the log's metadata names.
pub(super) fn named_by(log: &Log) -> Result<Option<Lsn>> {
    let Some(value) = log.meta(SLOT) else { return Ok(None) };
    let invalid = |_| WalError::Metadata { slot: SLOT, len: value.len(), expected: size_of::<u64>() };
    value.as_slice().try_into().map(u64::from_le_bytes).map(|lsn| Some(Lsn(lsn))).map_err(invalid)
}

impl Wal {
    /// The last checkpoint, also of earlier runs; `None` if there is none, and in a forked
    /// child. It is durable.
    #[must_use]
    pub fn checkpoint_lsn(&self) -> Option<Lsn> {
        self.log.check_process().ok()?;
        self.shared.checkpoint.lock().map(|checkpoint| checkpoint.lsn)
    }

    /// Begins a checkpoint, which may take any time: transactions go on meanwhile. After this call the engine collects
    /// its dirty pages, and logs the checkpoint by [`BegunCheckpoint::log`].
    ///
    /// Any number may have begun at a time, in any number of threads. Nothing waits for one.
    ///
    /// # Errors
    /// [`WalError::NotRedone`] when recovery found records to be redone, and the engine has not said that they are, by
    /// [`Recovery::redone`](super::Recovery::redone).
    pub fn begin_checkpoint(&self) -> Result<BegunCheckpoint<'_>> {
        self.log.check_open()?;
        self.shared.redone.check()?;
        Ok(BegunCheckpoint { wal: self, view: self.view() })
    }

    /// Logs a checkpoint: as [`Wal::begin_checkpoint`] and [`BegunCheckpoint::log`] in one, for an engine that is at
    /// rest. No page may become dirty between the making of the list and the return of this call; that is, no other
    /// thread logs anything meanwhile.
    ///
    /// # Errors
    /// As [`Wal::begin_checkpoint`] and [`BegunCheckpoint::log`].
    pub fn log_checkpoint(&self, active: &[ActiveTransaction], dirty: &[DirtyPage]) -> Result<Lsn> {
        self.begin_checkpoint()?.log(active, dirty)
    }

    fn view(&self) -> View {
        // No transaction begins, ends, logs or applies anything between the looks at the table and at the log.
        let all = self.shared.open.lock_all();
        View { next: self.log.next_lsn(), unapplied: all.unapplied(), open: all.list().collect() }
    }

    /// Where recovery has to start for a checkpoint that began with `view`, for pages that are `dirty`.
    fn redo_point(&self, view: &View, dirty: &[DirtyPage], last: Option<LastCheckpoint>) -> Result<Lsn> {
        let first = self.log.first_lsn();
        let unknown = last.map_or(first, |last| last.redo_lsn);
        let of_page = |page: &DirtyPage| page.recovery_lsn().unwrap_or(unknown);
        let redo_lsn = dirty.iter().map(of_page).chain(view.unapplied).fold(view.next, Lsn::min);
        // What a checkpoint that was logged since then found on disk is there, and its records may be gone.
        let meanwhile = last.filter(|last| last.lsn >= view.next);
        let redo_lsn = meanwhile.map_or(redo_lsn, |last| last.redo_lsn.max(redo_lsn));
        if redo_lsn < first { Err(Error::Trimmed { lsn: redo_lsn, first }.into()) } else { Ok(redo_lsn) }
    }

    fn append_checkpoint(
        &self,
        redo_lsn: Lsn,
        open: &[ActiveTransaction],
        dirty: &[DirtyPage],
        data: &[u8],
    ) -> Result<Lsn> {
        let (header, max) = (TransactionHeader::of_checkpoint(!data.is_empty()), self.log.payload_len_max());
        let lists = (size_of_val(open) + size_of_val(dirty)) as u64;
        let len = header.as_bytes().len() as u64 + COUNTS_LEN as u64 + lists + data.len() as u64;
        // No segment has room for 2^32 entries.
        let contents = Encoded::new(redo_lsn, open, dirty).filter(|_| len <= max);
        let (active, dirty) = (open.len(), dirty.len());
        let contents = contents.ok_or(WalError::CheckpointTooLarge { active, dirty, len, max })?;
        let [counts, active, dirty] = contents.parts();
        let parts = [header.as_bytes(), counts, active, dirty, data];
        Ok(self.log.append_for(Need::Essential, RecordType::Checkpoint.code(), &parts)?)
    }

    /// Drops the segments that no recovery can need, and returns how many went: those that lie wholly before the last
    /// checkpoint's redo point, before the first record of every transaction that was open when it began or is open now,
    /// and before every [`Pin`](crate::Pin). Without a checkpoint nothing goes, nor after a recovery from
    /// [`RecoverFrom::OldestRecord`](super::RecoverFrom::OldestRecord) before the next one. Durable on return.
    ///
    /// # Errors
    /// As [`Log::trim_before`].
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// # let options = mapwal::wal::WalOptions::new().log(mapwal::Options::new().segment_size_bytes(64 << 10));
    /// # let wal = unsafe { mapwal::wal::Wal::open(dir.path(), &options) }?;
    /// use mapwal::wal::DirtyPage;
    ///
    /// let mut transaction = wal.begin()?;
    /// transaction.insert(None, b"a change")?;
    /// transaction.commit()?.applied();
    /// let pages_on_disk: [DirtyPage; 0] = []; // none is dirty
    /// wal.log_checkpoint(&[], &pages_on_disk)?;
    /// println!("{} segments dropped", wal.truncate_before_checkpoint()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn truncate_before_checkpoint(&self) -> Result<usize> {
        self.log.check_open()?;
        let _calling = calling();
        // Locked meanwhile, so that no checkpoint finds records gone that it has just decided to need.
        let _turn = self.shared.checkpointing.lock();
        let last = *self.shared.checkpoint.lock();
        let Some(last) = last else { return Ok(0) };
        let needed = self.shared.open.oldest().map_or(last.needed(), |oldest| oldest.min(last.needed()));
        Ok(self.log.trim_before(needed)?)
    }
}

impl BegunCheckpoint<'_> {
    /// The number that the next record would have got when the checkpoint began. Its redo point is no later one.
    #[must_use]
    pub fn begin_lsn(&self) -> Lsn {
        self.view.next
    }

    /// Logs the checkpoint: recovery starts from it. Durable on return.
    ///
    /// `dirty` are the pages whose newest contents are not on disk, by a look *after* the checkpoint began; all others
    /// are on disk, durably, but for what has become dirty since. Recovery starts at the redo point, the least of
    ///
    /// - [`Self::begin_lsn`];
    /// - the pages' recovery LSNs. A page given without may have been dirty for long: its is the redo point of the
    ///   checkpoint before, or the oldest record kept, and nothing can be trimmed for as long as this goes on;
    /// - the first change of each transaction that was open when the checkpoint began, or had committed, and that the
    ///   engine had not said to have applied ([`Committed::applied`], [`Transaction::applied`]).
    ///
    /// The transactions that were open then are listed whether they are in `active` or not. `active` adds those that had
    /// not logged anything; they count as incomplete unless they end later. LSNs given there are not used.
    ///
    /// If one that began no earlier has been logged meanwhile, that one stays: nothing is logged, and its number returned.
    ///
    /// # Errors
    /// [`Error::Trimmed`] when a recovery LSN lies before the oldest record kept; [`WalError::CheckpointTooLarge`] when the
    /// lists, and the engine's own bytes, do not fit into a segment: end transactions or write pages first, or open the log with larger segments;
    /// [`TransactionFault::NumberTooLarge`](super::TransactionFault::NumberTooLarge) for one of `active`. As [`Log::append`]
    /// and [`Log::sync`]. The last checkpoint stays what it was then; after an error of the sync, which one counts
    /// shows when the log is opened again.
    ///
    /// [`Committed::applied`]: super::Committed::applied
    /// [`Transaction::applied`]: super::Transaction::applied
    pub fn log(self, active: &[ActiveTransaction], dirty: &[DirtyPage]) -> Result<Lsn> {
        self.log_with_data(active, dirty, &[])
    }

    /// As [`Self::log`], with bytes of the engine's own, which [`Checkpoint::data`] has after a recovery: what it must know before
    /// it redoes anything, such as the root of its tree. They are in the checkpoint's record, so they hold exactly if it does; with
    /// the lists they fit into a segment.
    ///
    /// # Errors
    /// As [`Self::log`].
    pub fn log_with_data(self, active: &[ActiveTransaction], dirty: &[DirtyPage], data: &[u8]) -> Result<Lsn> {
        let _calling = calling();
        let Self { wal, view } = self;
        wal.log.check_open()?;
        let _turn = wal.shared.checkpointing.lock();
        let last = *wal.shared.checkpoint.lock();
        if let Some(last) = last.filter(|last| last.begin >= view.next) {
            return Ok(last.lsn);
        }
        // None drops records that this checkpoint decides to need.
        let mut requests = wal.log.hold_requests();
        let redo_lsn = wal.redo_point(&view, dirty, last)?;
        let open = merge(view.open, active)?;
        let oldest_active = open.iter().filter_map(ActiveTransaction::first_lsn).min();
        let lsn = wal.append_checkpoint(redo_lsn, &open, dirty, data)?;
        // After the record in the log: if the slot is durable, so is the record.
        wal.log.put_meta_for(Need::Essential, SLOT, &lsn.0.to_le_bytes())?;
        wal.log.sync()?;
        let last = LastCheckpoint { lsn, begin: view.next, redo_lsn, oldest_active };
        *wal.shared.checkpoint.lock() = Some(last);
        // What began since is after its redo point.
        *requests = last.needed();
        report!(info, lsn = lsn.0, redo_lsn = redo_lsn.0, "checkpoint");
        Ok(lsn)
    }
}

/// The open transactions, and those that only the caller knows of: without records, as far as the log is concerned.
fn merge(open: Vec<ActiveTransaction>, given: &[ActiveTransaction]) -> Result<Vec<ActiveTransaction>> {
    for given in given.iter().map(ActiveTransaction::transaction) {
        let is_open = || open.iter().any(|open| open.transaction() == given);
        check_chosen(given).or_else(|error| if is_open() { Ok(()) } else { Err(error) })?;
    }
    let mut list = open;
    list.extend(given.iter().map(|given| ActiveTransaction::new(given.transaction())));
    // Stable: of two with the same number the one that has records comes first.
    list.sort_by_key(ActiveTransaction::transaction);
    list.dedup_by_key(|active| active.transaction());
    Ok(list)
}
