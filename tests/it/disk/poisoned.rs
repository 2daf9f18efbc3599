//! A failed sync is never tried again: the log refuses all that writes, and reading goes on.

use std::io::Write;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mapwal::{Error, Log, Lsn, Options, Visibility};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::support::child::{self, Child};
use crate::support::faulty::{Call, Faulty};
use crate::support::scratch::{open_small, scratch};
use crate::support::wait::until;
use crate::support::{append, assert_record, assert_records, open_on, payload, try_open_on_with};

/// A log whose records 1 to 100 are durable, records 101 to 200 are not, and whose storage fails to sync from now on.
fn failing() -> (TempDir, Arc<Faulty>, Log) {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    append(&log, 1..=100);
    assert_eq!(log.sync().unwrap(), Lsn(100));
    append(&log, 101..=200);
    storage.fail(Call::SyncMapping, Errno::IO);
    (dir, storage, log)
}

/// As [`failing`], and the sync has failed.
fn poisoned() -> (TempDir, Arc<Faulty>, Log) {
    let (dir, storage, log) = failing();
    assert_poisoned(log.sync());
    (dir, storage, log)
}

fn assert_poisoned<T: std::fmt::Debug>(result: Result<T, Error>) {
    match result {
        Err(Error::Poisoned { path, durable: Lsn(100), source }) => {
            assert!(path.is_dir());
            assert_eq!(source.raw_os_error(), Some(Errno::IO.raw_os_error()));
        }
        other => panic!("expected a poisoned log, got {other:?}"),
    }
}

#[test]
fn a_segment_that_cannot_begin_to_be_written_fails_the_sync_that_comes_to_it() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    append(&log, 1..=100);
    assert_eq!(log.sync().unwrap(), Lsn(100));
    append(&log, 101..=101);
    log.rotate().unwrap();
    append(&log, 102..=200);
    storage.fail(Call::StartWriting, Errno::IO);
    assert_poisoned(log.sync());
}

/// What has been told to begin to be written may hold records.
#[test]
fn blocks_that_cannot_begin_to_be_written_ahead_of_syncs_fail_the_next_sync() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let options = Options::new().segment_size_bytes(8 << 20).first_segment_size_bytes(8 << 20);
    let log = try_open_on_with(&storage, &options).unwrap();
    storage.fail_once(Call::StartWriting, Errno::IO);
    let failed = (0..100_000).find_map(|_| {
        log.append(1, &[7; 1000]).unwrap();
        log.sync().err()
    });
    assert!(matches!(failed, Some(Error::Poisoned { .. })), "{failed:?}");
}

#[test]
fn each_thread_that_waits_hears_of_a_failed_sync() {
    let (_dir, storage, log) = failing();
    storage.hold(Call::SyncMapping);
    std::thread::scope(|scope| {
        let log = &log;
        let mut waiting: Vec<_> = (101..=106).map(|lsn| scope.spawn(move || log.wait_durable(Lsn(lsn)))).collect();
        waiting.push(scope.spawn(move || log.sync().map(drop)));
        storage.wait_until_held();
        // Time for the others to come and wait for the one that syncs; a later one gets the same error.
        std::thread::sleep(Duration::from_millis(50));
        storage.release();
        for thread in waiting {
            assert_poisoned(thread.join().unwrap());
        }
    });
    assert_eq!(storage.count(Call::SyncMapping), syncs_before_failure() + 1, "one sync for all of them");
}

/// How often the storage is asked to sync a mapping until [`failing`] returns.
fn syncs_before_failure() -> usize {
    let (_dir, storage, _log) = failing();
    storage.count(Call::SyncMapping)
}

#[test]
fn nothing_that_writes_succeeds_after_a_failed_sync() {
    let (_dir, _storage, log) = poisoned();
    assert_poisoned(log.append(0, b"more"));
    assert_poisoned(log.append_with(0, 8, |_| panic!("nothing is to be filled")));
    assert_poisoned(log.rotate());
    assert_poisoned(log.sync());
    assert_poisoned(log.wait_durable(Lsn(200)));
    assert_poisoned(log.wait_durable(Lsn(100)));
    assert_eq!(log.next_lsn(), Lsn(201), "no number is used");
    assert_poisoned(log.close());
}

#[test]
fn a_batch_of_nothing_is_refused_as_every_write_is() {
    let (_dir, _storage, log) = poisoned();
    assert_poisoned(log.append_batch(&[]));
    assert_poisoned(log.append_batch_at(log.next_lsn(), &[]));
}

#[test]
fn a_failed_sync_is_not_tried_again() {
    let (_dir, storage, log) = poisoned();
    let syncs = storage.count(Call::SyncMapping);
    storage.heal();
    assert_poisoned(log.sync());
    assert_poisoned(log.wait_durable(Lsn(101)));
    assert_poisoned(log.append(0, b"more"));
    assert_poisoned(log.close());
    assert_eq!(storage.count(Call::SyncMapping), syncs);
}

