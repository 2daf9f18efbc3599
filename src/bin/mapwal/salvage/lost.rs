//! What is lost although no walk over the files that are left comes across it: whole segments, their ends, and what took their place.

use std::path::Path;

use mapwal::error::{Corruption, Damage};
use mapwal::inspect::{FrameRole, Inspection, LostBeginning, ScanItem, SegmentFile, SegmentScan};
use mapwal::{Error, Lsn, SegmentTip};

use super::{Copy, End, UNREADABLE_BYTES};
use crate::failure::{Explain, Failure, Outcome, Result, counted};
use crate::look::page_fault;

/// How a line begins about records that do not belong together.
pub(super) const TWO_HISTORIES: &str = "not one history:";

impl Copy<'_> {
    /// Tells what is wrong with headers, and with the links between segments.
    pub(super) fn tell_faults(&self, inspection: &Inspection) {
        let is_foreign = |fault: &&Corruption| self.remains.foreign().iter().any(|foreign| foreign.path == fault.path);
        let faults = inspection.faults().filter(|fault| !is_foreign(fault)).chain(self.remains.foreign());
        for fault in faults.filter(|_| !self.is_told) {
            Failure::of_log(&Error::Corrupt(Box::new(fault.clone())), &fault.path).tell();
        }
    }

    /// Lists the records before the first that is left.
    pub(super) fn list_beginning(&mut self) -> Result<()> {
        let Some(LostBeginning { first, last, .. }) = self.remains.lost_beginning() else { return Ok(()) };
        self.has_gaps = true;
        match first {
            Some(first) => {
                let count = counted(last.0 - first.0 + 1, "record", "records");
                self.say(&format!("lost {first}..{last}: {count}"))
            }
            None => self.say(&format!("lost all up to {last}: nothing tells how many records")),
        }
    }

    /// Lists the records after the last that is left, as far as anything tells of them.
    pub(super) fn list_end(&mut self, inspection: &Inspection) -> Result<()> {
        let is_believed = |next: Lsn, last: Lsn| last >= next && last.0 - next.0 < self.jump_max;
        // What the last writer has called durable, and is not there.
        if let (Some(next), Some(durable)) = (self.next, self.remains.durable_lsn())
            && is_believed(next, durable)
        {
            self.gap(next, durable)?;
        }
        let End { segment, sealed_into, is_closed, is_unread, is_torn } = self.end;
        // The page is told of as damaged.
        if is_torn && let Some(next) = self.next.filter(|_| page_fault(inspection).is_some()) {
            self.has_gaps = true;
            let why = "the end is torn, and the control page, which could tell whether it was durable, is damaged";
            self.say(&format!("lost what there was from {next} on: {why}"))?;
        }
        let is_end_lost = self.remains.is_end_lost(segment, sealed_into, is_closed, self.arguments.archive);
        if !(is_end_lost && !self.goes_on() || is_unread) {
            return Ok(());
        }
        self.tell_missing_after(inspection);
        if let Some(next) = self.next.filter(|_| !self.remains.is_closed()) {
            self.has_gaps = true;
            let again = if self.arguments.renumber { "" } else { "; what is appended next gets their numbers again" };
            self.say(&format!("lost what there was from {next} on: nothing tells how many records{again}"))?;
        }
        Ok(())
    }

    /// Whether a writer has made a segment after the directory was read.
    fn goes_on(&self) -> bool {
        let now = Inspection::open(&self.arguments.directory);
        now.is_ok_and(|now| {
            now.is_being_written() == Some(true) && now.segments().iter().any(|file| file.number > self.end.segment)
        })
    }

    /// Tells of a segment that a seal at the end of the newest one names, and that is not there, if that is not known.
    fn tell_missing_after(&self, inspection: &Inspection) {
        let missing = self.end.sealed_into.and_then(|named| inspection.missing_after(named, self.arguments.archive));
        let is_new = |missing: &Corruption| inspection.faults().all(|fault| fault.path != missing.path);
        if let Some(missing) = missing.filter(|missing| !self.is_told && is_new(missing)) {
            Failure::of_log(&Error::Corrupt(Box::new(missing.clone())), &missing.path).tell();
        }
    }

    /// Takes the records from the next one up to `last` out of further copies of their segments, the `at`-th and later ones, and lists those
    /// that none of them has.
    pub(super) fn fill(&mut self, at: usize, last: Lsn) -> Result<()> {
        let Some(file) = self.copies.get(at).cloned() else { return self.list(last) };
        let mut scan = SegmentScan::open(&file.path).about(&file.path)?;
        if let Some(end) = file.end {
            scan.stop_at(end);
        }
        let mut next = self.next.unwrap_or(Lsn::ZERO);
        loop {
            let frame = match scan.next() {
                Ok(Some(ScanItem::Frame(frame))) => frame,
                Ok(Some(_)) => continue,
                Ok(None) => break,
                Err(error) => {
                    Failure::of_log(&error, &file.path).tell();
                    while scan.skip(UNREADABLE_BYTES).is_err() {}
                    continue;
                }
            };
            let lsn = frame.lsn();
            let is_wanted = (next..=last).contains(&lsn) && file.next_lsn.is_none_or(|end| lsn < end);
            if frame.role() == FrameRole::Control || !is_wanted {
                continue;
            }
            if lsn > next {
                self.fill(at + 1, lsn.previous())?;
            }
            self.copy(&frame)?;
            next = lsn.next();
            self.next = Some(next);
        }
        if next <= last { self.fill(at + 1, last) } else { Ok(()) }
    }

    /// The last record of all further copies of segments.
    pub(super) fn last_in_copies(&self) -> Result<Option<Lsn>> {
        let mut last = None;
        for file in &self.copies {
            let mut scan = SegmentScan::open(&file.path).about(&file.path)?;
            if let Some(end) = file.end {
                scan.stop_at(end);
            }
            loop {
                match scan.next() {
                    Ok(Some(ScanItem::Frame(frame))) if frame.role() != FrameRole::Control => {
                        last = last.max(Some(frame.lsn()).filter(|&lsn| file.next_lsn.is_none_or(|end| lsn < end)));
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => while scan.skip(UNREADABLE_BYTES).is_err() {},
                }
            }
        }
        Ok(last)
    }

    /// Tells if a segment that holds all records up to those of the next one is another than that was begun after.
    pub(super) fn check_end(&mut self, file: &SegmentFile, tip: SegmentTip) -> Result<()> {
        let (Some(end), Some(checksum), Some(next)) = (file.end, file.end_checksum, file.next_lsn) else {
            return Ok(());
        };
        let Some(last) = self.next.filter(|&reached| reached >= next).map(Lsn::previous) else { return Ok(()) };
        let damage = if tip.end_bytes == end && tip.checksum != checksum {
            Damage::Checksum { expected: checksum, found: tip.checksum }
        } else if tip.end_bytes != end && (self.end.sealed_into.is_some() || has_frame_across(&file.path, end)) {
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
