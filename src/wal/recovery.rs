//! What recovery found, and the records that the engine has to redo and undo.

use std::iter::FusedIterator;

use super::active::Open;
use super::analysis::{self, Fate, Findings, Seen};
use super::checkpoint::Checkpoint;
use super::error::{ChainFault, Result, WalError};
use super::ids::TransactionId;
use super::options::RecoverFrom;
use super::record::{PLAIN_TAG_MIN, RecordType, WalRecord};
use super::redone::Redone;
use super::undo::{Cursor, Undo};
use crate::error::Error;
use crate::log::Log;
use crate::lsn::Lsn;
use crate::read::{Iter, Record, Snapshot};

/// What [`Wal::open_and_recover`](super::Wal::open_and_recover) found in the log.
///
/// It is a fixed view of the log as it was opened: what is logged later is not in it, and what is trimmed later stays
/// readable. Two kinds of engines recover in two ways:
///
/// - One that changes its pages before a transaction commits repeats history, by [`Self::history`], and then rolls back
///   what did not commit, by [`Self::undo`], logging a compensation for each record and an abort for each transaction.
/// - One that changes nothing before a transaction commits applies [`Self::redo`].
///
/// Either says so by [`Self::redone`]: before, there is no checkpoint.
///
/// In memory it holds a few words for each transaction of the window that was read, and none for its records; the
/// iterators allocate nothing for a record.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let options = mapwal::wal::WalOptions::new().log(mapwal::Options::new().segment_size_bytes(64 << 10));
/// # let wal = unsafe { mapwal::wal::Wal::open(dir.path(), &options) }?;
/// use mapwal::wal::{History, IncompleteTransaction, PageId, PlainRecords, Redo, Undo, Wal, WalOptions};
///
/// # let mut transaction = wal.begin()?;
/// # transaction.insert(PageId(7), b"committed")?;
/// # transaction.commit()?.applied();
/// # let mut transaction = wal.begin()?;
/// # transaction.insert(PageId(7), b"lost")?;
/// # wal.append_plain(0x8000, b"the application's own")?;
/// # wal.flush()?;
/// # drop(transaction);
/// # drop(wal);
/// // SAFETY: as for `Wal::open`.
/// let (wal, recovery) = unsafe { Wal::open_and_recover(dir.path(), &WalOptions::new()) }?;
/// println!("{} records of {} segments, from {} to {}", recovery.records_processed(), recovery.segments_scanned(),
///     recovery.redo_lsn(), recovery.max_lsn());
/// assert!(recovery.checkpoint()?.is_none());
///
/// // An engine that changes pages after the commit only redoes what is committed.
/// let redo: Redo<'_> = recovery.redo();
/// assert_eq!(redo.count(), 1);
/// // One that changes them before repeats history, and undoes what is open.
/// let history: History<'_> = recovery.history();
/// assert_eq!(history.count(), 2);
/// let plain: PlainRecords<'_> = recovery.plain_records();
/// assert_eq!(plain.count(), 1);
/// recovery.redone(); // checkpoints may begin
/// let undo: Undo<'_> = recovery.undo();
/// for record in undo {
///     println!("to be undone: {:?}", record?);
/// }
/// for &IncompleteTransaction { transaction, first_lsn, .. } in recovery.incomplete_transactions() {
///     println!("transaction {transaction} began with {first_lsn:?}");
/// }
/// assert_eq!(recovery.snapshot().next_lsn(), wal.current_lsn());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Recovery {
    snapshot: Snapshot,
    window: Lsn,
    /// The oldest record that is redone.
    redo_start: Lsn,
    pub(super) checkpoint: Option<Lsn>,
    findings: Findings,
    incomplete: Vec<IncompleteTransaction>,
    segments: usize,
    redone: Redone,
}

/// A transaction that was open when the log ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct IncompleteTransaction {
    /// Which transaction.
    pub transaction: TransactionId,
    /// Its first record; `None` if it has none, and a checkpoint lists it.
    pub first_lsn: Option<Lsn>,
    /// Its last record.
    pub last_lsn: Option<Lsn>,
    /// Whether its first record is a begin: without one it can be rolled back only.
    pub has_begun: bool,
}

