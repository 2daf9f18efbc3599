//! What is lost although no walk over the files that are left comes across it: whole segments, their ends, and what took their place.

use std::ffi::OsString;
use std::path::Path;

use mapwal::error::{Corruption, Damage};
use mapwal::inspect::{Inspection, ScanItem, SegmentFile, SegmentScan};
use mapwal::{Error, Lsn, SegmentTip};

use super::files::{is_read, segment_number};
use super::{Copy, FRAME_LEN_MIN};
use crate::failure::{Failure, Outcome, Result, counted};

/// How a line begins about records that do not belong together.
pub(super) const TWO_HISTORIES: &str = "not one history:";

impl Copy<'_> {
    /// Tells of what no walk over the files that are left comes across: whole segments, the ends of some, and those of another log.
    pub(super) fn note_missing<'f>(&mut self, faults: impl Iterator<Item = &'f Corruption>) {
        for fault in faults {
            let is_unseen = matches!(
                fault.damage,
                Damage::MissingSegment { .. }
                    | Damage::MissingEnd { .. }
                    | Damage::FileLength { .. }
                    | Damage::ForeignSegment { .. }
            );
            if is_unseen {
                if !self.is_told {
                    Failure::of_log(&Error::Corrupt(Box::new(fault.clone())), &fault.path).tell();
                }
                match fault.damage {
                    Damage::FileLength { expected, found } if found >= expected => {}
                    _ => self.note_lost(&fault.path),
                }
            }
        }
    }

    /// Whether a file that is missing, or shorter, was after all that has been copied.
    pub(super) fn is_end_unknown(&self) -> bool {
        self.last_missing.is_some() && self.last_missing >= self.last_copied
    }

    /// Nothing tells by itself which records were in a file that is missing, or a part of it: later numbers do, or [`Self::finish`] says so.
    pub(super) fn note_lost(&mut self, path: &Path) {
        if segment_number(path).zip(self.active).is_some_and(|(number, active)| number > active) {
            return;
        }
        self.last_missing = self.last_missing.take().max(path.file_name().map(OsString::from));
    }

    /// Lists the records of segments that are missing, or have no sound header, before the first that is there.
    pub(super) fn note_beginning(&mut self, inspection: &Inspection, files: &[SegmentFile]) -> Result<()> {
        let mut counting = inspection.segments().iter().filter(|file| file.counts);
        // Where it is by now.
        let is_held = |path: &Path| {
            let number = segment_number(path);
            files.iter().any(|file| Some(file.number) == number && is_read(&file.path))
        };
        // One of another length holds what it held, as far as it goes.
        let has_fault = |path: &Path| {
            let mut of_it = inspection.faults().filter(|fault| fault.path == path);
            of_it.any(|fault| !matches!(fault.damage, Damage::FileLength { .. }) || !is_held(path))
        };
        let Some((file, first)) = counting.find(|file| !has_fault(&file.path)).and_then(|it| Some((it, it.first_lsn?)))
        else {
            return Ok(());
        };
        if first == Lsn(1) || inspection.faults().all(|fault| fault.path >= file.path) {
            return Ok(());
        }
        self.has_gaps = true;
        let last = first.previous();
        // Nothing was trimmed, so the log began with record 1, unless there was no room for that many.
        let room = (file.number - 1).saturating_mul(file.file_len_bytes) / FRAME_LEN_MIN;
        if inspection.oldest_segment() == Some(1) && last.0 <= room {
            self.say(&format!("lost 1..{last}: {}", counted(last.0, "record", "records")))
        } else {
            self.say(&format!("lost all up to {last}: nothing tells how many records"))
        }
    }

    /// Tells of a segment that a seal at the end of the newest one names, and that is not there, unless [`Self::note_missing`] has.
    pub(super) fn note_missing_after(&mut self, inspection: &Inspection) {
        let Some(named) = self.sealed_into else { return };
        let missing = inspection.missing_after(named, self.arguments.archive);
        let is_new = |missing: &Corruption| inspection.faults().all(|fault| fault.path != missing.path);
        // A writer may have made it after the directory was read.
        let goes_on = || {
            let now = Inspection::open(&self.arguments.directory);
            now.is_ok_and(|now| now.segments().iter().any(|file| file.number >= named))
        };
        if let Some(missing) = missing.filter(|missing| is_new(missing) && !goes_on()) {
            self.note_missing(std::iter::once(&missing));
        }
    }

    /// Tells if a segment that holds all records up to those of the next one is another than that was begun after.
    pub(super) fn check_end(&mut self, file: &SegmentFile, tip: SegmentTip) -> Result<()> {
        let (Some(end), Some(checksum), Some(next)) = (file.end, file.end_checksum, file.next_lsn) else {
            return Ok(());
        };
        let Some(last) = self.next.filter(|&reached| reached >= next).map(Lsn::previous) else { return Ok(()) };
        let damage = if tip.end_bytes == end && tip.checksum != checksum {
            Damage::Checksum { expected: checksum, found: tip.checksum }
        } else if tip.end_bytes != end && (self.sealed_into.is_some() || has_frame_across(&file.path, end)) {
            Damage::SegmentEnd { expected: end, found: tip.end_bytes }
        } else {
            // As it should be, or damaged at its end. Nothing follows a seal.
            return Ok(());
        };
        self.has_gaps = true;
        damaged(&file.path, &damage).tell();
        let line = format!("records from {} on were appended after other ones than those up to {last}", last.next());
        self.say(&format!("{TWO_HISTORIES} {line}"))
    }
}

/// What is damaged in a file.
pub(super) fn damaged(path: &Path, damage: &Damage) -> Failure {
    let (what, why, place) = ("damaged".to_owned(), damage.to_string(), path.to_owned());
    Failure::Told { what, why, place, outcome: Outcome::Damaged, damage: None }
}

/// Whether a sound frame of a segment goes on after byte `end`.
fn has_frame_across(path: &Path, end: u64) -> bool {
    let Ok(mut scan) = SegmentScan::open(path) else { return false };
    while scan.offset() < end {
        let is_frame = match scan.next() {
            Ok(Some(item)) => matches!(item, ScanItem::Frame(_)),
            Ok(None) | Err(_) => return false,
        };
        if is_frame && scan.offset() > end {
            return true;
        }
    }
    false
}
