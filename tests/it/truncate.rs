//! Dropping a suffix, or everything. `docs/design/truncation.md` names these tests where it makes its claims.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use mapwal::{Error, Follower, Log, Lsn, Visibility};
use rustix::io::Errno;

use crate::failing::{Call, open_failing};
use crate::scratch::{append_stamped, await_spare, contents, open_small, scratch, segment_names, stamped};
use crate::support::read_only;

/// Three segments of ten records of 100 bytes each, with their numbers for stamps.
fn fill(log: &Log) {
    for segment in 0..3 {
        append_stamped(log, segment * 10 + 1, 100, 10);
        if segment < 2 {
            log.rotate().unwrap();
        }
    }
}

/// Records 1 up to `kept` as [`fill`] makes them, and `more` behind, with stamps from 1000 on.
fn expected(kept: u64, more: u64) -> Vec<(u64, Vec<u8>)> {
    let old = (1..=kept).map(|number| (number, stamped(number, 100)));
    let new = (0..more).map(|at| (kept + 1 + at, stamped(1_000 + at, 100)));
    old.chain(new).collect()
}

#[test]
fn a_truncation_is_durable_on_return_wherever_it_cuts() {
    // Everything, inside of a segment, at the end of one, at the start of one, and the last record.
    for kept in [0, 1, 5, 9, 10, 11, 20, 21, 29] {
        for appended in [0, 4] {
            let dir = scratch();
            let log = open_small(dir.path());
            fill(&log);
            log.truncate_after(Lsn(kept)).unwrap();
            assert_eq!((log.next_lsn(), log.durable_lsn()), (Lsn(kept + 1), Lsn(kept)));
            assert_eq!(contents(&log), expected(kept, 0));
            assert!(matches!(log.get(Lsn(kept + 1)), Err(Error::NotAppended { .. })));
            append_stamped(&log, 1_000, 100, appended);
            drop(log);
            let log = open_small(dir.path());
            assert_eq!(contents(&log), expected(kept, appended), "{kept} kept");
            let copy = copy_of(dir.path());
            assert_eq!(contents(&open_small(copy.path())), expected(kept, appended));
        }
    }
}

/// A copy of the segments of a log.
fn copy_of(path: &std::path::Path) -> tempfile::TempDir {
    let copy = scratch();
    for name in segment_names(path) {
        std::fs::copy(path.join(&name), copy.path().join(&name)).unwrap();
    }
    copy
}

#[test]
fn nothing_happens_at_or_behind_the_last_record_and_below_the_first_it_is_refused() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log);
    let segments = log.stats().sealed_segments;
    for lsn in [30, 31, 1_000, u64::MAX] {
        log.truncate_after(Lsn(lsn)).unwrap();
    }
    assert_eq!((log.stats().sealed_segments, log.durable_lsn()), (segments, Lsn(0)));
    log.trim_before(Lsn(11)).unwrap();
    assert!(matches!(log.truncate_after(Lsn(9)), Err(Error::Trimmed { lsn: Lsn(9), first: Lsn(11) })));
    log.truncate_after(Lsn(10)).unwrap();
    assert_eq!((log.first_lsn(), log.next_lsn()), (Lsn(11), Lsn(11)));
}

#[test]
fn a_batch_can_be_cut_in_two() {
    for sync in [true, false] {
        let dir = scratch();
        let log = open_small(dir.path());
        let payloads: Vec<_> = (1..=6).map(|number| stamped(number, 100)).collect();
        let batch: Vec<(u16, &[u8])> = payloads.iter().map(|payload| (7, &payload[..])).collect();
        log.append_batch(&batch).unwrap();
        if sync {
            log.sync().unwrap();
        }
        log.truncate_after(Lsn(4)).unwrap();
        assert_eq!(contents(&log), expected(4, 0));
        append_stamped(&log, 1_000, 100, 3);
        assert_eq!(contents(&log), expected(4, 3));
        let mut follower = log.follow(Lsn(1), Visibility::Published).unwrap();
        (0..7).for_each(|_| drop(follower.next().unwrap().unwrap()));
        drop((follower, log));
        let reader = read_only(dir.path()).unwrap();
        assert_eq!(reader.published_lsn().unwrap(), Lsn(7));
        let log = open_small(dir.path());
        assert_eq!(contents(&log), expected(4, 3));
    }
}

