//! Walking every segment, and noting where it does not pass its checks.

use std::io;

use super::chain::Linked;
use super::report::{SegmentReport, SegmentState, VerifyOptions};
use super::{Inspection, SegmentFile};
use crate::error::{Damage, Error, Result};
use crate::format::frame::FrameKind;
use crate::format::link::SegmentEnd;
use crate::format::position::Position;
use crate::format::walk::Place;
use crate::format::{name, segment_header};
use crate::lsn::Lsn;
use crate::read::{FrameRole, ScanItem, ScannedFrame, SegmentScan};
use crate::segment::evidence::StrongestClaim;

/// How many bytes are read between two calls of `progress`.
const PROGRESS_BYTES: u64 = 1 << 20;

pub(super) struct Walker<'i> {
    inspection: &'i Inspection,
    options: VerifyOptions,
    /// The strongest that any frame makes.
    pub(super) claim: StrongestClaim,
    progress: &'i mut dyn FnMut(u64),
    /// Segments, and bytes of them, that were compared with what the device holds.
    pub(super) compared: (usize, u64),
}

/// A place where a segment does not pass its checks.
#[derive(Debug)]
pub(super) struct Gap {
    /// Byte offset in the file.
    pub(super) start: u64,
    /// Byte offset of what is missing or wrong: before it there may be good frames of an incomplete batch.
    pub(super) bad: u64,
    /// The record expected there, where that is known.
    pub(super) lsn: Option<Lsn>,
    pub(super) damage: Damage,
    /// Records before it in the segment.
    pub(super) records: u64,
}

/// What walking one segment found.
#[derive(Debug)]
pub(super) struct WalkedSegment {
    pub(super) report: SegmentReport,
    pub(super) gaps: Vec<Gap>,
    /// The segment that its last frame, a seal, names.
    pub(super) sealed_into: Option<u64>,
    /// Whether its last frame is a close.
    pub(super) is_closed: bool,
    /// Whether the walk ended without a frame after the last gap.
    ends_in_gap: bool,
    /// Records of a batch that goes on.
    pending: u64,
    /// All records, whether they count or not.
    pub(super) passed: u64,
}

impl<'i> Walker<'i> {
    pub(super) fn new(inspection: &'i Inspection, options: VerifyOptions, progress: &'i mut dyn FnMut(u64)) -> Self {
        Self { inspection, options, claim: StrongestClaim::default(), progress, compared: (0, 0) }
    }

    /// Walks a segment that counts; `None` if it has been trimmed meanwhile.
    pub(super) fn walk_linked(&mut self, linked: &Linked) -> Result<Option<WalkedSegment>> {
        let file = self.inspection.files.iter().find(|file| file.number == linked.number);
        let is_tip = self.inspection.linked.counting.last().is_some_and(|tip| tip.number == linked.number);
        let state = if is_tip { SegmentState::Active } else { SegmentState::Sealed };
        let mut walked = WalkedSegment::new(file.expect("segments that count have files"), state);
        if !linked.is_readable {
            walked.report.state = SegmentState::Damaged;
            return Ok(Some(walked));
        }
        let Some(mut scan) = self.open(linked.number)? else { return Ok(None) };
        if let Some(info) = linked.info {
            scan.begin_with(info.base_lsn);
        }
        if let Some(end) = linked.end {
            scan.stop_at(end.offset);
        }
        self.walk(&mut scan, &mut walked)?;
        walked.finish(scan.places(), linked.end);
        if self.options.device && self.is_at_rest(linked, &walked) {
            let difference = scan.first_difference(walked.report.len_bytes)?;
            let records = walked.report.records;
            let gap = |start| Gap { start, bad: start, lsn: None, damage: Damage::DeviceMismatch, records };
            walked.gaps.extend(difference.map(gap));
            if scan.reads_device() {
                self.compared.0 += 1;
                self.compared.1 += difference.unwrap_or(walked.report.len_bytes);
            }
        }
        Ok(Some(walked))
    }

    /// Looks for claims in a segment that does not count.
    pub(super) fn look_at(&mut self, file: &SegmentFile) -> Result<Option<WalkedSegment>> {
        let is_superseded = self.inspection.linked.superseded.contains(&file.number);
        let is_damaged = self.inspection.faults.iter().any(|fault| fault.path == file.path);
        let state = match (is_damaged, is_superseded) {
            (true, _) => SegmentState::Damaged,
            (false, true) => SegmentState::Superseded,
            (false, false) => SegmentState::Spare,
        };
        let mut walked = WalkedSegment::new(file, state);
        // A spare may be taken, and written, at any moment while a writer has the log open.
        if state == SegmentState::Spare && !self.options.live {
            let Some(mut scan) = self.open(file.number)? else { return Ok(None) };
            self.walk(&mut scan, &mut walked)?;
            walked.finish(scan.places(), None);
            walked.report.torn_bytes = self.torn_bytes(file.number, segment_header::LEN as u64)?;
            if walked.report.torn_bytes > 0 {
                walked.report.torn_records = walked.passed;
                walked.report.state = SegmentState::Torn;
            }
        }
        Ok(Some(walked))
    }

