//! Stores of whatever openraft, in logs with the smallest segments there are.

use mapwal::testing::SimulatedDisk;
use mapwal::{Log, Options};
use mapwal_openraft::{InPlace, LogStore};
use tempfile::TempDir;

use super::Store;

pub(crate) fn options() -> Options {
    Options::new().segment_size_bytes(64 << 10)
}

pub(crate) fn open(log: Log) -> Store {
    LogStore::open(log, InPlace).expect("a log of a store")
}

pub(crate) fn open_on(disk: &SimulatedDisk) -> Store {
    open(disk.open(&options()).expect("a log"))
}

pub(crate) fn open_in(directory: &TempDir) -> Store {
    #[expect(unsafe_code, reason = "only this test writes to the directory")]
    // SAFETY: the directory is this test's own, and only this log writes to its files.
    let log = unsafe { Log::open(directory.path(), &options()) };
    open(log.expect("a log"))
}