/// Everything that the follower has, until there is no more; what it was told instead of a record, too.
fn drain(follower: &mut Follower) -> Vec<Result<(u64, Vec<u8>), u64>> {
    let mut drained = Vec::new();
    loop {
        match follower.next() {
            Ok(Some(record)) => drained.push(Ok((record.lsn().0, record.payload().to_vec()))),
            Ok(None) => return drained,
            Err(Error::Rewound { to }) => drained.push(Err(to.0)),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn followers_are_told_once_and_go_on_with_the_new_records() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log);
    log.sync().unwrap();
    let reader = read_only(dir.path()).unwrap();
    let mut followers = Vec::new();
    for visibility in [Visibility::Published, Visibility::Durable] {
        followers.push(log.follow(Lsn(1), visibility).unwrap());
        followers.push(reader.follow(Lsn(1), visibility).unwrap());
    }
    for follower in &mut followers {
        assert_eq!(drain(follower).len(), 30);
    }
    // Twice, unheard of in between: what counts is the lower of the two.
    log.truncate_after(Lsn(15)).unwrap();
    append_stamped(&log, 500, 100, 3);
    log.truncate_after(Lsn(16)).unwrap();
    append_stamped(&log, 1_000, 100, 2);
    log.sync().unwrap();
    for follower in &mut followers {
        let told = drain(follower);
        let new = [(16, stamped(500, 100)), (17, stamped(1_000, 100)), (18, stamped(1_001, 100))];
        assert_eq!(told, [Err(16)].into_iter().chain(new.into_iter().map(Ok)).collect::<Vec<_>>());
    }
    // Told at the end of what it has read, and then told again of a later truncation further down.
    log.truncate_after(Lsn(17)).unwrap();
    for follower in &mut followers {
        assert_eq!(drain(follower), [Err(18)]);
    }
    log.truncate_after(Lsn(12)).unwrap();
    for follower in &mut followers {
        assert_eq!(drain(follower), [Err(13)]);
    }
}

#[test]
fn a_follower_of_durable_records_takes_none_by_the_watermark_of_another_history() {
    for foreign in [false, true] {
        let dir = scratch();
        let log = open_small(dir.path());
        append_stamped(&log, 1, 100, 7);
        log.sync().unwrap();
        append_stamped(&log, 8, 100, 3);
        let reader = read_only(dir.path()).unwrap();
        let follow = |visibility| {
            if foreign { reader.follow(Lsn(1), visibility) } else { log.follow(Lsn(1), visibility) }.unwrap()
        };
        // One of published records has the reader know the others before they are durable.
        assert_eq!(drain(&mut follow(Visibility::Published)).len(), 10);
        let mut follower = follow(Visibility::Durable);
        assert_eq!(drain(&mut follower).len(), 7);
        log.truncate_after(Lsn(5)).unwrap();
        append_stamped(&log, 1_000, 100, 5);
        assert_eq!(drain(&mut follower), [Err(6)], "nothing new is durable");
        log.sync().unwrap();
        let new = (0..5).map(|at| Ok((6 + at, stamped(1_000 + at, 100)))).collect::<Vec<_>>();
        assert_eq!(drain(&mut follower), new);
    }
}

#[test]
fn a_follower_that_waits_for_a_number_is_not_given_the_one_before() {
    let dir = scratch();
    let log = open_small(dir.path());
    append_stamped(&log, 1, 100, 3);
    let (entered, inside) = mpsc::channel();
    let (leave, go) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let log = &log;
        scope.spawn(move || {
            log.append_with(7, 100, |bytes| {
                entered.send(()).unwrap();
                go.recv().unwrap();
                bytes.copy_from_slice(&stamped(4, 100));
            })
        });
        inside.recv().unwrap();
        log.append(7, &stamped(5, 100)).unwrap();
        let mut follower = log.follow(Lsn(5), Visibility::Published).unwrap();
        assert!(follower.next().unwrap().is_none());
        leave.send(()).unwrap();
        let record = follower.next_timeout(Duration::from_secs(60)).unwrap().unwrap();
        assert_eq!((record.lsn(), record.payload()), (Lsn(5), &stamped(5, 100)[..]));
    });
}

#[test]
fn a_reset_goes_on_at_any_number_and_keeps_the_metadata() {
    for to in [1, 5, 31, 32, 1_000_000] {
        let dir = scratch();
        let log = open_small(dir.path());
        fill(&log);
        log.put_meta(3, b"vote").unwrap();
        log.sync().unwrap();
        let (_, reader) = (log.pin(Lsn(7)).unwrap(), read_only(dir.path()).unwrap());
        let mut followers =
            [log.follow(Lsn(1), Visibility::Published).unwrap(), reader.follow(Lsn(1), Visibility::Published).unwrap()];
        for follower in &mut followers {
            assert_eq!(drain(follower).len(), 30);
        }
        let snapshot = log.snapshot().unwrap();
        log.reset_to(Lsn(to)).unwrap();
        assert_eq!((log.first_lsn(), log.next_lsn(), log.durable_lsn()), (Lsn(to), Lsn(to), Lsn(to - 1)));
        assert_eq!((contents(&log), log.meta(3).as_deref()), (Vec::new(), Some(&b"vote"[..])));
        assert_eq!(snapshot.iter().count(), 30, "views keep what they have");
        assert_eq!(append_stamped(&log, 1_000, 100, 2), Lsn(to));
        let new = [Ok((to, stamped(1_000, 100))), Ok((to + 1, stamped(1_001, 100)))];
        for follower in &mut followers {
            match to {
                1 | 5 => assert_eq!(drain(follower)[..], [&[Err(to)], &new[..]].concat()),
                31 => assert_eq!(drain(follower), new),
                _ => {
                    assert!(matches!(follower.next(), Err(Error::Trimmed { lsn: Lsn(31), first }) if first == Lsn(to)))
                }
            }
        }
        drop((followers, log));
        let log = open_small(dir.path());
        assert_eq!((log.first_lsn(), log.next_lsn()), (Lsn(to), Lsn(to + 2)));
        assert_eq!(log.meta(3).as_deref(), Some(&b"vote"[..]));
    }
    let dir = scratch();
    let log = open_small(dir.path());
    assert!(matches!(log.reset_to(Lsn(0)), Err(Error::InvalidOption { option: "lsn", .. })));
    assert!(matches!(log.reset_to(Lsn(u64::MAX - 1)), Err(Error::Exhausted(_))));
}

