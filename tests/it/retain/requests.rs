//! Trims that another process asks for.

use std::path::Path;

use mapwal::error::RequestFault;
use mapwal::wal::{DirtyPage, PageId, RecoverFrom, Wal, WalOptions};
use mapwal::{Error, Log, Lsn, Options, RequestedTrim, request_trim, request_trim_while};

use super::trim::{fill, records};
use crate::support::scratch::{contents, open_small, scratch};
use crate::support::try_open;

fn open(path: &Path, options: &Options) -> Log {
    try_open(path, &options.clone().segment_size_bytes(64 << 10).trim_on_request(true)).unwrap()
}

#[test]
fn nothing_goes_without_a_writer_nor_by_one_that_takes_no_requests() {
    let dir = scratch();
    assert!(matches!(request_trim(dir.path(), Lsn(1)), Err(Error::NoLog { .. })));
    let log = open_small(dir.path());
    fill(&log);
    assert!(matches!(request_trim(dir.path(), Lsn(51)), Err(Error::Request(RequestFault::NotTaken))));
    drop(log);
    assert!(matches!(request_trim(dir.path(), Lsn(51)), Err(Error::Request(RequestFault::NoWriter))));
    // A writer that does not take them beside what one has left that did.
    open(dir.path(), &Options::new()).close().unwrap();
    let log = open_small(dir.path());
    assert!(matches!(request_trim(dir.path(), Lsn(51)), Err(Error::Request(RequestFault::NotTaken))));
    assert_eq!(contents(&log), records(1..=50));
}

#[test]
fn what_pins_keep_stays_and_the_rest_goes_with_its_files() {
    let dir = scratch();
    let log = open(dir.path(), &Options::new());
    fill(&log);
    log.create_pin("replica", "", Lsn(25), None).unwrap();
    let guard = log.pin(Lsn(15)).unwrap();
    let RequestedTrim { segments, first_lsn, .. } = request_trim(dir.path(), Lsn(u64::MAX)).unwrap();
    assert_eq!((segments, first_lsn, log.first_lsn()), (1, Lsn(11), Lsn(11)));
    drop(guard);
    let RequestedTrim { segments, first_lsn, .. } = request_trim(dir.path(), Lsn(51)).unwrap();
    assert_eq!((segments, first_lsn, contents(&log)), (1, Lsn(21), records(21..=50)));
    // None is kept for a further segment: it is room that was asked for.
    assert!(
        !std::fs::read_dir(dir.path()).unwrap().any(|entry| entry
            .unwrap()
            .path()
            .extension()
            .is_some_and(|it| it == "tmp"))
    );
}

#[test]
fn a_request_that_is_wanted_no_more_comes_to_nothing() {
    let dir = scratch();
    let log = open(dir.path(), &Options::new());
    fill(&log);
    let asked = request_trim_while(dir.path(), Lsn(51), || false);
    assert!(matches!(asked, Err(Error::Request(RequestFault::NoAnswer))), "{asked:?}");
    assert_eq!(contents(&log), records(1..=50));
}

#[test]
fn requests_at_once_are_all_answered() {
    let dir = scratch();
    let log = open(dir.path(), &Options::new());
    fill(&log);
    std::thread::scope(|scope| {
        let path = dir.path();
        let ask = |before| scope.spawn(move || request_trim(path, Lsn(before)).unwrap().first_lsn);
        let asked = [11, 21, 31].map(|before| (before, ask(before)));
        for (before, asked) in asked {
            assert!(asked.join().unwrap() >= Lsn(before));
        }
    });
    assert_eq!(contents(&log), records(31..=50));
}

#[test]
fn a_trim_that_fails_is_told_and_so_is_a_log_that_is_closed() {
    let dir = scratch();
    let log = open(dir.path(), &Options::new());
    fill(&log);
    // As a process does that changes pins and hangs: a trim waits for a second.
    let pins = dir.path().join("pins");
    std::fs::create_dir(&pins).unwrap();
    let pins = std::fs::File::open(pins).unwrap();
    rustix::fs::flock(&pins, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(matches!(request_trim(dir.path(), Lsn(51)), Err(Error::Request(RequestFault::Failed))));
    assert_eq!(contents(&log), records(1..=50));
    drop(pins);
    log.close().unwrap();
    assert!(matches!(request_trim(dir.path(), Lsn(51)), Err(Error::Request(RequestFault::NoWriter))));
}

fn open_wal(path: &Path, from: RecoverFrom) -> Wal {
    let options = WalOptions::new().log(Options::new().segment_size_bytes(64 << 10).trim_on_request(true));
    // SAFETY: the directory is one of the test that calls this.
    unsafe { Wal::open(path, &options.recover_from(from)) }.unwrap()
}

/// Committed changes that fill a few segments.
fn change(wal: &Wal) {
    for _ in 0..200 {
        let mut transaction = wal.begin().unwrap();
        transaction.insert(PageId(1), &[1; 1000]).unwrap();
        transaction.commit().unwrap().applied();
    }
}

/// Asks for all of the log, and checks that it begins in the segment of record `needed`, if it began before that.
fn ask_for_all(path: &Path, wal: &Wal, needed: Lsn) {
    let was = wal.log().first_lsn();
    let first = request_trim(path, Lsn(u64::MAX)).unwrap().first_lsn;
    assert_eq!(first, wal.log().first_lsn());
    assert!(first <= needed, "{first}: {needed} is needed");
    let there = wal.log().sealed(0).unwrap();
    let next = there.first().map(|sealed| sealed.next_lsn());
    assert!(first == was || next.is_none_or(|next| next > needed), "{needed} is needed, and {first} is there");
}

#[test]
fn what_recovery_of_transactions_needs_stays() {
    let dir = scratch();
    let wal = open_wal(dir.path(), RecoverFrom::Checkpoint);
    change(&wal);
    ask_for_all(dir.path(), &wal, Lsn(1));
    assert_eq!(wal.log().first_lsn(), Lsn(1), "there is no checkpoint");
    let begun = wal.current_lsn();
    let open = wal.begin().unwrap();
    change(&wal);
    let dirty = wal.current_lsn();
    change(&wal);
    wal.log_checkpoint(&[], &[DirtyPage::new(PageId(1), Some(dirty))]).unwrap();
    ask_for_all(dir.path(), &wal, begun);
    drop(open);
    assert!(wal.log().first_lsn() > Lsn(1));
    change(&wal);
    drop(wal);
    // What an earlier run has logged is as good, and an engine whose pages are lost needs all.
    let wal = open_wal(dir.path(), RecoverFrom::OldestRecord);
    let first = wal.log().first_lsn();
    ask_for_all(dir.path(), &wal, first);
    drop(wal);
    let wal = open_wal(dir.path(), RecoverFrom::Checkpoint);
    ask_for_all(dir.path(), &wal, begun);
    for open in wal.open_transactions() {
        wal.resume(open.transaction()).unwrap().discard().unwrap();
    }
    change(&wal);
    let checkpoint = wal.log_checkpoint(&[], &[]).unwrap();
    ask_for_all(dir.path(), &wal, checkpoint);
    assert!(wal.log().first_lsn() > begun);
    drop(wal);
    open_wal(dir.path(), RecoverFrom::Checkpoint).close().unwrap();
}
