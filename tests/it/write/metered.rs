//! What a log tells the recorder of the crate `metrics`.
//!
//! Planted, and noticed: a sync that is told with the log locked, a failed sync that is not told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use mapwal::{Log, Lsn, Options};
use metrics::Unit;
use parking_lot::Mutex;
use rustix::io::Errno;
use tempfile::TempDir;

use crate::support::faulty::{Call, Faulty};
use crate::support::recorder::Debugging;
use crate::support::scratch::scratch;
use crate::support::wait::LONG;
use crate::support::{append, open_on};

fn open(recorder: &Debugging) -> (TempDir, Log) {
    let dir = scratch();
    let log = metrics::with_local_recorder(recorder, || {
        // SAFETY: the directory is one of this test.
        unsafe { Log::open(dir.path(), &Options::new().segment_size_bytes(64 << 10)) }
    });
    (dir, log.unwrap())
}

#[test]
fn a_sync_is_told_with_what_has_been_counted() {
    let recorder = Debugging::default();
    let (dir, log) = open(&recorder);
    assert_eq!((recorder.of("mapwal_next_lsn"), recorder.of("mapwal_poisoned")), (vec![1.0], vec![0.0]));
    append(&log, 1..=100);
    log.sync().unwrap();
    append(&log, 101..=150);
    let guard = log.pin(Lsn(30)).unwrap();
    log.create_pin("replica", "", Lsn(40), None).unwrap();
    append(&log, 151..=151);
    log.sync().unwrap();
    log.sync().unwrap();
    let stats = log.stats();
    for (name, expected) in [
        ("mapwal_syncs_total", stats.syncs),
        ("mapwal_synced_records_total", 151),
        ("mapwal_stalls_total", stats.stalls),
        ("mapwal_zeros_written_bytes_total", stats.zeros_written_bytes),
        ("mapwal_recycled_segments_total", 0),
        ("mapwal_removed_segments_total", 0),
        ("mapwal_first_lsn", 1),
        ("mapwal_next_lsn", 152),
        ("mapwal_durable_lsn", 151),
        ("mapwal_disk_bytes", 64 << 10),
        ("mapwal_pins", 2),
        ("mapwal_pinned_lsn", 30),
        ("mapwal_unlinked_bytes", 0),
        ("mapwal_torn_bytes", 0),
        ("mapwal_poisoned", 0),
    ] {
        let found = recorder.of(name);
        let is_as_old = name == "mapwal_zeros_written_bytes_total" && found[0] <= expected as f64;
        assert!(is_as_old || found == [expected as f64], "{name}: {found:?}, and not {expected}");
    }
    let (records, times) = (recorder.of("mapwal_sync_records"), recorder.of("mapwal_sync_seconds"));
    assert_eq!(records.iter().sum::<f64>(), 151.0);
    // The open syncs as well.
    assert_eq!(times.len() as u64, stats.syncs);
    assert!(times.iter().all(|&seconds| seconds > 0.0 && seconds < 60.0), "{times:?}");
    assert!(recorder.of("mapwal_synced_bytes_total")[0] > 150.0 * 24.0);
    // A spare may get ready meanwhile.
    assert!(recorder.of("mapwal_spare_bytes")[0] % 65536.0 == 0.0);
    drop(guard);
    append(&log, 152..=152);
    log.sync().unwrap();
    assert_eq!((recorder.of("mapwal_pins"), recorder.of("mapwal_pinned_lsn")), (vec![1.0], vec![40.0]));
    let label = dir.path().display().to_string();
    assert!(recorder.0.values.lock().keys().all(|(_, directory)| *directory == label));
}

#[test]
fn the_names_are_those_that_are_documented() {
    let recorder = Debugging::default();
    let (_dir, _log) = open(&recorder);
    let units = recorder.0.units.lock().clone();
    assert_eq!(units.len(), 19);
    let documented = include_str!("../../../src/log/mod.rs");
    for (name, unit) in units {
        assert!(documented.contains(&format!("`{name}`")), "{name} is not in the documentation of Log");
        let ends = name.trim_end_matches("_total");
        assert_eq!(unit == Some(Unit::Bytes), ends.ends_with("_bytes"), "{name}");
        assert_eq!(unit == Some(Unit::Seconds), ends.ends_with("_seconds"), "{name}");
    }
}