    /// Bytes of a segment from `start` on that a torn end has left.
    pub(super) fn torn_bytes(&self, number: u64, start: u64) -> Result<u64> {
        let Some(mut scan) = self.open(number)? else { return Ok(0) };
        Ok(scan.torn_end(start)? - start)
    }

    fn open(&self, number: u64) -> Result<Option<SegmentScan>> {
        let (storage, name) = (&*self.inspection.storage, name::segment(number));
        match SegmentScan::open_in(storage, &name, &storage.path().join(&name)) {
            Ok(scan) => Ok(Some(scan)),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            // The inspection has told of a header that is wrong.
            Err(Error::Corrupt(_)) if self.has_fault(number) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn has_fault(&self, number: u64) -> bool {
        let path = self.inspection.storage.path().join(name::segment(number));
        self.inspection.faults.iter().any(|fault| fault.path == path)
    }

    fn walk(&mut self, scan: &mut SegmentScan, walked: &mut WalkedSegment) -> Result<()> {
        let mut told = scan.offset();
        loop {
            let before = scan.places();
            match scan.next()? {
                None => break,
                Some(ScanItem::Frame(frame)) => {
                    // Offsets in a segment fit, as it is at most 4 GiB long.
                    self.claim.hear(walked.report.number, frame.offset() as usize, frame.frame());
                    walked.pass_frame(&frame);
                }
                Some(ScanItem::Gap { lsn, damage, .. }) => walked.pass_gap(before, lsn, damage),
            }
            let (place, boundary) = scan.places();
            if place == boundary {
                walked.report.records += std::mem::take(&mut walked.pending);
            }
            if scan.offset() - told >= PROGRESS_BYTES {
                (self.progress)(scan.offset() - told);
                told = scan.offset();
            }
        }
        (self.progress)(scan.offset() - told);
        Ok(())
    }

    /// Whether nothing writes to the segment any more, and all of it is there.
    fn is_at_rest(&self, linked: &Linked, walked: &WalkedSegment) -> bool {
        let stated = self.inspection.control.and_then(|control| control.durable);
        let durable = stated.map_or(Position::ZERO, |stated| stated.position);
        let end = Position::new(linked.number, walked.report.len_bytes);
        walked.gaps.is_empty() && (!self.options.live || (linked.end.is_some() && end <= durable))
    }
}

impl WalkedSegment {
    fn new(file: &SegmentFile, state: SegmentState) -> Self {
        let report = SegmentReport {
            number: file.number,
            path: file.path.clone(),
            state,
            first_lsn: file.first_lsn,
            next_lsn: file.first_lsn,
            records: 0,
            len_bytes: 0,
            torn_bytes: 0,
            torn_records: 0,
        };
        Self {
            report,
            gaps: Vec::new(),
            sealed_into: None,
            is_closed: false,
            ends_in_gap: false,
            pending: 0,
            passed: 0,
        }
    }

    fn pass_frame(&mut self, frame: &ScannedFrame<'_>) {
        self.report.first_lsn.get_or_insert(frame.lsn());
        let is_record = u64::from(frame.role() == FrameRole::Record);
        (self.pending, self.passed) = (self.pending + is_record, self.passed + is_record);
        self.is_closed = frame.kind() == FrameKind::Close;
        self.sealed_into = frame.sealed_into();
        self.ends_in_gap = false;
    }

    fn pass_gap(&mut self, (place, boundary): (Place, Place), lsn: Option<Lsn>, damage: Damage) {
        // A batch that does not come to its end does not count at all.
        let (lsn, damage) = match damage {
            Damage::MissingFrame if place != boundary => (Some(boundary.next_lsn), Damage::IncompleteBatch),
            damage if place != boundary => (Some(boundary.next_lsn), damage),
            damage => (lsn, damage),
        };
        let (start, bad) = (boundary.offset as u64, place.offset as u64);
        self.gaps.push(Gap { start, bad, lsn, damage, records: self.report.records });
        (self.is_closed, self.sealed_into, self.ends_in_gap, self.pending) = (false, None, true, 0);
    }

    /// Compares where the walk came to with where the segment should end.
    fn finish(&mut self, (place, boundary): (Place, Place), end: Option<SegmentEnd>) {
        let mut counted = boundary;
        let damage = match end {
            // A truncation may have cut through a batch: what it kept counts.
            Some(end) if place.offset as u64 == end.offset => {
                counted = place;
                self.report.records += std::mem::take(&mut self.pending);
                place.damage_at(end)
            }
            Some(_) if place == boundary => Some(Damage::MissingFrame),
            None if place == boundary => None,
            Some(_) | None => Some(Damage::IncompleteBatch),
        };
        if let Some(damage) = damage.filter(|_| !self.ends_in_gap) {
            let (start, bad, lsn) = (counted.offset as u64, place.offset as u64, Some(counted.next_lsn));
            self.gaps.push(Gap { start, bad, lsn, damage, records: self.report.records });
        }
        (self.report.len_bytes, self.report.next_lsn) = (counted.offset as u64, Some(counted.next_lsn));
    }
}
