//! What tests share.
//!
//! There are two disks on which something goes wrong:
//!
//! | | what it is | what it is for |
//! |---|---|---|
//! | [`faulty::Faulty`] | the real disk, whose calls fail, wait, panic or show other bytes when a test says so | one failure in one test: what the caller is told, and what is there afterwards |
//! | [`SimDisk`](crate::simulation::SimDisk) | a disk in memory that knows what the device has of each page, and plans its failures by `Fault` | crashes and failures in random histories, with what they leave: see `docs/design/crash-testing.md` |

pub(crate) mod child;
pub(crate) mod damaged;
pub(crate) mod faulty;
pub(crate) mod file_system;
pub(crate) mod files;
pub(crate) mod mounted;
pub(crate) mod recorder;
pub(crate) mod rights;
pub(crate) mod scratch;
pub(crate) mod stored;
pub(crate) mod transactions;
pub(crate) mod wait;

use std::path::Path;
use std::sync::Arc;

use mapwal::error::PinFault;
use mapwal::{Error, Follower, Log, LogReader, Lsn, Options, Record, Result, Snapshot, Visibility, internals};

use faulty::Faulty;
use scratch::{open_small, scratch};
use tempfile::TempDir;

/// The smallest segments, so that a test rotates often.
pub(crate) const SMALL: u64 = 64 << 10;

pub(crate) fn small() -> Options {
    Options::new().segment_size_bytes(SMALL)
}

/// Opens a log in a directory that only this test touches.
pub(crate) fn open(path: &Path, options: &Options) -> Log {
    try_open(path, options).expect("the log opens")
}

pub(crate) fn try_open(path: &Path, options: &Options) -> Result<Log> {
    let _no_copies_of_the_lock = child::keep_from_spawning();
    // SAFETY: the directory is a temporary one of this test, which changes its files only while no log is open.
    unsafe { Log::open(path, options) }
}

/// Opens a log on storage that can be made to fail.
pub(crate) fn open_on(storage: &Arc<Faulty>) -> Log {
    try_open_on(storage).expect("the log opens")
}

/// A log of the smallest segments in `path`, and what can go wrong with it.
pub(crate) fn open_faulty(path: &Path) -> (Log, Arc<Faulty>) {
    let storage = Faulty::new(path);
    (open_on(&storage), storage)
}

pub(crate) fn try_open_on(storage: &Arc<Faulty>) -> Result<Log> {
    try_open_on_with(storage, &small())
}

pub(crate) fn try_open_on_with(storage: &Arc<Faulty>, options: &Options) -> Result<Log> {
    let _no_copies_of_the_lock = child::keep_from_spawning();
    let storage = Arc::clone(storage);
    // SAFETY: as in `try_open`; the storage passes every mapping on as the disk makes it.
    unsafe { internals::open_log(storage, options) }
}

pub(crate) fn read_only(path: &Path) -> Result<LogReader> {
    // SAFETY: as in `try_open`.
    unsafe { LogReader::open(path) }
}

/// As [`read_only`], of copies of sealed segments.
pub(crate) fn read_archive(path: &Path) -> Result<LogReader> {
    // SAFETY: as in `try_open`.
    unsafe { LogReader::open_archive(path) }
}

/// A follower of this process, and one that sees the directory only; each is made when it is its turn.
pub(crate) fn followers(log: &Log, from: u64, visibility: Visibility) -> impl Iterator<Item = Follower> {
    [true, false].into_iter().map(move |is_inside| {
        if is_inside {
            return log.follow(Lsn(from), visibility).expect("the record is there, or next");
        }
        let reader = read_only(log.directory()).expect("the log can be read");
        reader.follow(Lsn(from), visibility).expect("the record is there, or next")
    })
}

/// Takes what the follower has, and checks that it is the records from `first` on, with payloads as [`payload`] makes
/// them; returns the number after them.
pub(crate) fn drain_from(follower: &mut Follower, first: u64) -> u64 {
    let mut expected = first;
    while let Some(record) = follower.next().expect("a good record") {
        assert_record(&record, expected);
        expected += 1;
    }
    expected
}

/// A payload that tells its record's number, of a length that varies with it.
pub(crate) fn payload(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((0..number * 37 % 300).map(|at| (number * 31 + at).to_le_bytes()[0]));
    bytes
}

/// Appends the records `numbers`, which must be the next ones, with payloads as [`payload`] makes them.
pub(crate) fn append(log: &Log, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        assert_eq!(log.append(tag(number), &payload(number)).expect("the record is appended"), Lsn(number));
    }
}

/// A closed log with ten records in each of two segments.
pub(crate) fn closed_log() -> TempDir {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=10);
    log.rotate().unwrap();
    append(&log, 11..=20);
    log.close().unwrap();
    dir
}

/// The tag that [`append`] gives to a record.
pub(crate) fn tag(number: u64) -> u16 {
    u16::try_from(number % 1000).expect("below 1000")
}

/// Checks that `record` has this number and the payload that [`payload`] makes for it.
pub(crate) fn assert_record(record: &Record<'_>, number: u64) {
    assert_eq!(record.lsn(), Lsn(number));
    assert_eq!(record.payload(), payload(number), "record {number}");
}

/// Checks that the snapshot holds exactly the records `first..=last`, with payloads as [`payload`] makes them.
pub(crate) fn assert_records(snapshot: &Snapshot, first: u64, last: u64) {
    let mut expected = first;
    for record in snapshot {
        assert_record(&record.expect("a good record"), expected);
        expected += 1;
    }
    assert_eq!(expected, last + 1, "number of records");
    assert_eq!((snapshot.first_lsn(), snapshot.next_lsn()), (Lsn(first), Lsn(last + 1)));
}

/// The damage that an open or a read reports.
pub(crate) fn corruption<T: std::fmt::Debug>(result: Result<T>) -> mapwal::error::Corruption {
    match result {
        Err(Error::Corrupt(corruption)) => *corruption,
        other => panic!("expected damage, got {other:?}"),
    }
}

/// Why a call about a pin was refused.
pub(crate) fn pin_fault(result: Result<()>) -> Option<PinFault> {
    match result {
        Err(Error::Pin { fault, .. }) => Some(fault),
        _ => None,
    }
}
