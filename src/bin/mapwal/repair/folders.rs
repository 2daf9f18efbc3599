//! The folders that repairs leave in the directory of a log.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::REPAIR_GUARD;

/// Their names begin with this, and go on with a number.
pub(super) const PREFIX: &str = "repair-";
/// Where the log is made, in a folder.
pub(super) const WORK: &str = "work";
/// Takes room in it that only this repair can give free again.
pub(super) const RESERVE: &str = "reserve";
/// The name of the guard until it gets its own.
pub(super) const GUARD: &str = "guard";

/// One of them.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    /// The length of its files.
    pub(crate) bytes: u64,
    /// It was made by a repair that was killed before it changed anything, or is made just now: nothing of the log is in it.
    pub(crate) is_begun: bool,
}

/// Those in `directory`, as far as they can be looked at.
pub(crate) fn folders(directory: &Path) -> Vec<Folder> {
    let is_under_way = directory.join(REPAIR_GUARD).exists();
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_ours = |path: &PathBuf| {
        let number = path.file_name().and_then(|name| name.to_str()?.strip_prefix(PREFIX)?.parse::<u64>().ok());
        number.is_some() && path.is_dir() && !path.is_symlink()
    };
    let mut folders: Vec<Folder> = entries
        .map(|entry| entry.path())
        .filter(is_ours)
        .map(|path| Folder { bytes: len_of(&path), is_begun: !is_under_way && is_without_log(&path), path })
        .collect();
    folders.sort_by(|a, b| a.path.cmp(&b.path));
    folders
}

/// Whether all in it is what a repair makes first.
fn is_without_log(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.map(|entry| entry.map(|entry| entry.path())).all(|path| {
        path.is_ok_and(|path| match path.file_name().and_then(|name| name.to_str()) {
            Some(RESERVE | GUARD) => path.is_file(),
            Some(WORK) => fs::read_dir(&path).is_ok_and(|mut made| made.next().is_none()),
            _ => false,
        })
    })
}

/// The length of the files below.
fn len_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => len_of(&entry.path()),
            found => found.map_or(0, |found| found.len()),
        })
        .sum()
}
