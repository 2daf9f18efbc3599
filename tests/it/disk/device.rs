//! A log on a real ext4, on a loop device of its own: what reaches the device, a full disk, and one that
//! turns read-only.

use std::fs;
use std::path::Path;
use std::time::Duration;

use mapwal::{Error, Follower, Log, Lsn, Visibility};

use crate::support::file_system::{FileSystem, Kind};
use crate::support::files::unchanged;
use crate::support::scratch::await_spare;
use crate::support::wait::until;
use crate::support::{append, assert_records, payload, read_only, small, try_open};

const COMMITS: u64 = 200;
const COMMIT_BYTES: usize = 200;
/// A page, and what the file system adds to it now and then.
const WRITTEN_PER_COMMIT_MAX: u64 = 8 << 10;

/// Bytes that have been written to the device so far, as the kernel counts them.
fn written_bytes(device: &FileSystem) -> u64 {
    const SECTOR_BYTES: u64 = 512;
    const SECTORS_WRITTEN: usize = 6;
    let counters = fs::read_to_string(device.sys().join("stat")).unwrap();
    counters.split_whitespace().nth(SECTORS_WRITTEN).unwrap().parse::<u64>().unwrap() * SECTOR_BYTES
}

/// As [`written_bytes`], once nothing else is written any more: the next segment is filled when it is there already, and
/// making the file system has left something to be written.
fn written_once_quiet(device: &FileSystem) -> u64 {
    const QUIET: Duration = Duration::from_millis(500);
    let mut before = 0;
    loop {
        device.sync();
        match written_bytes(device) {
            now if now == before => return now,
            now => before = now,
        }
        std::thread::sleep(QUIET);
    }
}

fn commit(log: &Log) {
    log.append(0, &[0xab; COMMIT_BYTES]).unwrap();
    log.sync().unwrap();
}

/// Checks what commits write, those of now, to the device that nothing else uses.
fn assert_commits_write_little(device: &FileSystem, log: &Log) {
    await_spare(log);
    // What is made ready once may come late on a machine that is busy.
    until("commits write little", || {
        let before = written_once_quiet(device);
        (0..COMMITS).for_each(|_| commit(log));
        let per_commit = (written_bytes(device) - before) / COMMITS;
        println!("{per_commit} bytes are written for a commit of {COMMIT_BYTES}");
        assert!(per_commit >= COMMIT_BYTES as u64, "it did not reach the device");
        per_commit <= WRITTEN_PER_COMMIT_MAX
    });
}

#[test]
fn a_small_commit_writes_little_more_than_a_page() {
    let Some(device) = FileSystem::mount(Kind::Ext4, 64) else { return };
    // Segments of the size that most logs have of those that fit.
    let options = mapwal::Options::new().segment_size_bytes(8 << 20);
    let log = try_open(&device.path().join("log"), &options).unwrap();
    (0..20).for_each(|_| commit(&log));
    assert_commits_write_little(&device, &log);
}

#[test]
fn small_commits_after_a_load_in_bulk_soon_write_little() {
    const LOADED_BYTES: usize = 40 << 20;
    /// Those that may write more.
    const SETTLING: usize = 40;
    let Some(device) = FileSystem::mount(Kind::Ext4, 256) else { return };
    let options = mapwal::Options::new().segment_size_bytes(16 << 20).first_segment_size_bytes(16 << 20);
    let log = try_open(&device.path().join("log"), &options).unwrap();
    let record = vec![0xcd; 64 << 10];
    for _ in 0..LOADED_BYTES / record.len() {
        log.append(0, &record).unwrap();
    }
    log.sync().unwrap();
    (0..SETTLING).for_each(|_| commit(&log));
    assert_commits_write_little(&device, &log);
}

/// Appends and syncs `count` times `bytes`, of which the last 8 MiB are kept.
fn stream(log: &Log, count: usize, bytes: usize) {
    const KEPT_BYTES: u64 = 8 << 20;
    let record = vec![0xcd; bytes.min(64 << 10) - 100];
    for _ in 0..count {
        (0..bytes.div_ceil(64 << 10)).for_each(|_| {
            log.append(0, &record).unwrap();
        });
        let last = log.sync().unwrap();
        log.trim_before(Lsn(last.0.saturating_sub(KEPT_BYTES / record.len() as u64).max(1))).unwrap();
    }
}

