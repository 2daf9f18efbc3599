//! One file of frames: mapped when it is needed, checked as it is read, indexed as it is passed.

mod cache;
pub(crate) mod chain;
pub(crate) mod control;
pub(crate) mod directory;
mod index;
mod list;
pub(crate) mod prepare;
mod verify;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

pub(crate) use cache::MapCache;
pub(crate) use list::{SegmentList, Segments};
pub use verify::{SegmentSummary, verify_segment};

use crate::error::{Damage, Error, Result};
use crate::format::frame::Frame;
use crate::format::link::SegmentEnd;
use crate::format::walk::{Check, Place, Walk};
use crate::format::{name, position::Position, segment_header};
use crate::lsn::Lsn;
use crate::memory::{Region, Stop};
use crate::storage::{Access, Storage, StorageFile};
use index::Index;

/// How far ahead of a checking walk pages are read, in one call that turns a bad sector into an error.
const LOAD_WINDOW_BYTES: usize = 1 << 20;

/// What never changes about a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentInfo {
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) salt: u32,
    /// The first record's number, or the next one's if there is none.
    pub(crate) base_lsn: Lsn,
}

/// Who wrote, or writes, the frames of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This process, or it has checked them: they are believed. A frame that is missing is still being written.
    Own,
    /// An earlier run, and recovery found that they are durable: a frame that fails a check is damage.
    Recovered,
    /// Another process, perhaps just now: a frame that is missing may still come.
    Foreign,
}

impl Origin {
    fn check(self) -> Check {
        match self {
            Self::Own => Check::None,
            Self::Recovered | Self::Foreign => Check::Full,
        }
    }
}

/// How far a segment has been walked: what lies before may be read without a further check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frontier {
    /// Byte offset, at the start of a frame and of no batch's middle.
    pub(crate) offset: usize,
    /// Records in front of it in the segment.
    pub(crate) ordinal: u32,
}

impl Frontier {
    fn pack(self) -> u64 {
        u64::from(self.ordinal) << 32 | (self.offset / 8) as u64
    }

    fn unpack(word: u64) -> Self {
        let ordinal = u32::try_from(word >> 32).expect("32 bits remain");
        Self { offset: (word & 0xffff_ffff) as usize * 8, ordinal }
    }
}

/// A segment of the log.
#[derive(Debug)]
pub(crate) struct Segment {
    info: SegmentInfo,
    storage: Arc<dyn Storage>,
    cache: Arc<MapCache>,
    origin: Origin,
    /// Set once the segment takes no more frames.
    end: OnceLock<SegmentEnd>,
    /// A [`Frontier`]. Release, after the index entries below it were stored; both parts only grow.
    frontier: AtomicU64,
    /// Byte offset up to which pages have been asked for.
    loaded: AtomicUsize,
    index: Index,
    bytes: Mutex<Bytes>,
}

/// Where the bytes of a segment are.
#[derive(Debug)]
enum Bytes {
    /// Being written, or not yet durable.
    Live { region: Arc<Region>, file: Arc<dyn StorageFile> },
    /// On disk, mapped when somebody looks.
    AtRest(Weak<Region>),
    /// Its file has lost its name; the mapping lives as long as the segment.
    Kept(Arc<Region>),
}

impl Segment {
    /// A segment that takes no more frames.
    pub(crate) fn at_rest(
        info: SegmentInfo,
        end: SegmentEnd,
        origin: Origin,
        storage: Arc<dyn Storage>,
        cache: Arc<MapCache>,
    ) -> Self {
        Self::new(info, Some(end), origin, Bytes::AtRest(Weak::new()), storage, cache)
    }

    /// The segment that another process writes to, as far as is known.
    pub(crate) fn followed(info: SegmentInfo, storage: Arc<dyn Storage>, cache: Arc<MapCache>) -> Self {
        Self::new(info, None, Origin::Foreign, Bytes::AtRest(Weak::new()), storage, cache)
    }

    /// The segment that this process writes to.
    pub(crate) fn live(
        info: SegmentInfo,
        region: Arc<Region>,
        file: Arc<dyn StorageFile>,
        storage: Arc<dyn Storage>,
        cache: Arc<MapCache>,
    ) -> Self {
        Self::new(info, None, Origin::Own, Bytes::Live { region, file }, storage, cache)
    }

