//! Fixed views, ranges of them, and single records.

use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::atomic::{AtomicBool, Ordering};

use mapwal::{Error, Lsn, Snapshot, Visibility};

use crate::support::scratch::{open_small, scratch};
use crate::support::{append, assert_record, assert_records, read_only, small, try_open};

fn numbers<'s>(records: impl IntoIterator<Item = mapwal::Result<mapwal::Record<'s>>>) -> Vec<u64> {
    records.into_iter().map(|record| record.unwrap().lsn().0).collect()
}

#[test]
fn a_snapshot_stays_as_it_is_while_appends_go_on() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=1000);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            append(&log, 1001..=5000);
            done.store(true, Ordering::Relaxed);
        });
        let snapshot = log.snapshot().unwrap();
        let next = snapshot.next_lsn().0;
        while !done.load(Ordering::Relaxed) {
            assert_records(&snapshot, 1, next - 1);
        }
        assert_records(&snapshot, 1, next - 1);
    });
    assert_records(&log.snapshot().unwrap(), 1, 5000);
}

#[test]
fn a_snapshot_that_is_taken_while_threads_append_has_no_hole() {
    let dir = scratch();
    let log = open_small(dir.path());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| (0..1000).for_each(|_| assert_ne!(log.append(0, &[1; 60]).unwrap(), Lsn(0)))))
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            let published = log.published_lsn().unwrap();
            let snapshot = log.snapshot().unwrap();
            assert!(snapshot.next_lsn() > published, "what was published is in view");
            assert!(numbers(&snapshot).into_iter().eq(1..snapshot.next_lsn().0));
        }
    });
}

#[test]
fn ranges_keep_their_bounds() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=900);
    let snapshot = log.snapshot().unwrap();
    let lsn = Lsn;
    assert!(numbers(snapshot.range(lsn(5)..lsn(9))).into_iter().eq(5..9));
    assert!(numbers(snapshot.range(lsn(5)..=lsn(9))).into_iter().eq(5..=9));
    assert!(numbers(snapshot.range((Excluded(lsn(5)), Excluded(lsn(9))))).into_iter().eq(6..9));
    assert!(numbers(snapshot.range((Excluded(lsn(5)), Included(lsn(9))))).into_iter().eq(6..=9));
    assert!(numbers(snapshot.range(lsn(880)..)).into_iter().eq(880..=900));
    assert!(numbers(snapshot.range(..lsn(20))).into_iter().eq(1..20));
    assert!(numbers(snapshot.range(..=lsn(20))).into_iter().eq(1..=20));
    assert!(numbers(snapshot.range(..)).into_iter().eq(1..=900));
    assert!(numbers(snapshot.range(lsn(300)..lsn(700))).into_iter().eq(300..700), "over several segments");
}

#[test]
fn ranges_outside_of_the_view_are_cut_to_it() {
    let dir = scratch();
    let log = try_open(dir.path(), &small().first_lsn(Lsn(100))).unwrap();
    append(&log, 100..=200);
    let snapshot = log.snapshot().unwrap();
    append(&log, 201..=300);
    assert!(numbers(snapshot.range(Lsn(0)..Lsn(103))).into_iter().eq(100..103));
    assert!(numbers(snapshot.range(Lsn(199)..Lsn(250))).into_iter().eq(199..=200));
    assert!(numbers(snapshot.range(..=Lsn(u64::MAX))).into_iter().eq(100..=200));
    for empty in [Lsn(0)..Lsn(100), Lsn(201)..Lsn(300), Lsn(150)..Lsn(150), Lsn(u64::MAX)..Lsn(u64::MAX)] {
        assert!(numbers(snapshot.range(empty.clone())).is_empty(), "{empty:?}");
    }
    let turned = Lsn(150)..Lsn(120);
    assert!(numbers(snapshot.range(turned)).is_empty());
    assert!(numbers(snapshot.range((Excluded(Lsn(u64::MAX)), Unbounded))).is_empty());
}

