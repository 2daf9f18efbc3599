//! What tests share.

use std::path::Path;

use mapwal::{Log, LogReader, Lsn, Options, Result, Snapshot};

/// The smallest segments, so that a test rotates often.
pub const SMALL: u64 = 64 << 10;

pub fn small() -> Options {
    Options::new().segment_size_bytes(SMALL)
}

/// Opens a log in a directory that only this test touches.
pub fn open(path: &Path, options: &Options) -> Log {
    try_open(path, options).expect("the log opens")
}

pub fn try_open(path: &Path, options: &Options) -> Result<Log> {
    // SAFETY: the directory is a temporary one of this test, which changes its files only while no log is open.
    unsafe { Log::open(path, options) }
}

pub fn read_only(path: &Path) -> Result<LogReader> {
    // SAFETY: as in `try_open`.
    unsafe { LogReader::open(path) }
}

/// A payload that tells its record's number, of a length that varies with it.
pub fn payload(number: u64) -> Vec<u8> {
    let len = 8 + usize::try_from(number * 37 % 300).expect("small");
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((8..len).map(|at| (number as usize * 31 + at) as u8));
    bytes
}

/// Checks that the snapshot holds exactly the records `first..=last` as [`payload`] makes them.
pub fn assert_records(snapshot: &Snapshot, first: u64, last: u64) {
    let mut expected = first;
    for record in snapshot {
        let record = record.expect("a good record");
        assert_eq!(record.lsn(), Lsn(expected));
        assert_eq!(record.payload(), payload(expected), "record {expected}");
        expected += 1;
    }
    assert_eq!(expected, last + 1, "number of records");
}
