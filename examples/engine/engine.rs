//! The engine: transactions that change rows of pages, and checkpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use mapwal::Lsn;
use mapwal::wal::{PageId, Transaction, TransactionId, Wal};
use parking_lot::{Mutex, MutexGuard};

use crate::Failure;
use crate::buffer_pool::BufferPool;
use crate::page::{Change, NO_ROW, Page, ROW_LEN, ROWS, Row};
use crate::page_file::PageFile;
use crate::row_locks::{LockedRows, RowId, RowLocks};

/// Lock order: a checkpoint's turn, the pool, the rows.
pub(crate) struct Engine {
    pub(super) wal: Wal,
    pub(super) file: Arc<PageFile>,
    /// A change is logged and made while this is held, so that a page's changes are those of the log in their order.
    pub(super) pool: Mutex<BufferPool>,
    pub(super) page_count: u64,
    pub(super) rows: RowLocks,
    /// Where the last checkpoint of this run began.
    pub(super) last_checkpoint: Mutex<Lsn>,
}

/// A transaction that is going on.
pub(crate) struct Work<'e> {
    log: Transaction<'e>,
    rows: LockedRows<'e>,
    /// The rows that it has changed, as they are now.
    images: BTreeMap<RowId, Row>,
}

/// What a transaction wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Insert,
    Update,
    Delete,
}

impl Engine {
    pub(crate) fn page_count(&self) -> u64 {
        self.page_count
    }

    pub(crate) fn look<T>(&self, page: u64, look: impl FnOnce(&Page) -> T) -> Result<T, Failure> {
        self.pool.lock().look(page, look)
    }

    pub(crate) fn begin(&self) -> Result<Work<'_>, Failure> {
        let log = self.wal.begin()?;
        let rows = self.rows.none(log.id());
        Ok(Work { log, rows, images: BTreeMap::new() })
    }

    /// Changes a row of page `page`, or of a later page if all rows there are other transactions': an existing one, or
    /// a free place for an insert. Without such a row, an insert replaces a row, and the others insert one.
    pub(crate) fn change(&self, work: &mut Work<'_>, wish: Wish, page: u64, row: &Row) -> Result<(), Failure> {
        let mut pool = self.pool.lock();
        let id = self.choose(&mut pool, work, wish, page, row)?;
        let (page, slot) = id;
        let before = pool.page(page, self.wal.log())?.rows()[slot];
        let after = if wish == Wish::Delete && before != NO_ROW { NO_ROW } else { *row };
        let change = Change::new(slot, before, after);
        let lsn = match (before == NO_ROW, after == NO_ROW) {
            (true, _) => work.log.insert(PageId(page), change.as_ref())?,
            (false, false) => work.log.update(PageId(page), change.as_ref())?,
            (false, true) => work.log.delete(PageId(page), change.as_ref())?,
        };
        pool.change(page, slot, &after, lsn, self.wal.log())?;
        work.log.applied();
        work.images.insert(id, after);
        Ok(())
    }

    fn choose(
        &self,
        pool: &mut MutexGuard<'_, BufferPool>,
        work: &mut Work<'_>,
        wish: Wish,
        page: u64,
        row: &Row,
    ) -> Result<RowId, Failure> {
        // As good as any, and not the same for all.
        let first = usize::from(row[ROW_LEN - 1]) % ROWS;
        for page in (page..self.page_count).chain(0..page) {
            let taken = pool.page(page, self.wal.log())?.rows().map(|row| row != NO_ROW);
            let slots = || (first..ROWS).chain(0..first);
            let wanted = slots().filter(|&slot| taken[slot] == (wish != Wish::Insert));
            let others = slots().filter(|&slot| taken[slot] == (wish == Wish::Insert));
            if let Some(slot) = wanted.chain(others).find(|&slot| work.rows.try_lock((page, slot))) {
                return Ok((page, slot));
            }
        }
        Err("every row is locked".into())
    }

    /// Takes everything back, newest first, and ends the transaction.
    pub(crate) fn abort(&self, work: Work<'_>) -> Result<(), Failure> {
        work.log.abort(|undoing| {
            let (page, change) = Change::of(undoing.record())?;
            let inverse = change.inverse();
            let mut pool = self.pool.lock();
            let compensated = undoing.compensate(&inverse)?;
            pool.change(page, inverse.slot(), &inverse.after, compensated.lsn(), self.wal.log())?;
            Ok::<_, Failure>(compensated)
        })?;
        Ok(())
    }

    pub(crate) fn log_plain(&self, tag: u16, payload: &[u8]) -> Result<(), Failure> {
        self.wal.append_plain(tag, payload)?;
        Ok(())
    }

    /// Takes a checkpoint while transactions go on, and drops the log that nobody needs any more. The pages that have
    /// waited since the checkpoint before are written first, so that the redo point moves on.
    pub(crate) fn checkpoint(&self) -> Result<(), Failure> {
        let mut last = self.last_checkpoint.lock();
        let begun = self.wal.begin_checkpoint()?;
        let started_at = begun.begin_lsn();
        // Not while the pool is locked, as far as possible.
        self.wal.flush()?;
        {
            let mut pool = self.pool.lock();
            pool.write_older_than(*last, self.wal.log())?;
            pool.dirty.sync_begins();
        }
        self.file.sync()?;
        let dirty = {
            let mut pool = self.pool.lock();
            pool.dirty.sync_ended();
            pool.dirty.list()
        };
        // It knows the transactions that were open.
        begun.log(&[], &dirty)?;
        self.wal.truncate_before_checkpoint()?;
        *last = started_at;
        Ok(())
    }
}

impl<'e> Work<'e> {
    pub(crate) fn id(&self) -> TransactionId {
        self.log.id()
    }

    /// The rows that it has changed, as they are now.
    pub(crate) fn images(&self) -> &BTreeMap<RowId, Row> {
        &self.images
    }

    /// Commits; durable on return. The rows stay locked until what is returned is dropped.
    pub(crate) fn commit(self) -> Result<LockedRows<'e>, Failure> {
        // Each change was made as it was logged.
        self.log.commit()?.applied();
        Ok(self.rows)
    }
}
