//! The files that records are copied from, and those of the copy.

use std::fs;
use std::io;
use std::path::Path;

use mapwal::error::Damage;
use mapwal::inspect::{Inspection, SegmentFile};

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

/// Makes the finished copy a log. The control page comes first, which misses what is not there yet.
pub(super) fn move_files(part: &Path, out: &Path) -> io::Result<()> {
    let mut names = fs::read_dir(part)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    for name in names.iter().rev() {
        fs::rename(part.join(name), out.join(name))?;
    }
    fs::remove_dir(part)
}
