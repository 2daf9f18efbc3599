//! The records of a log and the verdict on it, by the numbered steps of `docs/design/format.md` alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::frames::{Fault, Header, Place, State, header};
use super::page;
use super::spec::{CLOSE, DATA, Frame, Link, SEAL, SEGMENT_HEADER_LEN, SegmentHeader, VERSION, u64_at};
use crate::support::files;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Sound,
    Torn,
    Damaged,
    Refused,
}

/// What a log comes to.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) verdict: Verdict,
    pub(crate) is_closed: bool,
    /// Payloads of the records that count, with their numbers.
    pub(crate) records: Vec<(u64, Vec<u8>)>,
}

/// A file of a segment.
struct File {
    bytes: Vec<u8>,
    header: Option<SegmentHeader>,
    /// Its first record's number, and its link, if that is valid.
    link: Option<(u64, Link)>,
}

/// What the control page says.
#[derive(Debug, Clone, Copy, Default)]
struct Control {
    oldest: Option<u64>,
    active: u64,
    durable: u64,
}

/// A segment that counts, and where it ends by the next link: offset, next record's number, checksum.
struct Tie {
    number: u64,
    end: Option<(u64, u64, u32)>,
}

struct Gap {
    bad: u64,
    fault: Fault,
    /// How many records come before it.
    records: usize,
}

/// What a walk of a segment has found.
#[derive(Default)]
struct Walked {
    records: Vec<(u64, Vec<u8>)>,
    gaps: Vec<Gap>,
    end: u64,
    last: Option<Frame>,
    claim: u64,
}

/// A log that is being read.
struct Log {
    all: BTreeMap<u64, File>,
    tip: u64,
    page: Control,
    ties: Vec<Tie>,
    /// Of the segments that count.
    walks: Vec<Walked>,
    /// Records of the others, above the tip.
    others: BTreeMap<u64, Vec<(u64, Vec<u8>)>>,
    claim: u64,
    reading: Reading,
    is_damaged: bool,
    is_torn: bool,
}

/// Reads the log in `directory`, whose newest segments may not have been copied if it `is_archive`.
pub(crate) fn read(directory: &Path, is_archive: bool) -> Reading {
    let without_records = |verdict| Reading { verdict, is_closed: false, records: Vec::new() };
    if files::segment_numbers(directory).is_empty() {
        return without_records(without_segments(directory));
    }
    let Some(mut log) = Log::load(directory) else { return without_records(Verdict::Refused) };
    log.walk();
    let (is_cut, tip_is_bad) = log.judge();
    let last = log.walks.last().filter(|_| !is_cut).and_then(|tip| tip.last.clone());
    log.reading.is_closed = last.as_ref().is_some_and(|last| last.kind == CLOSE);
    if !is_cut && !tip_is_bad {
        log.end(last.filter(|last| last.kind == SEAL).map(|seal| u64_at(&seal.payload, 0)), is_archive);
    }
    let (durable, offset) = (log.page.durable >> 32, log.page.durable & u64::from(u32::MAX));
    log.is_damaged |= durable > log.tip && offset > 0;
    log.reading.verdict = match (log.is_damaged, log.is_torn || is_cut) {
        (true, _) => Verdict::Damaged,
        (false, true) => Verdict::Torn,
        (false, false) => Verdict::Sound,
    };
    log.reading
}

impl Log {
    /// Steps 1 to 3; `None` if the log is refused.
    fn load(directory: &Path) -> Option<Self> {
        let mut is_damaged = false;
        let mut all: BTreeMap<u64, File> = BTreeMap::new();
        for number in files::segment_numbers(directory) {
            let bytes = fs::read(files::segment(directory, number)).unwrap();
            let header = match header(&bytes, number) {
                Header::Unknown => return None,
                Header::Damaged => None,
                Header::Sound(header) => Some(header),
            };
            is_damaged |= header.is_none();
            let link = header.and_then(|header| link(&bytes, header));
            all.insert(number, File { bytes, header, link });
        }
        // The tests change no identity.
        let log_id = all.values().find_map(|file| file.header).map_or(0, |header| header.log_id);
        let begun = all.values().rfind(|file| file.link.is_some());
        let newest = begun.or_else(|| all.values().rfind(|file| file.header.is_some())).and_then(|file| file.header);
        is_damaged |= newest.is_some_and(|newest| is_control_damaged(directory, log_id, newest.version < VERSION));
        let control = control(directory, log_id);
        let tip = all.iter().rev().find(|(_, file)| file.link.is_some()).map_or(0, |(&number, _)| number);
        let ties = chain(&all, tip, control, &mut is_damaged);
        let reading = Reading { verdict: Verdict::Sound, is_closed: false, records: Vec::new() };
        let (walks, others, page) = (Vec::new(), BTreeMap::new(), control.unwrap_or_default());
        Some(Self { all, tip, page, ties, walks, others, claim: 0, reading, is_damaged, is_torn: false })
    }

