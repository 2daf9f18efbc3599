//! The files that records are copied from, and those of the copy.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mapwal::Error;
use mapwal::inspect::{Inspection, Remains, SegmentFile, SegmentScan};

use crate::failure::{BACKUP_GUARD, Explain, Failure, Result, describe};
use crate::step::step;
use crate::{open, out};

/// How many segments are opened ahead of what is copied.
const HELD_MAX: usize = 64;

/// The number in the name of a segment's file.
pub(crate) fn segment_number(path: &Path) -> Option<u64> {
    path.extension().filter(|&it| it == "seg")?;
    path.file_stem()?.to_str()?.parse().ok()
}

/// The size of the largest segment.
pub(crate) fn segment_size(remains: &Remains) -> Option<u64> {
    remains.segments().iter().map(|file| file.file_len_bytes).max().filter(|&size| size > 0)
}

/// How many segments there may have been from the first that is left on, as far as anything tells of them.
pub(super) fn span_of(remains: &Remains, inspection: &Inspection) -> u64 {
    let told_of = inspection.faults().filter_map(|fault| segment_number(&fault.path));
    let last = told_of.chain([remains.newest_number()]).max().unwrap_or(0);
    let first = remains.segments().first().map_or(last, |first| first.number);
    last.saturating_sub(first) + 1
}

/// Looks at the log, and opens the oldest of its files: what is trimmed after that can be copied all the same.
pub(super) fn look(directory: &Path) -> Result<(Inspection, Remains, VecDeque<mapwal::Result<SegmentScan>>)> {
    let mut looks = 0;
    loop {
        let inspection = Inspection::open(directory).about(directory)?;
        let remains = inspection.remains().about(directory)?;
        let files = remains.segments().iter().take(HELD_MAX);
        let held: VecDeque<_> = files.map(|file| SegmentScan::open(&file.path)).collect();
        looks += 1;
        let is_over = looks == open::LOOKS_MAX;
        if is_over && !held.is_empty() && held.iter().all(is_gone) {
            return Err(Failure::new("cannot read", "segments are trimmed before they can be opened", directory));
        }
        if !held.iter().any(is_gone) || is_over {
            return Ok((inspection, remains, held));
        }
    }
}

/// Whether there is no file any more.
pub(super) fn is_gone(opened: &mapwal::Result<SegmentScan>) -> bool {
    matches!(opened, Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound)
}

/// Whether the log has dropped the segment since it was looked at: it begins with a later one.
pub(super) fn is_trimmed(file: &SegmentFile, directory: &Path) -> bool {
    let now = Inspection::open(directory);
    now.is_ok_and(|now| now.oldest_segment().is_some_and(|oldest| oldest > file.number))
}

/// Makes the directory in which the copy is made, for files with the owner and the mode of those of the log.
pub(super) fn make_part(part: &Path, log: &Path, files: &[SegmentFile]) -> Result<()> {
    let failed = |error| Failure::new("cannot create", describe(&error), part);
    fs::create_dir(part).map_err(failed)?;
    out::give(part, &out::looked_at(log)?)?;
    // The files of a log are made like this one.
    let lock = part.join("LOCK");
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&lock).map_err(failed)?;
    if files.is_empty() { Ok(()) } else { out::give(&lock, &out::owner_of(files.iter().rev(), log)?) }
}

/// Makes the finished copy a log. Until all of it has its names, durably, a guard is there, with which no log opens.
pub(super) fn make_log(part: &Path, out: &Path) -> Result<()> {
    let failed = |what: &'static str| move |error| Failure::new(what, describe(&error), out);
    let guard = out.join(BACKUP_GUARD);
    File::create(&guard).map_err(failed("cannot create"))?;
    out::sync_directory(out)?;
    step();
    let names = fs::read_dir(part).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    let mut names: Vec<OsString> = names.map_err(failed("cannot list"))?;
    // The control page comes first, which misses what is not there yet.
    names.sort();
    for name in names.iter().rev() {
        fs::rename(part.join(name), out.join(name)).map_err(failed("cannot rename"))?;
        step();
    }
    fs::remove_dir(part).map_err(failed("cannot remove"))?;
    out::sync_directory(out)?;
    fs::remove_file(guard).map_err(failed("cannot remove"))?;
    out::sync_directory(out)
}
