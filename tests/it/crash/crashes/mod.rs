//! What a crash leaves, and what the next open makes of it.

mod durable_followers;

use std::sync::{Arc, Weak};

use mapwal::internals::open_log;
use mapwal::{Error, Log, Lsn};
use parking_lot::Mutex;

use crate::simulation::{AFTER_EFFECTS, AfterEffect, Crash, Failure, Fault, Observer, Operation, SimDisk};
use crate::simulation::{History, Tally, run, run_failing, run_transactions};
use crate::support::{open, small};

/// Opens a log on a disk that only this test has.
fn open_simulated(disk: &SimDisk) -> Log {
    // SAFETY: nobody else touches the disk's mappings.
    unsafe { open_log(Arc::new(disk.clone()), &small()) }.expect("the log opens")
}

/// Keeps what crashes of one kind would have left at each operation.
struct Crashes(Crash, Mutex<Vec<SimDisk>>);

impl Crashes {
    /// Of all operations on `disk` from now on.
    fn observe(disk: &SimDisk, crash: Crash) -> Arc<Self> {
        let crashes = Arc::new(Self(crash, Mutex::default()));
        disk.observe(Arc::clone(&crashes) as Arc<dyn Observer>);
        disk.show_cuts(255);
        crashes
    }

    fn take(&self) -> Vec<SimDisk> {
        std::mem::take(&mut *self.1.lock())
    }
}

impl Observer for Crashes {
    fn crashed(&self, left: SimDisk, crash: Crash) {
        if crash == self.0 {
            self.1.lock().push(left);
        }
    }

    fn syncing(&self) {}
}

#[test]
fn what_is_acknowledged_after_the_death_of_a_process_survives_a_power_cut() {
    for seed in 0..30 {
        let disk = SimDisk::new(seed);
        let deaths = Crashes::observe(&disk, Crash::Kill);
        let log = open_simulated(&disk);
        log.append(1, b"first").unwrap();
        log.rotate().unwrap();
        drop(log);
        for (at, left) in deaths.take().into_iter().enumerate() {
            assert_keeps_what_is_acknowledged(&left, &format!("seed {seed}, death {at}"));
        }
    }
}

/// Appends while a sync runs, and keeps what power cuts would have left.
#[derive(Default)]
struct AppendsMeanwhile {
    log: Mutex<Weak<Log>>,
    crashes: Mutex<Vec<SimDisk>>,
}

impl Observer for AppendsMeanwhile {
    fn crashed(&self, left: SimDisk, crash: Crash) {
        if crash == Crash::Power {
            self.crashes.lock().push(left);
        }
    }

    fn syncing(&self) {
        if let Some(log) = self.log.lock().upgrade() {
            log.append(2, &[8; 600]).unwrap();
        }
    }
}

#[test]
fn a_truncation_through_a_batch_that_a_crash_undoes_is_no_damage() {
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let log = Arc::new(open_simulated(&disk));
        log.append(1, b"first").unwrap();
        log.sync().unwrap();
        log.append_batch(&[(1, &[7; 700]), (1, b"third"), (1, &[7; 4500])]).unwrap();
        let observer = Arc::new(AppendsMeanwhile::default());
        *observer.log.lock() = Arc::downgrade(&log);
        disk.observe(Arc::clone(&observer) as Arc<dyn Observer>);
        disk.show_cuts(255);
        log.truncate_after(Lsn(3)).unwrap();
        disk.show_cuts(0);
        for left in std::mem::take(&mut *observer.crashes.lock()) {
            let log = open_simulated(&left);
            assert_eq!(log.get(Lsn(1)).unwrap().unwrap().payload(), b"first", "seed {seed}");
        }
    }
}

/// A log that was closed, with a close that ends with its page, so that what follows leaves no trace there.
fn closed_with_its_page(disk: &SimDisk) {
    const LINK_FRAME_LEN: usize = 24 + 32;
    const CLOSE_FRAME_LEN: usize = 24 + 8;
    let log = open_simulated(disk);
    // When the name of the next segment is made durable, so is that of the control page.
    for _ in 0..2 {
        log.append(1, b"before").unwrap();
        log.rotate().unwrap();
    }
    log.append(1, &[7; 4096 - LINK_FRAME_LEN - 24 - CLOSE_FRAME_LEN]).unwrap();
    log.close().unwrap();
}

/// Checks that what is acknowledged on `disk` now survives a power cut.
fn assert_keeps_what_is_acknowledged(disk: &SimDisk, context: &str) {
    let log = open_simulated(disk);
    let lsn = log.append(2, b"acknowledged").unwrap();
    log.sync().unwrap();
    let log = open_simulated(&disk.crash(Crash::Power));
    let record = log.get(lsn).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(record.unwrap().payload(), b"acknowledged");
}