    /// Steps 4 and 5, and what files above the tip hold.
    fn walk(&mut self) {
        for tie in &self.ties {
            let file = &self.all[&tie.number];
            let first = file.link.as_ref().map(|(lsn, _)| *lsn);
            let walked = file.header.map_or_else(Walked::default, |header| walk(&file.bytes, header, first, tie));
            self.claim = self.claim.max(walked.claim);
            self.walks.push(walked);
        }
        for (&number, file) in self.all.range(self.tip + 1..) {
            let Some(header) = file.header else { continue };
            let walked = walk(&file.bytes, header, None, &Tie { number, end: None });
            self.claim = self.claim.max(walked.claim);
            self.others.insert(number, walked.records);
            let place = Place { bytes: &file.bytes, header };
            let is_used = if header.is_recycled() {
                place.find(SEGMENT_HEADER_LEN, file.bytes.len()).is_some()
            } else {
                place.nonzero_end(SEGMENT_HEADER_LEN) > SEGMENT_HEADER_LEN
            };
            self.is_torn |= is_used;
        }
    }

    /// Step 6. Returns whether something was torn, and whether the tip is damaged.
    fn judge(&mut self) -> (bool, bool) {
        let Self { page, claim, .. } = *self;
        let mut tip_is_bad = false;
        for (tie, walked) in self.ties.iter().zip(&mut self.walks) {
            let position = |offset: u64| tie.number << 32 | offset;
            let is_damage = |gap: &Gap| claim.max(page.durable) > position(gap.bad) || gap.fault == Fault::Tally;
            tip_is_bad = walked.gaps.first().is_some_and(is_damage);
            self.is_damaged |= tip_is_bad;
            if let Some(gap) = walked.gaps.iter().find(|gap| !is_damage(gap)) {
                self.reading.records.extend(walked.records.drain(..gap.records));
                return (true, tip_is_bad);
            }
            self.reading.records.append(&mut walked.records);
        }
        (false, tip_is_bad)
    }

    /// Step 7, where the tip ends with a seal that names `next`.
    fn end(&mut self, next: Option<u64>, is_archive: bool) {
        let first = self.all.keys().next().map_or(0, |number| number << 32 | 4096);
        let end = self.walks.last().map_or(first, |walked| self.tip << 32 | walked.end);
        if self.claim.max(self.page.durable) > end {
            self.is_damaged = true;
            let next = if self.walks.is_empty() { self.others.keys().next().copied() } else { next };
            self.reading.records.extend(next.and_then(|next| self.others.remove(&next)).unwrap_or_default());
        }
        if let Some(next) = next.filter(|next| !self.all.contains_key(next)) {
            let is_new = self.all[&self.tip].header.is_some_and(|header| header.version == VERSION);
            self.is_damaged |= is_new && !is_archive || next <= self.page.active;
        }
    }
}

/// Step 1, for a directory without a segment. The tests have no pins.
fn without_segments(directory: &Path) -> Verdict {
    let page = fs::read(directory.join("control")).ok().filter(|page| page.len() == 4096);
    let log_id = page.map_or(0, |page| u128::from(u64_at(&page, 16)) << 64 | u128::from(u64_at(&page, 8)));
    let told = control(directory, log_id).is_some_and(|page| page.durable > 0);
    if told { Verdict::Damaged } else { Verdict::Refused }
}

/// Step 2.
fn control(directory: &Path, log_id: u128) -> Option<Control> {
    let page = fs::read(directory.join("control")).ok().filter(|page| page.len() == 4096)?;
    let id = u128::from(u64_at(&page, 16)) << 64 | u128::from(u64_at(&page, 8));
    if !is_page(&page) || page::is_other(&page) || id != log_id {
        return None;
    }
    let durable = page::durable(&page).map_or(0, |[_, position, _]| position);
    Some(Control { oldest: page::number(&page, 9), active: page::number(&page, 7).unwrap_or(0), durable })
}

fn is_page(page: &[u8]) -> bool {
    page.starts_with(page::SHOWN) || page.starts_with(page::UNFINISHED)
}

/// Step 2: whether no writer and no crash leaves such a page. `is_old` if the newest segment that was begun is of version 2.
fn is_control_damaged(directory: &Path, log_id: u128, is_old: bool) -> bool {
    let Ok(page) = fs::read(directory.join("control")) else { return false };
    if page.len() != page::LEN {
        return true;
    }
    if is_old && page::word(&page, 5) == 0 {
        return false;
    }
    if !is_page(&page) {
        return true;
    }
    let is_wrong = |at: usize| page::number(&page, at).is_none();
    !page::is_other(&page) && (page[8..24] != log_id.to_le_bytes() || page::with_checksum().any(is_wrong))
}

fn link(bytes: &[u8], header: SegmentHeader) -> Option<(u64, Link)> {
    let frame = Place { bytes, header }.step(SEGMENT_HEADER_LEN, &mut State::new(None)).ok()?;
    Some((frame.lsn, Link::parse(&frame.payload, header.version)))
}

