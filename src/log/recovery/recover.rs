//! Recovery: which frames count, where the log goes on, and whether anything acknowledged is missing.
//!
//! No content is changed here: what is walked is synced, touched, and perhaps written again as it is. `docs/design/durability.md` has the protocol and its proof.

use super::plan::{Plan, Resume};
use super::unused::Seen;
use super::walked::Walked;
use super::{clean_close, mapped};
use crate::error::{Corruption, Damage, Error, Result};
use crate::format::frame::FrameKind;
use crate::format::link::{MetaSlots, SegmentEnd};
use crate::format::position::Position;
use crate::format::segment_header::Layout;
use crate::format::walk::{Check, Place, Walk, may_be_cut_off};
use crate::format::{Version, name, segment_header};
use crate::lsn::Lsn;
use crate::memory::FrozenRegion;
use crate::options::Options;
use crate::segment::Origin;
use crate::segment::chain::{Chain, ChainLink};
use crate::segment::control::Known;
use crate::segment::directory::Found;
use crate::segment::evidence::{self, StrongestClaim};
use crate::storage::Storage;

/// Decides what counts. `known` is what the log's control page says, if it is there, and `page_fault` what is wrong with it.
pub(crate) fn recover(
    storage: &dyn Storage,
    chain: Chain,
    (known, page_fault): (Option<Known>, Option<Corruption>),
    options: &Options,
) -> Result<Plan> {
    let by_page = known.map_or(0, |known| {
        let durable = known.durable.map_or(0, |stated| stated.position.segment());
        known.oldest.unwrap_or(0).max(known.active).max(durable)
    });
    let last_number = chain.last_number().max(by_page);
    let mut plan = plan(chain, Recovery::new(storage, (known, page_fault), options.archive), options)?;
    plan.last_number = plan.last_number.max(last_number);
    Ok(plan)
}

fn plan(mut chain: Chain, mut recovery: Recovery<'_>, options: &Options) -> Result<Plan> {
    let (storage, known) = (recovery.storage, recovery.known);
    chain = chain.of_copies(options.archive);
    chain.forget_trimmed(known.and_then(|known| known.oldest));
    chain.check_start(storage.path(), known.and_then(|known| known.oldest))?;
    if let Some(close) = known.and_then(|known| known.closed)
        && let Some(plan) = clean_close::plan(storage, &chain, close)?
    {
        return Ok(plan);
    }
    let Some(cut) = recovery.find_cut(&chain)? else { return recovery.without_chain(&chain, options.first_lsn) };
    recovery.judge(&chain, &cut)?;
    Ok(recovery.plan(chain, cut))
}

pub(super) struct Recovery<'s> {
    pub(super) storage: &'s dyn Storage,
    pub(super) known: Option<Known>,
    /// What is wrong with the page that says that: it could have said more.
    pub(super) page_fault: Option<Corruption>,
    /// The newest segments may not have been copied.
    pub(super) is_archive: bool,
    pub(super) claim: StrongestClaim,
    /// Segments found to hold nothing but their headers.
    empty: Vec<u64>,
    bytes_scanned: u64,
    pub(super) torn_bytes: u64,
    seen: Seen,
    /// Some was written once more, on a file system whose syncs may leave out how that is found again.
    is_written_again: bool,
}

/// The end of what counts: in the segment at `index` of the chain.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) index: usize,
    pub(super) walked: Walked,
    /// The newest segment ends with a close, and is the one that is cut.
    closed: bool,
}

impl<'s> Recovery<'s> {
    fn new(
        storage: &'s dyn Storage,
        (known, page_fault): (Option<Known>, Option<Corruption>),
        is_archive: bool,
    ) -> Self {
        Self {
            storage,
            known,
            page_fault,
            is_archive,
            claim: StrongestClaim::default(),
            empty: Vec::new(),
            bytes_scanned: 0,
            torn_bytes: 0,
            seen: Seen::default(),
            is_written_again: false,
        }
    }

    /// Walks the segments that are not proven durable, newest first, and finds the oldest that does not reach as far as
    /// its successor says; else the end of the newest.
    fn find_cut(&mut self, chain: &Chain) -> Result<Option<Cut>> {
        let mut cut: Option<Cut> = None;
        for (index, link) in chain.links.iter().enumerate().rev() {
            let proven = |end: SegmentEnd| Position::new(link.info.number, end.offset) <= self.claim.durable;
            if link.end.is_some_and(proven) {
                break;
            }
            let walked = self.walk_segment(link)?;
            let whole = link.end.is_some_and(|end| {
                let Place { offset, next_lsn, last_crc } = walked.place;
                (offset as u64, next_lsn, last_crc) == (end.offset, end.next_lsn, end.crc)
            });
            self.seen.walked(&link.info, &walked, whole);
            if !whole {
                // Pages that could not be written once may never be: what follows such bytes goes into another segment.
                let intact = walked.damage != Damage::DeviceMismatch;
                let closed = link.end.is_none() && walked.last_kind == FrameKind::Close && intact;
                cut = Some(Cut { index, walked, closed });
            }
        }
        if self.is_written_again {
            // Before a link says that it is there.
            let failed = |source| Error::io("sync", self.storage.path(), source);
            self.storage.sync_file_system().map_err(failed)?;
        }
        Ok(cut)
    }

