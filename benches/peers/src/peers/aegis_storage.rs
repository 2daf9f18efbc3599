//! aegis-storage: the write-ahead log of a database, with transactions.

use std::path::Path;

use aegis_common::{PageId, TransactionId};
use aegis_storage::wal::{LogRecordType, WriteAheadLog};
use anyhow::Result;
use bytes::Bytes;

use crate::peer::{Facts, Peer, Seen};

const TRANSACTION: TransactionId = TransactionId(1);
const PAGE: PageId = PageId(1);

pub(crate) struct Aegis(WriteAheadLog);

impl Aegis {
    fn insert(&self, payload: &[u8]) -> Result<()> {
        self.0.log_insert(TRANSACTION, None, PAGE, Bytes::copy_from_slice(payload))?;
        Ok(())
    }
}

impl Peer for Aegis {
    const FACTS: Facts = Facts {
        name: "aegis-storage",
        // `sync_all`: src/wal.rs, `WriteAheadLog::flush`.
        syncs: true,
        notes: &[
            "opened to sync on commit, so that it also syncs when it rotates",
            "its recovery hands out committed transactions only; all records here are of one, committed at the end",
        ],
    };
    type Place = ();

    fn open(directory: &Path) -> Result<Self> {
        Ok(Self(WriteAheadLog::new(directory.to_owned(), true)?))
    }

    fn append(&mut self, payload: &[u8], count: usize) -> Result<()> {
        (0..count).try_for_each(|_| self.insert(payload))
    }

    fn commit(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        self.insert(payload)?;
        self.0.flush()?;
        Ok(())
    }

    fn fill(&mut self, payload: &[u8], count: usize) -> Result<Vec<()>> {
        let begun = self.0.log_begin(TRANSACTION)?;
        self.append(payload, count)?;
        self.0.log_commit(TRANSACTION, begun)?;
        Ok(vec![(); count])
    }

    fn scan(directory: &Path, seen: &mut Seen) -> Result<()> {
        let (_log, recovery) = WriteAheadLog::open_and_recover(directory.to_owned(), true)?;
        for record in recovery.redo_records.iter().filter(|record| record.record_type == LogRecordType::Insert) {
            seen.see(&record.data);
        }
        Ok(())
    }
}
