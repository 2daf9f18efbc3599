//! What is to be done to a damaged log.

use std::collections::BTreeSet;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mapwal::Lsn;
use mapwal::inspect::{Inspection, KeptFile, Remains, ScanItem, SegmentFile, SegmentScan, VerifyOptions};

use super::folders::PREFIX;
use crate::failure::{Explain, Failure, Outcome, Result, describe, say};
use crate::verify::worth_saving;
use crate::{progress, salvage};

/// What directories may take that grow.
const MARGIN_BYTES: u64 = 1 << 20;

pub(super) struct Plan {
    pub(super) inspection: Inspection,
    pub(super) remains: Remains,
    /// Segments that stay, oldest first: full ones before any damage.
    pub(super) kept: Vec<SegmentFile>,
    /// Those whose records are appended anew.
    pub(super) anew: Vec<SegmentFile>,
    /// All files that are set aside.
    pub(super) aside: Vec<PathBuf>,
    /// Files of dropped segments, kept for further ones: they hold nothing, and go. One that may be of a segment which was not dropped, by
    /// the number in its name, is set aside.
    pub(super) unused: Vec<KeptFile>,
    /// Where to.
    pub(super) folder: PathBuf,
    /// The record that comes after the segments that stay, and the segment that they go on in by the seal at their end.
    pub(super) next: Option<(Lsn, Option<u64>)>,
}

impl Plan {
    /// `None` if there is nothing to repair, which is said.
    pub(super) fn make(directory: &Path) -> Result<Option<Self>> {
        let inspection = Inspection::open(directory).about(directory)?;
        let bar = progress::of_bytes("verify", inspection.bytes_to_verify());
        let report = inspection.verify(VerifyOptions::new(), &mut |bytes| bar.inc(bytes)).about(directory)?;
        bar.finish_and_clear();
        // One that has come meanwhile.
        super::check_unused(directory)?;
        let damaged: BTreeSet<u64> =
            report.damage.iter().filter_map(|damage| salvage::segment_number(&damage.path)).collect();
        for damage in &report.damage {
            Failure::of_log(&mapwal::Error::Corrupt(Box::new(damage.clone())), directory).tell();
        }
        // A control page that is damaged cannot tell whether the torn end was durable: what is left of that is saved.
        let is_in_doubt =
            report.torn_bytes() > 0 && report.damage.iter().any(|damage| damage.path.ends_with("control"));
        if damaged.is_empty() && !is_in_doubt {
            return match (report.damage.is_empty(), report.torn_bytes()) {
                (true, 0) => say("nothing to repair: the log is sound").map(|()| None),
                (true, _) => {
                    say("nothing to repair: the next open drops the torn end")?;
                    worth_saving(&report).map_or(Ok(None), |line| say(&line).map(|()| None))
                }
                (false, _) if report.damage.iter().any(|damage| damage.path.ends_with("control")) => {
                    Err(Failure::Told {
                        what: "nothing to repair".into(),
                        why: "the segments are sound, the control page is not: the next open makes it anew".into(),
                        place: directory.to_owned(),
                        outcome: Outcome::Damaged,
                        damage: None,
                    })
                }
                // Of pins, which are no part of the log.
                (false, _) => {
                    let why = "the log is sound, its pins are not: `mapwal pins DIR drop NAME` removes one";
                    Err(Failure::new("nothing to repair", why, directory).ending_with(Outcome::Damaged))
                }
            };
        }
        let remains = inspection.remains().about(directory)?;
        let (mut kept, mut next) = (Vec::new(), None);
        let files = remains.segments();
        for (at, file) in files.iter().enumerate() {
            let named = inspection.segments().iter().map(|file| file.number);
            let numbers = named.chain(files[at + 1..].iter().map(|file| file.number));
            let following = numbers.filter(|&number| number > file.number).min();
            let Some(end) = end_of_whole(file, following)? else { break };
            next = Some(end);
            kept.push(file.clone());
        }
        let anew = files[kept.len()..].to_vec();
        let is_kept = |path: &Path| kept.iter().any(|kept: &SegmentFile| kept.path == path);
        let newest = last_number(&inspection, &remains);
        let numbers = inspection.oldest_segment().unwrap_or(0)..=newest;
        let (unused, unsure): (Vec<_>, Vec<_>) =
            inspection.kept_files().iter().cloned().partition(|file| !is_among(&file.path, &numbers));
        let aside = inspection.segments().iter().map(|file| &file.path).filter(|path| !is_kept(path));
        let aside = aside.chain(unsure.iter().map(|file| &file.path)).cloned().collect();
        let folder = (1..u64::MAX)
            .map(|number| directory.join(format!("{PREFIX}{number}")))
            .find(|path| path.symlink_metadata().is_err());
        let folder = folder.expect("there are more numbers than folders");
        Ok(Some(Self { inspection, remains, kept, anew, aside, unused, folder, next }))
    }