impl Recovery {
    /// Analyses `log`, whose last checkpoint is record `checkpoint`.
    pub(super) fn analyse(log: &Log, checkpoint: Option<Lsn>, from: RecoverFrom) -> Result<Self> {
        let snapshot = log.snapshot()?;
        let contents = match checkpoint.map(|lsn| read_checkpoint(&snapshot, lsn)).transpose() {
            // Gone by hand, with the log below it or above it. What is kept is read as a whole, and needs none.
            Err(WalError::NoCheckpoint { .. }) if from == RecoverFrom::OldestRecord => None,
            contents => contents?,
        };
        let checkpoint = contents.map(|contents| contents.lsn());
        let first = snapshot.first_lsn();
        let window = match (contents, from) {
            (Some(contents), RecoverFrom::Checkpoint) => redo_point(contents, first)?,
            _ => first,
        };
        check_kept(window, first)?;
        let findings = analysis::analyse(&snapshot, window, contents)?;
        let redone_early = |seen: &&Seen| seen.carried && seen.fate == Fate::Committed;
        let carried = findings.transactions.iter().filter(redone_early).map(|seen| seen.first);
        let redo_start = match from {
            RecoverFrom::Checkpoint => carried.fold(window, Lsn::min),
            RecoverFrom::OldestRecord => first,
        };
        check_kept(redo_start, first)?;
        let open = findings.transactions.iter().filter(|seen| seen.fate == Fate::Incomplete);
        let incomplete = open.map(IncompleteTransaction::from).collect();
        let segments = log.recovery().segments;
        let nothing_to_redo = !findings.changes && redo_start == window;
        let redone = Redone::new(redo_start, nothing_to_redo);
        Ok(Self { snapshot, window, redo_start, checkpoint, findings, incomplete, segments, redone })
    }

    /// The records that changed data in transactions that committed, in the order of the log: inserts, updates,
    /// deletes, and the compensations of what was rolled back to a savepoint.
    ///
    /// From the redo point on; of a transaction that was open when the checkpoint began and committed later, from its
    /// first record on. Some of them may be on disk already, and are redone all the same: a redo that is repeated must
    /// not do harm.
    #[must_use]
    pub fn redo(&self) -> Redo<'_> {
        Redo { recovery: self, records: self.snapshot.range(self.redo_start..) }
    }

    /// All records that changed data, whatever became of their transactions, in the order of the log from the redo
    /// point on.
    #[must_use]
    pub fn history(&self) -> History<'_> {
        History { records: self.snapshot.range(self.window..) }
    }

    /// The inserts, updates and deletes of the transactions that were open, newest first over all of them, also from
    /// before the redo point. What a compensation says has been undone is left out.
    #[must_use]
    pub fn undo(&self) -> Undo<'_> {
        let open = self.incomplete.iter().filter_map(|open| Some(Cursor::new(open.transaction, open.last_lsn?)));
        Undo::new(&self.snapshot, open, Lsn::ZERO)
    }

    /// Says that everything that was to be redone is in the engine's pages, by [`Self::redo`] or [`Self::history`] and
    /// [`Self::plain_records`], and that each of these pages is durable or counts as dirty. A checkpoint before would
    /// lose what is still to come, and is refused ([`WalError::NotRedone`]). Undo may follow: what is not rolled back yet is
    /// open.
    pub fn redone(&self) {
        self.redone.say();
    }

    /// The records of the application's own types, in the order of the log from the redo point on.
    #[must_use]
    pub fn plain_records(&self) -> PlainRecords<'_> {
        PlainRecords { records: self.snapshot.range(self.window..) }
    }

    /// The largest number of a transaction that was read or listed.
    pub(super) fn largest_transaction(&self) -> Option<TransactionId> {
        self.findings.transactions.last().map(|seen| seen.transaction)
    }

    /// The transactions that were open at the end of the log, by number. They are open still: the engine is to roll
    /// them back.
    #[must_use]
    pub fn incomplete_transactions(&self) -> &[IncompleteTransaction] {
        &self.incomplete
    }

    /// The last record of the log, or the number before the first.
    #[must_use]
    pub fn max_lsn(&self) -> Lsn {
        self.snapshot.next_lsn().previous()
    }

    /// The first record that was read: the redo point, or the oldest record kept.
    #[must_use]
    pub fn redo_lsn(&self) -> Lsn {
        self.window
    }

    /// How many records were read.
    #[must_use]
    pub fn records_processed(&self) -> u64 {
        self.findings.records
    }

    /// How many segments the log has.
    #[must_use]
    pub fn segments_scanned(&self) -> usize {
        self.segments
    }

    /// The last checkpoint.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Corrupt`] when its segment cannot be read any more.
    pub fn checkpoint(&self) -> Result<Option<Checkpoint<'_>>> {
        self.checkpoint.map(|lsn| read_checkpoint(&self.snapshot, lsn)).transpose()
    }

    /// All records of the log as it was opened.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The open transactions as the wal goes on with them.
    pub(super) fn open(&self) -> impl Iterator<Item = (TransactionId, Open)> {
        self.incomplete.iter().map(|open| {
            let &IncompleteTransaction { transaction, first_lsn, last_lsn, has_begun } = open;
            // Whether the engine had applied any of it shows only when it ends.
            (transaction, Open { first: first_lsn, last: last_lsn, unapplied: first_lsn, begun: has_begun })
        })
    }

    /// As the wal asks for it.
    pub(super) fn redone_state(&self) -> Redone {
        self.redone.clone()
    }

    fn is_redone(&self, record: &WalRecord<'_>) -> bool {
        let (lsn, found) = (record.lsn(), self.findings.find(record.transaction(), record.lsn()));
        found.is_some_and(|seen| seen.fate == Fate::Committed && (seen.carried || lsn >= self.window))
    }
}

