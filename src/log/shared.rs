//! The state of an open log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use super::durability::background::Background;
use super::durability::lookout::Lookout;
use super::durability::{Durability, Goal};
use super::housekeeping::Housekeeper;
use super::inside;
#[cfg(feature = "metrics")]
use super::meter::{Extent, Meter};
use super::page_cache::PageCache;
use super::pin_table::Pins;
use super::preparer::Preparer;
use super::recovery::plan::Pending;
use super::recovery::report::RecoveryReport;
use super::request_task::Requests;
use super::stats::Counters;
use crate::error::{Error, NumberSpace, Result};
use crate::format::frame::FrameHasher;
use crate::format::link::{self, MetaSlots};
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::memory::{AppendCursor, CursorControl, Process, Region, Reserved};
use crate::read::{ReadAhead, Source};
use crate::segment::control::{Channel, ControlPage};
use crate::segment::{MapCache, Segment, SegmentInfo, SegmentList, Segments};
use crate::storage::Storage;

/// No segment begins with a record number this close to the end of the number space, so that no sum in it overflows.
const LSN_MARGIN: u64 = 1 << 33;

/// What an appender needs to know of the segment that it writes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Active {
    pub(crate) base_lsn: Lsn,
    pub(crate) salt: u32,
    /// The position of the segment's first byte.
    pub(crate) start: Position,
    /// Byte offset from which on an appender asks for more room.
    pub(crate) ask_at: usize,
}

/// The log that a [`Log`](super::Log), its followers and its tasks share.
pub(crate) struct Shared {
    /// No other log that this process opens has it.
    pub(crate) number: u64,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) cache: Arc<MapCache>,
    pub(crate) cursor: Arc<AppendCursor<Active>>,
    pub(crate) segments: SegmentList,
    pub(crate) durability: Durability,
    /// Taken to change which segments there are. Held while waiting for a spare: appenders that find the segment full
    /// have nothing else to do. The files of pins and the right to lead ([`Durability::lead`]) are taken before it, every
    /// other lock after it.
    /// `None` only while the log is being opened.
    pub(crate) rotation: Mutex<Option<Rotation>>,
    /// The metadata slots. Changed with the rotation locked, so that each link carries what was put before it.
    pub(crate) meta: Mutex<MetaSlots>,
    pub(crate) preparer: Preparer,
    pub(crate) page_cache: PageCache,
    pub(crate) housekeeper: Housekeeper,
    pub(crate) ahead: Arc<ReadAhead>,
    pub(crate) background: Background,
    pub(crate) requests: Requests,
    pub(crate) control: Arc<ControlPage>,
    pub(crate) pins: Pins,
    pub(crate) lookout: Lookout,
    pub(crate) counters: Arc<Counters>,
    #[cfg(feature = "metrics")]
    pub(crate) meter: Meter,
    /// How many pages had been replaced in this process when it was last seen that none of this log's was among them.
    /// Relaxed: a thread that has stored to such a page knows of it.
    pub(crate) replaced_seen: AtomicU32,
    /// Held, for reading, by calls that change files, and by appends that make room: a close waits for them. Taken before every
    /// other lock, and again by a thread that has it.
    pub(super) calls: RwLock<()>,
    /// Set by a close before it takes `calls`, with which no call is under way that has not seen it. Relaxed.
    pub(super) is_closed: AtomicBool,
    /// Set when the log is closed or dropped, before its followers are woken.
    pub(crate) is_over: AtomicBool,
    /// That which opened the log.
    pub(crate) process: Process,
    /// The largest payload. Changed with the rotation locked, since metadata takes room in each segment. Relaxed: an
    /// appender that reads an older one gets the error when it needs a new segment.
    pub(crate) payload_len_max: AtomicU64,
    /// The most bytes that metadata takes.
    pub(crate) meta_len_max: u64,
    pub(crate) hasher: FrameHasher,
    pub(crate) report: RecoveryReport,
}

/// What changes with the active segment.
pub(crate) struct Rotation {
    pub(crate) cursor_control: CursorControl<Active>,
    /// The oldest segment retained, as the next link will say.
    pub(crate) oldest: u64,
    /// After the frames that the active segment was opened with.
    pub(crate) begin: Position,
    /// Up to where the segment is ready, and where more is to be asked for.
    pub(crate) room: usize,
    pub(crate) ask_at: usize,
    /// Set as long as there has been no room for a segment since the log was opened.
    pub(crate) pending: Option<Pending>,
}