    fn new(
        info: SegmentInfo,
        end: Option<SegmentEnd>,
        origin: Origin,
        bytes: Bytes,
        storage: Arc<dyn Storage>,
        cache: Arc<MapCache>,
    ) -> Self {
        let start = Frontier { offset: segment_header::LEN, ordinal: 0 };
        Self {
            info,
            storage,
            cache,
            origin,
            end: end.map_or_else(OnceLock::new, OnceLock::from),
            frontier: AtomicU64::new(start.pack()),
            loaded: AtomicUsize::new(0),
            index: Index::new(info.size),
            bytes: Mutex::new(bytes),
        }
    }

    pub(crate) fn info(&self) -> SegmentInfo {
        self.info
    }

    pub(crate) fn number(&self) -> u64 {
        self.info.number
    }

    pub(crate) fn base_lsn(&self) -> Lsn {
        self.info.base_lsn
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.storage.path().join(name::segment(self.info.number))
    }

    pub(crate) fn position(&self, offset: usize) -> Position {
        Position::new(self.info.number, offset as u64)
    }

    /// Where its frames end, once it takes no more.
    pub(crate) fn end(&self) -> Option<SegmentEnd> {
        self.end.get().copied()
    }

    /// Whether `end` contradicts nothing that is known of the segment.
    pub(crate) fn can_end(&self, end: SegmentEnd) -> bool {
        self.end().map_or_else(|| self.frontier().offset as u64 <= end.offset, |known| known == end)
    }

    /// States that no frame will follow `end`.
    pub(crate) fn set_end(&self, end: SegmentEnd) {
        // The same end may be learnt twice, by two walks of a foreign log.
        self.end.get_or_init(|| end);
    }

    pub(crate) fn frontier(&self) -> Frontier {
        Frontier::unpack(self.frontier.load(Ordering::Acquire))
    }

    /// The number of the record behind those in front of `frontier`.
    pub(crate) fn lsn_at(&self, frontier: Frontier) -> Lsn {
        Lsn(self.info.base_lsn.0.saturating_add(u64::from(frontier.ordinal)))
    }

    /// Whether it takes no more frames, and they end at or before `offset`.
    pub(crate) fn ends_by(&self, offset: usize) -> bool {
        self.end().is_some_and(|end| end.offset <= offset as u64)
    }

    /// Its bytes, mapped if they are not.
    pub(crate) fn region(&self) -> Result<Arc<Region>> {
        let mut bytes = self.bytes.lock();
        match &*bytes {
            Bytes::Live { region, .. } | Bytes::Kept(region) => return Ok(Arc::clone(region)),
            Bytes::AtRest(weak) => {
                if let Some(region) = weak.upgrade() {
                    return Ok(region);
                }
            }
        }
        // Mapping waits for the system with the lock held, so that a segment is never mapped twice at once; only those
        // who want this segment wait.
        let region = Arc::new(self.map()?);
        self.cache.remember(&region);
        *bytes = Bytes::AtRest(Arc::downgrade(&region));
        Ok(region)
    }

    fn map(&self) -> Result<Region> {
        let path = self.path();
        let failed = |operation| move |source| Error::io(operation, &self.path(), source);
        let opened = self.storage.open(&name::segment(self.info.number), Access::Read);
        let file = opened.map_err(|source| match source.kind() {
            // Whoever reads without the lock may find that the writer has trimmed the segment.
            io::ErrorKind::NotFound if self.origin == Origin::Foreign => {
                let first = self.end().map_or(self.info.base_lsn.next(), |end| end.next_lsn);
                Error::Trimmed { lsn: self.info.base_lsn, first }
            }
            _ => Error::io("open", &path, source),
        })?;
        let len = file.len_bytes().map_err(failed("read the length of"))?;
        if len != self.info.size {
            return Err(Error::corrupt(&path, 0, None, Damage::FileLength { expected: self.info.size, found: len }));
        }
        let mapping = file.map(len, Access::Read).map_err(failed("map"))?;
        Ok(match self.origin {
            // Its writer may still be at it: only what the commit words show may be borrowed.
            Origin::Foreign => Region::live(mapping, self.frontier().offset),
            Origin::Own | Origin::Recovered => Region::frozen(mapping),
        })
    }

