//! Files of segments that were trimmed: they go later, and what keeps one from going is told.

use std::fs;

use mapwal::{Error, Lsn};
use rustix::io::Errno;

use crate::retain::trim::{await_first, fill, records};
use crate::support::faulty::{Call, Faulty};
use crate::support::files::{self, segment_numbers};
use crate::support::scratch::{await_spare, contents, open_small, scratch};
use crate::support::wait::until;
use crate::support::{open_faulty, open_on, try_open_on};

/// Trims until the failure of the removing that a trim began has been told by a later one.
fn await_failure(log: &mapwal::Log, lsn: Lsn, operation: &str) {
    until("a failure is told", || match log.trim_before(lsn) {
        Ok(_) => false,
        Err(Error::Io { operation: failed, .. }) => {
            assert_eq!(failed, operation);
            true
        }
        Err(error) => panic!("{error:?}"),
    });
}

/// Trims until the files of the segments below `number` are gone.
fn trim_until_gone(log: &mapwal::Log, lsn: Lsn, number: u64) {
    until("trims remove the files", || {
        // What has failed before is told once.
        let _ = log.trim_before(lsn);
        segment_numbers(log.directory())[0] >= number
    });
    assert_eq!(segment_numbers(log.directory())[0], number);
}

#[test]
fn a_file_that_cannot_be_removed_does_not_make_a_hole() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    fill(&log);
    log.sync().unwrap();
    await_spare(&log);
    let before = segment_numbers(dir.path());
    faults.fail(Call::Rename, Errno::IO);
    assert_eq!(log.trim_before(Lsn(31)).unwrap(), 3, "nobody waits for files to go");
    await_failure(&log, Lsn(31), "remove");
    assert_eq!(log.first_lsn(), Lsn(31));
    await_failure(&log, Lsn(41), "remove");
    assert_eq!(log.first_lsn(), Lsn(41), "they are out of the log all the same");
    assert_eq!(segment_numbers(dir.path()), before, "no later one before an earlier one");
    faults.heal();
    trim_until_gone(&log, Lsn(41), 5);
    drop(log);
    // By what the control page says nothing is missing, and by what the segments say neither.
    let copy = scratch();
    files::copy(dir.path(), copy.path());
    fs::remove_file(copy.path().join("control")).unwrap();
    for path in [dir.path(), copy.path()] {
        assert_eq!(contents(&open_small(path)), records(41..=50));
    }
}

#[test]
fn files_go_also_where_a_full_disk_lets_no_name_be_changed() {
    let dir = scratch();
    let faults = Faulty::new(dir.path());
    let log = open_on(&faults);
    fill(&log);
    log.sync().unwrap();
    await_spare(&log);
    // As btrfs has it, of which a name is a part that is copied when it changes.
    faults.fail(Call::Rename, Errno::NOSPC);
    let before = faults.count(Call::SyncDirectory);
    assert_eq!(log.trim_before(Lsn(21)).unwrap(), 2);
    await_first(dir.path(), 3);
    until("both are gone durably", || faults.count(Call::SyncDirectory) >= before + 2);
    faults.heal();
    faults.fail_once(Call::SyncDirectory, Errno::NOSPC);
    assert_eq!(log.trim_before(Lsn(31)).unwrap(), 1);
    await_first(dir.path(), 4);
    assert_eq!(log.trim_before(Lsn(31)).unwrap(), 0, "nothing has failed");
    until("no file is kept", || !files::names(dir.path()).iter().any(|name| name.ends_with(".tmp")));
    drop(log);
    assert_eq!(contents(&open_small(dir.path())), records(31..=50));
}

#[test]
fn a_file_that_is_gone_already_does_not_stop_the_next_trim() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    fill(&log);
    log.sync().unwrap();
    await_spare(&log);
    faults.fail(Call::SyncDirectory, Errno::IO);
    assert_eq!(log.trim_before(Lsn(31)).unwrap(), 3);
    await_failure(&log, Lsn(31), "remove");
    assert_eq!(segment_numbers(dir.path())[0], 2, "the first is removed, and nobody knows for how long");
    faults.heal();
    trim_until_gone(&log, Lsn(31), 4);
}

