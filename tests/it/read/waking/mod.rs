//! Waking followers that wait, and costing nothing while they do.
//!
//! Without the wake-up of durable followers, or without the count of wake-ups, these fail. What the barrier and the order
//! of the writer's steps are for no test can bring about on demand: `model.rs` shows it for the steps.

mod model;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mapwal::internals::open_reader;
use mapwal::{Follower, Log, Lsn, Visibility};
use rustix::io::Errno;

use crate::support::faulty::{Call, Faulty, asleep_in_waits};
use crate::support::scratch::{open_small, scratch};
use crate::support::wait::{LONG, until};
use crate::support::{child, open_on, read_only};

/// Much less than the time after which a follower looks again by itself, which is 500 ms.
const WOKEN_WITHIN: Duration = Duration::from_millis(300);

/// A follower of this process, and one with a mapping of its own.
fn followers(log: &Log, storage: &Arc<Faulty>, from: Lsn, visibility: Visibility) -> [Follower; 2] {
    // SAFETY: a temporary directory of one test; the storage passes every mapping on as the disk makes it.
    let reader = unsafe { open_reader(Arc::clone(storage) as _) }.unwrap();
    [log.follow(from, visibility).unwrap(), reader.follow(from, visibility).unwrap()]
}

/// For how long each of two followers that wait goes on sleeping after `event`, which is what they wait for. Only the time for
/// which it sleeps counts, in the wait for a wake-up: one that has been woken may wait for a processor, or for the system, for as
/// long as others want it.
fn asleep_after(visibility: Visibility, event: impl Fn(&Log)) -> [Duration; 2] {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    let followers = followers(&log, &storage, Lsn(1), visibility);
    std::thread::scope(|scope| {
        let waiting = followers.map(|mut follower| {
            scope.spawn(move || {
                let (began, asleep_earlier) = (Instant::now(), asleep_in_waits());
                assert!(follower.next_timeout(LONG).unwrap().is_some(), "the record has come");
                (began, asleep_in_waits() - asleep_earlier)
            })
        });
        until("both are about to sleep", || storage.count(Call::Wait) >= 2);
        std::thread::sleep(Duration::from_millis(20));
        event(&log);
        let after = Instant::now();
        waiting.map(|waiting| {
            let (began, asleep) = waiting.join().unwrap();
            asleep.saturating_sub(after - began)
        })
    })
}

#[test]
fn a_record_wakes_followers() {
    let asleep = asleep_after(Visibility::Published, |log| {
        log.append(1, b"record").unwrap();
    });
    assert!(asleep.iter().all(|&time| time < WOKEN_WITHIN), "{asleep:?}");
}

#[test]
fn durability_wakes_followers() {
    let asleep = asleep_after(Visibility::Durable, |log| {
        log.append(1, b"record").unwrap();
        log.sync().unwrap();
    });
    assert!(asleep.iter().all(|&time| time < WOKEN_WITHIN), "{asleep:?}");
}

#[test]
fn a_record_between_the_last_look_and_the_sleep_ends_the_sleep() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    let mut follower = log.follow(Lsn(1), Visibility::Published).unwrap();
    storage.hold(Call::Wait);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            assert!(follower.next_timeout(LONG).unwrap().is_some(), "the record has come");
            asleep_in_waits()
        });
        storage.wait_until_held();
        log.append(1, b"record").unwrap();
        storage.release();
        let asleep = waiting.join().unwrap();
        assert!(asleep < WOKEN_WITHIN, "{asleep:?}");
    });
}

