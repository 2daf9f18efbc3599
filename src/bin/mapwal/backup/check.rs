//! What has been copied of a segment, looked at frame by frame.

use std::fmt::Display;
use std::path::Path;

use mapwal::error::Damage;
use mapwal::inspect::{FrameRole, ScanItem, SegmentFile, SegmentScan};
use mapwal::{Error, Lsn};

use super::files::{CheckStop, FRAMES_BETWEEN_LOOKS};
use crate::failure::{Explain, Failure, Finding, Result};

/// What a copy of a segment has been found to hold: the number after its last record, and how many there are.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) next: Lsn,
    pub(super) records: u64,
}

/// Checks that the copy of `file` in `path` is nothing but sound frames up to `end`, and those that the next segment tells of.
/// Damage is that of the original.
pub(super) fn check(path: &Path, end: u64, file: &SegmentFile, check_stop: CheckStop<'_>) -> Result<Held> {
    let of = &*file.path;
    let mut scan = match SegmentScan::open(path) {
        Err(Error::Corrupt(found)) => return Err(damaged(of, (found.offset, Lsn::ZERO), found.damage)),
        opened => opened.about(path)?,
    };
    scan.stop_at(end);
    let (mut held, mut frames) = (Held { next: Lsn::ZERO, records: 0 }, 0_u64);
    loop {
        frames += 1;
        if frames.is_multiple_of(FRAMES_BETWEEN_LOOKS) {
            check_stop()?;
        }
        match scan.next().about(path)? {
            Some(ScanItem::Frame(frame)) if frame.role() == FrameRole::Control => held.next = frame.lsn(),
            Some(ScanItem::Frame(frame)) => {
                held.next = frame.lsn().next();
                held.records += u64::from(frame.role() == FrameRole::Record);
            }
            Some(ScanItem::Gap { range, damage, lsn, .. }) => {
                return Err(damaged(of, (range.start, lsn.unwrap_or(Lsn::ZERO)), damage));
            }
            Some(_) => {}
            None => break,
        }
    }
    let (reached, tip) = (scan.offset(), scan.tip());
    if reached != end {
        return Err(damaged(of, (reached, held.next), "frame is missing"));
    }
    if let Some(expected) = file.next_lsn.filter(|&next| next != held.next) {
        return Err(damaged(of, (end, expected), Damage::FrameLsn { expected, found: held.next }));
    }
    if let Some(expected) = file.end_checksum.filter(|&sum| sum != tip.checksum) {
        return Err(damaged(of, (end, held.next), Damage::Checksum { expected, found: tip.checksum }));
    }
    Ok(held)
}

/// What is damaged in a segment, at an offset, where a record was expected: 0 where that is not known.
pub(super) fn damaged(of: &Path, (offset, lsn): (u64, Lsn), damage: impl Display) -> Failure {
    let lsn = (lsn != Lsn::ZERO).then_some(lsn);
    let at = lsn.map_or(String::new(), |lsn| format!(", record {lsn}"));
    let finding = Finding { path: of.to_owned(), offset, lsn, damage: damage.to_string() };
    Failure::new("damaged", format!("{damage} at offset {offset}{at}"), of).because_of(finding)
}
