//! Places for logs: in memory where the system has such a file system, since preparing a segment costs a sync there of
//! nothing.

use std::path::Path;

use mapwal::{Log, Lsn, Record};
use tempfile::TempDir;

use crate::support::wait::until;
use crate::support::{small, try_open};

/// A directory that is removed when this value is dropped.
pub(crate) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary directory can be made")
}

/// A log of the smallest segments in `path`.
pub(crate) fn open_small(path: &Path) -> Log {
    try_open(path, &small()).expect("the log opens")
}

/// A payload of `len` bytes that no other `stamp` gives, as long as `len` is at least 8.
pub(crate) fn stamped(stamp: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    let mut word = stamp;
    while bytes.len() < len {
        bytes.extend_from_slice(&word.to_le_bytes());
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ stamp;
    }
    bytes.truncate(len);
    bytes
}

/// Appends `count` records of `len` bytes, the first with `stamp` and each with the next; returns the first one's number.
pub(crate) fn append_stamped(log: &Log, stamp: u64, len: usize, count: u64) -> Lsn {
    let first = log.next_lsn();
    for number in 0..count {
        let lsn = log.append(7, &stamped(stamp + number, len)).expect("the record is appended");
        assert_eq!(lsn, Lsn(first.0 + number));
    }
    first
}

/// Returns once the next segment is there already.
pub(crate) fn await_spare(log: &Log) {
    until("a spare", || log.stats().spare_segments > 0);
}

/// The records that readers can see, as number and payload.
pub(crate) fn contents(log: &Log) -> Vec<(u64, Vec<u8>)> {
    let snapshot = log.snapshot().expect("the log can be read");
    snapshot.iter().map(|record| owned(&record.expect("a good record"))).collect()
}

/// Number and payload of a record.
pub(crate) fn owned(record: &Record<'_>) -> (u64, Vec<u8>) {
    (record.lsn().0, record.payload().to_vec())
}

/// The names of the segments in `path` that hold frames: all but the spare, in order.
pub(crate) fn segment_names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).expect("the directory can be read");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("plain names"))
        .filter(|name| Path::new(name).extension() == Some("seg".as_ref()) && has_link(&path.join(name)))
        .collect();
    names.sort();
    names
}

/// Whether a frame follows the header of a segment.
fn has_link(path: &Path) -> bool {
    use std::os::unix::fs::FileExt;
    let mut word = [0; 8];
    // A spare may be renamed or removed just now.
    let read = std::fs::File::open(path).and_then(|file| file.read_exact_at(&mut word, 4096));
    read.is_ok() && word != [0; 8]
}
