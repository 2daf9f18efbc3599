//! Records that a closure writes straight into the mapping.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mapwal::{Error, Log, Lsn, PinDirectory, Visibility};

use crate::support::scratch::{open_small, scratch};
use crate::support::wait::LONG;
use crate::support::{append, assert_record, payload, read_only};

/// Appends a record whose closure panics halfway.
fn give_up(log: &Log, len: usize) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        log.append_with(9, len, |bytes| {
            bytes[..len / 2].fill(0xee);
            std::panic::resume_unwind(Box::new("given up"));
        })
    }));
    assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&"given up"), "the panic goes on");
}

#[test]
fn a_closure_writes_the_record_in_place() {
    let dir = scratch();
    let log = open_small(dir.path());
    for number in 1..=1000 {
        let payload = payload(number);
        let lsn = log.append_with(3, payload.len(), |bytes| {
            assert!(bytes.iter().all(|&b| b == 0), "it is given zeros");
            assert_eq!(bytes.len(), payload.len());
            bytes.copy_from_slice(&payload);
        });
        assert_eq!(lsn.unwrap(), Lsn(number));
    }
    for record in &log.snapshot().unwrap() {
        let record = record.unwrap();
        assert_eq!(record.tag(), 3);
        assert_record(&record, record.lsn().0);
    }
}

#[test]
fn a_closure_is_given_zeros_in_a_segment_that_is_gone_on_in() {
    let dir = scratch();
    for _ in 0..3 {
        let log = open_small(dir.path());
        log.append_with(0, 200, |bytes| assert!(bytes.iter().all(|&b| b == 0))).unwrap();
        log.close().unwrap();
    }
}

#[test]
fn a_record_whose_closure_panics_is_passed_over() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=3);
    give_up(&log, 100);
    give_up(&log, 0);
    append(&log, 6..=8);
    assert_eq!((log.next_lsn(), log.published_lsn().unwrap()), (Lsn(9), Lsn(8)));
    let check = |log: &Log| {
        let snapshot = log.snapshot().unwrap();
        let numbers: Vec<u64> = snapshot.iter().map(|record| record.unwrap().lsn().0).collect();
        assert_eq!(numbers, [1, 2, 3, 6, 7, 8]);
        assert!(snapshot.get(Lsn(4)).unwrap().is_none() && log.get(Lsn(5)).unwrap().is_none());
        assert_record(&log.get(Lsn(6)).unwrap().unwrap().record(), 6);
        let mut follower = log.follow(Lsn(4), Visibility::Published).unwrap();
        assert_record(&follower.next().unwrap().unwrap(), 6);
    };
    check(&log);
    assert_eq!(log.sync().unwrap(), Lsn(8));
    drop(log);
    check(&open_small(dir.path()));
}

#[test]
fn a_log_that_ends_with_a_record_given_up_goes_on_after_it() {
    for close in [true, false] {
        let dir = scratch();
        let log = open_small(dir.path());
        append(&log, 1..=1);
        give_up(&log, 500);
        assert_eq!(log.sync().unwrap(), Lsn(2));
        if close {
            log.close().unwrap()
        } else {
            drop(log)
        }
        let reader = read_only(dir.path()).unwrap();
        assert_eq!(reader.published_lsn().unwrap(), Lsn(2));
        append(&open_small(dir.path()), 3..=3);
    }
}

#[test]
fn panics_in_many_threads_leave_a_working_log() {
    let dir = scratch();
    let log = open_small(dir.path());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let log = &log;
            scope.spawn(move || {
                for round in 0..500 {
                    if (round + thread) % 4 == 0 {
                        give_up(log, 64)
                    } else {
                        let _ = log.append(1, &[7; 100]).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(log.sync().unwrap(), Lsn(2000));
    assert_eq!(
        log.snapshot().unwrap().iter().filter(|record| record.as_ref().unwrap().payload() == [7; 100]).count(),
        1500
    );
}

#[test]
fn a_call_that_would_wait_for_its_own_closure_is_refused() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=5);
    log.append_with(0, 8, |bytes| {
        bytes.fill(1);
        assert!(matches!(log.sync(), Err(Error::InsideAppend)));
        assert!(matches!(log.wait_durable(Lsn(6)), Err(Error::InsideAppend)));
        assert!(matches!(log.append(0, b"inside"), Err(Error::InsideAppend)));
        assert!(matches!(log.append_with(0, 1, |_| ()), Err(Error::InsideAppend)));
        assert!(matches!(log.rotate(), Err(Error::InsideAppend)));
        // A truncation that waits for this append has the pins locked.
        assert!(matches!(log.create_pin("pin", "", Lsn(1), None), Err(Error::InsideAppend)));
        assert!(matches!(log.advance_pin("pin", Lsn(1)), Err(Error::InsideAppend)));
        assert!(matches!(log.drop_pin("pin"), Err(Error::InsideAppend)));
        let pins = PinDirectory::open(log.directory()).unwrap();
        assert!(matches!(pins.create("pin", "", Lsn(1), None), Err(Error::InsideAppend)));
        assert!(matches!(pins.remove("pin"), Err(Error::InsideAppend)));
    })
    .unwrap();
    assert_eq!(log.sync().unwrap(), Lsn(6), "and allowed again after it");
}

#[test]
fn a_panic_does_not_leave_its_thread_inside_of_the_closure() {
    let dir = scratch();
    let log = open_small(dir.path());
    give_up(&log, 8);
    append(&log, 2..=2);
    assert_eq!(log.sync().unwrap(), Lsn(2));
}

#[test]
fn what_is_appended_after_an_open_closure_is_seen_when_it_ends() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=1);
    std::thread::scope(|scope| {
        let log = &log;
        log.append_with(0, 8, |bytes| {
            bytes.copy_from_slice(&payload(300)[..8]);
            scope.spawn(|| append(log, 3..=4)).join().unwrap();
            assert_eq!((log.published_lsn().unwrap(), log.next_lsn()), (Lsn(1), Lsn(5)));
            assert!(matches!(log.get(Lsn(3)), Err(Error::NotAppended { lsn: Lsn(3), .. })));
        })
        .unwrap();
        assert_eq!(log.published_lsn().unwrap(), Lsn(4));
        let mut follower = log.follow(Lsn(3), Visibility::Published).unwrap();
        assert_record(&follower.next_timeout(LONG).unwrap().unwrap(), 3);
    });
}

#[test]
fn a_number_is_used_up_without_a_record() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=3);
    assert_eq!((log.append_void().unwrap(), log.append_void().unwrap()), (Lsn(4), Lsn(5)));
    append(&log, 6..=6);
    assert_eq!(log.sync().unwrap(), Lsn(6));
    drop(log);
    let log = open_small(dir.path());
    assert!(log.get(Lsn(4)).unwrap().is_none(), "there is a number and no record");
    let numbers: Vec<u64> = log.snapshot().unwrap().iter().map(|record| record.unwrap().lsn().0).collect();
    assert_eq!(numbers, [1, 2, 3, 6]);
}