#[test]
fn a_log_without_a_record_has_an_empty_view() {
    let dir = scratch();
    let log = open_small(dir.path());
    let check = |snapshot: Snapshot| {
        assert_eq!((snapshot.first_lsn(), snapshot.next_lsn()), (Lsn(1), Lsn(1)));
        assert!(snapshot.iter().next().is_none());
        assert!(matches!(snapshot.get(Lsn(1)), Err(Error::NotAppended { lsn: Lsn(1), next: Lsn(1) })));
    };
    check(log.snapshot().unwrap());
    check(read_only(dir.path()).unwrap().snapshot().unwrap());
}

#[test]
fn every_record_is_found_by_its_number() {
    let dir = scratch();
    let mut log = open_small(dir.path());
    append(&log, 1..=2500);
    for _ in 0..2 {
        let mut numbers: Vec<u64> = (1..=2500).collect();
        fastrand::Rng::with_seed(7).shuffle(&mut numbers);
        let snapshot = log.snapshot().unwrap();
        for number in numbers {
            assert_record(&log.get(Lsn(number)).unwrap().unwrap().record(), number);
            assert_record(&snapshot.get(Lsn(number)).unwrap().unwrap(), number);
            assert_record(&snapshot.get_ref(Lsn(number)).unwrap().unwrap().record(), number);
        }
        // Once more without what has been indexed while it was written.
        drop(snapshot);
        drop(log);
        log = open_small(dir.path());
    }
}

#[test]
fn many_records_are_found_in_the_order_in_which_they_are_asked_for() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=900);
    let void = log.append_void().unwrap();
    let mut asked: Vec<_> = (0..500).map(|at| Lsn(at * 7 % 900 + 1)).collect();
    asked.extend([void, Lsn(900), Lsn(900)]);
    let snapshot = log.snapshot().unwrap();
    for look in ["first", "second, when all are known"] {
        let (found, owned) = (snapshot.get_many(&asked).unwrap(), log.get_many(&asked).unwrap());
        assert_eq!((found.len(), owned.len()), (asked.len(), asked.len()), "{look}");
        for ((lsn, found), owned) in asked.iter().zip(found).zip(owned) {
            assert_eq!((found.is_none(), owned.is_none()), (*lsn == void, *lsn == void), "{look}: {lsn}");
            if let (Some(found), Some(owned)) = (found, owned) {
                assert_record(&found, lsn.0);
                assert_record(&owned.record(), lsn.0);
            }
        }
    }
    assert!(snapshot.get_many(&[]).unwrap().is_empty() && log.get_many(&[]).unwrap().is_empty());
    let beyond = [Lsn(1), Lsn(902), Lsn(903)];
    for refused in [snapshot.get_many(&beyond).map(drop), log.get_many(&beyond).map(drop)] {
        assert!(matches!(refused, Err(Error::NotAppended { lsn: Lsn(902), .. })), "{refused:?}");
    }
}

#[test]
fn a_record_is_found_as_soon_as_its_number_is_known() {
    let dir = scratch();
    let log = open_small(dir.path());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for counter in 0..500_u64 {
                    let lsn = log.append(0, &counter.to_le_bytes()).unwrap();
                    // Appends of other threads before it may not be complete yet.
                    let record = loop {
                        match log.get(lsn) {
                            Err(Error::NotAppended { .. }) => std::thread::yield_now(),
                            found => break found.unwrap().unwrap(),
                        }
                    };
                    assert_eq!(record.payload(), counter.to_le_bytes());
                }
            });
        }
    });
}

#[test]
fn record_0_is_not_said_to_have_been_trimmed() {
    let dir = scratch();
    let log = try_open(dir.path(), &small()).unwrap();
    append(&log, 1..=3);
    let said = "there is no record 0; the log starts at 1";
    assert_eq!(log.get(Lsn(0)).unwrap_err().to_string(), said);
    assert_eq!(log.follow(Lsn(0), Visibility::Published).unwrap_err().to_string(), said);
}

