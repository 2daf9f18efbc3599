//! Restart, as ARIES does it: repeat history, then take back what did not commit.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use mapwal::wal::{Recovery, Wal, WalOptions, WalRecord};
use mapwal::{Lsn, Options};
use parking_lot::Mutex;

use crate::Failure;
use crate::arguments::Break;
use crate::buffer_pool::BufferPool;
use crate::engine::Engine;
use crate::page::Change;
use crate::page_file::PageFile;
use crate::report::Restarted;
use crate::row_locks::RowLocks;

/// Small, so that the log is trimmed again and again.
const SEGMENT_SIZE_BYTES: u64 = 256 << 10;
/// Far fewer than the trace has pages.
const POOL_PAGES: usize = 16;

/// How an engine is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) page_count: u64,
    /// Whether page writes are kept from the file until they are synced.
    pub(crate) loses_power: bool,
    pub(crate) broken: Option<Break>,
}

impl Engine {
    /// Opens the database in directory `path`, and recovers it. `undoing` is told how many changes have been undone so
    /// far, after each.
    pub(crate) fn open(
        path: &Path,
        setup: Setup,
        undoing: impl FnMut(u64) -> Result<(), Failure>,
    ) -> Result<(Self, Restarted), Failure> {
        let Setup { page_count, loses_power, broken } = setup;
        let began = Instant::now();
        let options = WalOptions::new()
            .log(Options::new().segment_size_bytes(SEGMENT_SIZE_BYTES))
            .sync_on_commit(broken != Some(Break::UnsyncedCommit));
        // SAFETY: the directory is a temporary one, on a local file system; only the process that started this one knows
        // of it, and that one touches its files only when this one is dead.
        let (wal, recovery) = unsafe { Wal::open_and_recover(path.join("log"), &options) }?;
        let file = Arc::new(PageFile::open(&path.join("pages"), page_count, loses_power)?);
        let mut pool = BufferPool::new(Arc::clone(&file), POOL_PAGES);
        let skipped = if broken == Some(Break::SkipRedo) { newest_needed(&recovery, &pool)? } else { None };
        let Redone { changes: redone, stolen } = redo(&recovery, &mut pool, &wal, skipped)?;
        recovery.redone();
        let undone = if broken == Some(Break::NoUndo) { 0 } else { undo(&recovery, &mut pool, &wal, undoing)? };
        let restarted = Restarted {
            records: recovery.records_processed().into(),
            redone: redone.into(),
            stolen: stolen.into(),
            undone: undone.into(),
            losers: (recovery.incomplete_transactions().len() as u64).into(),
            microseconds: u64::try_from(began.elapsed().as_micros())?.into(),
        };
        let last_checkpoint = Mutex::new(recovery.redo_lsn());
        let (pool, rows) = (Mutex::new(pool), RowLocks::default());
        Ok((Self { wal, file, pool, page_count, rows, last_checkpoint }, restarted))
    }
}

/// What redo has found.
#[derive(Default)]
struct Redone {
    /// Changes that the pages lacked.
    changes: u64,
    /// Changes of losers that the pages had.
    stolen: u64,
}

/// Repeats what pages lack of history, that of losers and their compensations included.
fn redo(recovery: &Recovery, pool: &mut BufferPool, wal: &Wal, skipped: Option<Lsn>) -> Result<Redone, Failure> {
    let losers = recovery.incomplete_transactions();
    let mut redone = Redone::default();
    for record in recovery.history() {
        let record = record?;
        let (page, change) = Change::of(&record)?;
        if pool.page(page, wal.log())?.lsn() >= record.lsn() {
            let is_losers = losers.binary_search_by_key(&record.transaction(), |loser| loser.transaction).is_ok();
            redone.stolen += u64::from(is_losers);
        } else if Some(record.lsn()) != skipped {
            pool.change(page, change.slot(), &change.after, record.lsn(), wal.log())?;
            redone.changes += 1;
        }
    }
    Ok(redone)
}

/// Takes back the changes of the losers, newest first over all of them, each by a compensation that is logged before it
/// is made, and ends them. Killed in the middle of it, the next restart repeats the compensations and goes on after
/// them. Returns how many changes those were.
fn undo(
    recovery: &Recovery,
    pool: &mut BufferPool,
    wal: &Wal,
    mut undoing: impl FnMut(u64) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let mut undone = 0;
    for record in recovery.undo() {
        let record: WalRecord<'_> = record?;
        let (page, change) = Change::of(&record)?;
        let inverse = change.inverse();
        let (loser, undo_next) = (record.transaction(), record.prev_lsn());
        let lsn = wal.log_compensation(loser, None, record.page(), undo_next, inverse.as_ref())?;
        pool.change(page, inverse.slot(), &inverse.after, lsn, wal.log())?;
        undone += 1;
        undoing(undone)?;
    }
    for loser in recovery.incomplete_transactions() {
        wal.log_abort(loser.transaction, None)?;
    }
    Ok(undone)
}

/// The newest record of a committed transaction that the file lacks: the one that a broken redo forgets.
fn newest_needed(recovery: &Recovery, pool: &BufferPool) -> Result<Option<Lsn>, Failure> {
    let mut newest = None;
    for record in recovery.redo() {
        let record = record?;
        let (page, _) = Change::of(&record)?;
        if pool.look(page, |page| page.lsn() < record.lsn())? {
            newest = Some(record.lsn());
        }
    }
    Ok(newest)
}