/// Step 3: the segments that count, oldest first.
fn chain(all: &BTreeMap<u64, File>, tip: u64, control: Option<Control>, is_damaged: &mut bool) -> Vec<Tie> {
    /// What the link above says.
    enum Named {
        Unknown,
        Nothing,
        Segment(u64, (u64, u64, u32)),
    }
    let tip_oldest = all.get(&tip).and_then(|file| file.link.as_ref()).map_or(0, |(_, link)| link.oldest);
    let page_oldest = control.and_then(|control| control.oldest);
    let bound = tip_oldest.max(page_oldest.unwrap_or(0));
    let (mut ties, mut named) = (Vec::new(), Named::Unknown);
    for (&number, file) in all.range(..=tip).rev() {
        if number < bound && number != tip {
            continue;
        }
        let end = match named {
            Named::Unknown => None,
            Named::Segment(wanted, end) if wanted == number => Some(end),
            Named::Segment(wanted, _) if wanted > number => {
                *is_damaged = true;
                None
            }
            Named::Nothing | Named::Segment(..) => continue,
        };
        ties.push(Tie { number, end });
        named = match &file.link {
            None => Named::Unknown,
            Some((_, Link { previous: (0, ..), .. })) => Named::Nothing,
            Some((lsn, Link { previous: (previous, end, crc), .. })) => {
                let before = all.get(previous);
                let len = before.and_then(|file| file.header).map_or(u64::MAX, |header| header.segment_size);
                let first = before.and_then(|file| file.link.as_ref()).map_or(0, |(lsn, _)| *lsn);
                if *previous < number && *end > 4096 && *end <= len && first <= *lsn {
                    Named::Segment(*previous, (*end, *lsn, *crc))
                } else {
                    *is_damaged = true;
                    Named::Unknown
                }
            }
        };
    }
    let lowest = ties.last().map(|tie| tie.number).or_else(|| all.keys().next().copied()).unwrap_or(0);
    let missing = match named {
        Named::Segment(number, _) => page_oldest.map(|_| number),
        Named::Unknown => page_oldest.filter(|&oldest| oldest < lowest),
        Named::Nothing => None,
    };
    *is_damaged |= missing.is_some_and(|number| number >= bound && !all.contains_key(&number));
    ties.reverse();
    ties
}

/// Steps 4 and 5 for one segment.
fn walk(bytes: &[u8], header: SegmentHeader, lsn: Option<u64>, tie: &Tie) -> Walked {
    let limit = tie.end.map_or(bytes.len(), |(end, ..)| usize::try_from(end).unwrap().min(bytes.len()));
    let place = Place { bytes: &bytes[..limit], header };
    let (mut state, mut offset, mut walked) = (State::new(lsn), SEGMENT_HEADER_LEN, Walked::default());
    // After the last frame that ends no batch, and the records of a batch that goes on.
    let (mut boundary, mut pending) = (SEGMENT_HEADER_LEN, Vec::new());
    let mut ends_in_gap = false;
    let at = |offset: usize| u64::try_from(offset).unwrap();
    while offset < limit {
        let fault = match place.step(offset, &mut state) {
            Ok(frame) => {
                let position = tie.number << 32 | frame.offset;
                let known = (frame.durable_lag != u32::MAX).then_some(u64::from(frame.durable_lag) * 8);
                walked.claim = walked.claim.max(known.and_then(|lag| position.checked_sub(lag)).unwrap_or(0));
                if frame.kind == DATA {
                    pending.push((frame.lsn, frame.payload.clone()));
                }
                offset = usize::try_from(frame.end()).unwrap();
                if !state.is_in_batch() {
                    boundary = offset;
                    walked.records.append(&mut pending);
                }
                ends_in_gap = false;
                walked.last = Some(frame);
                continue;
            }
            Err(fault) => fault,
        };
        let nonzero_end = place.nonzero_end(offset);
        let found = place.find(offset + 8, nonzero_end);
        if found.is_none() && (header.is_recycled() || nonzero_end == offset) {
            break;
        }
        walked.gaps.push(Gap { bad: at(offset), fault, records: walked.records.len() });
        (ends_in_gap, walked.last) = (true, None);
        pending.clear();
        let Some((next, apart)) = found else { break };
        (offset, boundary, state) = (next, next, apart);
    }
    let is_at_end = tie.end.is_some_and(|(end, ..)| at(offset) == end);
    let missing = match tie.end {
        Some((_, lsn, crc)) if is_at_end => {
            boundary = offset;
            walked.records.append(&mut pending);
            state.end() != (Some(lsn), crc)
        }
        Some(_) => true,
        None => state.is_in_batch(),
    };
    walked.end = at(boundary);
    if missing && !ends_in_gap {
        let (bad, fault) = (at(offset), Fault::Other);
        walked.gaps.push(Gap { bad, fault, records: walked.records.len() });
    }
    walked
}
