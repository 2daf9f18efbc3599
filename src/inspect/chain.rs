//! Which segments count, as far as sound links tell, in a log that may be damaged anywhere.
//!
//! Recovery follows the links back from the newest segment, and takes an unsound one for the end of the log until the
//! evidence says otherwise. Here all are walked in any case, so an unsound link ends nothing: a segment counts if a
//! later link names it, whatever is wrong with the segment itself.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Corruption, Damage};
use crate::format::link::SegmentEnd;
use crate::format::{name, segment_header};
use crate::segment::SegmentInfo;
use crate::segment::chain::{Lost, lost_end};
use crate::segment::control::ControlState;
use crate::segment::directory::Found;

/// A segment that counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Linked {
    pub(super) number: u64,
    /// `None` if header or link are unsound.
    pub(super) info: Option<SegmentInfo>,
    /// Where its successor says that it ends; `None` for the newest.
    pub(super) end: Option<SegmentEnd>,
    /// Whether its header is sound, so that its frames can be checked.
    pub(super) is_readable: bool,
}

/// The segments of a log, sorted out.
#[derive(Debug, Default)]
pub(super) struct LinkedSegments {
    /// Those that count, oldest first.
    pub(super) counting: Vec<Linked>,
    /// Those below the newest that do not.
    pub(super) superseded: Vec<u64>,
    /// What is wrong with the links between them.
    pub(super) faults: Vec<Corruption>,
}

/// What a link says of the segment before.
#[derive(Debug, Clone, Copy)]
enum Named {
    /// The link is unsound, or there is none yet.
    Unknown,
    /// There is none before.
    Nothing,
    Segment {
        number: u64,
        end: SegmentEnd,
        referrer: u64,
    },
}

/// `numbers` are all that have files, ascending; `found` are those of them whose headers are sound.
pub(super) fn sort_out(
    numbers: &[u64],
    found: &[Found],
    directory: &Path,
    control: Option<ControlState>,
) -> LinkedSegments {
    let by_number: BTreeMap<u64, &Found> = found.iter().map(|segment| (segment.number, segment)).collect();
    let tip = found.iter().rev().find(|segment| segment.is_linked());
    let tip_number = tip.map_or(0, |tip| tip.number);
    let known_oldest = control.and_then(|control| control.oldest_segment);
    let bound = tip.and_then(|tip| tip.link()).map_or(0, |link| link.link.oldest).max(known_oldest.unwrap_or(0));
    let mut linked = LinkedSegments::default();
    let mut named = Named::Unknown;
    for &number in numbers.iter().rev().skip_while(|&&number| number > tip_number) {
        if number < bound && number != tip_number {
            // What a trim has not removed yet.
            linked.superseded.push(number);
            continue;
        }
        let end = match named {
            Named::Unknown => None,
            Named::Segment { number: wanted, end, .. } if wanted == number => Some(end),
            Named::Segment { number: wanted, referrer, .. } if wanted > number && number >= bound => {
                linked.faults.push(missing(directory, wanted, referrer));
                None
            }
            // Replaced, or what a trim could not remove.
            Named::Nothing | Named::Segment { .. } => {
                linked.superseded.push(number);
                continue;
            }
        };
        let segment = by_number.get(&number).copied();
        named = segment.map_or(Named::Unknown, |segment| named_by(segment, &by_number, directory, &mut linked.faults));
        linked.counting.push(Linked { number, info: segment.and_then(info), end, is_readable: segment.is_some() });
    }
    let is_lost = |number: u64| known_oldest.is_some() && number >= bound && !numbers.contains(&number);
    linked.faults.extend(match named {
        Named::Segment { number, referrer, .. } if is_lost(number) => Some(missing(directory, number, referrer)),
        // Nothing is known of what was before the last that counts, but for what the page says.
        Named::Unknown => {
            known_oldest.filter(|&oldest| is_lost(oldest) && oldest < lowest(&linked, numbers)).map(|oldest| {
                let path = directory.join(name::segment(oldest));
                Corruption { path, offset: 0, lsn: None, damage: Damage::MissingOldest, evidence: None }
            })
        }
        Named::Segment { .. } | Named::Nothing => None,
    });
    linked.counting.reverse();
    linked.superseded.reverse();
    let beyond = numbers.iter().filter(|&&number| number > tip_number);
    let beyond = beyond.map(|number| (*number, by_number.get(number).copied()));
    let stated = control.and_then(|control| control.durable);
    let lost = stated.and_then(|stated| Some((stated, lost_end(stated.position, tip_number, beyond)?)));
    linked.faults.extend(lost.map(|(stated, Lost { number, offset, damage })| {
        let path = directory.join(name::segment(number));
        Corruption { path, offset, lsn: None, damage, evidence: Some(stated.evidence()) }
    }));
    linked
}

/// The number of the oldest that counts; without one, of the oldest that is there. The former are newest first still.
fn lowest(linked: &LinkedSegments, numbers: &[u64]) -> u64 {
    linked.counting.last().map_or_else(|| numbers.first().copied().unwrap_or(0), |oldest| oldest.number)
}

fn info(segment: &Found) -> Option<SegmentInfo> {
    let base_lsn = segment.link()?.base_lsn;
    Some(SegmentInfo { number: segment.number, size: segment.size, layout: segment.layout, base_lsn })
}

fn named_by(
    segment: &Found,
    by_number: &BTreeMap<u64, &Found>,
    directory: &Path,
    faults: &mut Vec<Corruption>,
) -> Named {
    let Some(frame) = segment.link() else { return Named::Unknown };
    let Some(previous) = frame.link.previous else { return Named::Nothing };
    if let Err(damage) = frame.check(segment.number, by_number.get(&previous.number).copied()) {
        let path = directory.join(name::segment(segment.number));
        let (offset, lsn) = (segment_header::LEN as u64, Some(frame.base_lsn));
        faults.push(Corruption { path, offset, lsn, damage, evidence: None });
        return Named::Unknown;
    }
    let end = SegmentEnd { offset: previous.end, next_lsn: frame.base_lsn, crc: previous.crc };
    Named::Segment { number: previous.number, end, referrer: segment.number }
}

fn missing(directory: &Path, number: u64, referrer: u64) -> Corruption {
    let path = directory.join(name::segment(number));
    Corruption { path, offset: 0, lsn: None, damage: Damage::MissingSegment { referrer }, evidence: None }
}
