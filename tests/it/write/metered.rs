//! What a log tells the recorder of the crate `metrics`.
//!
//! Planted, and noticed: a sync that is told with the log locked, a failed sync that is not told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use mapwal::{Log, Lsn, Options};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use parking_lot::Mutex;
use rustix::io::Errno;
use tempfile::TempDir;

use crate::support::faulty::{Call, Faulty};
use crate::support::scratch::scratch;
use crate::support::{append, open_on};

/// A recorder that notes all, for the log that is opened under it.
#[derive(Clone, Default)]
struct Debugging(Arc<Notes>);

#[derive(Default)]
struct Notes {
    /// By name and value of the label.
    values: Mutex<BTreeMap<(String, String), Vec<f64>>>,
    units: Mutex<BTreeMap<String, Option<Unit>>>,
    calls: AtomicU64,
    /// What it does besides, each time.
    besides: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

struct Handle {
    notes: Arc<Notes>,
    key: (String, String),
}

impl Handle {
    fn note(&self, change: impl FnOnce(&mut Vec<f64>)) {
        self.notes.calls.fetch_add(1, Ordering::Relaxed);
        change(self.notes.values.lock().entry(self.key.clone()).or_default());
        if let Some(besides) = self.notes.besides.get() {
            besides();
        }
    }
}

impl CounterFn for Handle {
    fn increment(&self, value: u64) {
        self.note(|values| *values = vec![values.first().unwrap_or(&0.0) + value as f64]);
    }

    fn absolute(&self, value: u64) {
        self.note(|values| *values = vec![value as f64]);
    }
}

impl GaugeFn for Handle {
    fn increment(&self, _: f64) {
        unreachable!("gauges are set")
    }

    fn decrement(&self, _: f64) {
        unreachable!("gauges are set")
    }

    fn set(&self, value: f64) {
        self.note(|values| *values = vec![value]);
    }
}

impl HistogramFn for Handle {
    fn record(&self, value: f64) {
        self.note(|values| values.push(value));
    }
}

impl Debugging {
    fn handle(&self, key: &Key) -> Arc<Handle> {
        let labels: Vec<_> = key.labels().collect();
        let [label] = labels[..] else { panic!("{labels:?}") };
        assert_eq!(label.key(), "directory");
        let key = (key.name().to_owned(), label.value().to_owned());
        Arc::new(Handle { notes: Arc::clone(&self.0), key })
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>) {
        self.0.units.lock().insert(name.as_str().to_owned(), unit);
    }

    /// What there is of `name`.
    fn of(&self, name: &str) -> Vec<f64> {
        self.0
            .values
            .lock()
            .iter()
            .filter(|((found, _), _)| found == name)
            .flat_map(|(_, values)| values.clone())
            .collect()
    }

    fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    fn open(&self) -> (TempDir, Log) {
        let dir = scratch();
        let log = metrics::with_local_recorder(self, || {
            // SAFETY: the directory is one of this test.
            unsafe { Log::open(dir.path(), &Options::new().segment_size_bytes(64 << 10)) }
        });
        (dir, log.unwrap())
    }
}

impl Recorder for Debugging {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&key, unit);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&key, unit);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&key, unit);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.handle(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.handle(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.handle(key))
    }
}

#[test]
fn a_sync_is_told_with_what_has_been_counted() {
    let recorder = Debugging::default();
    let (dir, log) = recorder.open();
    assert_eq!((recorder.of("mapwal_next_lsn"), recorder.of("mapwal_poisoned")), (vec![1.0], vec![0.0]));
    append(&log, 1..=100);
    log.sync().unwrap();
    append(&log, 101..=150);
    log.sync().unwrap();
    log.sync().unwrap();
    let stats = log.stats();
    for (name, expected) in [
        ("mapwal_syncs_total", stats.syncs),
        ("mapwal_synced_records_total", 150),
        ("mapwal_stalls_total", stats.stalls),
        ("mapwal_zeros_written_bytes_total", stats.zeros_written_bytes),
        ("mapwal_recycled_segments_total", 0),
        ("mapwal_removed_segments_total", 0),
        ("mapwal_first_lsn", 1),
        ("mapwal_next_lsn", 151),
        ("mapwal_durable_lsn", 150),
        ("mapwal_unlinked_bytes", 0),
        ("mapwal_torn_bytes", 0),
        ("mapwal_poisoned", 0),
    ] {
        let found = recorder.of(name);
        let is_as_old = name == "mapwal_zeros_written_bytes_total" && found[0] <= expected as f64;
        assert!(is_as_old || found == [expected as f64], "{name}: {found:?}, and not {expected}");
    }
    let (records, times) = (recorder.of("mapwal_sync_records"), recorder.of("mapwal_sync_seconds"));
    assert_eq!(records.iter().sum::<f64>(), 150.0);
    // The open syncs as well.
    assert_eq!(times.len() as u64, stats.syncs);
    assert!(times.iter().all(|&seconds| seconds > 0.0 && seconds < 60.0), "{times:?}");
    assert!(recorder.of("mapwal_synced_bytes_total")[0] > 150.0 * 24.0);
    let label = dir.path().display().to_string();
    assert!(recorder.0.values.lock().keys().all(|(_, directory)| *directory == label));
}

#[test]
fn the_names_are_those_that_are_documented() {
    let recorder = Debugging::default();
    let (_dir, _log) = recorder.open();
    let units = recorder.0.units.lock().clone();
    assert_eq!(units.len(), 15);
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
    let (_dir, log) = recorder.open();
    let before = recorder.calls();
    append(&log, 1..=1000);
    assert_eq!(recorder.calls(), before);
    log.sync().unwrap();
    assert!(recorder.calls() > before);
}

#[test]
fn a_log_that_was_opened_without_a_recorder_tells_none() {
    let (_dir, log) = Debugging::default().open();
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
    let (_dir, log) = recorder.open();
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
    let (_dir, log) = recorder.open();
    assert!(recorder.0.besides.set(Box::new(|| panic!("a recorder that panics"))).is_ok());
    append(&log, 1..=10);
    assert_eq!(log.sync().unwrap(), Lsn(10));
    log.append(1, b"more").unwrap();
    assert_eq!(log.sync().unwrap(), Lsn(11));
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
