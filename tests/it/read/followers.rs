//! Followers in the process that writes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mapwal::{Error, Lsn, Visibility};

use crate::support::faulty::{Call, Faulty};
use crate::support::scratch::{open_small, scratch};
use crate::support::{append, assert_record, open_on, small, try_open};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_follower_sees_every_record_once_while_threads_append_over_rotations() {
    const RECORDS: u64 = 6000;
    let dir = scratch();
    let log = open_small(dir.path());
    let counters = std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            let log = &log;
            scope.spawn(move || {
                for counter in 0..RECORDS / 2 {
                    log.append(0, &[thread, counter, 0, 0, 0, 0, 0, 0].map(u64::to_le_bytes).concat()).unwrap();
                }
            });
        }
        let mut follower = log.follow(Lsn(1), Visibility::Published).unwrap();
        let mut counters = [0; 2];
        for number in 1..=RECORDS {
            assert_eq!(follower.next_lsn(), Lsn(number));
            let record = follower.next_timeout(PATIENCE).unwrap().expect("it comes");
            assert_eq!(record.lsn(), Lsn(number));
            let words: &[u64] = record.payload_as().unwrap();
            let counter = &mut counters[usize::try_from(words[0]).unwrap()];
            assert_eq!(words[1], *counter, "thread {}", words[0]);
            *counter += 1;
        }
        assert!(follower.next().unwrap().is_none());
        counters
    });
    assert_eq!(counters, [RECORDS / 2; 2]);
}

#[test]
fn a_follower_begins_anywhere() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=1500);
    for from in [1, 2, 16, 17, 400, 1499, 1500] {
        let mut follower = log.follow(Lsn(from), Visibility::Published).unwrap();
        for number in from..=1500 {
            assert_record(&follower.next().unwrap().unwrap(), number);
        }
        assert!(follower.next().unwrap().is_none());
    }
    let mut follower = log.follow(Lsn(1501), Visibility::Published).unwrap();
    assert!(follower.next().unwrap().is_none());
    append(&log, 1501..=1501);
    assert_record(&follower.next().unwrap().unwrap(), 1501);
}

#[test]
fn a_follower_does_not_begin_where_there_is_no_record() {
    let dir = scratch();
    let log = try_open(dir.path(), &small().first_lsn(Lsn(10))).unwrap();
    append(&log, 10..=20);
    let follow = |lsn| log.follow(Lsn(lsn), Visibility::Published);
    assert!(matches!(follow(9), Err(Error::Trimmed { lsn: Lsn(9), first: Lsn(10) })));
    assert!(matches!(follow(22), Err(Error::NotAppended { lsn: Lsn(22), next: Lsn(21) })));
}

#[test]
fn a_durable_follower_reads_nothing_beyond_what_is_durable() {
    let dir = scratch();
    let log = open_small(dir.path());
    let mut follower = log.follow(Lsn(1), Visibility::Durable).unwrap();
    for group in 0..10 {
        append(&log, group * 100 + 1..=group * 100 + 100);
        assert!(follower.next().unwrap().is_none(), "nothing of it is durable");
        log.wait_durable(Lsn(group * 100 + 50)).unwrap();
        while let Some(record) = follower.next().unwrap() {
            assert!(record.lsn() <= log.durable_lsn());
        }
        assert_eq!(follower.next_lsn(), log.durable_lsn().next());
        log.sync().unwrap();
        while follower.next().unwrap().is_some() {}
    }
}

#[test]
fn a_durable_follower_is_never_ahead_of_the_sync() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    append(&log, 1..=10);
    log.sync().unwrap();
    append(&log, 11..=20);
    storage.hold(Call::SyncMapping);
    std::thread::scope(|scope| {
        scope.spawn(|| log.sync().unwrap());
        storage.wait_until_held();
        let mut follower = log.follow(Lsn(1), Visibility::Durable).unwrap();
        for number in 1..=10 {
            assert_record(&follower.next().unwrap().unwrap(), number);
        }
        assert!(follower.next_timeout(Duration::from_millis(20)).unwrap().is_none());
        storage.release();
        for number in 11..=20 {
            assert_record(&follower.next_timeout(PATIENCE).unwrap().expect("it becomes durable"), number);
        }
    });
}

#[test]
fn a_follower_waits_as_long_as_it_is_told() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=1);
    let mut follower = log.follow(Lsn(2), Visibility::Published).unwrap();
    let began = Instant::now();
    assert!(follower.next_timeout(Duration::from_millis(100)).unwrap().is_none());
    assert!(began.elapsed() >= Duration::from_millis(100));
}

#[test]
fn a_record_of_a_follower_can_be_kept() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=1000);
    let mut follower = log.follow(Lsn(1), Visibility::Published).unwrap();
    let mut records = Vec::new();
    while let Some(record) = follower.next_ref().unwrap() {
        records.push(record);
    }
    drop((follower, log));
    for (record, number) in records.iter().zip(1..) {
        assert_record(&record.record(), number);
    }
    assert_eq!(records.len(), 1000);
}

#[test]
fn a_follower_from_the_next_record_gets_exactly_that_one_while_others_append() {
    let dir = scratch();
    let log = open_small(dir.path());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    log.append_with(1, 512, |bytes| bytes.fill(7)).unwrap();
                }
            });
        }
        for _ in 0..300 {
            let from = log.next_lsn();
            let mut follower = log.follow(from, Visibility::Published).unwrap();
            let first = follower.next_timeout(PATIENCE).unwrap().map(|record| record.lsn());
            if first != Some(from) {
                done.store(true, Ordering::Relaxed);
            }
            assert_eq!(first, Some(from));
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_follower_that_waits_is_told_when_its_log_is_gone() {
    for visibility in [Visibility::Published, Visibility::Durable] {
        let dir = scratch();
        let log = open_small(dir.path());
        append(&log, 1..=10);
        log.sync().unwrap();
        let mut follower = log.follow(Lsn(1), visibility).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                for number in 1..=10 {
                    assert_record(&follower.next_blocking().unwrap(), number);
                }
                let began = Instant::now();
                assert!(matches!(follower.next_blocking(), Err(Error::Closed)));
                assert!(matches!(follower.next_timeout(PATIENCE), Err(Error::Closed)));
                assert!(follower.next().unwrap().is_none());
                began.elapsed()
            });
            std::thread::sleep(Duration::from_millis(50));
            log.close().unwrap();
            assert!(waiting.join().unwrap() < PATIENCE / 2);
        });
    }
}