/// Two followers wait for each record, and the next is appended as soon as one of them has it, while the other may be
/// anywhere between its last look and its sleep.
///
/// A wake-up is lost if a follower sleeps on after its record has been appended, until the time-out. The time is taken as in
/// [`asleep_after`].
#[test]
#[cfg(target_os = "linux")]
fn no_wake_up_is_lost() {
    const RECORDS: u64 = 20_000;
    const RECORDS_MIN: u64 = 50;
    /// On a machine that has other things to do, fewer records have to do.
    const TIME: Duration = Duration::from_secs(5);
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    let began = Instant::now();
    let nanos = || u64::try_from(began.elapsed().as_nanos()).unwrap();
    // When each append returned.
    let appended: Vec<AtomicU64> = (0..RECORDS + 2).map(|_| AtomicU64::new(0)).collect();
    let [received, slow, last] = [0; 3].map(AtomicU64::new);
    std::thread::scope(|scope| {
        for mut follower in followers(&log, &storage, Lsn(1), Visibility::Published) {
            let (appended, received, slow, last) = (&appended, &received, &slow, &last);
            scope.spawn(move || {
                let mut next = 1;
                while last.load(Ordering::Acquire) == 0 || next <= last.load(Ordering::Acquire) {
                    let (before, asleep_earlier) = (nanos(), asleep_in_waits());
                    let record = follower.next_timeout(LONG).unwrap().map(|record| record.lsn());
                    let asleep = asleep_in_waits() - asleep_earlier;
                    if record != Some(Lsn(next)) {
                        return;
                    }
                    // One that has not returned is still waking.
                    let since = appended[usize::try_from(next).unwrap()].load(Ordering::Acquire);
                    let asleep_before = Duration::from_nanos(since.saturating_sub(before));
                    if since > 0 && asleep.saturating_sub(asleep_before) >= WOKEN_WITHIN {
                        slow.fetch_add(1, Ordering::Relaxed);
                    }
                    received.fetch_max(next, Ordering::Release);
                    next += 1;
                }
            });
        }
        let append = |lsn: u64| {
            log.append(1, b"record").unwrap();
            appended[usize::try_from(lsn).unwrap()].store(nanos(), Ordering::Release);
        };
        let mut random = fastrand::Rng::with_seed(7);
        for lsn in 1.. {
            for _ in 0..random.u32(..2000) {
                std::hint::spin_loop();
            }
            if lsn > RECORDS || (lsn > RECORDS_MIN && began.elapsed() > TIME) {
                last.store(lsn, Ordering::Release);
                return append(lsn);
            }
            append(lsn);
            let waits = Instant::now();
            while received.load(Ordering::Acquire) < lsn {
                if waits.elapsed() > LONG {
                    return last.store(lsn, Ordering::Release);
                }
                std::thread::yield_now();
            }
        }
    });
    let [received, last] = [received, last].map(|number| number.load(Ordering::Relaxed));
    assert!(received == last && received > RECORDS_MIN, "record {received} was the last to come");
    assert_eq!(slow.load(Ordering::Relaxed), 0, "of {received} waits so many ended by time-out");
}

/// The time that all threads of a process have been running.
fn processor_time(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let times = tasks.map(|task| {
        let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(times.sum())
}

#[test]
#[cfg(target_os = "linux")]
fn an_idle_follower_takes_no_processor_time() {
    const WATCHED: Duration = Duration::from_secs(3);
    let dir = scratch();
    let log = open_small(dir.path());
    log.append(1, b"record").unwrap();
    let mut child = child::Child::spawn("read::waking::a_process_that_only_waits", dir.path());
    child.ask("");
    std::thread::sleep(Duration::from_millis(100));
    let before = processor_time(child.id());
    std::thread::sleep(WATCHED);
    let used = processor_time(child.id()).saturating_sub(before);
    assert!(used < WATCHED / 200, "{used:?} in {WATCHED:?}");
    child.kill();
}

#[test]
#[ignore = "the test before starts it, in a process of its own"]
fn a_process_that_only_waits() {
    let Some(directory) = child::directory() else { return };
    let mut follower = read_only(&directory).unwrap().follow(Lsn(1), Visibility::Published).unwrap();
    assert!(follower.next().unwrap().is_some());
    child::answer("waits");
    follower.next_blocking().unwrap();
}

#[test]
fn a_follower_sleeps_where_it_cannot_be_woken() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    for visibility in [Visibility::Published, Visibility::Durable] {
        for mut follower in followers(&log, &storage, Lsn(1), visibility) {
            for (call, file) in [(Call::Write, "control.tmp"), (Call::Write, "control")] {
                storage.fail_on(file, call, Errno::ROFS);
            }
            let before = storage.count(Call::Write);
            assert!(follower.next_timeout(Duration::from_millis(200)).unwrap().is_none());
            let looks = storage.count(Call::Write) - before;
            assert!((2..=120).contains(&looks), "{looks} looks");
            storage.heal();
        }
    }
}
