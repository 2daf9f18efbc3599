//! What a log line says of a wal, its transactions and its records: numbers and lengths, never contents.

use std::fmt::{Debug, Formatter, Result};

use super::{
    BegunCheckpoint, Checkpoint, Committed, History, PlainRecords, Recovery, Redo, Transaction, Undo, Undoing, Wal,
    WalRecord,
};

impl Debug for Wal {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Wal")
            .field("log", self.log())
            .field("checkpoint_lsn", &self.checkpoint_lsn())
            .finish_non_exhaustive()
    }
}

impl Debug for Transaction<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Transaction")
            .field("id", &self.id())
            .field("last_lsn", &self.last_lsn())
            .finish_non_exhaustive()
    }
}

impl Debug for Undoing<'_, '_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Undoing").field("record", self.record()).finish_non_exhaustive()
    }
}

impl Debug for Committed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Committed")
            .field("transaction", &self.transaction)
            .field("lsn", &self.lsn())
            .finish_non_exhaustive()
    }
}

impl Debug for BegunCheckpoint<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("BegunCheckpoint").field("begin_lsn", &self.begin_lsn()).finish_non_exhaustive()
    }
}

impl Debug for Checkpoint<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut out = f.debug_struct("Checkpoint");
        out.field("lsn", &self.lsn()).field("redo_lsn", &self.redo_lsn());
        out.field("active_transactions", &self.active_transactions().len());
        out.field("dirty_pages", &self.dirty_pages().len()).finish_non_exhaustive()
    }
}

impl Debug for Recovery {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut out = f.debug_struct("Recovery");
        out.field("checkpoint_lsn", &self.checkpoint).field("redo_lsn", &self.redo_lsn());
        out.field("max_lsn", &self.max_lsn()).field("records_processed", &self.records_processed());
        out.field("incomplete_transactions", &self.incomplete_transactions().len()).finish_non_exhaustive()
    }
}

impl Debug for Redo<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Redo").field("records", &self.records).finish_non_exhaustive()
    }
}

impl Debug for History<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("History").field("records", &self.records).finish_non_exhaustive()
    }
}

impl Debug for PlainRecords<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("PlainRecords").field("records", &self.records).finish_non_exhaustive()
    }
}

impl Debug for Undo<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Undo").field("transactions", &self.cursors.len()).finish_non_exhaustive()
    }
}

impl Debug for WalRecord<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut out = f.debug_struct("WalRecord");
        out.field("lsn", &self.lsn()).field("record_type", &self.record_type());
        out.field("transaction", &self.transaction())
            .field("page", &self.page())
            .field("len", &self.data().len())
            .finish_non_exhaustive()
    }
}
