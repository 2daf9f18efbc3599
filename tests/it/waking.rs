//! Waking followers that wait, and costing nothing while they do.
//!
//! Without the wake-up of durable followers, or without the count of wake-ups, these fail. What the barrier and the order
//! of the writer's steps are for no test can bring about on demand: `model.rs` shows it for the steps.

mod model;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mapwal::{Follower, Log, Lsn, Visibility};

use crate::scratch::{open_small, scratch};
use crate::support::faulty::{Call, Faulty};
use crate::support::{child, open_on, read_only};

/// Much less than the time after which a follower looks again by itself, which is 500 ms.
const WOKEN_WITHIN: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(20);

/// A follower of this process, and one with a mapping of its own.
fn followers(log: &Log, visibility: Visibility) -> [Follower; 2] {
    let next = log.next_lsn();
    let reader = read_only(log.directory()).unwrap();
    [log.follow(next, visibility).unwrap(), reader.follow(next, visibility).unwrap()]
}

/// How long after `event` each of two waiting followers has its record.
fn delays(visibility: Visibility, event: impl Fn(&Log)) -> [Duration; 2] {
    let dir = scratch();
    let log = open_small(dir.path());
    let followers = followers(&log, visibility);
    std::thread::scope(|scope| {
        let waiting = followers.map(|mut follower| {
            scope.spawn(move || {
                assert!(follower.next_timeout(PATIENCE).unwrap().is_some(), "the record has come");
                Instant::now()
            })
        });
        std::thread::sleep(Duration::from_millis(100));
        let before = Instant::now();
        event(&log);
        waiting.map(|waiting| waiting.join().unwrap() - before)
    })
}

#[test]
fn a_record_wakes_followers() {
    let delays = delays(Visibility::Published, |log| {
        log.append(1, b"record").unwrap();
    });
    assert!(delays.iter().all(|&delay| delay < WOKEN_WITHIN), "{delays:?}");
}

#[test]
fn durability_wakes_followers() {
    let delays = delays(Visibility::Durable, |log| {
        log.append(1, b"record").unwrap();
        log.sync().unwrap();
    });
    assert!(delays.iter().all(|&delay| delay < WOKEN_WITHIN), "{delays:?}");
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
            assert!(follower.next_timeout(PATIENCE).unwrap().is_some(), "the record has come");
            Instant::now()
        });
        storage.wait_until_held();
        log.append(1, b"record").unwrap();
        let released = Instant::now();
        storage.release();
        let delay = waiting.join().unwrap() - released;
        assert!(delay < WOKEN_WITHIN, "{delay:?}");
    });
}

/// Two followers wait for each record, and the next is appended as soon as one of them has it, while the other may be
/// anywhere between its last look and its sleep.
#[test]
fn no_wake_up_is_lost() {
    const RECORDS: u64 = 20_000;
    let dir = scratch();
    let log = open_small(dir.path());
    let received = AtomicU64::new(0);
    let slow = AtomicU64::new(0);
    let gone = AtomicBool::new(false);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for mut follower in followers(&log, Visibility::Published) {
            let (received, slow, gone) = (&received, &slow, &gone);
            scope.spawn(move || {
                for lsn in 1..=RECORDS {
                    let before = Instant::now();
                    let record = follower.next_timeout(PATIENCE).unwrap().map(|record| record.lsn());
                    if before.elapsed() >= Duration::from_millis(450) {
                        slow.fetch_add(1, Ordering::Relaxed);
                    }
                    if gone.load(Ordering::Relaxed) || record != Some(Lsn(lsn)) {
                        gone.store(true, Ordering::Relaxed);
                        return;
                    }
                    received.fetch_max(lsn, Ordering::Release);
                }
            });
        }
        let mut random = fastrand::Rng::with_seed(7);
        for lsn in 1..=RECORDS {
            for _ in 0..random.u32(..2000) {
                std::hint::spin_loop();
            }
            log.append(1, b"record").unwrap();
            while received.load(Ordering::Acquire) < lsn && !gone.load(Ordering::Relaxed) {
                if began.elapsed() > Duration::from_mins(1) {
                    gone.store(true, Ordering::Relaxed);
                }
                std::thread::yield_now();
            }
        }
    });
    assert!(!gone.load(Ordering::Relaxed), "record {} was the last to come", received.load(Ordering::Relaxed));
    assert_eq!(slow.load(Ordering::Relaxed), 0, "waits that ended by time-out");
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
    const WATCHED: Duration = Duration::from_secs(10);
    let dir = scratch();
    let log = open_small(dir.path());
    log.append(1, b"record").unwrap();
    let mut child = child::Child::spawn("waking::a_process_that_only_waits", dir.path());
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
