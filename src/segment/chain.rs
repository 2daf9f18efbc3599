//! Which segments count: those that the newest link leads back to.

use std::collections::BTreeMap;
use std::path::Path;

use super::SegmentInfo;
use super::directory::{FirstFrame, Found, LinkFrame};
use crate::error::{Corruption, Damage, Error, Result};
use crate::format::link::SegmentEnd;
use crate::format::position::Position;
use crate::format::{name, segment_header};

/// A segment that counts.
#[derive(Debug)]
pub(crate) struct ChainLink {
    pub(crate) info: SegmentInfo,
    pub(crate) frame: LinkFrame,
    /// Where its successor says that it ends; `None` for the newest.
    pub(crate) end: Option<SegmentEnd>,
}

/// The segments found, sorted out.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// Those that count, oldest first.
    pub(crate) links: Vec<ChainLink>,
    /// Below the newest that counts, but no link leads to them: left over from a crash, a truncation or a trim.
    pub(crate) superseded: Vec<u64>,
    /// Above the newest that counts: spares, and what a crash left half written.
    pub(crate) beyond: Vec<Found>,
    /// The predecessor of the oldest, if its link names one: trimmed, or missing.
    pub(crate) missing: Option<u64>,
    /// Of copies, made one by one.
    are_copies: bool,
}

impl Chain {
    /// Follows the links from the newest segment from which they lead back without a damaged one on the way.
    ///
    /// A segment between others whose own link is damaged or absent ends the chain before it: the evidence in
    /// [`Self::beyond`] says whether that is a crash or damage.
    pub(crate) fn build(found: Vec<Found>, directory: &Path) -> Result<Self> {
        let mut by_number: BTreeMap<u64, Found> = found.into_iter().map(|segment| (segment.number, segment)).collect();
        let mut bound = u64::MAX;
        loop {
            let tip = by_number.range(..bound).rev().find(|(_, segment)| segment.link().is_some());
            let Some((&tip, _)) = tip else { break };
            match trace(&by_number, tip, directory)? {
                Trace::Whole { numbers, missing } => return Ok(Self::sort_out(by_number, &numbers, missing)),
                Trace::Broken(number) => bound = number,
            }
        }
        let beyond = std::mem::take(&mut by_number).into_values().collect();
        Ok(Self { beyond, ..Self::default() })
    }

    /// The largest number of any segment found.
    pub(crate) fn last_number(&self) -> u64 {
        let beyond = self.beyond.last().map(|segment| segment.number);
        beyond.or_else(|| self.links.last().map(|link| link.info.number)).unwrap_or(0)
    }

    /// How many of [`Self::links`] were trimmed, whether their files are gone or not: the newest link says durably
    /// which segment is the oldest retained, and the control page may know of a later one, `known_oldest`. The newest
    /// counts in any case.
    pub(crate) fn trimmed(&self, known_oldest: Option<u64>) -> usize {
        let Some((tip, older)) = self.links.split_last() else { return 0 };
        let oldest = self.bound(tip, known_oldest);
        older.partition_point(|link| link.info.number < oldest)
    }

    /// The same of copies, which may be of segments that the log itself has trimmed since: all of them count, unless a control page
    /// says otherwise.
    pub(crate) fn of_copies(mut self, is_archive: bool) -> Self {
        self.are_copies = is_archive;
        self
    }

    /// The oldest segment that may count, if `tip` is the newest that does.
    fn bound(&self, tip: &ChainLink, known_oldest: Option<u64>) -> u64 {
        let told = if self.are_copies { 0 } else { tip.frame.link.oldest };
        told.max(known_oldest.unwrap_or(0))
    }

    /// Leaves out what was [trimmed](Self::trimmed).
    pub(crate) fn forget_trimmed(&mut self, known_oldest: Option<u64>) {
        let trimmed = self.trimmed(known_oldest);
        if trimmed == 0 {
            return;
        }
        self.superseded.extend(self.links.drain(..trimmed).map(|link| link.info.number));
        self.superseded.sort_unstable();
        self.missing = self.links[0].frame.link.previous.map(|previous| previous.number);
    }