    /// Region and file while the segment may still have to be made durable.
    pub(crate) fn unsynced(&self) -> Option<(Arc<Region>, Arc<dyn StorageFile>)> {
        match &*self.bytes.lock() {
            Bytes::Live { region, file } => Some((Arc::clone(region), Arc::clone(file))),
            Bytes::AtRest(_) | Bytes::Kept(_) => None,
        }
    }

    /// Lets go of the file once the ended segment is durable; the mapping is kept for as long as it is in use.
    pub(crate) fn settle(&self) {
        let mut bytes = self.bytes.lock();
        if let Bytes::Live { region, .. } = &*bytes {
            self.cache.remember(region);
            *bytes = Bytes::AtRest(Arc::downgrade(region));
        }
    }

    /// Pins the bytes to this value, whose file is about to lose its name.
    pub(crate) fn keep(&self) -> Result<()> {
        let region = self.region()?;
        *self.bytes.lock() = Bytes::Kept(region);
        Ok(())
    }

    /// The mapping, if there is one just now.
    pub(crate) fn mapped(&self) -> Option<Weak<Region>> {
        match &*self.bytes.lock() {
            Bytes::Live { region, .. } | Bytes::Kept(region) => Some(Arc::downgrade(region)),
            Bytes::AtRest(weak) => (weak.strong_count() > 0).then(|| Weak::clone(weak)),
        }
    }

    /// Takes the mapping out of the cache: nobody will look for it again.
    pub(crate) fn forget(&self) {
        if let Bytes::AtRest(weak) = &*self.bytes.lock() {
            self.cache.forget(weak);
        }
    }

    /// Moves the frontier over complete frames until `enough` of it or nothing more is there.
    ///
    /// # Errors
    /// In an ended segment, when the next frame fails a check or the frames do not reach its end. In one that takes
    /// frames, what is no frame is only not there yet; what it is shows when the log is recovered.
    pub(crate) fn advance(&self, region: &Region, enough: impl Fn(Frontier) -> bool) -> Result<Frontier> {
        let start = self.frontier();
        if enough(start) {
            return Ok(start);
        }
        let end = self.end();
        let limit = end.map_or(region.len(), |end| usize::try_from(end.offset).unwrap_or(usize::MAX)).min(region.len());
        let mut walk = Walk::new(self.info.salt, self.origin.check(), start.offset, self.lsn_at(start));
        let mut damage = None;
        while damage.is_none() && walk.place().offset < limit && !enough(self.frontier_of(&walk)) {
            let offset = walk.place().offset;
            let published = region.published().min(limit);
            if offset < published {
                self.load_ahead(region, offset)?;
                let rest = region.bytes(offset..published).expect("below the published end");
                damage = self.pass(&mut walk, rest).err();
            } else {
                damage = self.extend(region, &mut walk, &enough);
            }
        }
        let mut frontier = self.frontier_of(&walk);
        if let Some(end) = end {
            if walk.place().offset as u64 == end.offset {
                // A truncation may have cut through a batch: what it kept counts.
                frontier = self.frontier_at(walk.place());
            }
            // What was good before the damage can be read; the next call starts at the damage and reports it.
            let pending = self.origin != Origin::Recovered && damage == Some(Damage::MissingFrame);
            let damage =
                damage.filter(|_| frontier == start && !pending).or_else(|| Self::end_damage(&walk, start, end));
            if let Some(damage) = damage {
                let place = walk.place();
                return Err(Error::corrupt(&self.path(), place.offset as u64, Some(place.next_lsn), damage));
            }
        }
        self.frontier.fetch_max(frontier.pack(), Ordering::AcqRel);
        Ok(frontier)
    }

