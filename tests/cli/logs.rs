//! Logs in every state.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::program::{Running, run_with_input};

/// A directory in memory where the system has such a file system: a sync costs nothing there.
pub(crate) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// The line that record `number` is made from.
pub(crate) fn line(number: u64) -> String {
    format!("{number}:{}", "x".repeat(usize::try_from(number * 37 % 300).unwrap()))
}

pub(crate) fn lines(count: u64) -> String {
    (1..=count).map(|number| line(number) + "\n").collect()
}

/// A closed log of the smallest segments with so many records.
pub(crate) fn closed(count: u64) -> TempDir {
    let directory = scratch();
    let command = "append DIR --segment-size 64KiB --tag 7";
    run_with_input(directory.path(), command, lines(count).as_bytes()).done();
    directory
}

/// A closed log of the smallest segments with so many records, each of which was made durable before the next: the same
/// each time, but for its identity.
pub(crate) fn synced(count: u64) -> TempDir {
    let directory = scratch();
    let command = "append DIR --segment-size 64KiB --tag 7 --sync each";
    run_with_input(directory.path(), command, lines(count).as_bytes()).done();
    directory
}

/// A log whose writer was killed when all of so many records were durable.
pub(crate) fn killed(count: u64) -> TempDir {
    let directory = scratch();
    let writer = live(directory.path(), count);
    await_spare(directory.path());
    drop(writer);
    directory
}

/// Waits until the next segment is ready, so that the files are the same each time.
pub(crate) fn await_spare(log: &Path) {
    crate::wait::until("a spare", || segments(log).last().is_some_and(|newest| frames(newest).is_empty()));
}

/// A log that a process is writing, with so many records.
pub(crate) fn live(directory: &Path, count: u64) -> Running {
    let mut writer = Running::start(directory, "append DIR --segment-size 64KiB --tag 7 --sync each");
    for number in 1..=count {
        writer.say(&line(number));
        assert_eq!(writer.line(), Some(number.to_string()));
    }
    writer
}

/// A log whose writer was killed with nothing synced, and whose last record a crash has torn.
pub(crate) fn torn(count: u64) -> TempDir {
    let directory = scratch();
    let mut writer = Running::start(directory.path(), "append DIR --segment-size 64KiB --tag 7 --sync none");
    for number in 1..=count {
        writer.say(&line(number));
        assert_eq!(writer.line(), Some(number.to_string()));
    }
    await_spare(directory.path());
    drop(writer);
    spoil(directory.path(), &line(count));
    directory
}

/// A closed log in which record 5 of so many is damaged.
pub(crate) fn damaged(count: u64) -> TempDir {
    let directory = closed(count);
    spoil(directory.path(), &line(5));
    directory
}

/// Changes a byte of the one payload that is `text`; returns where.
pub(crate) fn spoil(directory: &Path, text: &str) -> (PathBuf, usize) {
    let text = text.as_bytes();
    for path in segments(directory) {
        let bytes = fs::read(&path).unwrap();
        // A payload begins at a multiple of 8, after a header that says how long it is.
        let is_it = |at: &usize| {
            bytes[*at..].starts_with(text) && bytes[at - 24..at - 20] == u32::to_le_bytes(text.len() as u32 + 24)
        };
        if let Some(at) = (4096..bytes.len()).step_by(8).find(is_it) {
            write_at(&path, at, &[bytes[at] ^ 1]);
            return (path, at - 24);
        }
    }
    panic!("no such payload");
}

pub(crate) fn write_at(path: &Path, at: usize, bytes: &[u8]) {
    fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, at as u64).unwrap();
}

/// The offsets of the frames of a segment.
pub(crate) fn frames(path: &Path) -> Vec<usize> {
    let bytes = fs::read(path).unwrap();
    let len_at = |at: &usize| bytes.get(*at..at + 4).map_or(0, |len| u32::from_le_bytes(len.try_into().unwrap()));
    let next = |at: &usize| Some(at + (len_at(at) as usize).next_multiple_of(8));
    std::iter::successors(Some(4096), next).take_while(|at| len_at(at) > 0).collect()
}

/// Changes a segment's header, and has its checksum be right.
pub(crate) fn rewrite_header(path: &Path, change: impl Fn(&mut [u8])) {
    let mut header = fs::read(path).unwrap();
    header.truncate(4096);
    change(&mut header);
    let crc = crc32fast::hash(&header[..4092]);
    header[4092..].copy_from_slice(&crc.to_le_bytes());
    write_at(path, 0, &header);
}

/// The files of segments, in order.
pub(crate) fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|it| it == "seg")).collect();
    paths.sort();
    paths
}

/// Copies the files of a log.
pub(crate) fn copy(from: &Path) -> TempDir {
    let to = scratch();
    copy_files(from, to.path());
    to
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&to).unwrap();
            copy_files(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
