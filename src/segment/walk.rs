//! Walking a segment: checking what others wrote, indexing, and finding frames again.

use std::sync::atomic::{AtomicU64, Ordering};

use super::index::Index;
use super::{Frontier, Origin, Segment, Stretch};
use crate::error::{Damage, Error, Result};
use crate::format::frame::{Frame, FrameHasher, FrameKind};
use crate::format::link::{Seal, SegmentEnd};
use crate::format::tally::Tally;
use crate::format::walk::{Place, Walk, may_be_cut_off};
use crate::lsn::Lsn;
use crate::memory::{Region, Stop};

/// How far ahead of a checking walk pages are read, in one call that turns a bad sector into an error.
const LOAD_WINDOW_BYTES: usize = 1 << 20;

impl Segment {
    /// Moves the frontier over complete frames until `enough` of it or nothing more is there. What an earlier run has written
    /// is left as it is.
    ///
    /// # Errors
    /// In an ended segment, when the next frame fails a check or the frames do not reach its end. In one that takes
    /// frames, what is no frame is only not there yet; what it is shows when the log is recovered.
    pub(crate) fn advance(&self, region: &Region, enough: impl Fn(Frontier) -> bool) -> Result<Frontier> {
        self.advance_in(&self.latest, region, &mut None, enough)
    }

    /// As [`Self::advance`], until nothing more is there.
    pub(crate) fn advance_to_end(&self, region: &Region) -> Result<Frontier> {
        self.advance(region, |_| false)
    }

    /// As [`Self::advance`], in one stretch. The frames are counted by `tally`, if it is that of all before the frontier.
    pub(super) fn advance_in(
        &self,
        stretch: &Stretch,
        region: &Region,
        tally: &mut Option<Tally>,
        enough: impl Fn(Frontier) -> bool,
    ) -> Result<Frontier> {
        let start = stretch.frontier();
        if enough(start) {
            return Ok(start);
        }
        let end = stretch.end.or_else(|| self.end());
        let limit = end.map_or(region.len(), |end| usize::try_from(end.offset).unwrap_or(usize::MAX)).min(region.len());
        let walk = Walk::new(self.info.layout, stretch.origin.check(), start.offset, self.lsn_at(start));
        let mut walk = walk.counting(*tally);
        let mut damage = None;
        // The end of what has to be readable for the next frame to be passed, as far as that is known.
        let mut wanted = 0;
        while damage.is_none() && walk.place().offset < limit && !enough(self.frontier_of(&walk)) {
            let offset = walk.place().offset;
            let published = region.published().min(limit);
            if offset < published {
                let loaded = self.load_ahead(stretch.origin, region, offset.max(wanted))?.min(published);
                let bytes = region.bytes(0..loaded).expect("below the published end");
                damage = self.pass_all(&mut walk, bytes, &enough);
                let left = loaded.saturating_sub(walk.place().offset);
                if loaded < published && damage.as_ref().is_some_and(|damage| may_be_cut_off(damage, left)) {
                    (damage, wanted) = (None, loaded);
                }
            } else {
                if stretch.origin == Origin::Foreign {
                    self.load_ahead(stretch.origin, region, offset)?;
                }
                // Frames after the end of a segment that was cut do not count.
                damage = self
                    .extend(region, &mut walk, |walk| walk.place().offset >= limit || enough(self.frontier_of(walk)));
            }
        }
        let mut frontier = self.frontier_of(&walk);
        if let Some(end) = end {
            if walk.place().offset as u64 == end.offset {
                // A truncation may have cut through a batch: what it kept counts.
                frontier = self.frontier_at(walk.place());
            }
            // What was good before the damage can be read; the next call starts at the damage and reports it.
            let pending = stretch.origin != Origin::Recovered && damage == Some(Damage::MissingFrame);
            let damage =
                damage.filter(|_| frontier == start && !pending).or_else(|| Self::end_damage(&walk, start, end));
            if let Some(damage) = damage {
                region.check_read().map_err(|lost| Error::io("read", &self.path(), lost))?;
                let place = walk.place();
                return Err(Error::corrupt(&self.path(), place.offset as u64, Some(place.next_lsn), damage));
            }
        }
        if self.move_frontier(stretch, frontier) {
            if let Some(tally) = tally.as_mut().filter(|tally| tally.end == start.offset as u64) {
                *tally = walk.tally().unwrap_or(*tally);
            }
            return Ok(frontier);
        }
        match end.filter(|end| start.offset as u64 > end.offset) {
            // It turned out meanwhile.
            None => self.advance_in(stretch, region, tally, enough),
            Some(end) => {
                let damage = Damage::SegmentEnd { expected: end.offset, found: start.offset as u64 };
                Err(Error::corrupt(&self.path(), end.offset, None, damage))
            }
        }
    }

