//! One file of frames: mapped when it is needed, checked as it is read, indexed as it is passed.

mod bytes;
mod cache;
pub(crate) mod chain;
pub(crate) mod control;
mod count;
pub(crate) mod directory;
pub(crate) mod evidence;
pub(crate) mod filling;
pub(crate) mod giving_back;
mod index;
pub(crate) mod leftovers;
mod list;
mod lost;
pub(crate) mod pins;
pub(crate) mod prepare;
pub(crate) mod retire;
mod walk;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

pub(crate) use cache::MapCache;
pub use control::Activity;
pub(crate) use list::{Published, SegmentList, Segments, check_there_or_next};

use crate::format::link::SegmentEnd;
use crate::format::segment_header::{self, Layout};
use crate::format::tally::Tally;
use crate::format::walk::Check;
use crate::format::{name, position::Position};
use crate::lsn::Lsn;
use crate::memory::Region;
use crate::storage::{Access, Storage, StorageFile};
use bytes::Bytes;
use index::Index;

/// What never changes about a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentInfo {
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) layout: Layout,
    /// The first record's number, or the next one's if there is none.
    pub(crate) base_lsn: Lsn,
}

/// Which process or run wrote, or writes, the frames of a segment.
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
    /// Records before it in the segment.
    pub(crate) ordinal: u32,
}

impl Frontier {
    /// The end of frames in a segment.
    fn of(info: &SegmentInfo, end: SegmentEnd) -> Self {
        let ordinal = end.next_lsn.0.saturating_sub(info.base_lsn.0);
        let offset = usize::try_from(end.offset).unwrap_or(usize::MAX);
        Self { offset, ordinal: u32::try_from(ordinal).unwrap_or(u32::MAX) }
    }

    fn pack(self) -> u64 {
        u64::from(self.ordinal) << 32 | (self.offset / 8) as u64
    }

    fn unpack(word: u64) -> Self {
        let ordinal = u32::try_from(word >> 32).expect("32 bits remain");
        Self { offset: (word & 0xffff_ffff) as usize * 8, ordinal }
    }
}

/// Frames of a segment in a row that are of the same origin.
#[derive(Debug)]
struct Stretch {
    origin: Origin,
    start: Frontier,
    /// Where it ends, if another one follows.
    end: Option<SegmentEnd>,
    /// A [`Frontier`]. Release, after the index entries below it were stored; both parts only grow.
    frontier: AtomicU64,
}

impl Stretch {
    fn new(origin: Origin, start: Frontier, end: Option<SegmentEnd>) -> Self {
        Self { origin, start, end, frontier: AtomicU64::new(start.pack()) }
    }

    fn frontier(&self) -> Frontier {
        Frontier::unpack(self.frontier.load(Ordering::Acquire))
    }
}

/// A segment of the log.
#[derive(Debug)]
pub(crate) struct Segment {
    info: SegmentInfo,
    /// This run has made its file, and not just gone on in one.
    is_of_this_run: bool,
    storage: Arc<dyn Storage>,
    cache: Arc<MapCache>,
    /// What an earlier run has written of a segment in which this one goes on.
    earlier: Option<Stretch>,
    latest: Stretch,
    /// Set once the segment takes no more frames.
    end: OnceLock<SegmentEnd>,
    /// All records before its first one are published, so that what has been walked here is as well: a segment is walked by itself,
    /// also while a record of an earlier one is being written. Never taken back, since no segment before it is replaced but with this
    /// one. Release, after the segments before it were walked; acquire.
    is_reached: AtomicBool,
    /// The segment that its seal says comes next, once that has been walked over.
    sealed_into: OnceLock<u64>,
    /// Held while the end of a foreign segment is set, and while its frontier is moved: the end may be where a truncation
    /// has cut, and no walk that does not know it yet passes it.
    ending: Mutex<()>,
    /// What the frames of a segment that this process writes to come to, as far as they have been counted; `None` if
    /// the sum of earlier ones is not known. Taken for as long as it takes to walk frames.
    tally: Mutex<Option<Tally>>,
    /// Byte offset up to which pages have been asked for.
    loaded: AtomicUsize,
    /// How long the pages are in which the page cache holds it; 0 if that is not known. Relaxed: a hint.
    page_len: AtomicUsize,
    /// How many bytes of its file have not been given back. Shared with what a truncation made of this segment, and with what makes more
    /// of the file ready. Relaxed: what misses a change leaves blocks that could go.
    taken: Arc<AtomicU64>,
    index: Index,
    /// Shared with what a truncation made of this segment, so that both keep their bytes when the file goes.
    bytes: Arc<Mutex<Bytes>>,
}

