//! Reading a million records allocates nothing for a record.

#![allow(clippy::unwrap_used, reason = "a test that fails says so by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use mapwal::{Log, Options, Visibility};

const RECORDS: u64 = 1_000_000;
/// What may be allocated for each segment that is entered: its path, its mapping, its index.
const ALLOCATIONS_PER_SEGMENT: u64 = 32;

thread_local! {
    /// Of this thread only: the log's own threads allocate as they like.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it is; counting neither allocates nor unwinds. The other
// methods are defined by these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_million_records_are_read_without_an_allocation_for_any() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().segment_size_bytes(64 << 20);
    // SAFETY: the directory is a temporary one of this test.
    let log = unsafe { Log::open(dir.path(), &options) }.unwrap();
    for number in 0..RECORDS {
        log.append(1, &number.to_le_bytes()).unwrap();
    }
    log.close().unwrap();
    // SAFETY: as above.
    let log = unsafe { Log::open(dir.path(), &options) }.unwrap();
    let snapshot = log.snapshot().unwrap();
    let (before, mut read) = (ALLOCATIONS.get(), 0);
    for record in &snapshot {
        read += u64::from(record.unwrap().payload().len() == 8);
    }
    assert_eq!(read, RECORDS);
    assert!(ALLOCATIONS.get() - before <= ALLOCATIONS_PER_SEGMENT, "{} allocations", ALLOCATIONS.get() - before);
    let before = ALLOCATIONS.get();
    assert!(snapshot.iter().all(|record| record.is_ok()));
    assert_eq!(ALLOCATIONS.get() - before, 0, "once the segments are mapped");
    let mut follower = log.follow(snapshot.first_lsn(), Visibility::Durable).unwrap();
    let (before, mut read) = (ALLOCATIONS.get(), 0);
    while follower.next().unwrap().is_some() {
        read += 1;
    }
    assert_eq!(read, RECORDS);
    assert!(ALLOCATIONS.get() - before <= ALLOCATIONS_PER_SEGMENT, "{} allocations", ALLOCATIONS.get() - before);
}
