//! Making records durable: what a sync covers, which threads wait for it, and that many wait for one.

use std::sync::Barrier;
use std::time::Duration;

use mapwal::{Error, Lsn};
use rustix::io::Errno;

use crate::support::faulty::{Call, Faulty};
use crate::support::scratch::scratch;
use crate::support::{append, open_on, payload};

#[test]
fn a_sync_covers_all_that_was_appended_before_it() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    assert_eq!(log.durable_lsn(), Lsn(0));
    for round in 0..10 {
        append(&log, round * 300 + 1..=round * 300 + 300);
        assert_eq!(log.durable_lsn(), Lsn(round * 300), "nobody asked for it");
        assert_eq!(log.sync().unwrap(), Lsn(round * 300 + 300));
        assert_eq!(log.durable_lsn(), Lsn(round * 300 + 300));
    }
}

#[test]
fn a_sync_covers_what_other_threads_appended_before_it() {
    let dir = scratch();
    let log = open_on(&Faulty::new(dir.path()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..300 {
                    let lsn = log.append(0, &[1; 50]).unwrap();
                    let next = log.next_lsn();
                    let durable = log.sync().unwrap();
                    assert!(durable >= lsn && durable >= next.previous(), "{durable} of {next} before the sync");
                    assert!(log.durable_lsn() >= durable, "the watermark does not go back");
                }
            });
        }
    });
}

#[test]
fn nothing_is_synced_twice() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    append(&log, 1..=10);
    log.sync().unwrap();
    let syncs = storage.count(Call::SyncMapping);
    for _ in 0..10 {
        assert_eq!(log.sync().unwrap(), Lsn(10));
        log.wait_durable(Lsn(10)).unwrap();
        log.wait_durable(Lsn(1)).unwrap();
    }
    assert_eq!(storage.count(Call::SyncMapping), syncs);
}

#[test]
fn a_record_that_is_not_appended_cannot_be_waited_for() {
    let dir = scratch();
    let log = open_on(&Faulty::new(dir.path()));
    append(&log, 1..=10);
    for lsn in [11, 12, u64::MAX] {
        match log.wait_durable(Lsn(lsn)) {
            Err(Error::NotAppended { lsn: named, next }) => assert_eq!((named, next), (Lsn(lsn), Lsn(11))),
            other => panic!("{other:?}"),
        }
    }
    log.wait_durable(Lsn(0)).unwrap();
}

#[test]
fn waiting_for_a_record_makes_it_durable() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    append(&log, 1..=1000);
    log.wait_durable(Lsn(700)).unwrap();
    assert!(log.durable_lsn() >= Lsn(700));
    // What is durable survives a storage that takes nothing any more.
    storage.fail(Call::SyncMapping, Errno::IO);
    log.wait_durable(Lsn(700)).unwrap();
}

#[test]
fn many_commits_share_a_sync() {
    const THREADS: usize = 16;
    const COMMITS: usize = 40;
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    let before = storage.count(Call::SyncMapping);
    let barrier = Barrier::new(THREADS + 1);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..COMMITS {
                    // All of a round append before the first of them waits.
                    barrier.wait();
                    let lsn = log.append(0, &[3; 40]).unwrap();
                    barrier.wait();
                    log.wait_durable(lsn).unwrap();
                    assert!(log.durable_lsn() >= lsn);
                }
            });
        }
        for _ in 0..COMMITS {
            barrier.wait();
            barrier.wait();
        }
    });
    let syncs = storage.count(Call::SyncMapping) - before;
    assert_eq!(syncs, COMMITS, "one sync for the {THREADS} commits of a round");
}

#[test]
fn calls_that_come_while_a_sync_runs_share_the_next() {
    const THREADS: u64 = 8;
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    let before = storage.count(Call::SyncMapping);
    append(&log, 1..=1);
    storage.hold(Call::SyncMapping);
    std::thread::scope(|scope| {
        let log = &log;
        scope.spawn(|| log.sync().unwrap());
        storage.wait_until_held();
        let waiting: Vec<_> = (0..THREADS)
            .map(|_| {
                let lsn = log.append(0, &payload(2)).unwrap();
                scope.spawn(move || log.wait_durable(lsn).unwrap())
            })
            .collect();
        std::thread::sleep(Duration::from_millis(50));
        assert!(waiting.iter().all(|thread| !thread.is_finished()), "none is acknowledged by the sync that runs");
        assert_eq!(log.durable_lsn(), Lsn(0));
        storage.release();
    });
    assert_eq!(log.durable_lsn(), Lsn(1 + THREADS));
    assert_eq!(storage.count(Call::SyncMapping) - before, 2, "the one that ran, and one for all who came meanwhile");
}

#[test]
fn one_sync_runs_at_a_time() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    append(&log, 1..=1);
    storage.hold(Call::SyncMapping);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                log.append(0, b"more").unwrap();
                log.sync().unwrap();
            });
        }
        storage.wait_until_held();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(storage.waiting(), 1, "two at once could take each other's error");
        storage.release();
    });
}

#[test]
fn appends_go_on_while_a_sync_runs() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    append(&log, 1..=10);
    storage.hold(Call::SyncMapping);
    std::thread::scope(|scope| {
        scope.spawn(|| log.sync().unwrap());
        storage.wait_until_held();
        append(&log, 11..=200);
        assert_eq!(log.published_lsn().unwrap(), Lsn(200), "and are seen");
        assert_eq!(log.durable_lsn(), Lsn(0));
        storage.release();
    });
    assert_eq!(log.sync().unwrap(), Lsn(200));
}

#[test]
fn a_segment_that_was_filled_is_durable_before_what_follows_it() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    append(&log, 1..=1000);
    let before = storage.synced().len();
    log.sync().unwrap();
    let synced = storage.synced().split_off(before);
    assert!(synced.len() > 2 && synced.is_sorted(), "in the order of the log: {synced:?}");
}

#[test]
fn a_close_makes_everything_durable() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    append(&log, 1..=10);
    storage.fail(Call::SyncMapping, Errno::IO);
    assert!(matches!(log.close(), Err(Error::Poisoned { durable: Lsn(0), .. })));
}
