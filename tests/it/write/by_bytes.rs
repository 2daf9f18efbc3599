//! Syncs after so many bytes, without a call.
//!
//! With the start of a frame for its end, the first test here failed.

use std::time::Duration;

use mapwal::{Log, Lsn, Options};

use crate::support::scratch::scratch;
use crate::support::try_open;
use crate::support::wait::until;

const BYTES: u64 = 64 << 10;

fn options() -> Options {
    Options::new().segment_size_bytes(4 << 20).first_segment_size_bytes(4 << 20).sync_bytes(Some(BYTES))
}

#[test]
fn the_record_with_which_enough_has_been_appended_becomes_durable() {
    let dir = scratch();
    let log = try_open(dir.path(), &options()).unwrap();
    // The task has looked before the append.
    std::thread::sleep(Duration::from_millis(50));
    for (lsn, len) in [(1, 100 << 10), (2, 1 << 20), (3, BYTES as usize)] {
        assert_eq!(log.append(1, &vec![7; len]).unwrap(), Lsn(lsn));
        until("it is durable, with nothing after it", || log.durable_lsn() == Lsn(lsn));
        std::thread::sleep(Duration::from_millis(20));
    }
    log.append_batch(&[(1, &[7; 40 << 10][..]), (1, &[7; 40 << 10])]).unwrap();
    until("a batch is durable, with nothing after it", || log.durable_lsn() == Lsn(5));
}

#[test]
fn what_a_call_has_synced_does_not_count() {
    let dir = scratch();
    let log = try_open(dir.path(), &options()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    for round in 1..=20 {
        log.append(1, &[7; 40 << 10]).unwrap();
        assert_eq!(log.durable_lsn(), Lsn(round - 1), "40 KiB since the last sync");
        log.sync().unwrap();
    }
    log.append(1, &[7; 40 << 10]).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(log.durable_lsn(), Lsn(20));
    log.append(1, &[7; 40 << 10]).unwrap();
    until("80 KiB", || log.durable_lsn() == Lsn(22));
}

#[test]
fn what_a_truncation_has_synced_does_not_count() {
    type Truncate = fn(&Log) -> mapwal::Result<()>;
    let truncations: [(&str, Truncate); 2] =
        [("truncate_after", |log| log.truncate_after(Lsn(1))), ("reset_to", |log| log.reset_to(Lsn(2)))];
    for (what, truncate) in truncations {
        let dir = scratch();
        let log = try_open(dir.path(), &options()).unwrap();
        log.append_batch(&[(1, &b"a"[..]), (1, b"b"), (1, b"c")]).unwrap();
        log.sync().unwrap();
        truncate(&log).unwrap();
        assert_eq!(log.append(1, &[7; 40 << 10]).unwrap(), Lsn(2));
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(log.durable_lsn(), Lsn(1), "{what}: 40 KiB since");
        log.append(1, &[7; 40 << 10]).unwrap();
        until("80 KiB", || log.durable_lsn() == Lsn(3));
    }
}