    /// An error if the segment that the oldest one's link names has not been trimmed but lost. `known_oldest` is the oldest
    /// segment retained that the log's control page names, if it is there.
    pub(crate) fn check_start(&self, directory: &Path, known_oldest: Option<u64>) -> Result<()> {
        let (Some(missing), Some(first), Some(tip)) = (self.missing, self.links.first(), self.links.last()) else {
            return Ok(());
        };
        let oldest = self.bound(tip, known_oldest);
        // Files below the oldest are those that a trim could not remove.
        let is_gap = self.superseded.iter().any(|&number| number < missing && number >= oldest);
        let is_lost = known_oldest.is_some() && missing >= oldest;
        if is_gap || is_lost {
            let path = directory.join(name::segment(missing));
            return Err(Error::corrupt(&path, 0, None, Damage::MissingSegment { referrer: first.info.number }));
        }
        Ok(())
    }

    /// What is missing if it ends before the segment that `durable` is in.
    pub(crate) fn lost_end(&self, directory: &Path, durable: Position) -> Option<Corruption> {
        let tip = self.links.last().map_or(0, |link| link.info.number);
        let beyond = self.beyond.iter().map(|segment| (segment.number, Some(segment)));
        let Lost { number, offset, damage } = lost_end(durable, tip, beyond)?;
        Some(Corruption { path: directory.join(name::segment(number)), offset, lsn: None, damage, evidence: None })
    }

    fn sort_out(mut by_number: BTreeMap<u64, Found>, numbers: &[u64], missing: Option<u64>) -> Self {
        let mut chain = Self { missing, ..Self::default() };
        let mut end = None;
        for number in numbers {
            let Some(segment) = by_number.remove(number) else { continue };
            let FirstFrame::Link(frame) = segment.first else { continue };
            let info =
                SegmentInfo { number: *number, size: segment.size, layout: segment.layout, base_lsn: frame.base_lsn };
            let predecessor = frame.link.previous;
            let next_end = predecessor.map(|p| SegmentEnd { offset: p.end, next_lsn: frame.base_lsn, crc: p.crc });
            chain.links.push(ChainLink { info, frame: *frame, end });
            end = next_end;
        }
        chain.links.reverse();
        let tip = numbers.first().copied().unwrap_or(0);
        chain.beyond = by_number.split_off(&tip).into_values().collect();
        chain.superseded = by_number.into_keys().collect();
        chain
    }
}

/// Where the end of a log is missing.
pub(crate) struct Lost {
    pub(crate) number: u64,
    pub(crate) offset: u64,
    pub(crate) damage: Damage,
}

/// What is missing of a log that was durable up to `durable` if segment `tip` is the newest that counts. `beyond` are the
/// segments after it, by number, those that have a sound header as found: what is wrong with a header is told elsewhere.
pub(crate) fn lost_end<'f>(
    durable: Position,
    tip: u64,
    beyond: impl IntoIterator<Item = (u64, Option<&'f Found>)>,
) -> Option<Lost> {
    // The end of the largest segment counts as the start of the next one, which may not be there yet.
    if durable.offset() == 0 || durable.segment() <= tip {
        return None;
    }
    let mut unlinked = beyond.into_iter().filter(|(_, found)| !found.is_some_and(Found::is_linked));
    match unlinked.find(|&(number, _)| number <= durable.segment()) {
        Some((number, found)) => Some(Lost { number, offset: segment_header::LEN as u64, damage: found?.damage() }),
        None => Some(Lost { number: durable.segment(), offset: 0, damage: Damage::MissingEnd { after: tip } }),
    }
}

enum Trace {
    /// Newest first.
    Whole { numbers: Vec<u64>, missing: Option<u64> },
    /// The segment of this number is on the way, and has no link.
    Broken(u64),
}

fn trace(by_number: &BTreeMap<u64, Found>, tip: u64, directory: &Path) -> Result<Trace> {
    let mut numbers = vec![tip];
    let mut current = tip;
    loop {
        let Some(frame) = by_number.get(&current).and_then(Found::link) else { return Ok(Trace::Broken(current)) };
        let Some(previous) = frame.link.previous else { return Ok(Trace::Whole { numbers, missing: None }) };
        let before = by_number.get(&previous.number);
        if let Err(damage) = frame.check(current, before) {
            let path = directory.join(name::segment(current));
            return Err(Error::corrupt(&path, segment_header::LEN as u64, Some(frame.base_lsn), damage));
        }
        if before.is_none() {
            return Ok(Trace::Whole { numbers, missing: Some(previous.number) });
        }
        current = previous.number;
        numbers.push(current);
    }
}
