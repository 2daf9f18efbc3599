//! Reading allocates nothing for a record.
//!
//! A program of its own, since it counts what its allocator is asked for.

use std::path::Path;

use allocation_counter::measure;
use mapwal::{Follower, Log, LogReader, Lsn, Options, Snapshot, Visibility};

const RECORDS: u64 = 1_000_000;
/// Several segments for all records.
const SEGMENT_SIZE_BYTES: u64 = 8 << 20;

fn open(path: &Path) -> Log {
    let options = Options::new().segment_size_bytes(SEGMENT_SIZE_BYTES).first_segment_size_bytes(SEGMENT_SIZE_BYTES);
    // SAFETY: the directory is a temporary one that only this test touches.
    unsafe { Log::open(path, &options) }.expect("the log opens")
}

/// Allocations while all records are iterated over.
fn allocations_of_iterating(snapshot: &Snapshot) -> u64 {
    let mut records = 0;
    let counted = measure(|| {
        for record in snapshot {
            let record = record.expect("a good record");
            records += 1;
            assert_eq!(record.payload(), record.lsn().0.to_le_bytes());
        }
    });
    assert_eq!(records, RECORDS);
    counted.count_total
}

/// Allocations while all records are followed.
fn allocations_of_following(follower: &mut Follower) -> u64 {
    let mut records = 0;
    let counted = measure(|| {
        while let Some(record) = follower.next().expect("a good record") {
            records += 1;
            assert_eq!(record.payload(), record.lsn().0.to_le_bytes());
        }
    });
    assert_eq!(records, RECORDS);
    counted.count_total
}

#[test]
fn a_million_records_are_read_without_an_allocation() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = open(dir.path());
    for number in 1..=RECORDS {
        log.append(0, &number.to_le_bytes()).expect("the record is appended");
    }
    let segments = 1 + RECORDS * 32 / SEGMENT_SIZE_BYTES;
    assert_eq!(allocations_of_iterating(&log.snapshot().expect("a snapshot")), 0, "of the log that was written");
    let mut follower = log.follow(Lsn(1), Visibility::Published).expect("a follower");
    assert_eq!(allocations_of_following(&mut follower), 0, "of its follower");

    drop(log);
    let log = open(dir.path());
    let snapshot = log.snapshot().expect("a snapshot");
    let first = allocations_of_iterating(&snapshot);
    assert!(first > 0 && first <= 20 * segments, "{first} allocations, to map and index {segments} segments");
    assert_eq!(allocations_of_iterating(&snapshot), 0, "of a log that was opened again, once its segments are mapped");
    let mut follower = log.follow(Lsn(1), Visibility::Durable).expect("a follower");
    assert_eq!(allocations_of_following(&mut follower), 0, "of its follower");

    // SAFETY: as in `open`.
    let reader = unsafe { LogReader::open(dir.path()) }.expect("a reader");
    let snapshot = reader.snapshot().expect("a snapshot");
    let first = allocations_of_iterating(&snapshot);
    assert!(first <= 20 * segments, "{first} allocations, to map and index {segments} segments");
    assert_eq!(allocations_of_iterating(&snapshot), 0, "of a reader without the lock, once its segments are mapped");
}
