//! Appends that do not come to their end, and syncs that fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;

use mapwal::{Error, Lsn};
use rustix::io::Errno;

use crate::support::faulty::{Call, Faulty};
use crate::support::{append, assert_records, open, open_on, small, tag};

#[test]
fn a_closure_that_panics_leaves_a_void_record_and_a_working_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &small());
    append(&log, 1..=3);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        log.append_with(9, 100, |bytes| {
            bytes[..50].fill(7);
            panic!("on purpose");
        })
    }));
    assert!(panicked.is_err());
    append(&log, 5..=7);
    assert_eq!(log.sync().unwrap(), Lsn(7));
    drop(log);
    let log = open(dir.path(), &small());
    assert!(log.get(Lsn(4)).unwrap().is_none());
    let numbers: Vec<u64> = log.snapshot().unwrap().iter().map(|record| record.unwrap().lsn().0).collect();
    assert_eq!(numbers, [1, 2, 3, 5, 6, 7]);
}

#[test]
fn a_closure_cannot_wait_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &small());
    let lsn = log
        .append_with(0, 8, |_| {
            assert!(matches!(log.sync(), Err(Error::InsideAppend)));
            assert!(matches!(log.append(0, b""), Err(Error::InsideAppend)));
            assert!(matches!(log.wait_durable(Lsn(1)), Err(Error::InsideAppend)));
            assert!(matches!(log.rotate(), Err(Error::InsideAppend)));
            assert!(matches!(log.put_meta(0, b""), Err(Error::InsideAppend)));
            assert!(matches!(log.truncate_after(Lsn(0)), Err(Error::InsideAppend)));
        })
        .unwrap();
    assert_eq!(log.sync().unwrap(), lsn);
}

#[test]
fn a_failing_sync_poisons_the_log_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    append(&log, 1..=10);
    assert_eq!(log.sync().unwrap(), Lsn(10));
    append(&log, 11..=20);
    storage.fail_once(Call::SyncMapping, Errno::IO);
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                let error = log.wait_durable(Lsn(20)).unwrap_err();
                assert!(matches!(error, Error::Poisoned { durable: Lsn(10), .. }), "{error}");
            });
        }
    });
    let tried = storage.count(Call::SyncMapping);
    assert!(matches!(log.append(0, b"more"), Err(Error::Poisoned { .. })));
    assert!(matches!(log.sync(), Err(Error::Poisoned { .. })));
    assert!(matches!(log.wait_durable(Lsn(1)), Err(Error::Poisoned { .. })), "nothing is acknowledged any more");
    assert_eq!(storage.count(Call::SyncMapping), tried, "a failed sync is not tried again");
    assert_eq!(log.durable_lsn(), Lsn(10));
    assert_records(&log.snapshot().unwrap(), 1, 20);
    drop(log);
    let log = open(dir.path(), &small());
    assert!(log.next_lsn() > Lsn(10), "what was acknowledged is there");
    let next = log.next_lsn();
    assert_records(&log.snapshot().unwrap(), 1, next.0 - 1);
    assert_eq!(log.append(tag(next.0), b"").unwrap(), next);
}