impl Rotation {
    /// Lets appenders write to a segment, after what is published in it, as far as it has `room`.
    pub(crate) fn open(&mut self, info: SegmentInfo, region: Arc<Region>, room: usize, ordinal: u32) {
        let offset = region.published();
        self.ask_at = ask_at(&info, offset, room);
        self.room = room;
        let (active, room) = self.piece(&info, offset, offset);
        self.cursor_control.install(region, active.start.0, room, ordinal, active);
    }

    /// Lets appenders, which are at byte `offset`, go on in their segment, up to byte `end` at least; it has `room` now.
    pub(crate) fn extend(&mut self, info: SegmentInfo, offset: usize, end: usize, room: usize) {
        if room != self.room {
            self.ask_at = ask_at(&info, offset, room);
            self.room = room;
        }
        let (active, room) = self.piece(&info, offset, end);
        self.cursor_control.extend(room, active);
    }

    /// Some of the room, from byte `offset` on, up to byte `end` at least.
    fn piece(&self, info: &SegmentInfo, offset: usize, end: usize) -> (Active, usize) {
        let start = Position::new(info.number, 0);
        let active = Active { base_lsn: info.base_lsn, salt: info.layout.salt, start, ask_at: self.ask_at };
        (active, self.room.min(end.max(offset + PIECE_LEN)))
    }
}

/// Room that appenders are given at a time, however much is ready: at its end they see to it that what they have appended is counted, so
/// that little is left when the segment is sealed.
const PIECE_LEN: usize = 4 << 20;

/// Halfway through the room that is ready from `offset` on; where no more can be had in the segment, a little before its end.
fn ask_at(info: &SegmentInfo, offset: usize, room: usize) -> usize {
    const LAST_LEN: usize = 1 << 20;
    let halfway = offset.midpoint(room);
    if room == append_limit(info.size) { halfway.max(room.saturating_sub(LAST_LEN)) } else { halfway }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("directory", &self.storage.path()).finish_non_exhaustive()
    }
}

/// Where appenders may write in a segment of `size` bytes: the seal's room is kept.
pub(crate) fn append_limit(size: u64) -> usize {
    usize::try_from(size).expect("mapped, so it fits") - link::SEAL_FRAME_LEN
}

/// Whether a segment may begin with record `lsn`.
pub(crate) fn check_lsn(lsn: Lsn) -> Result<()> {
    if lsn.0 < u64::MAX - LSN_MARGIN { Ok(()) } else { Err(Error::Exhausted(NumberSpace::Records)) }
}

