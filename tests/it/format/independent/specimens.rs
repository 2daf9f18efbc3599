//! Logs as writers and crashes leave them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mapwal::{Log, Lsn};

use crate::format::golden;
use crate::support::files::{names, segment};
use crate::support::scratch::{append_stamped, open_small, scratch};
use crate::support::stored;

/// By name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

pub(super) struct Specimen {
    pub(super) name: String,
    pub(super) files: Files,
    /// As they were some time before.
    pub(super) older: Files,
}

/// The files of a log, which may be open: what its writer leaves if it is killed at this moment.
fn files(directory: &Path) -> Files {
    loop {
        let regular = names(directory).into_iter().filter(|name| directory.join(name).is_file() && name != "LOCK");
        let read: std::io::Result<Files> =
            regular.map(|name| Ok((name.clone(), fs::read(directory.join(name))?))).collect();
        // A file that the log has removed or renamed meanwhile: what was read is of two moments.
        if let Ok(files) = read {
            return files;
        }
    }
}

type MakeHistory = fn(&mut History);

/// Every specimen with its control page, and without.
pub(super) fn all() -> Vec<Specimen> {
    let histories: [(&str, MakeHistory); 7] = [
        ("plain", plain),
        ("truncated", truncated),
        ("trimmed", trimmed),
        ("of version 2", of_version_2),
        ("full", full),
        ("begun", begun),
        ("without segments", without_segments),
    ];
    let mut specimens = Vec::new();
    for (name, make) in histories {
        let mut history = History::default();
        make(&mut history);
        for (at, files) in history.0.iter().enumerate() {
            let older = if at == 0 { Files::new() } else { history.0[at - 1].clone() };
            specimens.push(Specimen { name: format!("{name} {at}"), files: files.clone(), older });
            let mut files = files.clone();
            if files.remove("control").is_some() {
                let older = Files::new();
                specimens.push(Specimen { name: format!("{name} {at}, no control page"), files, older });
            }
        }
    }
    specimens
}

/// States of one log, one after the other.
#[derive(Default)]
struct History(Vec<Files>);

impl History {
    fn note(&mut self, directory: &Path) {
        self.0.push(files(directory));
    }
}

/// Some records of every kind; a part of them is synced.
fn append_some(log: &Log, stamp: u64) {
    append_stamped(log, stamp, 90, 5);
    log.append_batch(&[(1, b"one"), (2, b""), (3, b"three of a batch")]).unwrap();
    log.put_meta(1, b"vote").unwrap();
    log.sync().unwrap();
    log.append_void().unwrap();
    append_stamped(log, stamp + 100, 300, 4);
    log.append_batch(&[(1, b"a"), (2, b"batch at the end")]).unwrap();
}

fn plain(history: &mut History) {
    let dir = scratch();
    let log = open_small(dir.path());
    for round in 0..3 {
        append_some(&log, round);
        history.note(dir.path());
        log.rotate().unwrap();
        history.note(dir.path());
    }
    append_some(&log, 9);
    log.sync().unwrap();
    history.note(dir.path());
    log.close().unwrap();
    history.note(dir.path());
    let log = open_small(dir.path());
    append_some(&log, 10);
    history.note(dir.path());
    drop(log);
}

fn truncated(history: &mut History) {
    let dir = scratch();
    let log = open_small(dir.path());
    append_some(&log, 1);
    log.rotate().unwrap();
    append_some(&log, 2);
    history.note(dir.path());
    log.truncate_after(Lsn(18)).unwrap();
    history.note(dir.path());
    append_some(&log, 3);
    history.note(dir.path());
    log.rotate().unwrap();
    append_some(&log, 4);
    // In the middle of a batch.
    log.truncate_after(Lsn(6)).unwrap();
    append_some(&log, 5);
    history.note(dir.path());
    log.reset_to(Lsn(500)).unwrap();
    append_some(&log, 6);
    log.close().unwrap();
    history.note(dir.path());
}

fn trimmed(history: &mut History) {
    let dir = scratch();
    let log = open_small(dir.path());
    for round in 0..4 {
        append_some(&log, round);
        log.rotate().unwrap();
    }
    history.note(dir.path());
    log.trim_before(Lsn(34)).unwrap();
    append_some(&log, 5);
    history.note(dir.path());
    log.close().unwrap();
    history.note(dir.path());
}

fn of_version_2(history: &mut History) {
    let dir = scratch();
    golden::unpack("v2", dir.path());
    history.note(dir.path());
    let log = open_small(dir.path());
    append_some(&log, 1);
    history.note(dir.path());
    log.close().unwrap();
    history.note(dir.path());
}

/// Segments that end with a seal because they are full.
fn full(history: &mut History) {
    let dir = scratch();
    let log = open_small(dir.path());
    append_stamped(&log, 1, 9000, 14);
    history.note(dir.path());
    log.sync().unwrap();
    log.close().unwrap();
    history.note(dir.path());
}

/// Logs with nothing, or next to nothing, in them.
fn begun(history: &mut History) {
    let dir = scratch();
    let log = open_small(dir.path());
    history.note(dir.path());
    log.close().unwrap();
    history.note(dir.path());
    let first = segment(dir.path(), 1);
    crate::support::files::edit(&first, |bytes| bytes[stored::HEADER_LEN..].fill(0));
    fs::remove_file(dir.path().join("control")).unwrap();
    history.note(dir.path());
}

/// A page that tells of records, and one of a writer that died before its first sync.
fn without_segments(history: &mut History) {
    let dir = scratch();
    let log = open_small(dir.path());
    append_some(&log, 1);
    log.close().unwrap();
    fs::remove_file(segment(dir.path(), 1)).unwrap();
    history.note(dir.path());
    crate::support::files::edit(&dir.path().join("control"), |page| crate::format::page::forget_durable(page));
    history.note(dir.path());
}
