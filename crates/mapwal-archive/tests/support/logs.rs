//! Logs with contents that a test can tell for each record.

use std::path::Path;

use mapwal::{Log, LogReader, Lsn, Options};

/// The smallest segments, so that a test has many.
pub(crate) fn small() -> Options {
    Options::new().segment_size_bytes(64 << 10)
}

pub(crate) fn open(directory: &Path) -> Log {
    // SAFETY: the directory is the test's own, and only this crate's programs write to it, by the library.
    unsafe { Log::open(directory, &small()) }.expect("the log opens")
}

pub(crate) fn reader(directory: &Path) -> LogReader {
    // SAFETY: as above.
    unsafe { LogReader::open(directory) }.expect("the log opens")
}

/// What record `lsn` holds that was written in life `life` of its writer: a tag, and a payload of up to 1200 bytes or so.
pub(crate) fn contents(life: u64, lsn: Lsn) -> (u16, Vec<u8>) {
    let mut random = fastrand::Rng::with_seed(life << 48 ^ lsn.0);
    let mut payload = [life.to_le_bytes(), lsn.0.to_le_bytes()].concat();
    let len = random.usize(0..1200);
    payload.extend(std::iter::repeat_with(|| random.u8(..)).take(len));
    (random.u16(..), payload)
}

/// Appends records up to `last`, in life `life`.
pub(crate) fn append_up_to(log: &Log, life: u64, last: u64) {
    while log.next_lsn() <= Lsn(last) {
        let (tag, payload) = contents(life, log.next_lsn());
        log.append(tag, &payload).expect("there is room");
    }
}

/// Trims all that pins let go. What pins are cannot be read while another call has changed one for more than a second: then a
/// later trim does it.
pub(crate) fn trim(log: &Log) {
    let trimmed = log.trim_before(log.next_lsn());
    let is_slow = |error: &mapwal::Error| matches!(error, mapwal::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::TimedOut);
    assert!(trimmed.as_ref().map_or_else(is_slow, |_| true), "{trimmed:?}");
}

/// Fails unless the log in `directory` has the records `first` to `last`, and no others, each as `life_of` says.
pub(crate) fn check(directory: &Path, first: u64, last: u64, life_of: impl Fn(Lsn) -> u64) {
    let snapshot = reader(directory).snapshot().expect("a view");
    assert_eq!((snapshot.first_lsn(), snapshot.next_lsn()), (Lsn(first), Lsn(last + 1)));
    let mut expected = first;
    for record in &snapshot {
        let record = record.expect("a sound record");
        let (tag, payload) = contents(life_of(record.lsn()), record.lsn());
        assert_eq!(record.lsn(), Lsn(expected));
        assert!((record.tag(), record.payload()) == (tag, &*payload), "record {expected} is another one");
        expected += 1;
    }
    assert_eq!(expected, last + 1, "records are missing");
}
