//! Appending, reading back, reopening.

use std::time::Duration;

use mapwal::{Error, Lsn, Visibility};

use crate::support::{assert_records, open, payload, read_only, small, try_open};

#[test]
fn records_come_back_in_order_after_a_clean_close() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &small());
    for number in 1..=2000 {
        assert_eq!(log.append(7, &payload(number)).unwrap(), Lsn(number));
    }
    assert_records(&log.snapshot().unwrap(), 1, 2000);
    assert_eq!(log.sync().unwrap(), Lsn(2000));
    log.close().unwrap();
    let log = open(dir.path(), &small());
    assert!(log.recovery().clean, "{:?}", log.recovery());
    assert_records(&log.snapshot().unwrap(), 1, 2000);
    for number in 2001..=4000 {
        assert_eq!(log.append(7, &payload(number)).unwrap(), Lsn(number));
    }
    drop(log);
    let log = open(dir.path(), &small());
    assert!(!log.recovery().clean, "{:?}", log.recovery());
    assert_records(&log.snapshot().unwrap(), 1, 4000);
    assert_eq!(log.append(7, &payload(4001)).unwrap(), Lsn(4001));
    for number in [1, 2, 17, 1999, 2000, 2001, 3999, 4001] {
        assert_eq!(log.get(Lsn(number)).unwrap().unwrap().payload(), payload(number));
    }
    assert!(matches!(log.get(Lsn(4002)), Err(Error::NotAppended { .. })));
    let mut follower = log.follow(Lsn(1), Visibility::Published).unwrap();
    for number in 1..=4001 {
        assert_eq!(follower.next().unwrap().unwrap().payload(), payload(number));
    }
    assert!(follower.next().unwrap().is_none());
    let reader = read_only(dir.path()).unwrap();
    assert_records(&reader.snapshot().unwrap(), 1, 4001);
    assert!(matches!(try_open(dir.path(), &small()), Err(Error::Locked { pid: Some(_), .. })));
}

#[test]
fn a_durable_follower_that_comes_before_the_control_page_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), &small()).close().unwrap();
    std::fs::remove_file(dir.path().join("control")).unwrap();
    let mut follower = read_only(dir.path()).unwrap().follow(Lsn(1), Visibility::Durable).unwrap();
    assert!(follower.next().unwrap().is_none());
    let log = open(dir.path(), &small());
    log.append(7, &payload(1)).unwrap();
    log.sync().unwrap();
    let record = follower.next_timeout(Duration::from_secs(10)).unwrap().expect("the record is durable");
    assert_eq!(record.payload(), payload(1));
}

#[test]
fn a_follower_that_comes_before_the_first_link_waits() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), &small()).close().unwrap();
    // As a log is for a moment while it is created: a segment with a header and nothing else.
    let segment = dir.path().join("00000000000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[4096..].fill(0);
    std::fs::write(&segment, bytes).unwrap();
    let mut follower = read_only(dir.path()).unwrap().follow(Lsn(1), Visibility::Published).unwrap();
    assert!(follower.next().unwrap().is_none());
}