    /// Walks a segment whose frames may or may not have been durable.
    fn walk_segment(&mut self, link: &ChainLink) -> Result<Walked> {
        let (file, region) = mapped::open(self.storage, link.info.number, link.info.size)?;
        let limit = link.end.map_or(region.bytes().len(), |end| usize::try_from(end.offset).unwrap_or(usize::MAX));
        // After a crash of a process only, bytes may be in the page cache that never reached the device, if only a
        // close. They are made durable before they are shown.
        let path = self.storage.path().join(name::segment(link.info.number));
        file.sync().map_err(|source| Error::io("sync", &path, source))?;
        // What a writer stored that died has changed no time.
        let _ = file.touch();
        if !file.reads_device() {
            // What is read anew comes from the device.
            file.drop_cache(0..link.info.size).map_err(|source| Error::io("read", &path, source))?;
        }
        let walked = self.walk(link, &region, limit.min(region.bytes().len()))?;
        // The device is believed, not the cache: an earlier sync may have failed and left pages that only look clean. A
        // close comes after bytes that have been synced without an error, so only the close itself is in doubt.
        let end = walked.place.offset;
        let closed = link.end.is_none() && walked.last_kind == FrameKind::Close;
        let start = if closed { walked.last_start } else { segment_header::LEN };
        self.bytes_scanned += (end - start) as u64;
        if !file.reads_device() {
            evidence::write_again(self.storage, link.info.number, &region, start..end)
                .map_err(|source| Error::io("write", &path, source))?;
            self.is_written_again = true;
        }
        match evidence::first_difference(&*file, &path, &region, start, end)? {
            None => Ok(walked),
            Some(difference) => {
                let mut walked = self.walk(link, &region, difference)?;
                walked.damage = Damage::DeviceMismatch;
                Ok(walked)
            }
        }
    }

    fn walk(&mut self, link: &ChainLink, region: &FrozenRegion, limit: usize) -> Result<Walked> {
        let bytes = &region.bytes()[..limit];
        let mut walk = Walk::new(link.info.layout, Check::Full, segment_header::LEN, link.info.base_lsn);
        let start = walk.place();
        let mut found = Walked {
            place: start,
            good_end: start.offset,
            damage: Damage::MissingFrame,
            last_kind: FrameKind::Link,
            last_start: start.offset,
            meta: link.frame.link.meta.clone(),
            sealed_into: None,
            only_link: true,
            ends_clear: false,
            tally: None,
        };
        let mut loaded = 0;
        while walk.place().offset < limit {
            let offset = walk.place().offset;
            if offset >= loaded {
                loaded = mapped::load(self.storage, link.info.number, region, offset, limit)?;
            }
            let rest = &bytes[offset..loaded.min(limit)];
            let frame = match walk.step(rest) {
                Ok(frame) => frame,
                Err(damage) if loaded < limit && may_be_cut_off(&damage, rest.len()) => {
                    loaded = mapped::load(self.storage, link.info.number, region, loaded, limit)?;
                    continue;
                }
                // All frames before are good, and are not those that were counted: no crash does that.
                Err(damage @ Damage::SegmentSum) => {
                    let path = self.storage.path().join(name::segment(link.info.number));
                    return Err(Error::corrupt(&path, offset as u64, Some(walk.place().next_lsn), damage));
                }
                Err(damage) => {
                    found.damage = damage;
                    break;
                }
            };
            if let Err(damage) = found.note(&frame, link.info.layout.version) {
                found.damage = damage;
                break;
            }
            self.claim.hear(link.info.number, offset, &frame);
            found.good_end = walk.place().offset;
            // What a truncation kept of a batch counts.
            let whole = link.end.is_some_and(|end| walk.place().offset as u64 == end.offset);
            found.place = if whole { walk.place() } else { walk.boundary() };
            (found.last_kind, found.last_start) = (frame.kind(), offset);
        }
        region.check_read().map_err(|lost| self.lost(link.info.number, lost))?;
        if found.place != walk.place() && found.damage == Damage::MissingFrame {
            found.damage = Damage::IncompleteBatch;
        }
        let end = walk.place().offset;
        found.tally = walk.tally();
        found.ends_clear = region
            .bytes()
            .get(end..end.next_multiple_of(mapped::PAGE_LEN))
            .is_some_and(|rest| rest.iter().all(|&b| b == 0));
        self.bytes_scanned += (end - start.offset) as u64;
        Ok(found)
    }

    /// The guard shows zeros where a page was lost, which say nothing.
    fn lost(&self, number: u64, lost: std::io::Error) -> Error {
        Error::io("read", &self.storage.path().join(name::segment(number)), lost)
    }