#[test]
fn what_is_durable_stays_as_it_was_after_a_failed_sync() {
    let (_dir, storage, log) = poisoned();
    storage.heal();
    for _ in 0..3 {
        assert_poisoned(log.sync());
        assert_eq!(log.durable_lsn(), Lsn(100));
    }
    let mut follower = log.follow(Lsn(1), Visibility::Durable).unwrap();
    for number in 1..=100 {
        assert_record(&follower.next().unwrap().unwrap(), number);
    }
    assert!(follower.next().unwrap().is_none());
}

#[test]
fn reading_goes_on_after_a_failed_sync() {
    let (_dir, _storage, log) = poisoned();
    assert_records(&log.snapshot().unwrap(), 1, 200);
    assert_record(&log.get(Lsn(150)).unwrap().unwrap().record(), 150);
    let mut follower = log.follow(Lsn(1), Visibility::Published).unwrap();
    for number in 1..=200 {
        assert_record(&follower.next().unwrap().unwrap(), number);
    }
}

#[test]
fn an_append_that_waits_for_a_segment_hears_of_a_failed_sync() {
    let (_dir, storage, log) = failing();
    storage.hold(Call::Create);
    std::thread::scope(|scope| {
        // Until it hears of it, in whatever segment that is.
        let appending = scope.spawn(|| {
            loop {
                if let Err(error) = log.append(0, &[0; 4000]) {
                    break Err::<(), _>(error);
                }
            }
        });
        storage.wait_until_held();
        let stalls = log.stats().stalls;
        until("it waits for the segment", || log.stats().stalls > stalls || log.stats().spare_segments == 0);
        let syncing = scope.spawn(|| log.sync());
        // Time for the sync to fail before there is a segment; after that the append hears of it just so.
        std::thread::sleep(Duration::from_millis(50));
        storage.release();
        assert_poisoned(syncing.join().unwrap());
        assert_poisoned(appending.join().unwrap());
    });
}

#[test]
fn opening_again_finds_what_is_there_after_a_failed_sync() {
    let (dir, _storage, log) = poisoned();
    drop(log);
    let log = open_small(dir.path());
    assert_records(&log.snapshot().unwrap(), 1, 200);
    assert_eq!(log.append(0, &payload(201)).unwrap(), Lsn(201));
    assert_eq!(log.sync().unwrap(), Lsn(201));
}

#[test]
fn only_what_had_been_acknowledged_is_found_when_a_failed_sync_lost_the_rest() {
    let (dir, storage, log) = poisoned();
    let unsynced = crate::support::stored::frame_of(dir.path(), 101);
    drop(log);
    storage.heal();
    // The pages look clean, and hold in the cache what the device does not.
    storage.let_device_differ("00000000000000000001.seg", unsynced.offset as u64 + 24);
    let log = open_on(&storage);
    assert_records(&log.snapshot().unwrap(), 1, 100);
    assert_eq!(log.append(0, &payload(101)).unwrap(), Lsn(101));
}

/// Runs a command whose `number`th call of msync fails; `None`, said on standard error, where there is no `strace` that
/// may do so.
fn failing_msync(number: u32) -> Option<[String; 7]> {
    let inject = format!("inject=msync:error=EIO:when={number}");
    let traced = ["strace", "-D", "-f", "-o", "/dev/null", "-e", &inject].map(str::to_owned);
    let tried = child::run(Command::new("strace").args(&traced[1..]).arg("true"));
    if tried.is_ok_and(|output| output.status.success()) {
        return Some(traced);
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: strace is not there, or must not trace");
    None
}

#[test]
fn a_sync_that_the_kernel_fails_acknowledges_nothing_ever_again() {
    // The first is that of the open.
    for number in 2..=5 {
        let Some(traced) = failing_msync(number) else { return };
        let dir = scratch();
        let mut child = Child::spawn_by(&traced.each_ref().map(String::as_str), "support::child::serves", dir.path());
        assert_eq!(child.ask("open"), "1");
        let mut last = 0;
        let mut acknowledged = 0;
        for sync in 2..number {
            last += 5;
            assert_eq!(child.ask("append 5"), (last + 1).to_string());
            assert_eq!(child.ask("sync"), last.to_string(), "msync {sync} of {number} does not fail");
            acknowledged = last;
        }
        child.ask("append 5");
        for _ in 0..3 {
            let answer = child.ask("sync");
            assert!(answer.parse::<u64>().is_err(), "{answer} acknowledged after msync {number} failed");
        }
        child.kill();
        let log = open_small(dir.path());
        assert!(log.next_lsn().0 > acknowledged);
        assert_records(&log.snapshot().unwrap(), 1, log.next_lsn().0 - 1);
    }
}
