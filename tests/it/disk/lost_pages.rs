//! Frames that were there and are not: a file system that shuts itself down may drop pages that were stored to. Nobody waits
//! for ever for a copy that nobody is making.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use mapwal::{Error, Log, Lsn};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::support::faulty::{Call, Faulty};
use crate::support::files::segment;
use crate::support::scratch::{await_spare, scratch};
use crate::support::wait::LONG;
use crate::support::{append, assert_records, open_on, payload, tag, try_open_on};

const PAGE_LEN: usize = 4096;
const FIRST_SEGMENT: &str = "00000000000000000001.seg";

/// A log of which a page with records that are not durable reads as zeros, on storage that takes no writes any more.
fn log_that_lost_pages() -> (TempDir, Arc<Faulty>, Arc<Log>) {
    let lost = log_that_lost_a_page(10);
    lost.1.fail(Call::Write, Errno::ROFS);
    lost
}

/// A log of 150 records, the first `durable` of which are, of which a later page reads as zeros. All but the first record are in
/// the second segment.
fn log_that_lost_a_page(durable: u64) -> (TempDir, Arc<Faulty>, Arc<Log>) {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    append(&log, 1..=1);
    await_spare(&log);
    // The thread that makes segments also counts frames. It waits here, and so cannot have passed the page before.
    storage.hold(Call::Allocate);
    log.rotate().unwrap();
    storage.wait_until_held();
    if durable > 0 {
        append(&log, 2..=durable);
        assert_eq!(log.sync().unwrap(), Lsn(durable));
    }
    append(&log, durable.max(1) + 1..=150);
    zero_page(&segment(dir.path(), 2));
    storage.release();
    assert!(log.published_lsn().unwrap() < Lsn(100));
    (dir, storage, Arc::new(log))
}

fn zero_page(segment: &Path) {
    let file = OpenOptions::new().write(true).open(segment).unwrap();
    file.write_all_at(&[0; PAGE_LEN], 4 * PAGE_LEN as u64).unwrap();
}

/// What `call` returns; fails if it does not.
fn ends<T: Send + 'static>(log: &Arc<Log>, call: impl FnOnce(&Log) -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    let log = Arc::clone(log);
    std::thread::spawn(move || sender.send(call(&log)));
    match receiver.recv_timeout(LONG) {
        Ok(returned) => returned,
        Err(RecvTimeoutError::Timeout) => panic!("it waits for ever"),
        Err(RecvTimeoutError::Disconnected) => panic!("it panicked"),
    }
}

fn assert_poisoned<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Poisoned { durable: Lsn(10), .. })), "{result:?}");
}

#[test]
fn a_sync_ends() {
    let (_dir, _storage, log) = log_that_lost_pages();
    assert_poisoned(ends(&log, Log::sync));
    assert_poisoned(log.append(0, b"refused"));
}

#[test]
fn a_truncation_ends() {
    let (_dir, _storage, log) = log_that_lost_pages();
    assert_poisoned(ends(&log, |log| log.truncate_after(Lsn(140))));
    assert_poisoned(log.append(0, b"refused"));
}

#[test]
fn an_append_that_needs_a_place_which_is_never_left_ends() {
    let (_dir, storage, log) = log_that_lost_a_page(0);
    // More segments than appenders can be in at a time.
    let appended = ends(&log, move |log| {
        (151..).find_map(|number| {
            if number == 300 {
                storage.fail_on("control.tmp", Call::Write, Errno::ROFS);
            }
            log.append(tag(number), &payload(number)).err()
        })
    });
    assert!(matches!(appended, Some(Error::Poisoned { durable: Lsn(0), .. })), "{appended:?}");
}

#[test]
fn a_copy_that_takes_long_is_waited_for() {
    let dir = scratch();
    let log = Arc::new(open_on(&Faulty::new(dir.path())));
    let writer = Arc::clone(&log);
    let (begun, has_begun) = channel();
    let copying = std::thread::spawn(move || {
        writer.append_with(0, 8, |_| {
            begun.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(500));
        })
    });
    has_begun.recv().unwrap();
    assert_eq!(log.sync().unwrap(), Lsn(1));
    assert_eq!(copying.join().unwrap().unwrap(), Lsn(1));
}

/// Where the device cannot be asked, the control page is believed to say durably what has been trimmed once it has been written
/// again.
#[test]
fn what_was_trimmed_goes_once_the_page_that_says_so_was_written_again_where_the_device_cannot_be_asked() {
    let dir = scratch();
    let first = dir.path().join(FIRST_SEGMENT);
    let log = open_on(&Faulty::new(dir.path()));
    append(&log, 1..=10);
    log.rotate().unwrap();
    append(&log, 11..=20);
    log.sync().unwrap();
    let trimmed = fs::read(&first).unwrap();
    assert_eq!(log.trim_before(Lsn(15)).unwrap(), 1);
    drop(log);
    fs::write(&first, trimmed).unwrap();
    let storage = Faulty::new(dir.path());
    storage.hide_device();
    for call in [Call::Write, Call::Remove] {
        storage.fail_on("control", call, Errno::IO);
    }
    let error = try_open_on(&storage).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path.ends_with("control")), "{error}");
    assert!(first.exists());
    storage.heal();
    assert_records(&try_open_on(&storage).unwrap().snapshot().unwrap(), 11, 20);
    assert!(!first.exists());
}

/// Where the device cannot be asked what it holds, it is given once more what is shown.
#[test]
fn what_recovery_shows_is_written_again_where_the_device_cannot_be_asked() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    append(&log, 1..=100);
    drop(log);
    let storage = Faulty::new(dir.path());
    storage.hide_device();
    for call in [Call::Write, Call::Sync] {
        storage.fail_on(FIRST_SEGMENT, call, Errno::IO);
        let error = try_open_on(&storage).unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if path.ends_with(FIRST_SEGMENT)), "{call:?}: {error}");
        storage.heal();
    }
    let before = storage.calls().len();
    let log = try_open_on(&storage).unwrap();
    assert_records(&log.snapshot().unwrap(), 1, 100);
    let calls = storage.calls().split_off(before);
    let at = calls.iter().position(|call| *call == Call::Write).unwrap();
    assert_eq!(calls[at + 1], Call::Sync, "{calls:?}");
}
