//! What the places that do not pass their checks mean.

use std::path::PathBuf;

use super::Inspection;
use super::report::{SegmentReport, SegmentState, VerifyOptions, VerifyReport};
use super::walker::{Gap, WalkedSegment, Walker};
use crate::error::{Corruption, Damage, Evidence, Result};
use crate::format::position::Position;
use crate::format::segment_header;
use crate::lsn::Lsn;
use crate::segment::evidence;

/// `counting` are the segments that count, oldest first; `others` those that do not.
pub(super) fn judge<'i>(
    inspection: &'i Inspection,
    options: VerifyOptions,
    walker: &'i Walker<'_>,
    mut counting: Vec<WalkedSegment>,
    mut others: Vec<WalkedSegment>,
) -> Result<VerifyReport> {
    let mut judge = Judge { inspection, walker, options, damage: Vec::new() };
    judge.structure(&inspection.faults);
    let mut is_cut = false;
    for walked in &mut counting {
        is_cut = judge.segment(walked, is_cut)?;
    }
    let tip_is_damaged = counting.last().is_some_and(|tip| tip.report.state == SegmentState::Damaged);
    if !is_cut && !tip_is_damaged {
        judge.end(counting.last_mut(), &mut others);
    }
    for left_over in others.iter_mut().filter(|other| other.report.state != SegmentState::Damaged) {
        left_over.report.counts_nothing();
    }
    judge.structure(&inspection.linked.faults);
    let is_torn = counting.iter().chain(&others).any(|walked| walked.report.torn_bytes > 0);
    let closed = !is_cut && !is_torn && counting.last().is_some_and(|tip| tip.is_closed);
    let mut segments: Vec<SegmentReport> = counting.into_iter().chain(others).map(|walked| walked.report).collect();
    segments.sort_by_key(|segment| segment.number);
    let (compared_segments, compared_bytes) = walker.compared;
    Ok(VerifyReport { segments, damage: judge.damage, closed, compared_segments, compared_bytes })
}

struct Judge<'i, 'w> {
    inspection: &'i Inspection,
    walker: &'i Walker<'w>,
    options: VerifyOptions,
    damage: Vec<Corruption>,
}

impl Judge<'_, '_> {
    /// Takes account of damage to headers, or to the links between segments, unless more is known of it.
    fn structure(&mut self, faults: &[Corruption]) {
        for fault in faults {
            let is_place = |known: &Corruption| (&known.path, known.offset) == (&fault.path, fault.offset);
            if !self.damage.iter().any(is_place) {
                self.damage.push(fault.clone());
            }
        }
    }

    /// Judges a segment that counts, unless the log has been cut before it. Returns whether the log is cut in it or
    /// before it.
    fn segment(&mut self, walked: &mut WalkedSegment, is_cut: bool) -> Result<bool> {
        if is_cut {
            let report = &mut walked.report;
            report.state = SegmentState::Torn;
            report.torn_bytes = self.walker.torn_bytes(report.number, segment_header::LEN as u64)?;
            report.torn_records = walked.passed;
            report.counts_nothing();
            return Ok(true);
        }
        for gap in std::mem::take(&mut walked.gaps) {
            let report = &mut walked.report;
            let evidence = self.proof(Position::new(report.number, gap.bad));
            // No crash leaves these.
            let is_sure = matches!(gap.damage, Damage::DeviceMismatch | Damage::SegmentSum);
            if evidence.is_none() && !is_sure {
                // Everything after it is younger, so nothing says that it was durable either.
                return self.cut(report, &gap, walked.passed);
            }
            report.state = SegmentState::Damaged;
            let Gap { start, lsn, damage, .. } = gap;
            self.damage.push(Corruption { path: report.path.clone(), offset: start, lsn, damage, evidence });
        }
        Ok(false)
    }

    /// Nothing from `gap` on counts, whatever `passed` the checks after it.
    fn cut(&self, report: &mut SegmentReport, gap: &Gap, passed: u64) -> Result<bool> {
        (report.records, report.len_bytes) = (gap.records, gap.start);
        report.next_lsn = gap.lsn.or(report.next_lsn);
        if self.options.live {
            // It is being written.
            report.state = if report.state == SegmentState::Damaged { report.state } else { SegmentState::Active };
            return Ok(false);
        }
        report.torn_bytes = self.walker.torn_bytes(report.number, gap.start)?;
        report.torn_records = passed - gap.records;
        if report.state != SegmentState::Damaged {
            report.state = SegmentState::Torn;
        }
        Ok(true)
    }

    /// Finds out whether something that was durable is missing after the last frame.
    fn end(&mut self, tip: Option<&mut WalkedSegment>, others: &mut [WalkedSegment]) {
        let lsn = tip.as_ref().and_then(|tip| tip.report.next_lsn);
        let sealed_into = tip.as_ref().and_then(|tip| tip.sealed_into);
        let superseded = &self.inspection.linked.superseded;
        let mut successors = others.iter_mut().filter(|other| !superseded.contains(&other.report.number));
        let next = successors.find(|other| tip.is_none() || Some(other.report.number) == sealed_into);
        let position = match (&tip, &next) {
            (Some(tip), _) => Position::new(tip.report.number, tip.report.len_bytes),
            (None, Some(first)) => Position::new(first.report.number, segment_header::LEN as u64),
            (None, None) => return,
        };
        let evidence = self.proof(position);
        if evidence.is_none() {
            return self.sealed_into_nothing(tip.as_deref(), lsn);
        }
        let corruption = match (next, tip) {
            // The segment is whole, and what it leads to is not.
            (Some(next), _) => {
                next.report.state = SegmentState::Damaged;
                (next.report.torn_bytes, next.report.torn_records) = (0, 0);
                let damage = next.gaps.first().map_or(Damage::MissingFrame, |gap| gap.damage.clone());
                corruption(next.report.path.clone(), segment_header::LEN as u64, lsn, damage)
            }
            (None, Some(tip)) => {
                let missing = tip.sealed_into.and_then(|named| self.inspection.missing(named));
                if let Some(missing) = missing {
                    Corruption { lsn, ..missing }
                } else {
                    tip.report.state = SegmentState::Damaged;
                    corruption(tip.report.path.clone(), tip.report.len_bytes, lsn, Damage::MissingFrame)
                }
            }
            (None, None) => return,
        };
        // A damaged header is known.
        if !self.damage.iter().any(|damage| damage.path == corruption.path) {
            self.damage.push(Corruption { evidence, ..corruption });
        }
    }

    /// Damage if the newest segment ends with a seal, and the one that it names is not there.
    fn sealed_into_nothing(&mut self, tip: Option<&WalkedSegment>, lsn: Option<Lsn>) {
        // What is written just now may have been made after the directory was read.
        let is_copied = self.options.archive || self.options.live;
        if let Some(missing) = tip.and_then(|tip| self.inspection.missing_after(tip.sealed_into?, is_copied)) {
            self.damage.push(Corruption { lsn, ..missing });
        }
    }

    /// What shows that the log was durable beyond `position`.
    fn proof(&self, position: Position) -> Option<Evidence> {
        let stated = self.inspection.control.and_then(|control| control.durable);
        evidence::proof(&self.walker.claim, stated, position)
    }
}

impl SegmentReport {
    fn counts_nothing(&mut self) {
        (self.records, self.len_bytes, self.next_lsn) = (0, 0, self.first_lsn);
    }
}

fn corruption(path: PathBuf, offset: u64, lsn: Option<Lsn>, damage: Damage) -> Corruption {
    Corruption { path, offset, lsn, damage, evidence: None }
}
