//! What a child of a process that has a log open is told to have been appended.
//!
//! A program of its own, since it forks: what a child does before it ends, no other test may be in the middle of.

#![cfg(target_os = "linux")]
#![allow(clippy::pedantic, clippy::unwrap_used, reason = "tests are read for what they show")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use fork::Child;
use mapwal::{Log, Lsn, Options};

#[allow(dead_code, reason = "a kit: each test uses what it needs")]
#[path = "it/support/fork.rs"]
mod fork;

fn open(directory: &Path) -> Log {
    // SAFETY: the directory is a temporary one that only this test touches.
    unsafe { Log::open(directory, &Options::new().segment_size_bytes(64 << 10)) }.expect("the log opens")
}

#[test]
fn what_was_appended_is_as_known_or_nothing_in_a_child() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    for _ in 0..200 {
        log.append(1, &[7; 400]).unwrap();
        log.rotate().unwrap();
    }
    (0..20).for_each(|_| assert!(log.append(1, &[7; 400]).is_ok()));
    drop(log);
    // It goes on in a segment that holds some.
    let log = open(directory.path());
    log.append(1, &[7; 400]).unwrap();
    let appended = |log: &Log| (log.stats().records_appended, log.stats().bytes_appended);
    let known = appended(&log);
    let _pin = log.pin(Lsn(1)).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // It changes the list, by nothing.
                log.trim_before(log.next_lsn()).unwrap();
            }
        });
        let ask = || {
            let told = appended(&log);
            i32::from(told.0 != known.0 && told.0 != 0 || told.1 != known.1 && told.1 != 0)
        };
        let worst = (0..1000).find_map(|_| Some(Child::fork(ask).end()).filter(|&end| end != 0));
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(worst, None);
    });
}
