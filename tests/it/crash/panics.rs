//! Panics where none is expected, such as in a storage: every waiting call is told, and none hangs.

use std::sync::{Arc, mpsc};
use std::time::Instant;

use mapwal::{Error, Lsn};

use crate::support::faulty::{Call, Faulty};
use crate::support::files::segment_numbers;
use crate::support::scratch::{open_small, scratch};
use crate::support::wait::{LONG, until};
use crate::support::{append, assert_records, open_on, payload};

/// What `act` returns, unless it hangs.
fn in_time<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    let thread = std::thread::Builder::new().name("application".into());
    thread.spawn(move || tell.send(act())).unwrap();
    told.recv_timeout(LONG).expect("nobody hangs, and what panics is not the application's call")
}

#[test]
fn one_in_the_thread_that_prepares_segments_is_an_error_of_each_call_that_needs_one() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = Arc::new(open_on(&storage));
    append(&log, 1..=1);
    storage.panic_in("prepare", Call::Allocate);
    let appending: Vec<_> = (0..3)
        .map(|_| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || in_time(move || while log.append(1, &payload(1)).is_ok() {}))
        })
        .collect();
    for thread in appending {
        thread.join().unwrap();
    }
    assert_eq!(storage.panics(), 1);
    assert!(matches!(log.append(1, &[0; 5000]), Err(Error::Io { operation: "prepare a segment in", .. })));
    let last = log.next_lsn().previous();
    let there = Arc::clone(&log);
    assert_eq!(in_time(move || there.sync()).unwrap(), last);
    assert!(log.rotate().is_err());
    in_time(move || log.close()).unwrap();
    let log = open_small(dir.path());
    assert_eq!(log.next_lsn(), last.next());
    assert_eq!(log.append(1, b"goes on").unwrap(), last.next());
}

#[test]
fn one_in_the_thread_that_syncs_poisons_the_log() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = Arc::new(open_on(&storage));
    append(&log, 1..=3);
    log.sync().unwrap();
    storage.panic_in("sync", Call::SyncMapping);
    append(&log, 4..=4);
    let (tell, told) = mpsc::channel();
    log.on_durable(Lsn(4), move |outcome| tell.send(outcome).unwrap()).unwrap();
    let outcome = told.recv_timeout(LONG).expect("the callback is called");
    assert!(matches!(outcome, Err(Error::Poisoned { durable: Lsn(3), .. })), "{outcome:?}");
    assert_eq!(storage.panics(), 1);
    assert!(matches!(log.append(1, b"refused"), Err(Error::Poisoned { .. })));
    let there = Arc::clone(&log);
    assert!(matches!(in_time(move || there.sync()), Err(Error::Poisoned { .. })));
    in_time(move || drop(log));
}

#[test]
fn one_in_a_sync_of_the_application_poisons_the_log_for_all_others() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = Arc::new(open_on(&storage));
    append(&log, 1..=1);
    storage.panic_in("panics", Call::SyncMapping);
    storage.hold(Call::SyncMapping);
    let there = Arc::clone(&log);
    let panics = std::thread::Builder::new().name("panics".into()).spawn(move || there.sync()).unwrap();
    storage.wait_until_held();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || in_time(move || log.sync()))
        })
        .collect();
    storage.release();
    assert!(panics.join().is_err());
    for thread in waiting {
        assert!(matches!(thread.join().unwrap(), Err(Error::Poisoned { .. })));
    }
}

#[test]
fn one_in_the_thread_that_removes_files_is_told_and_the_next_trim_goes_on() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = Arc::new(open_on(&storage));
    for number in 1..=4 {
        append(&log, number..=number);
        log.rotate().unwrap();
    }
    log.sync().unwrap();
    storage.panic_in("remove", Call::Rename);
    let trim = || {
        let log = Arc::clone(&log);
        in_time(move || log.trim_before(log.next_lsn()))
    };
    assert_eq!(trim().unwrap(), 4, "it is done");
    until("what stays is told by a later call", || match trim() {
        Ok(count) => {
            assert_eq!(count, 0);
            false
        }
        Err(Error::Io { operation: "remove", .. }) => true,
        Err(error) => panic!("{error:?}"),
    });
    assert!(storage.panics() > 0);
    assert_eq!(segment_numbers(dir.path())[0], 1);
    storage.heal();
    until("the next trims go on", || {
        // What failed once more is told once more.
        let _ = trim();
        segment_numbers(dir.path())[0] >= 5
    });
    in_time(move || drop(log));
}

#[test]
fn one_in_the_thread_that_reads_ahead_is_nobodys() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=2000);
    log.close().unwrap();
    let storage = Faulty::new(dir.path());
    storage.panic_in("ahead", Call::Load);
    let began = Instant::now();
    // The thread may come to a log only once all has been read.
    while storage.panics() == 0 && began.elapsed() < LONG {
        let log = Arc::new(open_on(&storage));
        for _ in 0..2 {
            let there = Arc::clone(&log);
            in_time(move || assert_records(&there.snapshot().unwrap(), 1, 2000));
        }
        in_time(move || drop(log));
    }
    assert_eq!(storage.panics(), 1);
}
