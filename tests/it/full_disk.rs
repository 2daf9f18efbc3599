//! A full disk: appends fail, what was acknowledged stays, reading goes on, and appends work again once there is room.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use mapwal::{Error, Log, Lsn};
use rustix::io::Errno;

use crate::scratch::{open_small, scratch};
use crate::support::faulty::{Call, Faulty};
use crate::support::files::{names, unchanged};
use crate::support::mounted::Mounted;
use crate::support::{SMALL, append, assert_records, open_on, payload, read_only, small, try_open};

/// How long a segment may take to be prepared in vain.
const PATIENCE: Duration = Duration::from_secs(10);

/// Appends until the disk is full; returns the last record's number.
fn fill(log: &Log) -> u64 {
    let mut last = log.next_lsn().previous().0;
    let error = loop {
        match log.append(0, &payload(last + 1)) {
            Ok(lsn) => assert_eq!(lsn, Lsn(last + 1)),
            Err(error) => break error,
        }
        last += 1;
    };
    match error {
        Error::NoSpace { path, needed_bytes: SMALL } => assert_eq!(path, log.directory()),
        other => panic!("{other}"),
    }
    last
}

/// What must hold of a log that has filled its disk with records up to `last`.
fn check_full(log: &Log, last: u64) {
    assert_eq!(log.next_lsn(), Lsn(last + 1), "a failed append uses no number");
    assert!(matches!(log.append(0, &[0; 400]), Err(Error::NoSpace { .. })), "and the next one fails as well");
    assert_eq!(log.sync().unwrap(), Lsn(last), "what was appended can be made durable");
    assert_records(&log.snapshot().unwrap(), 1, last);
    // The log may be about to prepare a segment once more.
    let began = Instant::now();
    while names(log.directory()).iter().any(|name| name.ends_with(".tmp")) {
        assert!(began.elapsed() < PATIENCE, "nothing half made is left");
    }
}

/// A file system that a log fills soon, with the log in a directory of its own beside a file that takes up room.
fn small_disk() -> Option<Mounted> {
    let disk = Mounted::of_size(1 << 20)?;
    fs::create_dir(disk.path().join("log")).unwrap();
    fs::write(disk.path().join("ballast"), vec![1; 300 << 10]).unwrap();
    Some(disk)
}

fn make_room(disk: &Mounted) {
    fs::remove_file(disk.path().join("ballast")).unwrap();
}

#[test]
fn a_log_on_a_full_disk_goes_on_once_there_is_room() {
    let Some(disk) = small_disk() else { return };
    let log = open_small(&disk.path().join("log"));
    let last = fill(&log);
    check_full(&log, last);
    make_room(&disk);
    append(&log, last + 1..=last + 400);
    let last = fill(&log);
    check_full(&log, last);
}

#[test]
fn a_log_that_was_dropped_on_a_full_disk_is_there_when_it_is_opened() {
    let Some(disk) = small_disk() else { return };
    let path = disk.path().join("log");
    let log = open_small(&path);
    let last = fill(&log);
    drop(log);
    let opened = unchanged(&path, || try_open(&path, &small()));
    assert!(matches!(opened, Err(Error::NoSpace { .. })), "{opened:?}");
    assert_records(&read_only(&path).unwrap().snapshot().unwrap(), 1, last);
    make_room(&disk);
    let log = open_small(&path);
    assert_records(&log.snapshot().unwrap(), 1, last);
    append(&log, last + 1..=last + 400);
}

#[test]
fn a_log_that_was_closed_on_a_full_disk_opens_there() {
    let Some(disk) = small_disk() else { return };
    let path = disk.path().join("log");
    let log = open_small(&path);
    let last = fill(&log);
    log.close().unwrap();
    let log = open_small(&path);
    assert_records(&log.snapshot().unwrap(), 1, last);
    let last = fill(&log);
    check_full(&log, last);
}

#[test]
fn no_log_is_made_on_a_full_disk() {
    let Some(disk) = Mounted::of_size(32 << 10) else { return };
    let opened = try_open(disk.path(), &small());
    assert!(matches!(opened, Err(Error::NoSpace { .. })), "{opened:?}");
    assert_eq!(names(disk.path()), ["LOCK"]);
}

#[test]
fn threads_on_a_full_disk_lose_no_number() {
    let Some(disk) = small_disk() else { return };
    let log = open_small(&disk.path().join("log"));
    let append_until_full = || (1_u64..).find(|_| log.append(0, &[5; 100]).is_err()).unwrap() - 1;
    let appended: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(append_until_full)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(log.published_lsn().unwrap(), Lsn(appended));
    assert_eq!(log.snapshot().unwrap().iter().filter(|record| record.is_ok()).count() as u64, appended);
}

/// Fills a log whose storage has no more room, gives it room, and goes on.
fn fill_and_go_on(storage: &Faulty, log: &Log, call: Call) {
    append(log, 1..=10);
    storage.fail(call, Errno::NOSPC);
    let last = fill(log);
    check_full(log, last);
    storage.heal();
    append(log, last + 1..=last + 1000);
}

#[test]
fn every_way_to_run_out_of_room_is_a_full_disk() {
    for call in [Call::Create, Call::Allocate, Call::Write, Call::Sync, Call::Rename] {
        let dir = scratch();
        let storage = Faulty::new(dir.path());
        fill_and_go_on(&storage, &open_on(&storage), call);
    }
}

#[test]
fn a_quota_that_is_used_up_is_a_full_disk() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    storage.fail(Call::Allocate, Errno::DQUOT);
    let last = fill(&log);
    check_full(&log, last);
}

#[test]
fn a_segment_that_cannot_be_prepared_is_an_error_of_the_append_that_needs_it() {
    let names_segment = |error: &Error, directory: &Path| {
        error.to_string().starts_with(&format!("cannot prepare {}", directory.join("0000000000000000000").display()))
    };
    for call in [Call::Create, Call::Allocate, Call::Sync, Call::Rename, Call::SyncDirectory, Call::Map] {
        let dir = scratch();
        let storage = Faulty::new(dir.path());
        let log = open_on(&storage);
        storage.fail(call, Errno::IO);
        let error = (1..).find_map(|number| log.append(0, &payload(number)).err()).unwrap();
        assert!(matches!(error, Error::Io { .. }) && names_segment(&error, dir.path()), "{call:?}: {error}");
        let last = log.next_lsn().previous().0;
        storage.heal();
        append(&log, last + 1..=last + 1000);
        drop(log);
        assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, last + 1000);
    }
}
