//! The processes that read a log, by what the system says of their locks.
//!
//! A process that has a file of a log open for reading holds a shared lock on one byte of the directory, at the offset of the file's
//! inode number (`docs/design/recycling.md`). Who holds it is told by `/proc`, of the processes that this user may look at.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mapwal::Lsn;
use mapwal::inspect::Inspection;
use serde_json::{Value, json};

/// A process that reads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reader {
    pub(crate) pid: u32,
    /// The name of its program.
    pub(crate) name: String,
    /// The first record of the oldest segment that it has open; `None` if it has only files that are not of the log any more.
    pub(crate) from: Option<Lsn>,
    /// How many files of the log it has open, dropped ones that are kept included.
    pub(crate) files: usize,
}

impl Reader {
    pub(crate) fn json(&self) -> Value {
        json!({ "pid": self.pid, "name": self.name, "lsn": self.from.map(|lsn| lsn.0), "files": self.files })
    }
}

/// Those of the log in `directory`, by number of the process, without this one and the `writer`.
pub(crate) fn find(inspection: &Inspection, directory: &Path, writer: Option<u32>) -> Vec<Reader> {
    let Ok(place) = fs::metadata(directory).map(|found| (found.dev(), found.ino())) else { return Vec::new() };
    let files = files(inspection);
    let others = |pid: &u32| *pid != std::process::id() && Some(*pid) != writer;
    let reader = |pid: u32| {
        let read: BTreeSet<u64> = locked(pid, place).into_iter().filter(|inode| files.contains_key(inode)).collect();
        let from = read.iter().filter_map(|inode| files[inode]).min();
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = name.trim_end().to_owned();
        (!read.is_empty()).then_some(Reader { pid, name, from, files: read.len() })
    };
    let mut readers: Vec<Reader> = processes().filter(others).filter_map(reader).collect();
    readers.sort_by_key(|reader| reader.pid);
    readers
}

/// The first records of the files, by inode; `None` for those that do not count.
fn files(inspection: &Inspection) -> HashMap<u64, Option<Lsn>> {
    let segments = inspection.segments().iter().map(|file| (&file.path, file.first_lsn.filter(|_| file.counts)));
    let kept = inspection.kept_files().iter().map(|file| (&file.path, None));
    // What is gone meanwhile is read by nobody.
    segments.chain(kept).filter_map(|(path, first)| Some((path.metadata().ok()?.ino(), first))).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The inodes of which process `pid` has locked the bytes, in the directory at `place`.
fn locked(pid: u32, place: (u64, u64)) -> Vec<u64> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    // A look at what is open does not open it.
    let is_it = |path: &Path| fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == place);
    let of_directory = open.filter(|entry| is_it(&entry.path()));
    let info = |number: &str| fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
    of_directory.flat_map(|entry| locks_in(&info(&entry.file_name().to_string_lossy()))).collect()
}

/// The bytes that a description of an open file says to be locked by themselves, for reading, such as
/// `lock:  1: OFDLCK  ADVISORY  READ -1 08:01:5 77 77`.
fn locks_in(info: &str) -> Vec<u64> {
    let lock = |line: &str| {
        let words: Vec<&str> = line.strip_prefix("lock:")?.split_whitespace().collect();
        let [_, "OFDLCK", _, "READ", .., start, end] = words[..] else { return None };
        (start == end).then(|| start.parse().ok()).flatten()
    };
    info.lines().filter_map(lock).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_bytes_that_are_locked_for_reading_are_found() {
        let info = "pos:\t0\nflags:\t02300000\nlock:\t1: OFDLCK  ADVISORY  READ -1 fe:01:1835 99 99\n\
                    lock:\t2: FLOCK  ADVISORY  WRITE 77 fe:01:1835 0 EOF\nlock:\t3: OFDLCK  ADVISORY  READ -1 fe:01:1835 7 9\n\
                    lock:\t4: OFDLCK  ADVISORY  WRITE -1 fe:01:1835 5 5\nlock:\t5: OFDLCK ADVISORY READ -1 fe:01:1835 0 EOF\n";
        assert_eq!(locks_in(info), [99]);
        assert_eq!(locks_in("lock:"), [0; 0]);
    }
}