#[test]
fn a_failing_sync_poisons_a_truncation_and_the_log_opens_as_it_was_or_as_it_should_be() {
    let dir = scratch();
    let (log, faults) = open_failing(dir.path());
    fill(&log);
    log.sync().unwrap();
    faults.fail(Call::SyncMapping, Errno::IO);
    assert!(matches!(log.truncate_after(Lsn(15)), Err(Error::Poisoned { .. })));
    assert!(matches!(log.append(1, b"x"), Err(Error::Poisoned { .. })));
    assert!(matches!(log.sync(), Err(Error::Poisoned { .. })));
    assert!(matches!(log.truncate_after(Lsn(5)), Err(Error::Poisoned { .. })));
    assert!(matches!(log.trim_before(Lsn(5)), Err(Error::Poisoned { .. })));
    assert!(log.durable_lsn() <= Lsn(15), "nothing is called durable that the truncation took");
    drop(log);
    let found = contents(&open_small(dir.path()));
    assert!(found == expected(15, 0) || found == expected(30, 0), "{} records", found.len());
}

#[test]
fn a_full_disk_leaves_everything_as_it_was() {
    let dir = scratch();
    let (log, faults) = open_failing(dir.path());
    fill(&log);
    await_spare(&log);
    faults.fail(Call::Allocate, Errno::NOSPC);
    // The spare that is there already is used up.
    log.rotate().unwrap();
    append_stamped(&log, 31, 100, 1);
    let before = (contents(&log), log.next_lsn(), log.stats().sealed_segments);
    assert!(matches!(log.truncate_after(Lsn(5)), Err(Error::NoSpace { .. })));
    assert!(matches!(log.reset_to(Lsn(5)), Err(Error::NoSpace { .. })));
    assert_eq!((contents(&log), log.next_lsn(), log.stats().sealed_segments), before);
    append_stamped(&log, 32, 100, 1);
    log.sync().unwrap();
    faults.heal();
    log.truncate_after(Lsn(5)).unwrap();
    assert_eq!(contents(&log), expected(5, 0));
}

#[test]
fn files_that_cannot_be_removed_do_not_fail_a_truncation_that_is_done() {
    let dir = scratch();
    let (log, faults) = open_failing(dir.path());
    fill(&log);
    faults.fail(Call::Remove, Errno::IO);
    log.truncate_after(Lsn(5)).unwrap();
    append_stamped(&log, 1_000, 100, 2);
    faults.heal();
    // What is left over is no hole, even if all before it is trimmed.
    log.rotate().unwrap();
    assert_eq!(log.trim_before(Lsn(8)).unwrap(), 2);
    drop(log);
    let log = open_small(dir.path());
    assert_eq!((log.first_lsn(), log.next_lsn()), (Lsn(8), Lsn(8)));
    assert_eq!(segment_names(dir.path()).len(), 1);
}

#[test]
fn waiters_for_what_is_cut_off_get_an_error_and_never_an_acknowledgement() {
    const WAITERS: u64 = 4;
    let dir = scratch();
    let (log, faults) = open_failing(dir.path());
    let mut cut = 0;
    for round in 0..300 {
        let first = log.append(1, b"synced by the leader").unwrap();
        faults.hold_syncs();
        let outcomes = std::thread::scope(|scope| {
            let log = &log;
            scope.spawn(move || log.wait_durable(first).unwrap());
            faults.await_held_sync();
            // Behind what the leader syncs, so that they wait for the next sync, or for the truncation.
            let waiters: Vec<_> = (0..WAITERS)
                .map(|_| log.append(2, b"cut off").unwrap())
                .map(|lsn| scope.spawn(move || (lsn, log.wait_durable(lsn))))
                .collect();
            let truncation = scope.spawn(move || log.truncate_after(first));
            std::thread::sleep(Duration::from_micros(round % 20 * 50));
            faults.let_syncs_go();
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
        if cut > 20 {
            return;
        }
    }
    panic!("only {cut} waiters were cut off: nothing was tested");
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
            // Without a truncation for a while, so that some appends are certain to come after the one and before the next.
            std::thread::sleep(Duration::from_micros(500));
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
    // The lowest number that each truncation or a later one cut behind.
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
fn whoever_looks_on_sees_the_log_before_or_after() {
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
    lookers.into_iter().for_each(|looker| looker.join().unwrap());
}
