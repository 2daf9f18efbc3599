//! Logs that a crash has torn, each in a frame of another kind.

use std::fs;
use std::path::{Path, PathBuf};

use mapwal::{Log, Lsn, Options};
use tempfile::TempDir;

use crate::logs::{copy, frames, line, scratch, segments, write_at};

/// Records of each, before what is torn.
pub(crate) const RECORDS: u64 = 99;
/// The last record that a truncation keeps.
const TRUNCATED: u64 = 50;

/// By the kind of the frame, with the number of the records that count.
pub(crate) fn all() -> Vec<(&'static str, TempDir, u64)> {
    let at_end = |log: &Path| flip_last(&begun(log), 8);
    let no_more = |log: &Path| write_at(&segments(log)[1], 4096, &vec![0; (64 << 10) - 4096]);
    let logs = vec![
        ("void", torn(&|log| _ = log.append_void().unwrap(), &at_end)),
        ("batch", batch()),
        ("metadata", torn(&|log| _ = log.put_meta(3, b"value").unwrap(), &at_end)),
        (
            "seal",
            torn(&|log| _ = log.rotate().unwrap(), &|log| {
                no_more(log);
                flip_last(&segments(log)[0], 8);
            }),
        ),
        ("link", torn(&|log| _ = log.rotate().unwrap(), &|log| write_at(&segments(log)[1], 4096 + 8, &[99]))),
        ("link, and nothing of it", torn(&|log| _ = log.rotate().unwrap(), &no_more)),
        (
            "truncation",
            torn(&|log| log.truncate_after(Lsn(TRUNCATED)).unwrap(), &|log| {
                let last = begun(log);
                let at = frames(&last)[1];
                write_at(&last, at + 8, &[99]);
            }),
        ),
    ];
    // A truncation is in the link before its frame.
    let count = |kind: &str| if kind == "truncation" { TRUNCATED } else { RECORDS };
    logs.into_iter().map(|(kind, log)| (kind, log, count(kind))).collect()
}

/// One whose last batch is not there to its end.
pub(crate) fn batch() -> TempDir {
    let append = |log: &Log| _ = log.append_batch(&[(0, b"a"), (0, b"b"), (0, b"c")]).unwrap();
    torn(&append, &|log| flip_last(&begun(log), 8))
}

/// A log in which nothing is durable when `last` is done to it, as a crash then leaves it that `tears` something.
fn torn(last: &dyn Fn(&Log), tears: &dyn Fn(&Path)) -> TempDir {
    let dir = scratch();
    // SAFETY: the directory is one of this test.
    let log = unsafe { Log::open(dir.path(), &Options::new().segment_size_bytes(64 << 10).spare_segments(0)) }.unwrap();
    for number in 1..=RECORDS {
        log.append(7, line(number).as_bytes()).unwrap();
    }
    // No system has written the page that comes later.
    let page = fs::read(dir.path().join("control")).unwrap();
    last(&log);
    let left = copy(dir.path());
    fs::write(left.path().join("control"), page).unwrap();
    tears(left.path());
    left
}

/// The newest segment that has a frame.
fn begun(log: &Path) -> PathBuf {
    segments(log).into_iter().rfind(|path| !frames(path).is_empty()).unwrap()
}

/// Changes a byte of the last frame.
fn flip_last(path: &Path, byte: usize) {
    let at = *frames(path).last().unwrap() + byte;
    write_at(path, at, &[fs::read(path).unwrap()[at] ^ 1]);
}
