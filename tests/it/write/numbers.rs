//! Record numbers are dense, never lost, never given twice, and in the order of the file.

use std::collections::BTreeMap;

use mapwal::error::NumberSpace;
use mapwal::{Error, Log, Lsn};

use crate::format::spec::LINK;
use crate::support::files::segment_numbers;
use crate::support::scratch::open_small;
use crate::support::{append, assert_records, payload, small, stored, try_open};

const THREADS: u64 = 4;

/// Appends from several threads at once; returns what each record holds by its number.
fn append_from_threads(log: &Log, records_per_thread: u64) -> BTreeMap<u64, (u64, u64)> {
    let append_all = |thread: u64| {
        let mut numbers = Vec::new();
        for counter in 0..records_per_thread {
            let mut bytes = payload(thread * 1000 + counter);
            bytes[..8].copy_from_slice(&(thread << 32 | counter).to_le_bytes());
            numbers.push(log.append(0, &bytes).unwrap().0);
        }
        assert!(numbers.is_sorted(), "a thread's numbers grow");
        numbers
    };
    let mut records = BTreeMap::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || append_all(thread))).collect();
        for (thread, numbers) in (0..).zip(threads) {
            for (counter, number) in (0..).zip(numbers.join().unwrap()) {
                assert_eq!(records.insert(number, (thread, counter)), None, "record {number} was handed out twice");
            }
        }
    });
    records
}

fn assert_dense(records: &BTreeMap<u64, (u64, u64)>, first: u64) {
    assert_eq!(records.keys().next(), Some(&first));
    assert_eq!(records.keys().next_back(), Some(&(first + records.len() as u64 - 1)));
}

#[test]
fn numbers_are_dense_over_threads_and_rotations() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_small(dir.path());
    let records = append_from_threads(&log, 2000);
    assert_dense(&records, 1);
    assert_eq!(log.next_lsn(), Lsn(8001));
    assert_eq!(log.published_lsn().unwrap(), Lsn(8000));
    for record in &log.snapshot().unwrap() {
        let record = record.unwrap();
        let (thread, counter) = records[&record.lsn().0];
        assert_eq!(record.payload()[..8], (thread << 32 | counter).to_le_bytes(), "record {}", record.lsn());
    }
}

#[test]
fn the_order_of_numbers_is_the_order_in_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_small(dir.path());
    append_from_threads(&log, 1000);
    log.close().unwrap();
    let frames = stored::all_frames(dir.path());
    assert!(frames.iter().filter(|frame| frame.kind == LINK).count() > 5, "the log was to rotate");
    let numbers = frames.iter().filter(|frame| frame.is_record()).map(|frame| frame.lsn);
    assert!(numbers.eq(1..=4000));
}

#[test]
fn numbers_go_on_over_closes_and_drops() {
    let dir = tempfile::tempdir().unwrap();
    let mut next = 1;
    for life in 0..12 {
        let log = open_small(dir.path());
        assert_eq!(log.next_lsn(), Lsn(next), "life {life}");
        let records = append_from_threads(&log, 100);
        assert_dense(&records, next);
        next += 100 * THREADS;
        if life % 3 == 1 { log.close().unwrap() } else { drop(log) }
    }
}

#[test]
fn a_refused_append_uses_no_number() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_small(dir.path());
    append(&log, 1..=3);
    let too_long = vec![0; usize::try_from(log.payload_len_max()).unwrap() + 1];
    assert!(matches!(log.append(0, &too_long), Err(Error::RecordTooLarge { .. })));
    append(&log, 4..=5);
}

#[test]
fn a_log_may_begin_at_any_number() {
    let dir = tempfile::tempdir().unwrap();
    let log = try_open(dir.path(), &small().first_lsn(Lsn(1_000_000))).unwrap();
    assert_eq!((log.first_lsn(), log.next_lsn(), log.durable_lsn()), (Lsn(1_000_000), Lsn(1_000_000), Lsn(999_999)));
    append(&log, 1_000_000..=1_000_500);
    drop(log);
    let log = open_small(dir.path());
    assert_eq!(log.first_lsn(), Lsn(1_000_000));
    assert_records(&log.snapshot().unwrap(), 1_000_000, 1_000_500);
}

#[test]
fn a_first_number_survives_without_a_record() {
    for close in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let log = try_open(dir.path(), &small().first_lsn(Lsn(77))).unwrap();
        if close {
            log.close().unwrap()
        } else {
            drop(log)
        }
        assert_eq!(open_small(dir.path()).next_lsn(), Lsn(77), "closed: {close}");
    }
}

#[test]
fn the_first_number_of_a_log_that_exists_is_not_changed_by_the_option() {
    let dir = tempfile::tempdir().unwrap();
    append(&open_small(dir.path()), 1..=10);
    let log = try_open(dir.path(), &small().first_lsn(Lsn(500))).unwrap();
    assert_eq!((log.first_lsn(), log.next_lsn()), (Lsn(1), Lsn(11)));
}

#[test]
fn a_first_number_without_room_after_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for first in [u64::MAX, u64::MAX - 1000] {
        let refused = try_open(dir.path(), &small().first_lsn(Lsn(first)));
        assert!(matches!(refused, Err(Error::Exhausted(NumberSpace::Records))), "{first}: {refused:?}");
    }
    assert!(segment_numbers(dir.path()).is_empty(), "nothing is created");
}

#[test]
fn a_log_near_the_end_of_all_numbers_says_so_before_it_runs_out() {
    let dir = tempfile::tempdir().unwrap();
    // The last number that a segment may begin with.
    let first = u64::MAX - (1 << 33) - 1;
    let log = try_open(dir.path(), &small().first_lsn(Lsn(first))).unwrap();
    let mut next = first;
    let error = loop {
        match log.append(0, &[0; 4000]) {
            Ok(lsn) => assert_eq!(lsn, Lsn(next)),
            Err(error) => break error,
        }
        next += 1;
        assert!(next < first + 100, "two segments hold no more");
    };
    assert!(matches!(error, Error::Exhausted(NumberSpace::Records)), "{error}");
    assert_eq!(log.sync().unwrap(), Lsn(next - 1));
}