#[test]
fn a_record_from_before_the_log_began_is_not_said_to_have_been_there() {
    let dir = scratch();
    let log = try_open(dir.path(), &small().first_lsn(Lsn(1000))).unwrap();
    append(&log, 1000..=1002);
    let said = "record 5 has been trimmed, or was never there; the log starts at 1000";
    assert_eq!(log.get(Lsn(5)).unwrap_err().to_string(), said);
    assert_eq!(log.pin(Lsn(5)).unwrap_err().to_string(), said);
}

#[test]
fn records_that_are_not_there_are_told_apart() {
    let dir = scratch();
    let log = try_open(dir.path(), &small().first_lsn(Lsn(50))).unwrap();
    append(&log, 50..=800);
    for lsn in [0, 1, 49] {
        assert!(matches!(log.get(Lsn(lsn)), Err(Error::Trimmed { first: Lsn(50), .. })), "{lsn}");
    }
    for lsn in [801, 802, u64::MAX] {
        assert!(matches!(log.get(Lsn(lsn)), Err(Error::NotAppended { next: Lsn(801), .. })), "{lsn}");
    }
    log.rotate().unwrap();
    append(&log, 801..=1500);
    log.sync().unwrap();
    let kept = log.sealed(0).unwrap().last().unwrap().first_lsn();
    log.trim_before(kept).unwrap();
    let first = log.first_lsn();
    assert!(first > Lsn(50));
    assert!(matches!(log.get(first.previous()), Err(Error::Trimmed { first: named, .. }) if named == first));
    assert_record(&log.get(first).unwrap().unwrap().record(), first.0);
}

#[test]
fn an_iterator_that_has_ended_stays_ended() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=2);
    let snapshot = log.snapshot().unwrap();
    let mut records = snapshot.iter();
    assert_eq!(records.by_ref().count(), 2);
    append(&log, 3..=4);
    assert!(records.next().is_none() && records.next().is_none());
}

#[test]
fn a_view_is_read_from_both_ends() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=900);
    log.append_void().unwrap();
    log.append_void().unwrap();
    append(&log, 903..=1800);
    let snapshot = log.snapshot().unwrap();
    let mut forward = numbers(&snapshot);
    let mut backward = numbers(snapshot.iter().rev());
    backward.reverse();
    assert_eq!(forward, backward);
    forward.retain(|number| (890..910).contains(number));
    backward = numbers(snapshot.range(Lsn(890)..Lsn(910)).rev());
    assert!(backward.iter().rev().eq(&forward), "voids are passed over");

    // In turns, so that the ends meet in the middle: nothing comes twice, nothing is left out.
    let mut iter = snapshot.iter();
    let mut met = Vec::new();
    while let Some(record) = if met.len() % 3 == 0 { iter.next_back() } else { iter.next() } {
        met.push(record.unwrap().lsn().0);
    }
    assert!(iter.next().is_none() && iter.next_back().is_none());
    met.sort_unstable();
    assert_eq!(met, numbers(&snapshot));
}

#[test]
fn a_record_of_a_view_can_be_kept_and_no_other() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=900);
    let snapshot = log.snapshot().unwrap();
    let elsewhere = scratch();
    let other = open_small(elsewhere.path());
    append(&other, 1..=900);
    let others = other.snapshot().unwrap();
    let mut kept = Vec::new();
    for record in &snapshot {
        let record = record.unwrap();
        let owned = snapshot.own(&record).expect("it is of this view");
        assert_eq!(owned.record(), record);
        assert_eq!(owned.payload().as_ptr(), record.payload().as_ptr(), "in place");
        let foreign = others.get(record.lsn()).unwrap().unwrap();
        assert_eq!(foreign, record, "the same contents");
        assert!(snapshot.own(&foreign).is_none() && others.own(&record).is_none(), "but not of that view");
        let segment = snapshot.segment_bytes(&record).expect("it is of this view");
        let at = record.payload().as_ptr().addr() - segment.as_ptr().addr();
        assert_eq!(&segment[at..at + record.payload().len()], record.payload(), "in place");
        assert!(snapshot.segment_bytes(&foreign).is_none(), "but not of that view");
        kept.push(owned);
    }
    drop((snapshot, log));
    for (record, number) in kept.iter().zip(1..) {
        assert_record(&record.record(), number);
    }
}