impl Drop for Segment {
    fn drop(&mut self) {
        // Its mapping cannot be looked for any more, and the cache would hold the file.
        if Arc::strong_count(&self.bytes) == 1 {
            self.forget();
        }
    }
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
        Self::new(info, Some(end), (None, origin), Bytes::AtRest(Weak::new()), storage, cache)
    }

    /// The segment that another process writes to, as far as is known.
    pub(crate) fn followed(info: SegmentInfo, storage: Arc<dyn Storage>, cache: Arc<MapCache>) -> Self {
        Self::new(info, None, (None, Origin::Foreign), Bytes::AtRest(Weak::new()), storage, cache)
    }

    /// The segment that this process writes to. If an earlier run began it, `earlier` gives the end and the origin of
    /// the frames that are there; `tally` is what the frames come to.
    pub(crate) fn live(
        info: SegmentInfo,
        earlier: Option<(SegmentEnd, Origin)>,
        tally: Option<Tally>,
        region: Arc<Region>,
        file: Arc<dyn StorageFile>,
        storage: Arc<dyn Storage>,
        cache: Arc<MapCache>,
    ) -> Self {
        let live = Self::new(info, None, (earlier, Origin::Own), Bytes::Live { region, file }, storage, cache);
        *live.tally.lock() = tally;
        live
    }

    fn new(
        info: SegmentInfo,
        end: Option<SegmentEnd>,
        (earlier, origin): (Option<(SegmentEnd, Origin)>, Origin),
        bytes: Bytes,
        storage: Arc<dyn Storage>,
        cache: Arc<MapCache>,
    ) -> Self {
        // What an earlier run has left is taken for given back where that was worth it.
        let hole = end.and_then(|end| giving_back::hole_start(info.size, end.offset));
        let taken = hole.unwrap_or(info.size);
        let mut start = Frontier { offset: segment_header::LEN, ordinal: 0 };
        let earlier = earlier.map(|(end, origin)| {
            let begin = std::mem::replace(&mut start, Frontier::of(&info, end));
            Stretch::new(origin, begin, Some(end))
        });
        Self {
            info,
            is_of_this_run: false,
            storage,
            cache,
            earlier,
            latest: Stretch::new(origin, start, None),
            end: end.map_or_else(OnceLock::new, OnceLock::from),
            is_reached: AtomicBool::new(false),
            sealed_into: OnceLock::new(),
            ending: Mutex::new(()),
            tally: Mutex::new(None),
            loaded: AtomicUsize::new(0),
            page_len: AtomicUsize::new(0),
            taken: Arc::new(AtomicU64::new(taken)),
            index: Index::new(info.size),
            bytes: Arc::new(Mutex::new(bytes)),
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

    /// As [`Self::path`], from any working directory.
    pub(crate) fn absolute_path(&self) -> PathBuf {
        self.storage.absolute_path().join(name::segment(self.info.number))
    }

    /// Its file, opened for reading by its name in the directory that is open.
    pub(crate) fn open_file(&self) -> io::Result<File> {
        let file = self.storage.open(&name::segment(self.info.number), Access::Read)?;
        file.as_file().ok_or(io::ErrorKind::Unsupported.into()).and_then(File::try_clone)
    }

    pub(crate) fn position(&self, offset: usize) -> Position {
        Position::new(self.info.number, offset as u64)
    }

    /// How long the pages are in which the page cache holds it, as [`filling::Filling::page_len`] says; 0 if that is not known.
    pub(crate) fn page_len(&self) -> usize {
        self.page_len.load(Ordering::Relaxed)
    }

    pub(crate) fn set_page_len(&self, len: usize) {
        self.page_len.store(len, Ordering::Relaxed);
    }

    /// The same, of a file that this run has made.
    pub(crate) fn of_this_run(mut self) -> Self {
        self.is_of_this_run = true;
        self
    }

    /// Whether this run has made its file.
    pub(crate) fn is_of_this_run(&self) -> bool {
        self.is_of_this_run
    }

    /// Where its frames end, once it takes no more.
    pub(crate) fn end(&self) -> Option<SegmentEnd> {
        self.end.get().copied()
    }

    /// The segment that its seal says comes next, if a walk has come to it.
    pub(crate) fn sealed_into(&self) -> Option<u64> {
        self.sealed_into.get().copied()
    }

    /// States that no frame will follow `end`, which a successor says; false if that contradicts what is known.
    pub(crate) fn try_end(&self, end: SegmentEnd) -> bool {
        let _no_walk = self.ending.lock();
        // The same end may be learnt twice, by two walks of a foreign log.
        self.frontier().offset as u64 <= end.offset && *self.end.get_or_init(|| end) == end
    }

    /// As [`Self::try_end`], by the process that writes to it.
    pub(crate) fn set_end(&self, end: SegmentEnd) {
        self.end.get_or_init(|| end);
    }

    /// How far it has been walked. What an earlier run has written may have to be walked all the same.
    pub(crate) fn frontier(&self) -> Frontier {
        self.latest.frontier()
    }

    /// Whether record `lsn` is known to be published.
    pub(crate) fn has_published(&self, lsn: Lsn) -> bool {
        let ordinal = lsn.0.wrapping_sub(self.info.base_lsn.0);
        self.is_reached() && u64::from(self.stretch_of(ordinal).frontier().ordinal) > ordinal
    }

    /// Whether all records before its first one are known to be published.
    pub(crate) fn is_reached(&self) -> bool {
        self.is_reached.load(Ordering::Acquire)
    }

    /// States that all records before its first one are published.
    fn set_reached(&self) {
        self.is_reached.store(true, Ordering::Release);
    }

    /// Which frames record `ordinal` of the segment is among.
    fn stretch_of(&self, ordinal: u64) -> &Stretch {
        let earlier = self.earlier.as_ref().filter(|_| ordinal < u64::from(self.latest.start.ordinal));
        earlier.unwrap_or(&self.latest)
    }

    /// Which frames the one at byte `offset` is among.
    fn stretch_at(&self, offset: usize) -> &Stretch {
        self.earlier.as_ref().filter(|_| offset < self.latest.start.offset).unwrap_or(&self.latest)
    }

    /// The number of the record that comes after `ordinal` others in it, of which there are fewer than fit.
    pub(crate) fn lsn_of(&self, ordinal: u32) -> Lsn {
        Lsn(self.info.base_lsn.0 + u64::from(ordinal))
    }

    /// The number of the first record after `frontier`.
    pub(crate) fn lsn_at(&self, frontier: Frontier) -> Lsn {
        Lsn(self.info.base_lsn.0.saturating_add(u64::from(frontier.ordinal)))
    }

    /// Whether it takes no more frames, and they end at or before `offset`.
    pub(crate) fn ends_by(&self, offset: usize) -> bool {
        self.end().is_some_and(|end| end.offset <= offset as u64)
    }
}
