//! What a log tells through events is told once for each change of state, however often somebody meets it.
//!
//! A program of its own, since it has a subscriber for the whole process.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "tests are read for what they show")]

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use faulty::{Call, Faulty};
use mapwal::internals::open_log;
use mapwal::wal::{Wal, WalOptions};
use mapwal::{Error, Log, Options};
use parking_lot::{Mutex, MutexGuard};
use rustix::io::Errno;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

#[path = "it/support/faulty.rs"]
mod faulty;
#[path = "it/support/wait.rs"]
mod wait;

const SEGMENT: u64 = 64 << 10;
/// Whatever is told too often has been told by then.
const CALM: Duration = Duration::from_millis(100);

/// Level and words of each event.
static TOLD: Mutex<Vec<(Level, String)>> = Mutex::new(Vec::new());
/// Held by the test that runs.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Listener;

/// The words of an event: its message and its fields.
struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("mapwal")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words(String::new());
        event.record(&mut words);
        TOLD.lock().push((*event.metadata().level(), words.0));
    }
}

/// Begins a test.
fn listen() -> MutexGuard<'static, ()> {
    let alone = ONE_AT_A_TIME.lock();
    // Fails but for the first.
    let _ = tracing::subscriber::set_global_default(Listener);
    std::thread::sleep(CALM);
    TOLD.lock().clear();
    alone
}

fn warnings() -> Vec<String> {
    TOLD.lock().iter().filter(|(level, _)| *level <= Level::WARN).map(|(_, words)| words.clone()).collect()
}

fn count(words: &str) -> usize {
    TOLD.lock().iter().filter(|(_, told)| told.contains(words)).count()
}

/// Waits until `words` have been told `times` times in all, and sees that it stays at that.
#[track_caller]
fn expect(words: &str, times: usize) {
    expect_by(words, times, || ());
}

/// As [`expect`], with `trigger` called again and again until then.
#[track_caller]
fn expect_by(words: &str, times: usize, trigger: impl Fn()) {
    wait::until(words, || {
        trigger();
        count(words) >= times
    });
    std::thread::sleep(CALM);
    assert_eq!(count(words), times, "{words}: {:#?}", warnings());
}

fn open(path: &Path) -> (Arc<Faulty>, Log) {
    open_with(path, SEGMENT)
}

fn open_with(path: &Path, segment_size: u64) -> (Arc<Faulty>, Log) {
    let storage = Faulty::new(path);
    let options = Options::new().segment_size_bytes(segment_size).first_segment_size_bytes(segment_size);
    // SAFETY: a temporary directory of one test; the storage passes every mapping on as the disk makes it.
    let log = unsafe { open_log(Arc::clone(&storage) as _, &options) };
    (storage, log.unwrap())
}

/// Fills so many segments.
fn fill(log: &Log, segments: u64) {
    for _ in 0..segments {
        log.append(1, &[1; 1000]).unwrap();
        log.rotate().unwrap();
    }
    log.sync().unwrap();
}

#[test]
fn a_full_disk_is_one_warning_and_one_more_when_it_is_full_again() {
    let _alone = listen();
    let dir = tempfile::tempdir().unwrap();
    let (storage, log) = open(dir.path());
    for round in 1..=3 {
        storage.fail(Call::Allocate, Errno::NOSPC);
        while log.append(1, &[1; 1000]).is_ok() {}
        for _ in 0..270 {
            assert!(matches!(log.append(1, &[1; 1000]), Err(Error::NoSpace { .. })));
        }
        expect("cannot prepare a segment", round);
        storage.heal();
        for _ in 0..200 {
            log.append(1, &[1; 1000]).unwrap();
        }
        expect("segments can be prepared again", round);
    }
    assert_eq!(warnings().len(), 3, "{:#?}", warnings());
}