    /// As far as frames are published, and possibly beyond; what stopped it, if not `enough`.
    fn extend(&self, region: &Region, walk: &mut Walk, enough: &impl Fn(Frontier) -> bool) -> Option<Damage> {
        let mut refused = None;
        let mut satisfied = false;
        let (_, stop) = region.extend(walk.place().offset, |frame| {
            satisfied = enough(self.frontier_of(walk));
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

    fn pass(&self, walk: &mut Walk, rest: &[u8]) -> Result<(), Damage> {
        let before = walk.place();
        walk.step(rest)?;
        if walk.place().next_lsn != before.next_lsn {
            let ordinal = before.next_lsn.0 - self.info.base_lsn.0;
            self.index.note(ordinal, before.offset);
        }
        Ok(())
    }

    fn frontier_of(&self, walk: &Walk) -> Frontier {
        self.frontier_at(walk.boundary())
    }

    fn frontier_at(&self, place: Place) -> Frontier {
        let ordinal = place.next_lsn.0 - self.info.base_lsn.0;
        Frontier { offset: place.offset, ordinal: u32::try_from(ordinal).unwrap_or(u32::MAX) }
    }

    fn load_ahead(&self, region: &Region, offset: usize) -> Result<()> {
        if self.origin == Origin::Own || offset < self.loaded.load(Ordering::Relaxed) {
            return Ok(());
        }
        let start = offset - offset % LOAD_WINDOW_BYTES;
        let end = (start + LOAD_WINDOW_BYTES).min(region.len());
        let loaded = self.storage.load(region.mapping(), start..end);
        loaded.map_err(|source| Error::io("read", &self.path(), source))?;
        self.loaded.fetch_max(end, Ordering::Relaxed);
        Ok(())
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
        if place.next_lsn != end.next_lsn {
            return Some(Damage::FrameLsn { expected: end.next_lsn, found: place.next_lsn });
        }
        (place.last_crc != end.crc).then_some(Damage::Checksum { expected: end.crc, found: place.last_crc })
    }

    /// Byte offset of the frame with number `lsn`, a record's or a void one; `None` if it is not there yet.
    pub(crate) fn locate(&self, region: &Region, lsn: Lsn) -> Result<Option<usize>> {
        let Some(ordinal) = lsn.0.checked_sub(self.info.base_lsn.0) else { return Ok(None) };
        let frontier = self.advance(region, |frontier| u64::from(frontier.ordinal) > ordinal)?;
        if u64::from(frontier.ordinal) <= ordinal {
            return Ok(None);
        }
        let (mut at, mut offset) = self.index.nearest(ordinal);
        let bytes = region.bytes(0..frontier.offset).expect("the frontier is published");
        loop {
            let frame = self.frame_at(bytes, offset)?;
            if frame.kind().takes_lsn() {
                if at == ordinal {
                    return Ok(Some(offset));
                }
                at += 1;
            }
            offset += frame.padded_len();
        }
    }

    /// Where the segment ends if record `lsn`, which is in it and not its first, and all behind are cut off.
    pub(crate) fn end_before(&self, region: &Region, lsn: Lsn) -> Result<Option<SegmentEnd>> {
        let Some(offset) = self.locate(region, lsn)? else { return Ok(None) };
        // From an indexed frame in front of the last one kept, whose checksum is wanted.
        let last_kept = (lsn.0 - self.info.base_lsn.0).saturating_sub(1);
        let (_, mut at) = self.index.nearest(last_kept);
        let bytes = region.bytes(0..offset).expect("located, so published");
        let mut crc = 0;
        while at < offset {
            let frame = self.frame_at(bytes, at)?;
            crc = frame.crc();
            at += frame.padded_len();
        }
        Ok(Some(SegmentEnd { offset: offset as u64, next_lsn: lsn, crc }))
    }

    /// The same bytes, up to `end` only.
    pub(crate) fn cut(&self, end: SegmentEnd) -> Self {
        let bytes = match &*self.bytes.lock() {
            Bytes::Live { region, file } => Bytes::Live { region: Arc::clone(region), file: Arc::clone(file) },
            Bytes::AtRest(region) => Bytes::AtRest(Weak::clone(region)),
            Bytes::Kept(region) => Bytes::Kept(Arc::clone(region)),
        };
        let (storage, cache) = (Arc::clone(&self.storage), Arc::clone(&self.cache));
        Self::new(self.info, Some(end), self.origin, bytes, storage, cache)
    }

    /// The frame at `offset` of `bytes`, which reach from the start of the segment to some place behind the frame.
    #[inline]
    pub(crate) fn frame_at<'a>(&self, bytes: &'a [u8], offset: usize) -> Result<Frame<'a>> {
        // Walked frames parse; should the file have been changed under the log, that is an error all the same.
        let rest = bytes.get(offset..).unwrap_or_default();
        Frame::parse(rest).map_err(|damage| Error::corrupt(&self.path(), offset as u64, None, damage))
    }
}
