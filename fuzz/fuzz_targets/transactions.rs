//! Records of any type and contents are recovered as transactions: nothing panics, and undo and redo come to an end.

#![no_main]

#[allow(dead_code, clippy::unwrap_used, reason = "shared with the tests, which use other parts of it")]
#[path = "../../tests/it/format/spec.rs"]
mod spec;
#[allow(dead_code, reason = "shared by the targets, which use different parts of it")]
mod support;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use mapwal::Log;
use mapwal::wal::{RecoverFrom, Wal, WalOptions};

const CHECKPOINT: u16 = 7;
/// Where a header has its flags.
const FLAGS_AT: usize = 32;

/// What is written to the log below. Numbers are small, so that records refer to each other.
#[derive(Debug, Arbitrary)]
enum Entry {
    Record {
        kind: u8,
        transaction: u8,
        prev: Option<u8>,
        page: Option<u8>,
        undo_next: Option<u8>,
        data: Vec<u8>,
    },
    Checkpoint {
        of_begin: bool,
        redo: u8,
        active: Vec<(u8, u8, u8, bool)>,
        dirty: Vec<(u8, u8)>,
    },
    /// Any payload under any type.
    Raw {
        tag: u16,
        payload: Vec<u8>,
    },
    /// The slot of the last checkpoint, or that of the transactions' numbers.
    Slot {
        checkpoint: bool,
        value: u64,
    },
    Meta {
        slot: u8,
        value: Vec<u8>,
    },
    Rotate,
}

impl Entry {
    fn write(&self, log: &Log) {
        match *self {
            Self::Record { kind, transaction, prev, page, undo_next, ref data } => {
                let mut payload = header(transaction, [prev, page, undo_next]);
                payload.extend(data);
                log.append((kind % 10).into(), &payload).map(drop).expect("there is room");
            }
            Self::Checkpoint { of_begin, redo, ref active, ref dirty } => {
                let mut payload = header(0, [None; 3]);
                payload[FLAGS_AT] |= u8::from(of_begin) << 3;
                payload.extend(u64::from(redo).to_le_bytes());
                payload.extend((active.len() as u32).to_le_bytes());
                payload.extend((dirty.len() as u32).to_le_bytes());
                for &(transaction, first, last, begun) in active {
                    let words = [transaction, first, last, begun.into()].map(u64::from);
                    payload.extend(words.into_iter().flat_map(u64::to_le_bytes));
                }
                for &(page, lsn) in dirty {
                    payload.extend([page, lsn].map(u64::from).into_iter().flat_map(u64::to_le_bytes));
                }
                log.append(CHECKPOINT, &payload).map(drop).expect("there is room");
            }
            Self::Raw { tag, ref payload } => log.append(tag, payload).map(drop).expect("there is room"),
            Self::Slot { checkpoint, value } => {
                log.put_meta(if checkpoint { 15 } else { 14 }, &value.to_le_bytes()).expect("there is room");
            }
            Self::Meta { slot, ref value } => {
                log.put_meta(usize::from(slot % 16), &value[..value.len().min(256)]).expect("there is room");
            }
            Self::Rotate => log.rotate().map(drop).expect("there is room"),
        }
    }
}

/// Before a record's data; of previous record, page and next record to undo those that there are.
fn header(transaction: u8, fields: [Option<u8>; 3]) -> Vec<u8> {
    let mut bytes = u64::from(transaction).to_le_bytes().to_vec();
    bytes.extend(fields.into_iter().flat_map(|field| u64::from(field.unwrap_or(0)).to_le_bytes()));
    let flags = fields.into_iter().zip(0..).map(|(field, bit)| u32::from(field.is_some()) << bit).sum::<u32>();
    bytes.extend(flags.to_le_bytes());
    bytes.extend([0; 4]);
    bytes
}

fuzz_target!(|entries: Vec<Entry>| {
    let dir = support::scratch();
    let log = support::open(dir.path()).expect("a new log opens");
    entries.iter().for_each(|entry| entry.write(&log));
    let records = log.next_lsn().0 - 1;
    log.close().expect("nothing fails");
    for from in [RecoverFrom::Checkpoint, RecoverFrom::OldestRecord] {
        let options = WalOptions::new().log(support::options()).recover_from(from);
        // SAFETY: the directory is this process's, which has no other log open in it.
        let Ok((wal, recovery)) = (unsafe { Wal::open_and_recover(dir.path(), &options) }) else { continue };
        assert_eq!(recovery.max_lsn().0, records);
        // An error ends each of them, and takes a place of its own.
        let ends = |count: usize| assert!(count as u64 <= records + 1, "{count} of {records} records");
        ends(recovery.redo().count());
        ends(recovery.history().count());
        ends(recovery.undo().count());
        ends(recovery.plain_records().count());
        recovery.checkpoint().map(drop).expect("it was checked before");
        drop(recovery);
        wal.close().expect("nothing fails");
    }
});