#[test]
fn small_commits_write_little_to_files_that_a_load_in_bulk_has_filled_before() {
    const LARGE: usize = 6 << 20;
    const SMALL: usize = 4 << 10;
    let Some(device) = FileSystem::mount(Kind::Ext4, 256) else { return };
    let options = mapwal::Options::new().segment_size_bytes(8 << 20);
    let log = try_open(&device.path().join("log"), &options).unwrap();
    stream(&log, 12, LARGE);
    assert!(log.stats().recycled_segments > 0, "files have come back");
    // What was made ready for more of the same is used up.
    stream(&log, 300, SMALL);
    const COUNT: usize = (32 << 20) / SMALL;
    // On a machine that is busy the segment that was filled for more of the same is left late.
    until("commits write little", || {
        // Through all files, and once more.
        let (before, recycled) = (written_once_quiet(&device), log.stats().recycled_segments);
        stream(&log, COUNT, SMALL);
        let per_commit = (written_bytes(&device) - before) / COUNT as u64;
        println!("{per_commit} bytes are written for a commit of {SMALL}");
        assert!(log.stats().recycled_segments >= recycled + 3, "they are recycled ones");
        assert!(per_commit >= SMALL as u64, "it did not reach the device");
        per_commit <= 6 * SMALL as u64
    });
}

#[test]
fn syncs_write_little_also_where_the_page_cache_has_let_go_of_files_that_are_recycled() {
    const SYNC: usize = 128 << 10;
    let Some(device) = FileSystem::mount(Kind::Ext4, 256) else { return };
    let directory = device.path().join("log");
    let options = mapwal::Options::new().segment_size_bytes(8 << 20).first_segment_size_bytes(8 << 20);
    let log = try_open(&directory, &options).unwrap();
    const LAP: usize = (32 << 20) / SYNC;
    stream(&log, 2 * LAP, SYNC);
    written_once_quiet(&device);
    for file in fs::read_dir(&directory).unwrap() {
        let file = fs::File::open(file.unwrap().path()).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
    let before = written_bytes(&device);
    stream(&log, LAP, SYNC);
    let per_sync = (written_bytes(&device) - before) / LAP as u64;
    println!("{per_sync} bytes are written for a sync of {SYNC}");
    // An eighth more than it must, at the most.
    assert!((SYNC as u64 - 200..=SYNC as u64 * 9 / 8 + 4096).contains(&per_sync), "{per_sync}");
}

/// Appends until there is no more room, and syncs; returns the last record.
fn fill(log: &Log) -> u64 {
    let mut last = log.next_lsn().previous().0;
    loop {
        match log.append(0, &payload(last + 1)) {
            Ok(lsn) => last = lsn.0,
            Err(Error::NoSpace { .. }) => break,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(log.sync().unwrap(), Lsn(last));
    last
}

#[test]
fn a_full_ext4_is_an_error_and_takes_appends_again_once_there_is_room() {
    let Some(device) = FileSystem::mount(Kind::Ext4, 4) else { return };
    let directory = device.path().join("log");
    let ballast = ["first", "second"].map(|name| device.path().join(name));
    ballast.iter().for_each(|path| fs::write(path, vec![1; 512 << 10]).unwrap());
    let log = try_open(&directory, &small()).unwrap();
    let last = fill(&log);
    assert_records(&log.snapshot().unwrap(), 1, last);
    make_room(&device, &ballast[0]);
    let more = fill(&log);
    assert!(more > last, "there was room");
    drop(log);
    make_room(&device, &ballast[1]);
    let log = try_open(&directory, &small()).unwrap();
    assert_records(&log.snapshot().unwrap(), 1, more);
}

fn make_room(device: &FileSystem, ballast: &Path) {
    fs::remove_file(ballast).unwrap();
    // ext4 gives freed blocks away again only when its journal has been written.
    device.sync();
}

#[test]
fn a_file_system_that_turns_read_only_under_a_log_fails_its_sync_and_no_read() {
    let Some(device) = FileSystem::mount(Kind::Ext4, 16) else { return };
    let directory = device.path().join("log");
    let log = try_open(&directory, &small()).unwrap();
    append(&log, 1..=300);
    assert_eq!(log.sync().unwrap(), Lsn(300));
    // Begins the page that the next records go to.
    append(&log, 301..=301);
    let follower = log.follow(Lsn(1), Visibility::Published).unwrap();
    device.shut_down();
    let poisoned =
        |result: Result<(), Error>| assert!(matches!(result, Err(Error::Poisoned { durable: Lsn(300), .. })));
    poisoned(log.sync().map(drop));
    poisoned(log.append(0, b"refused").map(drop));
    poisoned(log.rotate().map(|_| ()));
    assert_eq!(log.durable_lsn(), Lsn(300));
    assert_records(&log.snapshot().unwrap(), 1, 301);
    assert_records(&read_only(&directory).unwrap().snapshot().unwrap(), 1, 301);
    drop(log);
    assert_eq!(drain_closed(follower), 301);
    let error = unchanged(&directory, || try_open(&directory, &small())).unwrap_err();
    assert!(matches!(&error, Error::Io { .. }), "{error}");
}

/// How many records a follower of a log that is gone still has.
fn drain_closed(mut follower: Follower) -> u64 {
    let mut last = 0;
    loop {
        match follower.next() {
            Ok(Some(record)) => last = record.lsn().0,
            Ok(None) | Err(Error::Closed) => return last,
            Err(error) => panic!("{error}"),
        }
    }
}