impl Shared {
    pub(crate) fn lock_rotation(&self) -> MappedMutexGuard<'_, Rotation> {
        MutexGuard::map(self.rotation.lock(), |rotation| rotation.as_mut().expect("set when the log was opened"))
    }

    /// The same, unless another thread has it.
    pub(super) fn try_lock_rotation(&self) -> Option<MappedMutexGuard<'_, Rotation>> {
        let rotation = self.rotation.try_lock()?;
        Some(MutexGuard::map(rotation, |rotation| rotation.as_mut().expect("set when the log was opened")))
    }

    /// The largest payload, in bytes.
    #[inline]
    pub(crate) fn payload_len_max(&self) -> u64 {
        self.payload_len_max.load(Ordering::Relaxed)
    }

    /// An error unless this process may use the log: it has opened it itself.
    #[inline]
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.process.is_current() { Ok(()) } else { Err(Error::Forked) }
    }

    /// As [`Self::check_process`]; also an error inside of an `append_with` closure, for a call that would wait for it.
    #[inline]
    pub(crate) fn check_call(&self) -> Result<()> {
        self.check_process()?;
        inside::check_outside()
    }

    /// An error unless this process may use the log, and it is open.
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        self.check_process()?;
        if self.is_closed.load(Ordering::Relaxed) { Err(Error::Closed) } else { Ok(()) }
    }

    /// As [`Self::check_open`] and [`Self::check_call`], for a call that changes files, until the guard is dropped.
    pub(super) fn enter(&self) -> Result<RwLockReadGuard<'_, ()>> {
        self.check_call()?;
        let entered = self.calls.read_recursive();
        self.check_open()?;
        Ok(entered)
    }

    /// Runs `look` on the list of segments as it is now; `None` in a forked child if a thread of the parent had it locked.
    pub(super) fn with_segments<T>(&self, look: impl FnOnce(&Segments) -> T) -> Option<T> {
        if self.process.is_current() { Some(self.segments.with(look)) } else { self.segments.try_with(look) }
    }

    /// The active segment and what has been reserved in it, read together. Not in a forked child.
    pub(crate) fn reserved(&self) -> (Arc<Segment>, Reserved) {
        self.try_reserved().expect("the process that has opened the log waits for its list")
    }

    /// The same; `None` as in [`Self::with_segments`].
    pub(super) fn try_reserved(&self) -> Option<(Arc<Segment>, Reserved)> {
        loop {
            let segment = self.with_segments(|segments| segments.last().cloned())?.expect("an open log has a segment");
            let reserved = self.cursor.reserved();
            // Segments come and go between the two reads; a newer one is in the list before it is in the cursor.
            let is_last = |segments: &Segments| segments.last().is_some_and(|last| Arc::ptr_eq(last, &segment));
            if Position(reserved.position).segment() == segment.number() && self.with_segments(is_last)? {
                return Some((segment, reserved));
            }
            if !self.process.is_current() {
                // The thread that was about to change the two is not there.
                return None;
            }
            std::thread::yield_now();
        }
    }

    /// The place up to which frames have been reserved.
    pub(crate) fn reserved_end(&self) -> Position {
        Position(self.reserved().1.position)
    }

    /// The number of the next record to be appended; 0 in a forked child that cannot tell.
    pub(crate) fn next_lsn(&self) -> Lsn {
        self.try_reserved().map_or(Lsn::ZERO, |(segment, reserved)| segment.lsn_of(reserved.ordinal()))
    }

    /// Where the log begins and ends, what it takes, and what keeps it. Waits for nothing.
    #[cfg(feature = "metrics")]
    pub(crate) fn extent(&self) -> Extent {
        let segments = self.segments.load();
        Extent {
            first: segments.first_lsn(),
            next: self.next_lsn(),
            durable: self.durability.lsn(),
            disk_bytes: segments.as_slice().iter().map(|segment| segment.taken()).sum(),
            spare_bytes: self.preparer.spare_bytes(),
            pins: self.pins.summary(&segments),
        }
    }

    /// What has been reserved so far.
    pub(crate) fn everything(&self) -> Goal {
        let (segment, reserved) = self.reserved();
        let lsn = segment.lsn_of(reserved.ordinal()).previous();
        Goal { lsn, position: Position(reserved.position) }
    }

    /// How many bytes of frames are not durable, about.
    pub(crate) fn unsynced_bytes(&self) -> u64 {
        let (durable, end) = (self.durability.position(), self.reserved_end());
        self.segments.with(|segments| {
            let segments = segments.as_slice();
            let begin = segments.partition_point(|segment| segment.number() < durable.segment());
            let bytes = segments[begin..].iter().map(|segment| {
                let begin = if segment.number() == durable.segment() { durable.offset() } else { 0 };
                let end = if segment.number() == end.segment() {
                    end.offset()
                } else {
                    segment.end().map_or(0, |end| end.offset)
                };
                end.saturating_sub(begin)
            });
            bytes.sum()
        })
    }

    /// The number after the last record that readers can see.
    pub(crate) fn next_published(&self) -> Result<Lsn> {
        // Read before the list, as in `Log::get`.
        let durable = self.durability.reached();
        self.segments.load().next_published(durable)
    }

    /// Tells the followers of this process that no record will come any more.
    pub(crate) fn end_followers(&self) {
        self.is_over.store(true, Ordering::Release);
        self.control.wake_all(&*self.storage);
    }
}

impl Source for Shared {
    fn ahead(&self) -> &ReadAhead {
        &self.ahead
    }

    fn truncations(&self) -> u64 {
        self.segments.truncations()
    }

    fn replaced_since(&self, seen: u64) -> Option<Lsn> {
        self.segments.replaced_since(seen)
    }

    fn segments(&self) -> Arc<Segments> {
        self.segments.load()
    }

    fn refresh(&self, _is_stale: bool) -> Result<()> {
        Ok(())
    }

    fn has_published(&self, lsn: Lsn) -> Result<bool> {
        // Read before the list, as in `Log::get`.
        let durable = self.durability.reached();
        Ok(self.segments.load().next_published_for(lsn, durable)? > lsn)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn check_wait(&self) -> Result<()> {
        inside::check_outside()
    }

    fn wait(&self, channel: Channel, timeout: Duration, ready: &mut dyn FnMut() -> Result<bool>) -> Result<bool> {
        self.control.wait(&*self.storage, channel, timeout, ready)
    }

    fn durable(&self) -> (Lsn, Position) {
        (self.durability.lsn(), self.durability.reached())
    }
}
