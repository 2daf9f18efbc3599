//! The disk that engines test themselves with: what a power cut leaves of an engine that waits, and of one that does not.
//!
//! | planted | noticed by |
//! |---|---|
//! | operations go on when the power has gone | `after_the_power_has_gone_nothing_is_acknowledged` |
//! | a sync has its effect, and then takes its time | `a_sync_that_takes_its_time_has_no_effect_before` |
//! | files are written as the device has them, not as processes see them | `a_disk_goes_to_another_process_with_what_the_power_cut_has_left` |
//! | a power cut keeps all that was written | `what_was_not_synced_may_be_lost_and_what_was_is_there` |

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mapwal::testing::{DiskFailure, SimulatedDisk};
use mapwal::wal::{PageId, WalOptions};
use mapwal::{Error, Lsn, Options};

use crate::support::{open, small};

fn options() -> Options {
    small()
}

#[test]
fn what_was_not_synced_may_be_lost_and_what_was_is_there() {
    let mut lost = 0;
    for seed in 0..40 {
        let disk = SimulatedDisk::new(seed);
        let log = disk.open(&options()).unwrap();
        (0..5).for_each(|_| assert!(log.append(1, &[7; 100]).is_ok()));
        log.sync().unwrap();
        (0..50).for_each(|_| assert!(log.append(1, &[8; 100]).is_ok()));
        assert_eq!(disk.reader().unwrap().snapshot().unwrap().iter().count(), 55);
        let (restarted, killed) = (disk.restart(), disk.kill());
        drop(log);
        let left = restarted.open(&options()).unwrap();
        assert!((Lsn(6)..=Lsn(56)).contains(&left.next_lsn()), "seed {seed}: {}", left.next_lsn());
        lost += u64::from(left.next_lsn() < Lsn(56));
        assert_eq!(killed.open(&options()).unwrap().next_lsn(), Lsn(56), "seed {seed}: the page cache stays");
    }
    assert!(lost > 10, "{lost} of 40 have lost anything");
}

#[test]
fn after_the_power_has_gone_nothing_is_acknowledged() {
    for (seed, operations) in (0..60).zip((0..20).cycle()) {
        let disk = SimulatedDisk::new(seed);
        let log = disk.open(&options()).unwrap();
        disk.end_power_after(operations);
        let mut acknowledged = Lsn(0);
        let failed = loop {
            match log.append(1, &[7; 2000]).and_then(|_| log.sync()) {
                Ok(durable) => acknowledged = durable,
                Err(error) => break error,
            }
            assert!(acknowledged < Lsn(1000), "the power goes");
        };
        assert!(matches!(failed, Error::Poisoned { .. } | Error::Io { .. }), "{failed:?}");
        assert!(disk.open(&options()).is_err());
        drop(log);
        // The same each time, since it has happened.
        for disk in [disk.restart(), disk.clone().restart()] {
            let log = disk.open(&options()).unwrap();
            assert!(log.next_lsn() > acknowledged, "seed {seed}: {acknowledged} was acknowledged");
            log.append(1, b"goes on").unwrap();
            log.close().unwrap();
        }
    }
}

#[test]
fn what_is_acknowledged_by_many_threads_is_there_after_the_power_was_cut() {
    for seed in 0..40 {
        let disk = SimulatedDisk::new(seed);
        let log = disk.open(&options()).unwrap();
        let acknowledged = AtomicU64::new(0);
        disk.end_power_after(seed % 13);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while let Ok(lsn) = log.append(1, &[7; 300])
                        && log.wait_durable(lsn).is_ok()
                    {
                        acknowledged.fetch_max(lsn.0, Ordering::SeqCst);
                    }
                });
            }
        });
        drop(log);
        let log = disk.restart().open(&options()).unwrap();
        let acknowledged = Lsn(acknowledged.into_inner());
        assert!(log.next_lsn() > acknowledged, "seed {seed}: {acknowledged} of {}", log.next_lsn());
    }
}

