//! A log read without its lock, while another writes it or nobody does.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mapwal::{Lsn, Visibility};

use crate::scratch::open_small;
use crate::support::files::{edit, segment};
use crate::support::{append, assert_record, read_only};

#[test]
fn a_reader_is_never_told_of_damage_by_a_writer_that_rotates_and_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_small(dir.path());
    append(&log, 1..=1);
    log.sync().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 2..=500 {
                append(&log, number..=number);
                log.sync().unwrap();
                log.rotate().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        let reader = read_only(dir.path()).unwrap();
        let mut follower = reader.follow(Lsn(1), Visibility::Published).unwrap();
        while !done.load(Ordering::Relaxed) {
            let durable = reader.durable_lsn();
            assert!(reader.published_lsn().expect("nothing is damaged") >= durable);
            while let Some(record) = follower.next().expect("nothing is damaged") {
                assert_record(&record, record.lsn().0);
            }
        }
    });
}

#[test]
fn a_durable_follower_that_comes_before_the_page_of_watermarks_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    open_small(dir.path()).close().unwrap();
    fs::remove_file(dir.path().join("control")).unwrap();
    let mut follower = read_only(dir.path()).unwrap().follow(Lsn(1), Visibility::Durable).unwrap();
    assert!(follower.next().unwrap().is_none());
    let log = open_small(dir.path());
    append(&log, 1..=1);
    log.sync().unwrap();
    let record = follower.next_timeout(Duration::from_secs(10)).unwrap().expect("the record is durable");
    assert_record(&record, 1);
}

#[test]
fn a_follower_that_comes_before_the_first_link_waits() {
    let dir = tempfile::tempdir().unwrap();
    open_small(dir.path()).close().unwrap();
    // As a log is for a moment while it is created: a segment with a header and nothing else.
    edit(&segment(dir.path(), 1), |bytes| bytes[4096..].fill(0));
    fs::remove_file(dir.path().join("control")).unwrap();
    let mut follower = read_only(dir.path()).unwrap().follow(Lsn(1), Visibility::Published).unwrap();
    assert!(follower.next().unwrap().is_none());
}
