//! A close while appends go on.
//!
//! With a close that decides where its frame fits while appends are taken, the first test here failed by a panic in `Log::close`.

use std::time::Duration;

use mapwal::{Error, Lsn, Options};
use rustix::io::Errno;

use crate::support::faulty::{Call, Faulty};
use crate::support::scratch::scratch;
use crate::support::wait::until;
use crate::support::{try_open, try_open_on_with};

/// Made ready in steps of 16 KiB.
const SEGMENT: usize = 256 << 10;
const STEP: usize = SEGMENT / 16;
const LEN: usize = 1000;

/// The header and the first frame of the segment take about this.
const BEGIN: usize = (4 << 10) + 200;
/// All that a close says beside the metadata takes no more.
const OTHER_LEN: usize = 400;

/// Closes a log whose appenders have just got more room, with metadata for which there is room after them, but not after what they
/// append until there is no more; makes a step of that room as `call` says.
fn close_beside_an_appender(fail: bool) {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let options = Options::new().segment_size_bytes(SEGMENT as u64);
    let log = try_open_on_with(&storage, &options).unwrap();
    let meta = SEGMENT - 13 * STEP - 2 * LEN - OTHER_LEN;
    log.put_meta(0, &vec![7; meta]).unwrap();
    while log.stats().bytes_appended as usize + BEGIN < 13 * STEP {
        log.append(1, &[1; LEN]).unwrap();
        // So that no more is made ready ahead of the appends than for small syncs.
        log.sync().unwrap();
    }
    let before = log.next_lsn();
    storage.hold(Call::Write);
    let last = std::thread::scope(|scope| {
        let closing = scope.spawn(|| log.close());
        storage.wait_until_held();
        // It waits for that, or is about to.
        until("the log is closing", || matches!(log.sync(), Err(Error::Closed)));
        std::thread::sleep(Duration::from_millis(50));
        let appender = scope.spawn(|| {
            let mut last = before.previous();
            loop {
                match log.append(1, &[1; LEN]) {
                    Ok(lsn) => last = lsn,
                    Err(Error::Closed) => return last,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        std::thread::sleep(Duration::from_millis(50));
        if fail {
            storage.fail(Call::Write, Errno::NOSPC);
        }
        storage.release();
        closing.join().unwrap().unwrap();
        appender.join().unwrap()
    });
    drop(log);
    storage.heal();
    let log = try_open(dir.path(), &options).unwrap();
    assert!(log.recovery().clean);
    assert_eq!(log.next_lsn(), last.next(), "all that was acknowledged, and no more");
    assert_eq!(log.meta(0), Some(vec![7; meta]));
    assert_eq!(log.snapshot().unwrap().iter().filter(|record| record.is_ok()).count() as u64, last.0);
}

#[test]
fn a_close_finds_its_place_once_nothing_more_is_appended() {
    close_beside_an_appender(false);
}

#[test]
fn a_close_that_gets_no_room_for_its_metadata_does_without() {
    close_beside_an_appender(true);
}

/// Whatever room is left, and wherever the appenders have come.
#[test]
fn what_is_appended_during_a_close_with_long_metadata_is_in_the_log_or_refused() {
    for round in 0..40_u64 {
        let dir = scratch();
        let options = Options::new().segment_size_bytes(64 << 10);
        let log = try_open(dir.path(), &options).unwrap();
        log.put_meta(0, &vec![7; 14 << 10]).unwrap();
        let last = std::thread::scope(|scope| {
            let appenders: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut last = Lsn::ZERO;
                        while let Ok(lsn) = log.append(1, &[1; LEN]) {
                            last = lsn;
                        }
                        last
                    })
                })
                .collect();
            while log.next_lsn() < Lsn(1 + round * 3) {
                std::hint::spin_loop();
            }
            log.close().unwrap();
            appenders.into_iter().map(|appender| appender.join().unwrap()).max().unwrap()
        });
        drop(log);
        let log = try_open(dir.path(), &options).unwrap();
        assert!(log.recovery().clean);
        assert_eq!(log.next_lsn(), last.next());
        assert_eq!(log.meta(0).map(|value| value.len()), Some(14 << 10));
    }
}
