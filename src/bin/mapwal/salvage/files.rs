//! The files that records are copied from, and those of the copy.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mapwal::Error;
use mapwal::error::Damage;
use mapwal::inspect::{Inspection, ScanItem, SegmentFile, SegmentScan};

use crate::failure::{BACKUP_GUARD, Explain, Failure, Result, describe};
use crate::step::step;
use crate::{open, out};

/// How many segments are opened ahead of what is copied.
const HELD_MAX: usize = 64;

/// Those that count, and later ones of the log, of which a damaged one may hold records as well.
pub(crate) fn with_records(inspection: &Inspection) -> Vec<&SegmentFile> {
    let files = inspection.segments();
    let newest = files.iter().filter(|file| file.counts).map(|file| file.number).max().unwrap_or(0);
    let is_foreign = |path: &Path| {
        inspection.faults().any(|fault| matches!(fault.damage, Damage::ForeignSegment { .. }) && fault.path == path)
    };
    // One of another log in the place of a segment counts as that, damaged; what it holds is not of this log.
    files.iter().filter(|file| (file.counts || file.number > newest) && !is_foreign(&file.path)).collect()
}

/// The number in the name of a segment's file.
pub(crate) fn segment_number(path: &Path) -> Option<u64> {
    path.extension().filter(|&it| it == "seg")?;
    path.file_stem()?.to_str()?.parse().ok()
}

/// The size of the largest segment.
pub(crate) fn segment_size(inspection: &Inspection) -> Option<u64> {
    inspection.segments().iter().map(|file| file.file_len_bytes).max().filter(|&size| size > 0)
}

/// How many segments there may have been from the first of `files` on, as far as anything tells of them.
pub(super) fn span_of(files: &[SegmentFile], inspection: &Inspection) -> u64 {
    let told_of = inspection.faults().filter_map(|fault| segment_number(&fault.path));
    let all = inspection.segments().iter().map(|file| file.number).chain(told_of);
    let last = all.max().unwrap_or(0);
    // All from these on may be gone.
    let first = files.first().or_else(|| inspection.segments().last()).map_or(last, |first| first.number);
    last.saturating_sub(first) + 1
}

/// Looks at the log, and opens the oldest of its files: what is trimmed after that can be copied all the same.
pub(super) fn look(directory: &Path) -> Result<(Inspection, VecDeque<mapwal::Result<SegmentScan>>)> {
    let mut looks = 0;
    loop {
        let inspection = Inspection::open(directory).about(directory)?;
        let files = with_records(&inspection);
        let held: VecDeque<_> = files.iter().take(HELD_MAX).map(|file| SegmentScan::open(&file.path)).collect();
        looks += 1;
        if !held.iter().any(is_gone) || looks == open::LOOKS_MAX {
            return Ok((inspection, held));
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

/// Whether a file is a segment with a frame that is sound.
pub(super) fn is_read(path: &Path) -> bool {
    matches!(SegmentScan::open(path).as_mut().map(SegmentScan::next), Ok(Ok(Some(ScanItem::Frame(_)))))
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
