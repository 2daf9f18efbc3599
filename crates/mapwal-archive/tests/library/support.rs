//! Logs with known records, archives of them, and what a restore makes of those.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mapwal::{Log, LogReader, Lsn, Options};
use mapwal_archive::{Archive, Archiver, ArchiverOptions, RestoreOptions, RestoreReport, RestoreTo, Result};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;

pub(crate) const PIN: &str = "archive";

/// A log with small segments, new or not.
pub(crate) fn open(directory: &Path) -> Arc<Log> {
    try_open(directory, &small()).expect("a log")
}

pub(crate) fn small() -> Options {
    Options::new().segment_size_bytes(64 << 10)
}

pub(crate) fn try_open(directory: &Path, options: &Options) -> mapwal::Result<Arc<Log>> {
    // SAFETY: only this test has the directory, and writes to its files by logs alone.
    unsafe { Log::open(directory, options) }.map(Arc::new)
}

pub(crate) fn reader(directory: &Path) -> LogReader {
    // SAFETY: as in `try_open`.
    unsafe { LogReader::open(directory) }.expect("a log")
}

pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// The payload of record `lsn` in history `era`: different ones have the same length.
pub(crate) fn payload(era: u8, lsn: u64) -> Vec<u8> {
    let mut payload = vec![era; 200];
    payload[..8].copy_from_slice(&lsn.to_le_bytes());
    payload
}

/// Appends records until `last` is there.
pub(crate) fn fill(log: &Log, era: u8, last: u64) {
    while log.next_lsn() <= Lsn(last) {
        log.append(7, &payload(era, log.next_lsn().0)).expect("appended");
    }
}

/// Records up to `last`, in a segment that is sealed then, all durable.
pub(crate) fn fill_and_seal(log: &Log, era: u8, last: u64) {
    fill(log, era, last);
    log.rotate().expect("rotated");
    log.sync().expect("synced");
}

pub(crate) fn records(log: &Log) -> Vec<(u64, Vec<u8>)> {
    let snapshot = log.snapshot().expect("a snapshot");
    let records = snapshot.iter().map(|record| record.expect("sound"));
    records.map(|record| (record.lsn().0, record.payload().to_vec())).collect()
}

/// Records `lsns` of history `era`.
pub(crate) fn expected(era: u8, lsns: std::ops::RangeInclusive<u64>) -> Vec<(u64, Vec<u8>)> {
    lsns.map(|lsn| (lsn, payload(era, lsn))).collect()
}

pub(crate) fn options() -> ArchiverOptions {
    let brief = Duration::from_millis(1);
    ArchiverOptions::new().pin(PIN).poll_interval(brief).retry(brief, Duration::from_millis(20))
}

pub(crate) fn memory() -> Archive {
    Archive::new(Arc::new(InMemory::new()), "logs/a")
}

/// In a directory, and in memory.
pub(crate) fn both() -> (TempDir, [Archive; 2]) {
    let shelf = scratch();
    let store = LocalFileSystem::new_with_prefix(shelf.path()).expect("a directory").with_fsync(true);
    (shelf, [Archive::new(Arc::new(store), "logs/a"), memory()])
}

pub(crate) fn archiver(log: &Arc<Log>, archive: &Archive) -> Archiver {
    Archiver::of_log(Arc::clone(log), archive.clone(), options()).expect("an archiver")
}

/// All that is durable of `log` is archived.
pub(crate) async fn catch_up(log: &Arc<Log>, archive: &Archive) {
    archiver(log, archive).catch_up().await.expect("archived");
}

pub(crate) async fn restore(archive: &Archive, to: RestoreTo) -> Result<(TempDir, RestoreReport)> {
    let directory = scratch();
    let report = archive.restore(directory.path(), to, &RestoreOptions::new(), &mut |_| {}).await?;
    Ok((directory, report))
}

/// The archive of a log with these segments, and a log that is restored from it up to record `at`.
pub(crate) async fn restored_at(at: u64, segments: &[u64]) -> (Archive, TempDir) {
    let (dir, archive) = (scratch(), memory());
    let log = open(dir.path());
    for &last in segments {
        fill_and_seal(&log, 1, last);
    }
    catch_up(&log, &archive).await;
    let (copy, _) = restore(&archive, RestoreTo::Lsn(Lsn(at))).await.unwrap();
    (archive, copy)
}

/// The records of a log that is restored, and opened as any other.
pub(crate) async fn restored(archive: &Archive, to: RestoreTo) -> Vec<(u64, Vec<u8>)> {
    let (directory, report) = restore(archive, to).await.expect("restored");
    let log = open(directory.path());
    assert_eq!((log.first_lsn(), log.next_lsn()), (report.first_lsn, report.next_lsn));
    records(&log)
}

pub(crate) async fn keys(store: &dyn ObjectStore) -> Vec<Key> {
    use futures_util::TryStreamExt;
    let mut keys: Vec<Key> = store.list(None).map_ok(|meta| meta.location).try_collect().await.expect("listed");
    keys.sort();
    keys
}

pub(crate) async fn bytes_of(store: &dyn ObjectStore, key: &Key) -> Vec<u8> {
    store.get(key).await.expect("an object").bytes().await.expect("bytes").to_vec()
}

/// The note of an epoch, changed by `change`, with the checksum of what it says then.
pub(crate) fn changed_note(note: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    let text = std::str::from_utf8(note).expect("text");
    let (says, _) = text.rsplit_once(",\n  \"checksum\": ").expect("a checksum");
    let says = change(says);
    let checksum = crc32fast::hash(format!("{says}\n}}").as_bytes());
    format!("{says},\n  \"checksum\": {checksum}\n}}").into_bytes()
}

/// The keys that end with `suffix`.
pub(crate) async fn with_suffix(store: &dyn ObjectStore, suffix: &str) -> Vec<Key> {
    keys(store).await.into_iter().filter(|key| key.as_ref().ends_with(suffix)).collect()
}
