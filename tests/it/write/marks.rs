//! Waiting for what has no number: metadata, a rotation, everything.
//!
//! | planted | noticed by |
//! |---|---|
//! | a mark is the place before its frame | `metadata_is_waited_for_by_its_mark` |
//! | places are not looked at by callbacks | `a_callback_for_a_mark_comes_after_the_sync` |
//! | a mark does not know its log | `a_mark_of_another_log_is_refused` |

use std::sync::mpsc;

use mapwal::{Error, Log, Lsn, Mark};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::support::faulty::Call;
use crate::support::scratch::{append_stamped, open_small, scratch};
use crate::support::wait::LONG;
use crate::support::{open_faulty, small, try_open};

/// A log on a disk of which all is durable and no further sync succeeds, once `act` has been done; and what that returns.
fn before_a_failing_sync(act: impl FnOnce(&Log) -> Mark) -> (TempDir, Log, Mark) {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    append_stamped(&log, 1, 100, 3);
    log.sync().unwrap();
    let mark = act(&log);
    faults.fail(Call::SyncMapping, Errno::IO);
    (dir, log, mark)
}

#[test]
fn metadata_is_waited_for_by_its_mark() {
    let (_dir, log, mark) = before_a_failing_sync(|log| log.put_meta(3, b"a vote").unwrap());
    assert!(matches!(log.wait_durable(mark), Err(Error::Poisoned { .. })), "it needs a sync");
    let (_dir, log, mark) = before_a_failing_sync(|log| {
        let mark = log.put_meta(3, b"a vote").unwrap();
        log.wait_durable(mark).unwrap();
        mark
    });
    log.wait_durable(mark).unwrap();
}

#[test]
fn a_rotation_is_waited_for_by_its_mark() {
    let (_dir, log, mark) = before_a_failing_sync(|log| log.rotate().unwrap());
    assert!(matches!(log.wait_durable(mark), Err(Error::Poisoned { .. })), "it needs a sync");
    let (_dir, log, mark) = before_a_failing_sync(|log| {
        log.wait_durable(log.rotate().unwrap()).unwrap();
        log.rotate().unwrap() // which has nothing to do
    });
    log.wait_durable(mark).unwrap();
}

#[test]
fn everything_so_far_is_waited_for_and_nothing_after_it() {
    let (_dir, log, mark) = before_a_failing_sync(|log| {
        append_stamped(log, 4, 100, 2);
        log.put_meta(3, b"a vote").unwrap();
        let mark = log.mark();
        log.wait_durable(mark).unwrap();
        assert_eq!(log.durable_lsn(), Lsn(5));
        append_stamped(log, 6, 100, 1);
        mark
    });
    log.wait_durable(mark).unwrap();
    log.wait_durable(Lsn(4)..Lsn(6)).unwrap();
    assert!(matches!(log.wait_durable(log.mark()), Err(Error::Poisoned { .. })));
    assert!(matches!(log.wait_durable(mark.and(Lsn(6))), Err(Error::Poisoned { .. })));
}

#[test]
fn a_callback_for_a_mark_comes_after_the_sync() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    append_stamped(&log, 1, 100, 3);
    log.sync().unwrap();
    faults.hold(Call::SyncMapping);
    let mark = log.put_meta(3, b"a vote").unwrap();
    let (tell, told) = mpsc::channel();
    for mark in [mark, Mark::from(Lsn(2)).and(mark)] {
        let tell = tell.clone();
        log.on_durable(mark, move |outcome| tell.send(outcome).unwrap()).unwrap();
    }
    faults.wait_until_held();
    assert!(told.try_recv().is_err(), "the device does not have it yet");
    faults.release();
    (0..2).for_each(|_| told.recv_timeout(LONG).unwrap().unwrap());
}

#[test]
fn a_place_is_reached_also_when_the_records_before_it_are_truncated() {
    let dir = scratch();
    let log = open_small(dir.path());
    append_stamped(&log, 1, 100, 9);
    let vote = log.put_meta(3, b"a vote").unwrap();
    log.truncate_after(Lsn(5)).unwrap();
    log.wait_durable(vote).unwrap();
    log.wait_durable(Lsn(5)).unwrap();
    assert!(matches!(log.wait_durable(vote.and(Lsn(9))), Err(Error::NotAppended { lsn: Lsn(9), next: Lsn(6) })));
    log.reset_to(Lsn(1)).unwrap();
    log.wait_durable(vote).unwrap();
    drop(log);
    assert_eq!(open_small(dir.path()).meta(3).unwrap(), b"a vote");
}

#[test]
fn a_mark_of_another_log_is_refused() {
    let dir = scratch();
    let log = open_small(dir.path());
    let mark = log.put_meta(3, b"a vote").unwrap();
    let elsewhere = scratch();
    let other = open_small(elsewhere.path());
    let refused =
        |log: &Log, mark: Mark| matches!(log.wait_durable(mark), Err(Error::InvalidArgument { name: "mark", .. }));
    assert!(refused(&other, mark) && refused(&other, mark.and(other.mark())) && refused(&log, mark.and(other.mark())));
    assert!(matches!(other.on_durable(mark, |_| unreachable!()), Err(Error::InvalidArgument { .. })));
    drop(log);
    let log = try_open(dir.path(), &small()).unwrap();
    assert!(refused(&log, mark), "what was not durable then may be gone now");
}