#[test]
fn an_operation_fails_once_as_it_is_told() {
    let disk = SimulatedDisk::new(3);
    let log = disk.open(&options()).unwrap();
    disk.fail_after(0, DiskFailure::Full);
    let mut refused = 0;
    for _ in 0..300 {
        refused += u64::from(matches!(log.append(1, &[7; 1000]), Err(Error::NoSpace { .. })));
    }
    assert!(refused <= 1, "once");
    log.sync().unwrap();
    disk.fail_after(0, DiskFailure::Io);
    log.append(1, b"not written").unwrap();
    assert!(matches!(log.sync(), Err(Error::Poisoned { .. })));
}

#[test]
fn transactions_are_tested_in_the_same_way() {
    for seed in 0..20 {
        let disk = SimulatedDisk::new(seed);
        let options = WalOptions::new().log(options());
        let (wal, recovery) = disk.open_and_recover(&options).unwrap();
        recovery.redone();
        disk.end_power_after(4 + seed);
        let mut committed = 0;
        while let Ok(mut transaction) = wal.begin()
            && transaction.insert(PageId(1), &[7; 500]).is_ok()
            && transaction.commit().is_ok_and(|committed| committed.applied() > Lsn(0))
        {
            committed += 1;
        }
        drop((wal, recovery));
        let (_wal, recovery) = disk.restart().open_and_recover(&options).unwrap();
        assert!((committed..=committed + 1).contains(&recovery.redo().count()), "seed {seed}: {committed} committed");
    }
}

#[test]
fn power_that_has_gone_does_not_come_back() {
    let disk = SimulatedDisk::new(3);
    let log = disk.open(&options()).unwrap();
    disk.end_power_after(0);
    log.append(1, b"not written").unwrap();
    assert!(log.sync().is_err());
    drop(log);
    disk.end_power_after(1 << 30);
    assert!(disk.open(&options()).is_err());
    assert!(disk.restart().open(&options()).is_ok());
}

#[test]
fn a_disk_goes_to_another_process_with_what_the_power_cut_has_left() {
    for seed in 0..10 {
        let home = tempfile::tempdir().unwrap();
        let (cut, again) = (home.path().join("cut"), home.path().join("again"));
        let disk = SimulatedDisk::new(seed);
        let log = disk.open(&options()).unwrap();
        (0..30).for_each(|_| assert!(log.append(1, &[7; 3000]).is_ok()));
        log.sync().unwrap();
        (0..30).for_each(|_| assert!(log.append(1, &[8; 3000]).is_ok()));
        disk.restart().write_to(&cut).unwrap();
        assert!(disk.restart().write_to(&cut).is_err(), "it is there");
        let on_files = open(&cut, &options());
        let left = on_files.next_lsn();
        assert!((Lsn(31)..=Lsn(61)).contains(&left), "seed {seed}: {left}");
        on_files.append(1, b"in a file").unwrap();
        on_files.close().unwrap();
        let disk = SimulatedDisk::read_from(seed, &cut).unwrap();
        let log = disk.open(&options()).unwrap();
        assert_eq!(log.get(left).unwrap().expect("all of it is durable").payload(), b"in a file");
        disk.restart().write_to(&again).unwrap();
        assert_eq!(open(&again, &options()).next_lsn(), left.next(), "seed {seed}: it was durable when it was read");
    }
}

#[test]
fn a_sync_that_takes_its_time_has_no_effect_before() {
    let mut lost = 0;
    for seed in 0..1000 {
        let disk = SimulatedDisk::new(seed);
        let log = disk.open(&options()).unwrap();
        log.sync().unwrap();
        disk.sync_takes(Duration::from_millis(20));
        let lsn = log.append(1, b"under way").unwrap();
        let (sender, receiver) = mpsc::channel();
        log.on_durable(lsn, move |outcome| sender.send(outcome).unwrap()).unwrap();
        thread::sleep(Duration::from_millis(5));
        let left = disk.restart();
        let early = receiver.try_recv();
        let is_early = early.is_err();
        early.unwrap_or_else(|_| receiver.recv().unwrap()).unwrap();
        lost += u64::from(is_early && left.open(&options()).unwrap().next_lsn() == lsn);
        if lost == 3 {
            return;
        }
    }
    panic!("{lost} records were lost while they were being synced");
}
