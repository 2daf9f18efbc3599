//! What tests of transactions share.

use std::path::Path;

use mapwal::wal::{PageId, RecordType, Recovery, Result, TransactionId, Wal, WalOptions, WalRecord};
use mapwal::{Log, Lsn};

use crate::support;

pub(crate) const A: TransactionId = TransactionId(101);
pub(crate) const B: TransactionId = TransactionId(102);
pub(crate) const C: TransactionId = TransactionId(103);

pub(crate) const PAGE: PageId = PageId(0);

pub(crate) fn small() -> WalOptions {
    WalOptions::new().log(support::small())
}

pub(crate) fn recover(path: &Path, options: &WalOptions) -> (Wal, Recovery) {
    try_recover(path, options).expect("the log is recovered")
}

pub(crate) fn try_recover(path: &Path, options: &WalOptions) -> Result<(Wal, Recovery)> {
    // SAFETY: the directory is a temporary one of this test, which changes its files only while no log is open.
    unsafe { Wal::open_and_recover(path, options) }
}

pub(crate) fn open(path: &Path) -> Wal {
    // SAFETY: as in `try_recover`.
    unsafe { Wal::open(path, &small()) }.expect("the log opens")
}

/// Opens the log below a wal, as someone does who writes what a wal would not.
pub(crate) fn below(path: &Path) -> Log {
    support::open(path, &support::small())
}

/// The payload of a record as the format has it, field by field.
pub(crate) struct Raw {
    pub(crate) transaction: u64,
    pub(crate) prev: Option<u64>,
    pub(crate) undo_next: Option<u64>,
    pub(crate) data: Vec<u8>,
}

impl Raw {
    pub(crate) fn of(transaction: TransactionId, prev: impl Into<Option<u64>>) -> Self {
        Self { transaction: transaction.0, prev: prev.into(), undo_next: None, data: b"data".to_vec() }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let flags = u32::from(self.prev.is_some()) | u32::from(self.undo_next.is_some()) << 2;
        let mut bytes = Vec::new();
        for field in [self.transaction, self.prev.unwrap_or(0), 0, self.undo_next.unwrap_or(0)] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(flags.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.data);
        bytes
    }

    pub(crate) fn append(&self, log: &Log, record_type: RecordType) -> Lsn {
        log.append(record_type.code(), &self.bytes()).expect("appended")
    }
}

/// Number and data of each record.
pub(crate) fn list<'r>(records: impl Iterator<Item = Result<WalRecord<'r>>>) -> Vec<(u64, String)> {
    let show = |record: WalRecord<'_>| (record.lsn().0, String::from_utf8_lossy(record.data()).into_owned());
    records.map(|record| show(record.expect("a good record"))).collect()
}

/// The numbers of the records.
pub(crate) fn lsns<'r>(records: impl Iterator<Item = Result<WalRecord<'r>>>) -> Vec<u64> {
    records.map(|record| record.expect("a good record").lsn().0).collect()
}

pub(crate) fn incomplete(recovery: &Recovery) -> Vec<TransactionId> {
    recovery.incomplete_transactions().iter().map(|open| open.transaction).collect()
}

/// A record's worth of bytes, so that a few dozen fill the smallest segment.
pub(crate) fn bulk() -> Vec<u8> {
    vec![0xab; 1000]
}
