//! What a truncation means to threads that use the log at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mapwal::{Error, Lsn};

use crate::support::faulty::Call;
use crate::support::open_faulty;
use crate::support::scratch::{append_stamped, contents, open_small, scratch, stamped};
use crate::support::wait::until;

#[test]
fn waiters_for_what_is_cut_off_get_an_error_and_never_an_acknowledgement() {
    const WAITERS: u64 = 4;
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    let (mut cut, mut round) = (0, 0);
    until("waiters are cut off", || {
        round += 1;
        let first = log.append(1, b"synced by the leader").unwrap();
        faults.hold(Call::SyncMapping);
        let outcomes = std::thread::scope(|scope| {
            let log = &log;
            scope.spawn(move || log.wait_durable(first).unwrap());
            faults.wait_until_held();
            // After what the leader syncs, so that they wait for the next sync, or for the truncation.
            let waiters: Vec<_> = (0..WAITERS)
                .map(|_| log.append(2, b"cut off").unwrap())
                .map(|lsn| scope.spawn(move || (lsn, log.wait_durable(lsn))))
                .collect();
            let truncation = scope.spawn(move || log.truncate_after(first));
            // Longer and longer, until waiters and the truncation wait by then.
            std::thread::sleep(Duration::from_micros(round * 20));
            faults.release();
            truncation.join().unwrap().unwrap();
            waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!((log.next_lsn(), log.durable_lsn()), (first.next(), first));
        for (lsn, outcome) in outcomes {
            match outcome {
                Ok(()) | Err(Error::NotAppended { .. }) => {}
                Err(Error::Truncated { lsn: told }) => {
                    assert_eq!(told, lsn);
                    cut += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        cut > 20
    });
}

#[test]
fn appenders_meanwhile_come_before_or_after_and_none_that_counts_is_lost() {
    const THREADS: u64 = 3;
    const ROUNDS: u64 = 150;
    let dir = scratch();
    let log = open_small(dir.path());
    let (stop, stamps) = (AtomicBool::new(false), AtomicU64::new(1));
    // Bumped by the truncating thread before and after: an append that saw the same even number at its start and at its
    // end did not overlap with a truncation.
    let epoch = AtomicU64::new(0);
    let (appended, cuts) = std::thread::scope(|scope| {
        let (log, stop, stamps, epoch) = (&log, &stop, &stamps, &epoch);
        let appenders: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(move || {
                    let mut appended = Vec::new();
                    while !stop.load(Ordering::SeqCst) {
                        let stamp = stamps.fetch_add(1, Ordering::SeqCst);
                        let before = epoch.load(Ordering::SeqCst);
                        let lsn = log.append(7, &stamped(stamp, 64)).unwrap();
                        let after = epoch.load(Ordering::SeqCst);
                        appended.push((lsn.0, stamp, before, after));
                    }
                    appended
                })
            })
            .collect();
        let mut cuts = Vec::new();
        for _ in 0..ROUNDS {
            let at = log.next_lsn().0.saturating_sub(20).max(log.first_lsn().0);
            epoch.fetch_add(1, Ordering::SeqCst);
            log.truncate_after(Lsn(at)).unwrap();
            epoch.fetch_add(1, Ordering::SeqCst);
            cuts.push(at);
            // Some appends come after this truncation and before the next, more than that is going to cut.
            until("appends", || log.next_lsn().0 > at + 60);
            let _ = log.sync();
            log.trim_before(Lsn(at.saturating_sub(2_000))).unwrap();
        }
        stop.store(true, Ordering::SeqCst);
        let appended: Vec<_> = appenders.into_iter().flat_map(|appender| appender.join().unwrap()).collect();
        (appended, cuts)
    });
    let found: std::collections::HashMap<u64, Vec<u8>> = contents(&log).into_iter().collect();
    let next = log.next_lsn().0;
    assert_eq!(found.len() as u64, next - log.first_lsn().0, "dense");
    // The lowest number after which each truncation, or a later one, cut.
    let mut lowest = cuts;
    for at in (1..lowest.len()).rev() {
        lowest[at - 1] = lowest[at - 1].min(lowest[at]);
    }
    let mut certain = 0;
    for (lsn, stamp, before, after) in appended {
        let quiet = before == after && before % 2 == 0;
        let later = lowest.get(usize::try_from(before / 2).unwrap());
        if quiet && later.is_none_or(|&cut| lsn <= cut) && lsn >= log.first_lsn().0 {
            certain += 1;
            assert!(found[&lsn] == stamped(stamp, 64), "record {lsn} is lost");
        }
    }
    assert!(certain > 100, "only {certain} records were certain to be kept: nothing was tested");
    let before = contents(&log);
    drop(log);
    assert_eq!(contents(&open_small(dir.path())), before);
}

#[test]
fn an_onlooker_sees_the_log_before_or_after() {
    let dir = scratch();
    let log = Arc::new(open_small(dir.path()));
    log.reset_to(Lsn(101)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let lookers: Vec<_> = (0..2)
        .map(|_| {
            let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // 50 numbers of a full log, or the first one of one that was just reset.
                    let next = log.next_lsn().0;
                    assert!((101..=151).contains(&next), "next {next}");
                    let snapshot = log.snapshot().unwrap();
                    assert_eq!(snapshot.first_lsn(), Lsn(101));
                    assert_eq!(snapshot.iter().count() as u64, snapshot.next_lsn().0 - 101);
                    let stats = log.stats();
                    assert!(stats.sealed_segments <= 3 && stats.first_lsn == Lsn(101));
                    let _ = log.sync();
                }
            })
        })
        .collect();
    for round in 0..400 {
        if round % 2 == 0 {
            log.reset_to(Lsn(101)).unwrap();
        } else {
            log.truncate_after(Lsn(100)).unwrap();
        }
        append_stamped(&log, 1, 100, 50);
    }
    stop.store(true, Ordering::Relaxed);
    for looker in lookers {
        looker.join().unwrap();
    }
}
