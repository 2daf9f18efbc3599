//! Being called when a record is durable, and syncs that nobody asks for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use mapwal::{Error, Log, Lsn, Result};
use rustix::io::Errno;

use crate::support::faulty::{Call, Faulty};
use crate::support::scratch::{append_stamped, open_small, scratch};
use crate::support::wait::{LONG, until};
use crate::support::{open_faulty, small, try_open, try_open_on_with};

type Outcomes = mpsc::Receiver<(u64, Result<()>)>;

/// Asks to be called for each of `numbers`.
fn ask(log: &Log, numbers: impl IntoIterator<Item = u64>) -> Outcomes {
    let (tell, told) = mpsc::channel();
    for number in numbers {
        let tell = tell.clone();
        log.on_durable(Lsn(number), move |outcome| tell.send((number, outcome)).unwrap()).unwrap();
    }
    told
}

/// What came, until nothing more can.
fn all(told: &Outcomes) -> Vec<(u64, Result<()>)> {
    let mut outcomes: Vec<_> = std::iter::from_fn(|| told.recv_timeout(LONG).ok()).collect();
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes
}

#[test]
fn each_is_called_once_when_its_record_is_durable_without_anyone_syncing() {
    let dir = scratch();
    let log = Arc::new(open_small(dir.path()));
    append_stamped(&log, 1, 100, 100);
    let (tell, told) = mpsc::channel();
    for number in 1..=100 {
        let (tell, log_there) = (tell.clone(), Arc::downgrade(&log));
        log.on_durable(Lsn(number), move |outcome| {
            let durable = log_there.upgrade().map(|log| log.durable_lsn());
            tell.send((number, outcome.map(|()| assert!(durable.is_none_or(|durable| durable >= Lsn(number))))))
                .unwrap();
        })
        .unwrap();
    }
    drop(tell);
    let outcomes = all(&told);
    assert_eq!(outcomes.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()));
    assert!(matches!(log.on_durable(Lsn(101), |_| unreachable!()), Err(Error::NotAppended { .. })));
}

#[test]
fn a_failing_sync_is_told_to_all_and_to_later_callers() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    append_stamped(&log, 1, 100, 3);
    log.sync().unwrap();
    faults.fail(Call::SyncMapping, Errno::IO);
    append_stamped(&log, 4, 100, 3);
    for numbers in [4..=6, 5..=6, 1..=2] {
        let outcomes = all(&ask(&log, numbers.clone()));
        assert_eq!(outcomes.iter().map(|(number, _)| *number).collect::<Vec<_>>(), numbers.collect::<Vec<_>>());
        for (_, outcome) in outcomes {
            assert!(matches!(outcome, Err(Error::Poisoned { durable: Lsn(3), .. })), "{outcome:?}");
        }
    }
}

#[test]
fn a_drop_tells_those_whose_records_are_not_durable_that_the_log_is_closed() {
    let mut time = Duration::from_millis(1);
    until("a drop waits for the thread that syncs", || {
        time *= 2;
        let rest = outcomes_of_a_drop_during_a_sync(time);
        match rest[..] {
            [(2, Err(Error::Closed)), (3, Err(Error::Closed))] => true,
            // The drop came later: the thread has synced for them as well.
            [(2, Ok(())), (3, Ok(()))] => false,
            _ => panic!("{rest:?}"),
        }
    });
}

/// Drops a log whose thread syncs its first record for `time` after that; what those hear who asked for the records after it.
fn outcomes_of_a_drop_during_a_sync(time: Duration) -> Vec<(u64, Result<()>)> {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    append_stamped(&log, 1, 100, 1);
    faults.hold(Call::SyncMapping);
    let first = ask(&log, [1]);
    faults.wait_until_held();
    append_stamped(&log, 2, 100, 2);
    let rest = ask(&log, [2, 3]);
    std::thread::scope(|scope| {
        let dropping = scope.spawn(move || drop(log));
        std::thread::sleep(time);
        faults.release();
        dropping.join().unwrap();
    });
    assert!(matches!(all(&first)[..], [(1, Ok(()))]));
    all(&rest)
}

#[test]
fn a_close_makes_everything_durable_and_says_so() {
    for _ in 0..50 {
        let dir = scratch();
        let log = open_small(dir.path());
        append_stamped(&log, 1, 100, 20);
        let told = ask(&log, 1..=20);
        log.close().unwrap();
        let outcomes = all(&told);
        assert_eq!(outcomes.len(), 20);
        assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{outcomes:?}");
    }
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("what a callback has thrown"));
    }
}

#[test]
fn a_panic_in_one_does_not_stop_the_others() {
    let dir = scratch();
    let log = open_small(dir.path());
    append_stamped(&log, 1, 100, 3);
    let (tell, told) = mpsc::channel();
    for number in 1..=3 {
        let tell = tell.clone();
        log.on_durable(Lsn(number), move |_| {
            tell.send(number).unwrap();
            match number {
                1 => std::panic::resume_unwind(Box::new("a callback's")),
                2 => std::panic::resume_unwind(Box::new(Bomb)),
                _ => {}
            }
        })
        .unwrap();
    }
    let mut called: Vec<_> = (0..3).map(|_| told.recv_timeout(LONG).unwrap()).collect();
    called.sort_unstable();
    assert_eq!(called, [1, 2, 3]);
    append_stamped(&log, 4, 100, 1);
    assert!(matches!(all(&ask(&log, [4]))[..], [(4, Ok(()))]));
}