    /// False if the segment turned out to end before.
    fn move_frontier(&self, stretch: &Stretch, frontier: Frontier) -> bool {
        let _no_end = (stretch.origin == Origin::Foreign).then(|| self.ending.lock());
        let is_within = self.end().is_none_or(|end| frontier.offset as u64 <= end.offset);
        if is_within {
            raise(&stretch.frontier, frontier.pack());
        }
        is_within
    }

    /// Byte offset up to which frames after `offset` can be read: about `len` bytes on, or as far as they are there.
    ///
    /// # Errors
    /// As [`Self::advance`], if nothing can be read after `offset`.
    pub(crate) fn readable_from(&self, region: &Region, offset: usize, len: usize) -> Result<usize> {
        let wanted = offset.saturating_add(len);
        let stretch = self.stretch_at(offset);
        let advanced = self.advance_in(stretch, region, &mut None, |frontier| frontier.offset >= wanted);
        // An earlier walk may have come to damage that lies further on.
        let advanced = advanced.map(|frontier| frontier.offset);
        advanced.or_else(|error| Some(stretch.frontier().offset).filter(|&walked| walked > offset).ok_or(error))
    }

    /// Walks a little more of the segment, of any origin; false if there is no more.
    ///
    /// # Errors
    /// As [`Self::advance`].
    pub(crate) fn read_ahead(&self, region: &Region, len: usize) -> Result<bool> {
        for stretch in self.earlier.iter().chain([&self.latest]) {
            let start = stretch.frontier().offset;
            let wanted = start.saturating_add(len);
            if self.advance_in(stretch, region, &mut None, |frontier| frontier.offset >= wanted)?.offset > start {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Walks over all frames before byte `offset`, of any origin, which are there.
    ///
    /// # Errors
    /// As [`Self::advance`]; also when a frame is missing.
    pub(crate) fn check_to(&self, region: &Region, offset: usize) -> Result<()> {
        for stretch in self.earlier.iter().chain([&self.latest]) {
            let end = stretch.end.map_or(usize::MAX, |end| usize::try_from(end.offset).unwrap_or(usize::MAX));
            let wanted = offset.min(end);
            while stretch.frontier().offset < wanted {
                let start = stretch.frontier();
                if self.advance_in(stretch, region, &mut None, |frontier| frontier.offset >= wanted)? == start {
                    let lsn = Some(self.lsn_at(start));
                    return Err(Error::corrupt(&self.path(), start.offset as u64, lsn, Damage::MissingFrame));
                }
            }
        }
        Ok(())
    }

    /// As far as `bytes` reach, which begin with the segment; what stopped it, if not their end nor `enough`.
    fn pass_all(&self, walk: &mut Walk, bytes: &[u8], enough: &impl Fn(Frontier) -> bool) -> Option<Damage> {
        while walk.place().offset < bytes.len() && !enough(self.frontier_of(walk)) {
            let rest = &bytes[walk.place().offset..];
            if let Err(damage) = self.pass(walk, rest) {
                return Some(damage);
            }
            walk.pass_records(bytes, 0, |place| enough(self.frontier_at(*place)), |lsn, offset| self.note(lsn, offset));
        }
        None
    }

    /// As far as frames are published, and possibly beyond; what stopped it, if not `enough`.
    fn extend(&self, region: &Region, walk: &mut Walk, enough: impl Fn(&Walk) -> bool) -> Option<Damage> {
        let mut refused = None;
        let mut satisfied = false;
        let (_, stop) = region.extend(walk.place().offset, |frame| {
            satisfied = enough(walk);
            if satisfied {
                return false;
            }
            refused = self.pass(walk, frame).err();
            refused.is_none()
        });
        match stop {
            Stop::Moved if region.published() >= walk.place().offset => None,
            Stop::Refused if satisfied => None,
            Stop::Refused => refused,
            Stop::Moved | Stop::Empty => Some(Damage::MissingFrame),
            Stop::Length(len) => Some(Damage::FrameLength(len)),
        }
    }

    #[inline]
    fn pass(&self, walk: &mut Walk, rest: &[u8]) -> Result<(), Damage> {
        let before = walk.place();
        if walk.pass_unchecked_record(rest) {
            self.note(before.next_lsn, before.offset);
            return Ok(());
        }
        let frame = walk.step(rest)?;
        if walk.place().next_lsn != before.next_lsn {
            self.note(before.next_lsn, before.offset);
        } else if frame.kind() == FrameKind::Seal {
            self.note_seal(&frame);
        }
        Ok(())
    }

    #[inline]
    fn note(&self, lsn: Lsn, offset: usize) {
        self.index.note(lsn.0 - self.info.base_lsn.0, offset);
    }

    #[cold]
    fn note_seal(&self, frame: &Frame<'_>) {
        if let Ok(seal) = Seal::parse(frame.payload(), self.info.layout.version) {
            self.sealed_into.get_or_init(|| seal.next);
        }
    }

    #[inline]
    fn frontier_of(&self, walk: &Walk) -> Frontier {
        self.frontier_at(walk.boundary())
    }

    #[inline]
    fn frontier_at(&self, place: Place) -> Frontier {
        let ordinal = place.next_lsn.0 - self.info.base_lsn.0;
        Frontier { offset: place.offset, ordinal: u32::try_from(ordinal).unwrap_or(u32::MAX) }
    }

    /// Sees to it that the byte at `offset` can be read; returns the end of what can.
    fn load_ahead(&self, origin: Origin, region: &Region, offset: usize) -> Result<usize> {
        if origin == Origin::Own {
            return Ok(region.len());
        }
        let loaded = self.loaded.load(Ordering::Relaxed);
        if offset < loaded {
            return Ok(loaded);
        }
        let start = offset - offset % LOAD_WINDOW_BYTES;
        // To look at what was given back takes room on some file systems.
        let used = self.end().map_or(region.len(), |end| Frontier::of(&self.info, end).offset).max(offset + 1);
        let end = (start + LOAD_WINDOW_BYTES).min(used.next_multiple_of(super::filling::PAGE_LEN)).min(region.len());
        let loaded = self.storage.load(region.mapping(), start..end);
        loaded.map_err(|source| Error::io("read", &self.path(), source))?;
        self.loaded.fetch_max(end, Ordering::Relaxed);
        Ok(end)
    }

    /// What is wrong where a walk that began at `start` came to the end of an ended segment, if it did.
    fn end_damage(walk: &Walk, start: Frontier, end: SegmentEnd) -> Option<Damage> {
        let place = walk.place();
        if place.offset == start.offset || (place.offset as u64) < end.offset {
            return None;
        }
        if place.offset as u64 != end.offset {
            return Some(Damage::SegmentEnd { expected: end.offset, found: place.offset as u64 });
        }
        place.damage_at(end)
    }

    /// A record at or before the one of this `ordinal` in the segment, among the same frames: its ordinal and its offset.
    /// `None` if the latter is not there yet.
    fn indexed_before(&self, region: &Region, ordinal: u64) -> Result<Option<(u64, usize)>> {
        let stretch = self.stretch_of(ordinal);
        let is_there = |frontier: Frontier| u64::from(frontier.ordinal) > ordinal;
        let has_walked = || self.advance_in(stretch, region, &mut None, is_there).map(is_there);
        // What a first walk has stopped short of is told by one that begins there.
        if !has_walked()? && !has_walked()? {
            return Ok(None);
        }
        Ok(Some(self.index.nearest(ordinal).max((stretch.start.ordinal.into(), stretch.start.offset))))
    }

    /// Byte offset of the frame with number `lsn`, a record's or a void one; `None` if it is not there yet.
    #[inline]
    pub(crate) fn locate(&self, region: &Region, lsn: Lsn) -> Result<Option<usize>> {
        let Some(ordinal) = lsn.0.checked_sub(self.info.base_lsn.0) else { return Ok(None) };
        match self.index.known(ordinal) {
            Some(offset) => Ok(Some(offset)),
            None => self.look_for(region, ordinal),
        }
    }

    /// As [`Self::locate`], if it or one of its neighbours has been looked for before.
    #[inline]
    pub(crate) fn known(&self, lsn: Lsn) -> Option<usize> {
        self.index.known(lsn.0.checked_sub(self.info.base_lsn.0)?)
    }

    /// As [`Self::locate`], without remembering where it is.
    pub(crate) fn locate_once(&self, region: &Region, lsn: Lsn) -> Result<Option<usize>> {
        let Some(ordinal) = lsn.0.checked_sub(self.info.base_lsn.0) else { return Ok(None) };
        let mut found = None;
        self.pass_from_indexed(region, ordinal, |at, offset, _| {
            found = (at == ordinal).then_some(offset);
            found.is_none()
        })?;
        Ok(found)
    }

    /// As [`Self::locate`], from the last record that is indexed. A caller that looks for one record will look for its
    /// neighbours.
    #[cold]
    fn look_for(&self, region: &Region, ordinal: u64) -> Result<Option<usize>> {
        let mut found = None;
        self.pass_from_indexed(region, ordinal, |at, offset, base| {
            if at == ordinal {
                found = Some(offset);
            }
            if let Some(distance) = offset.checked_sub(base).filter(|_| base > 0) {
                self.index.learn(at, distance);
            }
            found.is_none() || !Index::ends_interval(at)
        })?;
        Ok(found)
    }

    /// Shows each record from the last one that is indexed at or before `ordinal` on, if that has been walked, to `visit`:
    /// its ordinal, its offset, and that of the indexed one. Until `visit` says stop, or no more has been walked.
    fn pass_from_indexed(
        &self,
        region: &Region,
        ordinal: u64,
        mut visit: impl FnMut(u64, usize, usize) -> bool,
    ) -> Result<()> {
        let Some((mut at, start)) = self.indexed_before(region, ordinal)? else { return Ok(()) };
        let walked = self.stretch_of(ordinal).frontier().ordinal;
        let bytes = region.bytes(0..region.published()).expect("up to the end of what is published");
        let (mut offset, base) = (start, self.index.nearest(ordinal).1);
        while at < u64::from(walked) {
            let frame = self.frame_at(region, bytes, offset)?;
            if frame.kind().takes_lsn() {
                if !visit(at, offset, base) {
                    break;
                }
                at += 1;
            }
            offset += frame.padded_len();
        }
        Ok(())
    }

    /// Where the segment ends if record `lsn`, which is in it and not its first, and all after it are cut off.
    pub(crate) fn end_before(&self, region: &Region, lsn: Lsn) -> Result<Option<SegmentEnd>> {
        let Some(offset) = self.locate(region, lsn)? else { return Ok(None) };
        // From an indexed frame before the last one kept, whose checksum is needed.
        let last_kept = (lsn.0 - self.info.base_lsn.0).saturating_sub(1);
        let Some((_, mut at)) = self.indexed_before(region, last_kept)? else { return Ok(None) };
        let bytes = region.bytes(0..offset).expect("located, so published");
        let mut crc = 0;
        while at < offset {
            let frame = self.frame_at(region, bytes, at)?;
            crc = frame.crc();
            at += frame.padded_len();
        }
        Ok(Some(SegmentEnd { offset: offset as u64, next_lsn: lsn, crc }))
    }

    /// The frame at `offset` of `bytes`, which reach from the start of the segment to some place after the frame.
    #[inline]
    pub(crate) fn frame_at<'a>(&self, region: &Region, bytes: &'a [u8], offset: usize) -> Result<Frame<'a>> {
        // Walked frames parse; should the file have been changed under the log, that is an error all the same.
        let rest = bytes.get(offset..).unwrap_or_default();
        match Frame::parse(rest) {
            Ok(frame) if !region.has_failed() => Ok(frame),
            parsed => self.check_again(region, rest, offset, parsed),
        }
    }

    /// The frame at `offset`, as it was `parsed`, if its page has not been lost.
    #[cold]
    fn check_again<'a>(
        &self,
        region: &Region,
        rest: &'a [u8],
        offset: usize,
        parsed: Result<Frame<'a>, Damage>,
    ) -> Result<Frame<'a>> {
        let checked = parsed
            .and_then(|frame| Frame::parse_checked(rest, self.info.layout.salt, &FrameHasher::new(), frame.lsn()));
        checked.map_err(|damage| match region.check_read() {
            Ok(()) => Error::corrupt(&self.path(), offset as u64, None, damage),
            Err(lost) => Error::io("read", &self.path(), lost),
        })
    }
}

/// Moves `word` up to `value`, with release. As `fetch_max`, but in a way that sanitizers of threads know as well.
fn raise(word: &AtomicU64, value: u64) {
    // If another thread has raised it further, that thread has walked as far itself.
    let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (now < value).then_some(value));
}