    /// The room that it takes at most, with what directories may take that grow.
    pub(super) fn needed_bytes(&self) -> u64 {
        let size = salvage::segment_size(&self.remains).unwrap_or(0);
        self.anew.iter().map(|file| file.file_len_bytes).sum::<u64>() + size + MARGIN_BYTES
    }

    /// The room that the disk has for it, with what it makes before.
    pub(super) fn room_bytes(&self, directory: &Path) -> Result<u64> {
        let disk = rustix::fs::statvfs(directory)
            .map_err(|error| Failure::new("cannot look at the disk", describe(&error.into()), directory))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize) + self.freed_bytes())
    }

    /// The room that it makes before.
    pub(super) fn freed_bytes(&self) -> u64 {
        let is_freed = |file: &&KeptFile| !file.is_read && is_held_here_alone(&file.path).unwrap_or(false);
        let allocated = |file: &KeptFile| std::fs::metadata(&file.path).map_or(0, |found| found.blocks() * 512);
        self.unused.iter().filter(is_freed).map(allocated).sum()
    }

    /// Below which numbers files are those that stay.
    pub(super) fn kept_below(&self) -> u64 {
        self.kept.last().map_or(0, |last| last.number + 1)
    }

    /// The largest number of a segment that there was.
    pub(super) fn last_number(&self) -> u64 {
        last_number(&self.inspection, &self.remains)
    }
}

/// Whether the number in the name of the kept file at `path` is one of `numbers`.
fn is_among(path: &Path, numbers: &RangeInclusive<u64>) -> bool {
    salvage::segment_number(&path.with_extension("seg")).is_some_and(|number| numbers.contains(&number))
}

/// The largest number of a segment that there was.
fn last_number(inspection: &Inspection, remains: &Remains) -> u64 {
    let named = inspection.segments().last().map_or(0, |file| file.number);
    named.max(remains.newest_number())
}

/// Whether this is a file that has no other name: what is removed of it is gone.
pub(super) fn is_held_here_alone(path: &Path) -> io::Result<bool> {
    let found = std::fs::symlink_metadata(path)?;
    Ok(found.is_file() && found.nlink() == 1)
}

/// The number after the last record of a segment, and the segment that the seal at its end names, if it may stay as it is: its file has the right name and
/// length, all of it is sound, and it ends with a seal at the place where the next one says that it ends. Where nothing says so, the seal has to name
/// `following`, the next number that is there: one that a truncation had left for good names another.
fn end_of_whole(file: &SegmentFile, following: Option<u64>) -> Result<Option<(Lsn, Option<u64>)>> {
    let len = std::fs::metadata(&file.path).map_or(0, |found| found.len());
    let Some(mut next) = file.first_lsn else { return Ok(None) };
    if salvage::segment_number(&file.path) != Some(file.number) || len != file.file_len_bytes {
        return Ok(None);
    }
    let mut scan = SegmentScan::open(&file.path).about(&file.path)?;
    if let Some(end) = file.end {
        scan.stop_at(end);
    }
    let mut named = None;
    while let Some(item) = scan.next().about(&file.path)? {
        let ScanItem::Frame(frame) = item else { return Ok(None) };
        (next, named) = (frame.lsn(), frame.sealed_into());
    }
    let tip = scan.tip();
    let is_end = match file.end {
        Some(end) => tip.end_bytes == end && file.end_checksum == Some(tip.checksum),
        None => following.is_none_or(|following| named == Some(following)),
    };
    let is_whole = named.is_some() && is_end && file.next_lsn.is_none_or(|stated| stated == next);
    Ok(Some((next, named)).filter(|_| is_whole))
}