#[test]
fn an_append_tells_nothing() {
    let recorder = Debugging::default();
    let (_dir, log) = open(&recorder);
    let before = recorder.calls();
    append(&log, 1..=1000);
    assert_eq!(recorder.calls(), before);
    log.sync().unwrap();
    assert!(recorder.calls() > before);
}

#[test]
fn a_log_that_was_opened_without_a_recorder_tells_none() {
    let (_dir, log) = open(&Debugging::default());
    let later = Debugging::default();
    metrics::with_local_recorder(&later, || {
        append(&log, 1..=10);
        log.sync().unwrap();
    });
    assert_eq!(later.calls(), 0);
}

#[test]
fn a_recorder_may_use_the_log() {
    let recorder = Debugging::default();
    let (_dir, log) = open(&recorder);
    let log = Arc::new(log);
    let (inside, weak): (AtomicBool, Weak<Log>) = (AtomicBool::new(false), Arc::downgrade(&log));
    let besides = move || {
        let Some(log) = weak.upgrade().filter(|_| !inside.swap(true, Ordering::Relaxed)) else { return };
        log.append(1, b"from the recorder").unwrap();
        log.sync().unwrap();
        log.trim_before(log.next_lsn()).unwrap();
        inside.store(false, Ordering::Relaxed);
    };
    assert!(recorder.0.besides.set(Box::new(besides)).is_ok());
    append(&log, 1..=10);
    log.sync().unwrap();
    assert!(log.durable_lsn() > Lsn(10), "its records are there");
}

#[test]
fn a_recorder_that_panics_loses_what_it_was_told_and_nothing_else() {
    let recorder = Debugging::default();
    let (_dir, log) = open(&recorder);
    assert!(recorder.0.besides.set(Box::new(|| panic!("a recorder that panics"))).is_ok());
    append(&log, 1..=10);
    assert_eq!(log.sync().unwrap(), Lsn(10));
    log.append(1, b"more").unwrap();
    assert_eq!(log.sync().unwrap(), Lsn(11));
}

#[test]
fn while_a_recorder_takes_its_time_only_the_call_that_it_is_told_of_waits() {
    let recorder = Debugging::default();
    let (_dir, log) = open(&recorder);
    let ((entered, has_entered), (release, released)) = (channel(), channel());
    let (is_first, released) = (AtomicBool::new(true), Mutex::new(released));
    let besides = move || {
        if is_first.swap(false, Ordering::Relaxed) {
            entered.send(()).unwrap();
            released.lock().recv().unwrap();
        }
    };
    assert!(recorder.0.besides.set(Box::new(besides)).is_ok());
    append(&log, 1..=10);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| log.sync().unwrap());
        has_entered.recv_timeout(LONG).unwrap();
        let (done, is_done) = channel();
        let log = &log;
        scope.spawn(move || {
            append(log, 11..=200);
            assert_eq!(log.sync().unwrap(), Lsn(200));
            assert_eq!(log.get(Lsn(7)).unwrap().unwrap().lsn(), Lsn(7));
            log.rotate().unwrap();
            log.put_meta(1, b"a value").unwrap();
            log.trim_before(log.next_lsn()).unwrap();
            log.wait_durable(Lsn(200)).unwrap();
            done.send(()).unwrap();
        });
        let others = is_done.recv_timeout(LONG);
        // Also where they wait, so that the test ends.
        release.send(()).unwrap();
        assert!(slow.join().unwrap() >= Lsn(10));
        assert_eq!(others, Ok(()), "they have waited for the recorder");
    });
}

#[test]
fn a_sync_in_the_background_is_told_too() {
    let recorder = Debugging::default();
    let dir = scratch();
    let options = Options::new().segment_size_bytes(64 << 10).sync_interval(Some(Duration::from_millis(1)));
    // SAFETY: the directory is one of this test.
    let log = metrics::with_local_recorder(&recorder, || unsafe { Log::open(dir.path(), &options) }).unwrap();
    append(&log, 1..=10);
    let limit = Instant::now() + Duration::from_secs(60);
    while recorder.of("mapwal_synced_records_total") != [10.0] {
        assert!(Instant::now() < limit, "{:?}", recorder.of("mapwal_synced_records_total"));
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_failed_sync_is_told() {
    let recorder = Debugging::default();
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = metrics::with_local_recorder(&recorder, || open_on(&storage));
    append(&log, 1..=10);
    storage.fail(Call::SyncMapping, Errno::IO);
    assert!(log.sync().is_err());
    assert_eq!(recorder.of("mapwal_poisoned"), [1.0]);
}
