//! One writer at a time, in one process or in several.

use std::fs;

use mapwal::Error;
use mapwal::inspect::Inspection;

use crate::support::child::Child;
use crate::support::scratch::{open_small, scratch};
use crate::support::{append, assert_records, read_only, small, try_open};

#[test]
fn a_log_that_is_open_in_this_process_is_locked() {
    let dir = scratch();
    let log = open_small(dir.path());
    let error = try_open(dir.path(), &small()).unwrap_err();
    let path = dir.path().join("LOCK");
    assert_eq!(error.to_string(), format!("log is already open for writing by this process: {}", path.display()));
    assert!(matches!(error, Error::Locked { pid: Some(pid), .. } if pid == std::process::id()));
    drop(log);
    open_small(dir.path());
}

#[test]
fn a_log_that_is_open_in_another_process_is_locked() {
    let dir = scratch();
    let mut child = Child::serving(dir.path());
    assert_eq!(child.ask("open"), "1");
    let error = try_open(dir.path(), &small()).unwrap_err();
    assert!(matches!(error, Error::Locked { pid: Some(pid), .. } if pid == child.id()), "{error}");
    assert!(error.to_string().contains(&format!("by process {}", child.id())), "{error}");
    child.kill();
    open_small(dir.path());
}

#[test]
fn another_process_finds_the_log_of_this_one_locked() {
    let dir = scratch();
    let log = open_small(dir.path());
    let mut child = Child::serving(dir.path());
    let answer = child.ask("open");
    assert!(answer.contains(&format!("by process {}", std::process::id())), "{answer}");
    log.close().unwrap();
    assert_eq!(child.ask("open"), "1");
}

#[test]
#[cfg(target_os = "linux")]
fn a_writer_is_seen_whatever_has_become_of_its_lock_file() {
    let dir = scratch();
    let seen = || Inspection::open(dir.path()).unwrap().is_being_written();
    let mut child = Child::serving(dir.path());
    assert_eq!(child.ask("open"), "1");
    assert_eq!(seen(), Some(true));
    let lock = dir.path().join("LOCK");
    fs::remove_file(&lock).unwrap();
    assert_eq!(seen(), Some(true), "the file is gone");
    assert!(matches!(try_open(dir.path(), &small()), Err(Error::Locked { .. })));
    fs::write(&lock, "").unwrap();
    assert_eq!(seen(), Some(true), "it is another one");
    child.kill();
    assert_eq!(seen(), Some(false));
    let log = open_small(dir.path());
    assert_eq!(seen(), Some(true));
    log.close().unwrap();
    assert_eq!(seen(), Some(false));
}

#[test]
fn a_refused_open_does_not_disturb_the_log() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=500);
    for _ in 0..10 {
        assert!(matches!(try_open(dir.path(), &small()), Err(Error::Locked { .. })));
    }
    append(&log, 501..=1000);
    log.close().unwrap();
    assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, 1000);
}

#[test]
fn the_lock_of_a_process_that_died_is_free() {
    let dir = scratch();
    let mut child = Child::serving(dir.path());
    child.ask("open");
    assert_eq!(child.ask("append 100"), "101");
    let pid = child.id();
    child.kill();
    assert_eq!(fs::read_to_string(dir.path().join("LOCK")).unwrap().trim(), pid.to_string());
    assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, 100);
}

#[test]
fn a_process_started_meanwhile_does_not_keep_the_log_locked() {
    let dir = scratch();
    let log = open_small(dir.path());
    // It inherits what is not closed when it becomes another program.
    let child = Child::serving(scratch().path());
    drop(log);
    open_small(dir.path());
    child.kill();
}

#[test]
fn an_open_that_was_refused_for_damage_leaves_the_log_unlocked() {
    let dir = scratch();
    append(&open_small(dir.path()), 1..=10);
    let segment = crate::support::files::segment(dir.path(), 1);
    let good = fs::read(&segment).unwrap();
    fs::write(&segment, &good[..5000]).unwrap();
    assert!(matches!(try_open(dir.path(), &small()), Err(Error::Corrupt(_))));
    fs::write(&segment, good).unwrap();
    assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, 10);
}

#[test]
fn reading_needs_no_lock() {
    let dir = scratch();
    let mut child = Child::serving(dir.path());
    child.ask("open");
    child.ask("append 1000");
    assert_records(&read_only(dir.path()).unwrap().snapshot().unwrap(), 1, 1000);
    assert_eq!(child.ask("append 1"), "1002");
}
