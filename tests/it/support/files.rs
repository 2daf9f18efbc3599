//! Directories and the files in them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;

use crate::support::wait::until;

/// The files that say nothing about what the log holds: who has it open, and watermarks that each open rebuilds.
const ADVISORY: [&str; 2] = ["LOCK", "control"];

/// The path of segment `number`.
pub(crate) fn segment(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.seg"))
}

/// The numbers of the segments in `directory`, spares included.
pub(crate) fn segment_numbers(directory: &Path) -> Vec<u64> {
    names(directory).iter().filter_map(|name| name.strip_suffix(".seg")?.parse().ok()).collect()
}

/// The names in `directory`, in order.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let name =
        |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().expect("a readable name");
    let mut names: Vec<String> = fs::read_dir(directory).expect("the directory is readable").map(name).collect();
    names.sort();
    names
}

/// Every file of `directory` that says something about what the log holds, with its bytes.
pub(crate) fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut contents = BTreeMap::new();
    for name in names(directory).into_iter().filter(|name| !ADVISORY.contains(&name.as_str())) {
        let path = directory.join(&name);
        // A segment that is just being prepared has another name meanwhile.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let regular = metadata.is_file();
        contents.insert(name, if regular { fs::read(&path).expect("the file is readable") } else { Vec::new() });
    }
    contents
}

/// Copies the files of `from` into `to`, which exists.
pub(crate) fn copy(from: &Path, to: &Path) {
    for name in names(from).into_iter().filter(|name| from.join(name).is_file()) {
        fs::copy(from.join(&name), to.join(&name)).expect("the file is copied");
    }
}

/// Changes the bytes of a file, which is at no moment shorter than before and after: a reader of this process may have it
/// mapped, and be reading ahead.
pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("the file is readable");
    change(&mut bytes);
    let file = File::options().write(true).open(path).expect("the file is writable");
    file.write_all_at(&bytes, 0).expect("the file is writable");
    file.set_len(bytes.len() as u64).expect("the file is writable");
}

/// Waits until the segment at `path` has been made ready to its end, on a file system that tells holes.
pub(crate) fn await_ready(path: &Path) {
    until("no hole is left", || {
        let file = File::open(path).expect("the segment is there");
        let hole = rustix::fs::seek(&file, SeekFrom::Hole(0)).expect("holes are told");
        hole == file.metadata().expect("it is open").len()
    });
}

/// Runs `act`, and checks that it changes nothing in `directory` that says what the log holds.
pub(crate) fn unchanged<T>(directory: &Path, act: impl FnOnce() -> T) -> T {
    let before = contents(directory);
    let result = act();
    let after = contents(directory);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "names in the directory");
    for (name, bytes) in before {
        assert!(after[&name] == bytes, "{name} has been changed");
    }
    result
}