#[test]
fn a_lost_pin_is_told_once_and_not_before_it_is_lost() {
    let _alone = listen();
    let dir = tempfile::tempdir().unwrap();
    let (storage, log) = open(dir.path());
    log.create_pin("slow", "", log.next_lsn(), Some(SEGMENT)).unwrap();
    fill(&log, 5);
    log.create_pin("quick", "", log.next_lsn(), None).unwrap();
    // The page can neither be written, under the name by which it was made, nor removed.
    storage.fail_on("control.tmp", Call::SyncMapping, Errno::IO);
    storage.fail_on("control", Call::Remove, Errno::IO);
    for _ in 0..3 {
        log.trim_before(log.next_lsn()).unwrap_err();
    }
    expect("pin lost", 0);
    expect("is removed", 0);
    storage.heal();
    assert!(log.trim_before(log.next_lsn()).unwrap() > 0);
    expect("pin=\"slow\"", 1);
    for _ in 0..3 {
        fill(&log, 2);
        log.advance_pin("quick", log.next_lsn()).unwrap();
        assert!(log.trim_before(log.next_lsn()).unwrap() > 0);
    }
    drop(log);
    let (_, log) = open(dir.path());
    fill(&log, 3);
    log.advance_pin("quick", log.next_lsn()).unwrap();
    assert!(log.trim_before(log.next_lsn()).unwrap() > 0);
    expect("pin lost", 1);
    for next in [1000, 2000] {
        log.reset_to(mapwal::Lsn(next)).unwrap();
        expect("pin lost", 2);
    }
    assert_eq!((count("pin=\"slow\""), count("pin=\"quick\"")), (1, 1));
}

#[test]
fn a_truncation_that_fails_tells_of_nothing_that_has_not_happened() {
    let _alone = listen();
    let dir = tempfile::tempdir().unwrap();
    let (storage, log) = open(dir.path());
    fill(&log, 2);
    log.create_pin("first", "", log.first_lsn(), None).unwrap();
    log.create_pin("second", "", log.first_lsn(), None).unwrap();
    for (file, call) in [("second.tmp", Call::Write), ("control.tmp", Call::Write)] {
        storage.fail_on(file, call, Errno::NOSPC);
        for _ in 0..3 {
            log.reset_to(mapwal::Lsn(1000)).unwrap_err();
        }
        storage.heal();
    }
    expect("pin lost", 0);
    log.reset_to(mapwal::Lsn(1000)).unwrap();
    expect("pin lost", 2);
    expect("log truncated", 1);
    log.append(1, b"record").unwrap();
    log.sync().unwrap();
    storage.fail(Call::SyncMapping, Errno::IO);
    log.reset_to(mapwal::Lsn(2000)).unwrap_err();
    expect("log truncated", 1);
    expect("log poisoned", 1);
}

#[test]
fn a_file_that_cannot_be_removed_is_one_warning() {
    let _alone = listen();
    let dir = tempfile::tempdir().unwrap();
    let (storage, log) = open(dir.path());
    for round in 1..=2 {
        fill(&log, 2);
        // Files of older ones may still be on their way.
        let oldest = log.sealed(0).unwrap()[0].path().file_name().unwrap().to_str().unwrap().to_owned();
        storage.fail_on(&oldest, Call::Rename, Errno::IO);
        let trim = || drop(log.trim_before(log.next_lsn()));
        for _ in 0..20 {
            trim();
            fill(&log, 1);
        }
        expect("cannot remove a segment", round);
        storage.heal();
        expect_by("segments can be removed again", round, trim);
    }
    assert_eq!(warnings().len(), 2, "{:#?}", warnings());
}

#[test]
fn a_dropped_handle_is_one_warning() {
    let _alone = listen();
    let dir = tempfile::tempdir().unwrap();
    // SAFETY: a temporary directory of one test.
    let wal = unsafe { Wal::open(dir.path(), &WalOptions::new().log(Options::new().segment_size_bytes(SEGMENT))) };
    let wal = wal.unwrap();
    wal.begin().unwrap().commit().unwrap().applied();
    wal.begin().unwrap().abort(|undoing| undoing.compensate(b"undone")).unwrap();
    expect("dropped in progress", 0);
    drop(wal.begin().unwrap());
    expect("dropped in progress", 1);
    assert_eq!(warnings().len(), 1, "{:#?}", warnings());
}

#[test]
fn all_of_a_segment_is_made_ready_while_nothing_is_synced() {
    let _alone = listen();
    let dir = tempfile::tempdir().unwrap();
    for segment in [1, 2] {
        let (storage, log) = open_with(dir.path(), 8 << 20);
        // An appender that makes room itself has the segment for so long that the task finds nothing to do, and rests.
        storage.hold(Call::Populate);
        std::thread::scope(|scope| {
            let appender = scope.spawn(|| log.append(1, &vec![1; 2 << 20]));
            storage.wait_until_held();
            std::thread::sleep(CALM);
            storage.release();
            appender.join().unwrap().unwrap();
        });
        expect(&format!("segment ready segment={segment}"), 1);
        log.rotate().unwrap();
        log.close().unwrap();
    }
}