#[test]
fn a_file_that_is_asked_for_while_its_removal_fails_is_tried_once_more() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    fill(&log);
    log.sync().unwrap();
    await_spare(&log);
    faults.hold(Call::Rename);
    faults.fail_once(Call::Rename, Errno::IO);
    assert_eq!(log.trim_before(Lsn(31)).unwrap(), 3);
    faults.wait_until_held();
    assert_eq!(log.trim_before(Lsn(31)).unwrap(), 0, "that which fails has begun before");
    faults.release();
    await_first(dir.path(), 4);
    assert_eq!(log.trim_before(Lsn(31)).unwrap(), 0, "what is gone is no failure");
}

#[test]
fn without_a_control_page_a_trim_waits_until_the_files_are_gone() {
    let dir = scratch();
    let disk = Faulty::new(dir.path());
    let log = open_on(&disk);
    fill(&log);
    log.sync().unwrap();
    await_spare(&log);
    // The name under which it was made.
    disk.fail_on("control.tmp", Call::SyncMapping, Errno::IO);
    assert_eq!(log.trim_before(Lsn(31)).unwrap(), 3);
    assert!(!dir.path().join("control").exists());
    assert_eq!(segment_numbers(dir.path())[0], 4);
    assert_eq!(log.trim_before(Lsn(41)).unwrap(), 1, "also the next time");
    assert_eq!(segment_numbers(dir.path())[0], 5);
    disk.heal();
    drop(log);
    assert_eq!(contents(&open_small(dir.path())), records(41..=50));
}

#[test]
fn without_a_control_page_the_next_trim_waits_for_what_one_could_not_remove() {
    let dir = scratch();
    let disk = Faulty::new(dir.path());
    let log = open_on(&disk);
    fill(&log);
    log.sync().unwrap();
    await_spare(&log);
    // The name under which it was made.
    disk.fail_on("control.tmp", Call::SyncMapping, Errno::IO);
    disk.fail(Call::Rename, Errno::IO);
    assert!(matches!(log.trim_before(Lsn(31)), Err(Error::Io { operation: "remove", .. })));
    assert_eq!(log.first_lsn(), Lsn(31));
    disk.heal();
    assert_eq!(log.trim_before(Lsn(31)).unwrap(), 0);
    assert_eq!(segment_numbers(dir.path())[0], 4, "nothing else says that they were trimmed");
}

#[test]
fn before_the_page_is_given_up_what_was_trimmed_is_gone() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    fill(&log);
    log.sync().unwrap();
    await_spare(&log);
    faults.fail(Call::Rename, Errno::IO);
    assert_eq!(log.trim_before(Lsn(21)).unwrap(), 2);
    faults.fail(Call::SyncMapping, Errno::IO);
    assert!(matches!(log.trim_before(Lsn(41)), Err(Error::Io { operation: "remove", .. })));
    assert_eq!(log.first_lsn(), Lsn(21), "nothing but the page says what was trimmed, so it stays");
    assert!(dir.path().join("control").exists());
    faults.heal();
    faults.fail(Call::SyncMapping, Errno::IO);
    let before = faults.lost_names().len();
    assert_eq!(log.trim_before(Lsn(41)).unwrap(), 2);
    let lost = faults.lost_names().split_off(before);
    let lost: Vec<_> = lost.iter().filter(|name| !name.ends_with(".tmp")).map(String::as_str).collect();
    let segment = |number| format!("{number:020}.seg");
    assert_eq!(lost, [&segment(1), &segment(2), "control", &segment(3), &segment(4)]);
}

#[test]
fn what_was_trimmed_does_not_come_back_where_the_page_cannot_be_looked_at() {
    for call in [Call::Len, Call::Map] {
        let dir = scratch();
        let (log, faults) = open_faulty(dir.path());
        fill(&log);
        log.sync().unwrap();
        await_spare(&log);
        faults.fail(Call::Rename, Errno::IO);
        assert_eq!(log.trim_before(Lsn(21)).unwrap(), 2);
        drop(log);
        assert!(segment_numbers(dir.path()).contains(&1), "nothing but the page says what was trimmed");
        let storage = Faulty::new(dir.path());
        storage.fail_once_on("control", call, Errno::IO);
        let refused = try_open_on(&storage).unwrap_err();
        assert!(
            matches!(&refused, Error::Io { operation: "read", path, .. } if path.ends_with("control")),
            "{refused:?}"
        );
        assert_eq!(open_on(&storage).first_lsn(), Lsn(21), "after {call:?}");
    }
}