impl From<&Seen> for IncompleteTransaction {
    fn from(seen: &Seen) -> Self {
        let first_lsn = seen.last.map(|_| seen.first);
        Self { transaction: seen.transaction, first_lsn, last_lsn: seen.last, has_begun: seen.begun }
    }
}

/// The contents of checkpoint record `lsn`.
pub(super) fn read_checkpoint(snapshot: &Snapshot, lsn: Lsn) -> Result<Checkpoint<'_>> {
    let record = match snapshot.get(lsn) {
        Ok(record) => record.filter(|record| record.tag() == RecordType::Checkpoint.code()),
        Err(Error::Trimmed { .. } | Error::NotAppended { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let record = record.ok_or(WalError::NoCheckpoint { lsn })?;
    WalRecord::parse(&record)?.checkpoint().ok_or(WalError::NoCheckpoint { lsn })
}

/// Where recovery from a checkpoint starts, in a log whose oldest record is `first`. A checkpoint that does not list the
/// transactions of its begin does not know what they had logged before: nothing that is kept is left out.
pub(super) fn redo_point(checkpoint: Checkpoint<'_>, first: Lsn) -> Result<Lsn> {
    let (lsn, redo_lsn) = (checkpoint.lsn(), checkpoint.redo_lsn());
    if redo_lsn > lsn {
        return Err(WalError::chain(lsn, Some(redo_lsn), ChainFault::Forward));
    }
    Ok(if checkpoint.is_of_begin() { redo_lsn } else { redo_lsn.min(first) })
}

fn check_kept(lsn: Lsn, first: Lsn) -> Result<()> {
    if lsn < first { Err(Error::Trimmed { lsn, first }.into()) } else { Ok(()) }
}

/// The next record of `records` that changed data.
fn next_data<'r>(records: &mut Iter<'r>) -> Option<Result<WalRecord<'r>>> {
    let is_data = |record: &Record<'_>| RecordType::from_code(record.tag()).is_some_and(RecordType::is_data);
    let record = records.find(|record| record.as_ref().map_or(true, is_data))?;
    Some(record.map_err(WalError::from).and_then(|record| WalRecord::parse(&record)))
}

/// The records to be redone for committed transactions.
pub struct Redo<'r> {
    recovery: &'r Recovery,
    pub(super) records: Iter<'r>,
}

impl<'r> Iterator for Redo<'r> {
    type Item = Result<WalRecord<'r>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match next_data(&mut self.records)? {
                Ok(record) if !self.recovery.is_redone(&record) => {}
                record => return Some(record),
            }
        }
    }
}

impl FusedIterator for Redo<'_> {}

/// All records that changed data.
pub struct History<'r> {
    pub(super) records: Iter<'r>,
}

impl<'r> Iterator for History<'r> {
    type Item = Result<WalRecord<'r>>;

    fn next(&mut self) -> Option<Self::Item> {
        next_data(&mut self.records)
    }
}

impl FusedIterator for History<'_> {}

/// The records of the application's own types.
pub struct PlainRecords<'r> {
    pub(super) records: Iter<'r>,
}

impl<'r> Iterator for PlainRecords<'r> {
    type Item = Result<Record<'r>>;

    fn next(&mut self) -> Option<Self::Item> {
        let is_plain = |record: &Record<'_>| record.tag() >= PLAIN_TAG_MIN;
        let record = self.records.find(|record| record.as_ref().map_or(true, is_plain))?;
        Some(record.map_err(WalError::from))
    }
}

impl FusedIterator for PlainRecords<'_> {}