#[test]
fn what_follows_a_close_survives_the_death_of_a_process_and_then_a_power_cut() {
    for seed in 0..30 {
        let disk = SimDisk::new(seed);
        closed_with_its_page(&disk);
        let deaths = Crashes::observe(&disk, Crash::Kill);
        drop(open_simulated(&disk));
        for (at, left) in deaths.take().into_iter().enumerate() {
            assert_keeps_what_is_acknowledged(&left, &format!("seed {seed}, death {at}"));
        }
    }
}

#[test]
fn a_control_page_that_has_lost_its_name_does_not_come_back_to_tell_of_a_close() {
    /// Of the first word that says whose page it is.
    const LOG_ID: usize = 8;
    for seed in 0..30 {
        let disk = SimDisk::new(seed);
        closed_with_its_page(&disk);
        disk.process_died();
        let left = disk.crash(Crash::Power);
        left.damage("control", LOG_ID, |byte| !byte);
        assert_keeps_what_is_acknowledged(&left, &format!("seed {seed}"));
    }
}

#[test]
fn what_a_trim_dropped_is_not_missed_after_a_crash_in_the_next_open() {
    for seed in 0..10 {
        let disk = SimDisk::new(seed);
        let log = open_simulated(&disk);
        log.append(1, b"kept by the truncation").unwrap();
        log.rotate().unwrap();
        log.append(1, b"dropped by it").unwrap();
        log.sync().unwrap();
        // The file that is dropped stays, between those that are trimmed.
        let only = Some(Operation::Remove);
        disk.plan_fault(Some(Fault { after: 0, only, failure: Failure::Io, effect: AFTER_EFFECTS[0] }));
        log.truncate_after(Lsn(1)).unwrap();
        log.append(1, b"trimmed").unwrap();
        log.rotate().unwrap();
        log.append(1, b"not trimmed").unwrap();
        log.sync().unwrap();
        assert_eq!(log.trim_before(Lsn(3)).unwrap(), 2);
        drop(log);
        disk.process_died();
        let cuts = Crashes::observe(&disk, Crash::Power);
        drop(open_simulated(&disk));
        for left in cuts.take() {
            assert_eq!(open_simulated(&left).first_lsn(), Lsn(3), "seed {seed}");
        }
    }
}

#[test]
fn a_crash_in_the_recovery_from_lost_links_is_recovered_from() {
    for seed in 0..40 {
        let disk = SimDisk::of_either_kind(seed);
        let log = open_simulated(&disk);
        let kept = log.append(1, b"durable").unwrap();
        log.sync().unwrap();
        for _ in 0..3 {
            log.rotate().unwrap();
            log.append(1, b"published").unwrap();
        }
        // Of three segments that were never synced, the links of some are there, and of others not.
        let left = disk.crash(Crash::Power);
        let cuts = Crashes::observe(&left, Crash::Power);
        drop(open_simulated(&left));
        for left in cuts.take() {
            assert!(open_simulated(&left).get(kept).unwrap().is_some(), "seed {seed}");
        }
    }
}

#[test]
fn a_log_that_was_trimmed_to_nothing_survives_crashes_in_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &small());
    log.append(1, b"gone").unwrap();
    log.rotate().unwrap();
    assert_eq!(log.trim_before(Lsn(2)).unwrap(), 1);
    drop(log);
    for _ in 0..3 {
        let log = open(dir.path(), &small());
        assert_eq!((log.first_lsn(), log.next_lsn()), (Lsn(2), Lsn(2)));
    }
}

#[test]
fn a_close_that_could_not_be_synced_does_not_count() {
    // With so much metadata a close is longer than a sector.
    for (seed, effect, slots) in
        (0..20).flat_map(|seed| AFTER_EFFECTS.map(|effect| [(seed, effect, 0), (seed, effect, 3)])).flatten()
    {
        let disk = SimDisk::of_either_kind(seed);
        let log = open_simulated(&disk);
        log.append(1, b"first").unwrap();
        (0..slots).for_each(|slot| assert!(log.put_meta(slot, &[9; 250]).is_ok()));
        let fault = Fault { after: 1, only: Some(Operation::SyncMapping), failure: Failure::Io, effect };
        disk.plan_fault(Some(fault));
        assert!(matches!(log.close(), Err(Error::Poisoned { .. })));
        disk.process_died();
        let log = open_simulated(&disk);
        let lsn = log.append(2, b"second").unwrap();
        log.sync().unwrap();
        let log = open_simulated(&disk.crash(Crash::Power));
        assert_eq!(log.get(lsn).unwrap().unwrap().payload(), b"second", "seed {seed}, {effect:?}, {slots} slots");
    }
}