#[test]
fn a_truncated_record_is_told_as_truncated_by_a_callback_that_may_use_the_log() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    let log = Arc::new(log);
    let (mut cut, mut time) = (0, Duration::from_micros(200));
    until("callbacks are cut off", || {
        time += Duration::from_micros(100);
        let first = log.append(1, b"synced by the thread").unwrap();
        faults.hold(Call::SyncMapping);
        let leader = ask(&log, [first.0]);
        faults.wait_until_held();
        let (tell, told) = mpsc::channel();
        for _ in 0..4 {
            let lsn = log.append(2, b"cut off").unwrap();
            let (tell, there) = (tell.clone(), Arc::clone(&log));
            log.on_durable(lsn, move |outcome| {
                // What needs the locks of a truncation: none of it may wait for one that waits for this call.
                there.rotate().unwrap();
                there.append(3, b"from a callback").unwrap();
                assert!(matches!(there.sync(), Ok(_) | Err(Error::Truncated { .. })));
                tell.send((lsn.0, outcome)).unwrap();
            })
            .unwrap();
        }
        drop(tell);
        std::thread::scope(|scope| {
            let truncation = scope.spawn(|| log.truncate_after(first));
            // Longer and longer, until the truncation waits by then.
            std::thread::sleep(time);
            faults.release();
            truncation.join().unwrap().unwrap();
        });
        assert!(matches!(all(&leader)[..], [(_, Ok(()))]));
        let outcomes = all(&told);
        assert_eq!(outcomes.len(), 4, "each once");
        for (number, outcome) in outcomes {
            match outcome {
                Ok(()) => {}
                Err(Error::Truncated { lsn }) => {
                    assert_eq!(lsn.0, number);
                    cut += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        cut > 20
    });
}

#[test]
fn no_callback_is_lost_or_acknowledged_wrongly_while_truncations_run() {
    let dir = scratch();
    let log = Arc::new(open_small(dir.path()));
    let called = Arc::new(AtomicUsize::new(0));
    let asked = std::thread::scope(|scope| {
        let asker = scope.spawn(|| {
            let mut asked = 0;
            for _ in 0..3_000 {
                let lsn = log.append(1, b"record").unwrap();
                let (there, called) = (Arc::downgrade(&log), Arc::clone(&called));
                let callback = move |outcome: Result<()>| {
                    called.fetch_add(1, Ordering::SeqCst);
                    if outcome.is_ok() {
                        // Durable now, or cut off since: then the log goes on below.
                        let log = there.upgrade().expect("kept until all are called");
                        assert!(log.durable_lsn() >= lsn || log.durable_lsn() < lsn);
                    }
                };
                match log.on_durable(lsn, callback) {
                    Ok(()) => asked += 1,
                    Err(Error::NotAppended { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            asked
        });
        while !asker.is_finished() {
            let next = log.next_lsn().0;
            log.truncate_after(Lsn(next.saturating_sub(3))).unwrap();
        }
        asker.join().unwrap()
    });
    // Nothing is appended any more: a callback that was not called by now waits for a record that will never come.
    until("all are called", || called.load(Ordering::SeqCst) >= asked);
    assert_eq!(called.load(Ordering::SeqCst), asked);
}

/// Returns once record `lsn` is durable, without asking for it.
fn await_durable(log: &Log, lsn: Lsn) {
    until("a record becomes durable", || log.durable_lsn() >= lsn);
}

#[test]
fn what_was_appended_during_a_sync_becomes_durable_after_so_many_bytes() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = try_open_on_with(&storage, &small().sync_bytes(Some(16 << 10))).unwrap();
    storage.hold(Call::SyncMapping);
    append_stamped(&log, 1, 1_000, 20);
    storage.wait_until_held();
    append_stamped(&log, 1, 1_000, 20);
    storage.release();
    await_durable(&log, Lsn(40 - 17));
}

#[test]
fn what_was_appended_becomes_durable_after_the_interval() {
    let dir = scratch();
    let log = try_open(dir.path(), &small().sync_interval(Some(Duration::from_millis(5)))).unwrap();
    for round in 1..=3 {
        append_stamped(&log, 1, 100, 10);
        await_durable(&log, Lsn(round * 10));
    }
    log.truncate_after(Lsn(15)).unwrap();
    append_stamped(&log, 1, 100, 1);
    await_durable(&log, Lsn(16));
}

#[test]
fn what_was_appended_becomes_durable_after_so_many_bytes_and_not_before() {
    let dir = scratch();
    let log = try_open(dir.path(), &small().sync_bytes(Some(16 << 10))).unwrap();
    append_stamped(&log, 1, 1_000, 5);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(log.durable_lsn(), Lsn(0), "5 KiB are less than 16");
    for _ in 0..10 {
        append_stamped(&log, 1, 1_000, 20);
        // All but what came since: at most as many bytes as the option says, and what was being written.
        await_durable(&log, log.next_lsn().previous().0.checked_sub(17).map(Lsn).unwrap());
    }
    log.truncate_after(Lsn(3)).unwrap();
    append_stamped(&log, 1, 1_000, 20);
    await_durable(&log, Lsn(6));
}