    /// Hears claims beyond `suspect` in segments of (number, size, layout), each from an offset on.
    pub(super) fn hear_all(&mut self, segments: &[(u64, u64, Layout, usize)], suspect: Position) -> Result<()> {
        for &(number, size, layout, start) in segments {
            let (file, region) = mapped::open(self.storage, number, size)?;
            let path = self.storage.path().join(name::segment(number));
            let end = evidence::nonzero_end(&*file, &path, start, size)?;
            self.bytes_scanned += size - start as u64;
            if start == end && start == segment_header::LEN {
                self.empty.push(number);
            }
            let intact_end = evidence::search(&mut self.claim, &region, (number, layout), start..end, suspect);
            region.check_read().map_err(|lost| self.lost(number, lost))?;
            let torn_end = if layout.is_recycled { intact_end } else { end };
            self.torn_bytes += (torn_end - start) as u64;
            if number == suspect.segment() {
                self.seen.cut_up_to(torn_end);
            }
        }
        Ok(())
    }

    fn plan(mut self, chain: Chain, cut: Cut) -> Plan {
        let Cut { index, walked, closed } = cut;
        let Chain { mut links, superseded, beyond, .. } = chain;
        let mut remove = superseded;
        remove.extend(beyond.iter().map(|segment| segment.number));
        let spare = self.take_spare(beyond);
        remove.extend(links.drain(index + 1..).map(|link| link.info.number));
        let last = links.pop().expect("the cut is in the chain");
        let mut unused = self.seen.before(last.info.number);
        let clean = closed && self.torn_bytes == 0;
        let room = crate::log::shared::append_limit(last.info.size);
        // The pages after that are written anew; in this one are frames.
        let in_place = clean && walked.ends_clear && walked.place.offset <= room;
        let resume = if in_place && Resume::may_go_on_in(&last.info) {
            Resume::InPlace { info: last.info, end: walked.end(), origin: Origin::Own, tally: walked.tally }
        } else if walked.only_link {
            // Nothing happened in it: its place in the chain is taken by the new one, so that crashes in a row do not
            // fill the disk.
            remove.push(last.info.number);
            Resume::Fresh(last.frame.link.previous)
        } else {
            let end = walked.end();
            let resume = Resume::after(&last.info, end);
            // Where the page cache showed more than the device has, a reader may have seen that.
            if walked.damage != Damage::DeviceMismatch {
                unused.push(self.seen.at_cut(&last.info));
            }
            links.push(ChainLink { end: Some(end), ..last });
            resume
        };
        let sealed = links.into_iter().filter_map(|link| Some((link.info, link.end?))).collect();
        Plan {
            sealed,
            resume,
            unused,
            next_lsn: walked.place.next_lsn,
            meta: walked.meta,
            spare,
            remove,
            clean,
            bytes_scanned: self.bytes_scanned,
            torn_bytes: self.torn_bytes,
            last_number: walked.sealed_into.unwrap_or(0),
        }
    }

    /// The newest of the segments beyond the end, if it is as good as new. No other will do: segments after the fresh
    /// one would count as its successors, and once some of them are removed, as a log that lacks a segment.
    fn take_spare(&self, beyond: Vec<Found>) -> Option<Found> {
        let newest = beyond.into_iter().next_back()?;
        // One that was another segment before is not as good as new, however much of it is zero.
        let is_new = newest.layout.version == Version::V3 && !newest.layout.is_recycled;
        (is_new && self.empty.contains(&newest.number)).then_some(newest)
    }

    /// No segment has a link: a log that crashed before anything in it was durable, or one that is damaged.
    fn without_chain(mut self, chain: &Chain, first_lsn: Lsn) -> Result<Plan> {
        let suspects: Vec<_> = chain.beyond.iter().map(|s| (s.number, s.size, s.layout, segment_header::LEN)).collect();
        if let Some(&(number, .., start)) = suspects.first() {
            let suspect = Position::new(number, start as u64);
            self.hear_all(&suspects, suspect)?;
            if let Some(evidence) = evidence::proof(&self.claim, None, suspect) {
                let (path, damage) = (self.storage.path().join(name::segment(number)), chain.beyond[0].damage());
                return Err(
                    Corruption { path, offset: start as u64, lsn: None, damage, evidence: Some(evidence) }.into()
                );
            }
        }
        // All that held something may be lost, and a spare be left.
        if let Some(lost) = self.lost_end(chain) {
            return Err(lost.into());
        }
        self.check_page(self.torn_bytes > 0, first_lsn)?;
        Ok(Plan {
            sealed: Vec::new(),
            resume: Resume::Fresh(None),
            unused: Vec::new(),
            spare: None,
            next_lsn: first_lsn,
            meta: MetaSlots::default(),
            remove: chain.beyond.iter().map(|segment| segment.number).collect(),
            clean: self.torn_bytes == 0,
            bytes_scanned: self.bytes_scanned,
            torn_bytes: self.torn_bytes,
            last_number: 0,
        })
    }
}