#[test]
fn nothing_more_is_written_to_a_segment_that_could_not_be_synced() {
    for (seed, effect) in (0..20).flat_map(|seed| AFTER_EFFECTS.map(|effect| (seed, effect))) {
        let disk = SimDisk::of_either_kind(seed);
        open_simulated(&disk).close().unwrap();
        let log = open_simulated(&disk);
        log.append(1, b"right after the close").unwrap();
        disk.plan_fault(Some(Fault { after: 0, only: Some(Operation::SyncMapping), failure: Failure::Io, effect }));
        assert!(matches!(log.sync(), Err(Error::Poisoned { .. })));
        drop(log);
        disk.process_died();
        let log = open_simulated(&disk);
        let lsn = log.append(2, b"acknowledged").unwrap();
        log.sync().unwrap();
        let log = open_simulated(&disk.crash(Crash::Power));
        let record = log.get(lsn).unwrap_or_else(|error| panic!("seed {seed}, {effect:?}: {error}"));
        assert_eq!(record.unwrap().payload(), b"acknowledged", "seed {seed}, {effect:?}");
    }
}

#[test]
fn what_a_trim_dropped_is_not_missed_when_the_control_page_cannot_be_written() {
    for (seed, effect) in (0..20).flat_map(|seed| AFTER_EFFECTS.map(|effect| (seed, effect))) {
        let disk = SimDisk::of_either_kind(seed);
        let mut log = open_simulated(&disk);
        for n in 1..=4 {
            log.append(1, b"trimmed").unwrap();
            log.rotate().unwrap();
            log.append(1, b"kept by this trim").unwrap();
            log.sync().unwrap();
            // The first sync is that of the page. Those of later trims succeed.
            let fault = Fault { after: 0, only: Some(Operation::SyncMapping), failure: Failure::Io, effect };
            disk.plan_fault((n == 1).then_some(fault));
            let _ = log.trim_before(Lsn(2 * n));
            disk.plan_fault(None);
            if n == 2 {
                // A later run has the page that could not be written.
                drop(log);
                disk.process_died();
                log = open_simulated(&disk);
            }
            let first = log.first_lsn();
            let left = open_simulated(&disk.crash(Crash::Power));
            assert!(left.first_lsn() <= first, "seed {seed}, {effect:?}, trim {n}");
            assert_eq!(left.get(Lsn(2 * n)).unwrap().unwrap().payload(), b"kept by this trim");
        }
    }
}

/// Does `history`, and panics with what it takes to do it again.
fn check(history: &History) -> Tally {
    let mut tally = Tally::default();
    if let Err((step, violation)) = run(history, &mut tally) {
        panic!("seed {}: {violation:?} at step {step} of {:?}", history.seed, history.steps);
    }
    tally
}

#[test]
fn random_histories_survive_crashes_anywhere() {
    let cuts: u64 = (0..30).map(|seed| check(&History::random(seed)).cuts).sum();
    assert!(cuts > 1000, "only {cuts} crashes");
}

#[test]
fn transactions_survive_crashes_anywhere_also_in_their_recovery() {
    let mut tally = Tally::default();
    for seed in 0..30 {
        run_transactions(seed, &mut tally).unwrap_or_else(|violation| panic!("seed {seed}: {violation:?}"));
    }
    assert!(tally.cuts > 1000 && tally.acknowledged > 1000, "only {tally:?}");
}

#[test]
fn each_action_by_itself_survives_a_crash_at_every_operation() {
    let cuts: u64 = History::all(1).map(|history| check(&history).cuts).sum();
    assert!(cuts > 100, "only {cuts} crashes");
}

#[test]
fn a_failure_of_any_operation_is_never_taken_for_success() {
    // On the second disk no read shows the device.
    let histories = [1, 4].map(History::of_all_actions);
    std::thread::scope(|scope| {
        for (failure, history) in [(Failure::Io, 0), (Failure::DiskFull, 0), (Failure::Io, 1)] {
            let history = &histories[history];
            scope.spawn(move || {
                for effect in AFTER_EFFECTS {
                    let failed = fail_each_operation(history, failure, effect);
                    println!("{failed} operations failed: {failure:?}, {effect:?}");
                    assert!(failed > 250, "only {failed} operations");
                }
            });
        }
    });
}

/// Does `history` once for each of its operations, with that operation failing; how many there are.
fn fail_each_operation(history: &History, failure: Failure, effect: AfterEffect) -> u64 {
    let mut after = 0;
    loop {
        let fault = Fault { after, only: None, failure, effect };
        match run_failing(history, Some(fault.clone()), &mut Tally::default()) {
            Ok(true) => after += 1,
            Ok(false) => return after,
            Err((step, violation)) => panic!("{fault:?}: {violation:?} at step {step} of {:?}", history.steps),
        }
    }
}
