//! Recovery of a million records allocates nothing for a record, and keeps memory for its transactions only.

#![allow(clippy::unwrap_used, reason = "a test that fails says so by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use mapwal::Options;
use mapwal::wal::{Recovery, Result, TransactionId, Wal, WalOptions, WalRecord};

const SEGMENT_SIZE: u64 = 4 << 20;
/// What is kept for a segment: foremost its index, of 4 bytes for each 16 headers that it could hold.
const SEGMENT_MEMORY: u64 = SEGMENT_SIZE / 24 / 16 * 4 + 1024;
const TRANSACTIONS: u64 = 100;

thread_local! {
    /// Of this thread only: the log's own threads allocate as they like.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<isize> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: isize) {
    let live = LIVE_BYTES.get() + bytes;
    LIVE_BYTES.set(live);
    PEAK_BYTES.set(PEAK_BYTES.get().max(live));
    if bytes > 0 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    }
}

// SAFETY: every call is passed on to the system's allocator as it is; counting neither allocates nor unwinds. The other
// methods are defined by these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(isize::try_from(layout.size()).unwrap_or(0));
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-isize::try_from(layout.size()).unwrap_or(0));
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `work`; returns its result, how often it allocated, and how many bytes more than before it held at its most.
fn measure<T>(work: impl FnOnce() -> T) -> (T, u64, isize) {
    let (allocations, live) = (ALLOCATIONS.get(), LIVE_BYTES.get());
    PEAK_BYTES.set(live);
    let result = work();
    (result, ALLOCATIONS.get() - allocations, PEAK_BYTES.get() - live)
}

fn recover(path: &Path) -> (Wal, Recovery) {
    let log = Options::new().segment_size_bytes(SEGMENT_SIZE);
    let options = WalOptions::new().log(log).sync_on_commit(false);
    // SAFETY: the directory is a temporary one of this test, which nobody else touches.
    unsafe { Wal::open_and_recover(path, &options) }.unwrap()
}

/// Fills a log with so many updates of all transactions in turn; every other transaction commits.
fn fill(path: &Path, updates: u64) {
    let (wal, _) = recover(path);
    let all = (1..=TRANSACTIONS).map(TransactionId);
    for transaction in all.clone() {
        wal.log_begin(transaction).unwrap();
    }
    for number in 0..updates {
        wal.log_update(TransactionId(1 + number % TRANSACTIONS), None, None, b"").unwrap();
    }
    for transaction in all.step_by(2) {
        wal.log_commit(transaction, None).unwrap().applied();
    }
    wal.close().unwrap();
}

fn count_records<'r>(records: impl Iterator<Item = Result<WalRecord<'r>>>) -> u64 {
    records.map(|record| u64::from(record.unwrap().data().is_empty())).sum()
}

#[test]
fn recovery_allocates_for_transactions_and_not_for_records() {
    const FEW: u64 = 10_000;
    const MANY: u64 = 1_000_000;
    let (few, many) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(few.path(), FEW);
    fill(many.path(), MANY);

    let (opened, allocations_few, peak_few) = measure(|| recover(few.path()));
    drop(opened);
    let ((wal, recovery), allocations, peak) = measure(|| recover(many.path()));
    assert_eq!(recovery.records_processed(), MANY + TRANSACTIONS + TRANSACTIONS / 2);
    // The log below takes a few for each segment, and for each MiB that it reads to find its end.
    let segments = recovery.segments_scanned() as u64;
    let allowed = allocations_few + 100 * segments;
    assert!(allocations < allowed && allowed < MANY / 100, "{allocations} allocations, {allocations_few} with few");
    let allowed = peak_few.unsigned_abs() as u64 + SEGMENT_MEMORY * segments;
    let peak = peak.unsigned_abs() as u64;
    assert!(peak < allowed && allowed < 2 * MANY, "{peak} bytes, {peak_few} with few records; {allowed} are allowed");

    let (seen, allocations, _) = measure(|| count_records(recovery.redo()));
    assert_eq!((seen, allocations), (MANY / 2, 0), "redo");
    let (seen, allocations, _) = measure(|| count_records(recovery.history()));
    assert_eq!((seen, allocations), (MANY, 0), "history");
    let (seen, allocations, peak) = measure(|| count_records(recovery.undo()));
    assert_eq!(seen, MANY / 2, "undo");
    assert!(allocations < 16 && peak < 16 << 10, "undo made {allocations} allocations, of {peak} bytes at most");
    drop(wal);
}
