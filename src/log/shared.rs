//! The state of an open log.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::background::Background;
use super::durability::{Durability, Goal};
use super::pins::Pins;
use super::report::RecoveryReport;
use super::spare::Spares;
use super::stats::Counters;
use crate::error::{Error, Result};
use crate::format::frame::{self, FrameHead, FrameKind};
use crate::format::link::{self, Link, MetaSlots, Predecessor, SegmentEnd};
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::memory::{Cursor, Reservation, Ring, Rotor};
use crate::read::Source;
use crate::segment::control::ControlPage;
use crate::segment::prepare::Prepared;
use crate::segment::{MapCache, Segment, SegmentInfo, SegmentList, Segments};
use crate::storage::Storage;

/// How often a leader looks again for a frame that is still being copied before it gives the processor away.
const SPINS: u32 = 100;
/// No segment begins with a record number this close to the end of the number space, so that no sum in it overflows.
const LSN_MARGIN: u64 = 1 << 33;

/// What an appender needs to know of the segment that it writes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Active {
    pub(crate) base_lsn: Lsn,
    pub(crate) salt: u32,
    /// The position of the segment's first byte.
    pub(crate) start: Position,
}

/// The log behind a [`Log`](super::Log), its followers and its threads.
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) cache: Arc<MapCache>,
    pub(crate) ring: Arc<Ring<Active>>,
    pub(crate) segments: SegmentList,
    pub(crate) durability: Durability,
    /// Taken to change which segments there are. Held while waiting for a spare: appenders who find the segment full have
    /// nothing else to do. The right to sync ([`Durability::lead`]) is taken before it, every other lock after it.
    /// `None` only while the log is being opened.
    pub(crate) rotation: Mutex<Option<Rotation>>,
    /// The metadata slots. Changed with the rotation locked, so that each link carries what was put before it.
    pub(crate) meta: Mutex<MetaSlots>,
    pub(crate) spares: Spares,
    pub(crate) background: Background,
    pub(crate) control: ControlPage,
    pub(crate) pins: Pins,
    pub(crate) counters: Counters,
    pub(crate) payload_len_max: u64,
    pub(crate) report: RecoveryReport,
}

/// What changes with the active segment.
pub(crate) struct Rotation {
    pub(crate) rotor: Rotor<Active>,
    /// The oldest segment retained, as the next link will say.
    pub(crate) oldest: u64,
    /// Behind the frames that the active segment was opened with.
    pub(crate) begin: Position,
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
    if lsn.0 < u64::MAX - LSN_MARGIN { Ok(()) } else { Err(Error::Exhausted("record numbers")) }
}

impl Shared {
    /// A place for `len` bytes, a multiple of 8, that hold `count` records.
    #[inline]
    pub(crate) fn reserve(&self, len: usize, count: u32) -> Result<Reservation<'_, Active>> {
        loop {
            if let Some(reservation) = self.ring.reserve(len, count) {
                return Ok(reservation);
            }
            self.make_room(len)?;
        }
    }

    /// Goes on to the next segment, unless somebody else has done so already.
    #[cold]
    fn make_room(&self, len: usize) -> Result<()> {
        let mut rotation = self.lock_rotation();
        self.make_room_locked(&mut rotation, len)
    }

    fn make_room_locked(&self, rotation: &mut Rotation, len: usize) -> Result<()> {
        self.durability.check()?;
        let (_, cursor) = self.reserved();
        if cursor.remaining() >= len && !cursor.is_closed() {
            return Ok(());
        }
        self.rotate(rotation)
    }

    /// As [`Self::reserve`], for one of the log's own frames.
    pub(crate) fn reserve_note(&self, rotation: &mut Rotation, len: usize) -> Result<Reservation<'_, Active>> {
        loop {
            if let Some(reservation) = self.ring.reserve(len, 0) {
                return Ok(reservation);
            }
            self.make_room_locked(rotation, len)?;
        }
    }

    pub(crate) fn lock_rotation(&self) -> MappedMutexGuard<'_, Rotation> {
        MutexGuard::map(self.rotation.lock(), |rotation| rotation.as_mut().expect("set when the log was opened"))
    }

    /// Seals the active segment and opens the spare.
    pub(crate) fn rotate(&self, rotation: &mut Rotation) -> Result<()> {
        let active = self.segments.last().expect("an open log has a segment");
        check_lsn(active.base_lsn())?;
        let spare = self.spares.take()?;
        self.durability.check()?;
        let (offset, ordinal, seal) = rotation.rotor.close(link::SEAL_FRAME_LEN).expect("a log takes appends");
        let next_lsn = Lsn(active.base_lsn().0 + u64::from(ordinal));
        let crc = self.publish(
            seal.expect("asked for"),
            FrameHead::note(FrameKind::Seal, next_lsn, 0),
            &link::encode_number(spare.number),
        );
        let end = (offset + link::SEAL_FRAME_LEN) as u64;
        active.set_end(SegmentEnd { offset: end, next_lsn, crc });
        let previous = Predecessor { number: active.number(), end, crc };
        self.counters.segment_full(ordinal, offset);
        self.open_segment(rotation, spare, Some(previous), next_lsn, None);
        rotation.rotor.retire();
        Ok(())
    }

    /// Lets appenders write to `prepared`, whose link says what came before. If it stands in the place of a suffix,
    /// `kept` are the segments in front of that, and a truncate frame follows the link.
    pub(crate) fn open_segment(
        &self,
        rotation: &mut Rotation,
        prepared: Prepared,
        previous: Option<Predecessor>,
        base_lsn: Lsn,
        kept: Option<Vec<Arc<Segment>>>,
    ) -> Vec<Arc<Segment>> {
        let Prepared { number, size, salt, mut region, file } = prepared;
        let link = Link { previous, oldest: rotation.oldest, meta: self.meta.lock().clone() }.encode();
        let start = Position::new(number, 0);
        let last = link::encode_number(base_lsn.previous().0);
        let truncate = kept.as_ref().map(|_| (FrameKind::Truncate, &last[..]));
        for (kind, payload) in std::iter::once((FrameKind::Link, &link[..])).chain(truncate) {
            let position = Position::new(number, region.published() as u64);
            let head = FrameHead::note(kind, base_lsn, position.lag_units(self.durability.position()));
            region.fill(&head.encode(salt, payload));
        }
        let begin = region.published();
        rotation.begin = Position::new(number, begin as u64);
        let region = Arc::new(region);
        let info = SegmentInfo { number, size, salt, base_lsn };
        let (storage, cache) = (Arc::clone(&self.storage), Arc::clone(&self.cache));
        let segment = Arc::new(Segment::live(info, Arc::clone(&region), file, storage, cache));
        // In the list before anyone can append to it: a record is found as soon as its number is known.
        let old = match kept {
            None => self.segments.change(|segments| {
                segments.push(segment);
                Vec::new()
            }),
            Some(kept) => self.segments.truncate(|segments| {
                let old = std::mem::replace(segments, kept);
                segments.push(segment);
                old
            }),
        };
        rotation.rotor.install(number, region, append_limit(size), 0, Active { base_lsn, salt, start });
        self.counters.segment_opened(0, begin);
        self.control.set_active_segment(number);
        tracing::info!(segment = number, first_lsn = base_lsn.0, "segment opened");
        old
    }

    /// Completes and publishes a frame. Its lag is filled in here.
    pub(crate) fn publish(&self, mut place: Reservation<'_, Active>, head: FrameHead, payload: &[u8]) -> u32 {
        place.write(frame::HEADER_LEN, payload);
        self.publish_written(place, head, payload.len())
    }

    /// As [`Self::publish`], for a payload that is in place already. Returns the frame's checksum.
    #[inline]
    pub(crate) fn publish_written(
        &self,
        mut place: Reservation<'_, Active>,
        mut head: FrameHead,
        payload_len: usize,
    ) -> u32 {
        let Active { salt, start, .. } = *place.context();
        let position = Position(start.0 + place.offset() as u64);
        head.durable_lag = position.lag_units(self.durability.position());
        place.write(frame::COMMIT_WORD_LEN, &head.tail());
        let len = frame::HEADER_LEN + payload_len;
        // No frame is longer than a segment, and none of those is longer than 4 GiB.
        let len_field = len as u32;
        let crc = frame::checksum(salt, len_field, place.bytes_mut(frame::COMMIT_WORD_LEN..len));
        place.publish(len_field, crc);
        if self.durability.is_due(position) {
            self.wake_background();
        }
        crc
    }

    #[cold]
    fn wake_background(&self) {
        self.durability.set_due(Position(u64::MAX));
        self.background.notify();
    }

    /// The active segment and what has been reserved in it, read together.
    pub(crate) fn reserved(&self) -> (Arc<Segment>, Cursor) {
        loop {
            let segment = self.segments.last().expect("an open log has a segment");
            let cursor = self.ring.cursor();
            // Segments come and go between the two reads; a newer one is in the list before it is in the word.
            if cursor.is_of(segment.number())
                && self.segments.with(|segments| segments.last().is_some_and(|last| Arc::ptr_eq(last, &segment)))
            {
                return (segment, cursor);
            }
            std::thread::yield_now();
        }
    }

    /// The place up to which frames have been reserved.
    pub(crate) fn reserved_end(&self) -> Position {
        let (segment, cursor) = self.reserved();
        segment.position(append_limit(segment.info().size) - cursor.remaining())
    }

    /// The number of the next record to be appended.
    pub(crate) fn next_lsn(&self) -> Lsn {
        let (segment, cursor) = self.reserved();
        Lsn(segment.base_lsn().0 + u64::from(cursor.ordinal()))
    }

    /// What has been reserved so far.
    pub(crate) fn everything(&self) -> Goal {
        let (segment, cursor) = self.reserved();
        let lsn = Lsn(segment.base_lsn().0 + u64::from(cursor.ordinal())).previous();
        Goal { lsn, position: segment.position(append_limit(segment.info().size) - cursor.remaining()) }
    }

    /// Returns once `goal` is durable.
    pub(crate) fn wait(&self, goal: Goal) -> Result<()> {
        self.durability.wait(goal, || {
            self.sync_all().inspect_err(|_| {
                // Appenders find the segment closed, look why, and see the poison.
                self.lock_rotation().rotor.close(0);
            })
        })
    }

    /// Makes everything durable that has been reserved so far. Called by the leader only, who after an error closes the
    /// active segment.
    pub(crate) fn sync_all(&self) -> Result<()> {
        let target = self.reserved_end();
        let segments = self.segments.load();
        let begin = segments.as_slice().partition_point(|s| s.number() < self.durability.position().segment());
        for segment in &segments.as_slice()[begin..] {
            if segment.number() > target.segment() {
                break;
            }
            self.sync_segment(segment, target)?;
        }
        Ok(())
    }

    fn sync_segment(&self, segment: &Segment, target: Position) -> Result<()> {
        let Some((region, file)) = segment.unsynced() else { return Ok(()) };
        let goal = if segment.number() == target.segment() {
            // A position counts from the start of a segment of at most 4 GiB.
            target.offset() as usize
        } else {
            usize::try_from(segment.end().map_or(0, |end| end.offset)).unwrap_or(usize::MAX)
        };
        let mut looks = 0;
        let frontier = loop {
            let frontier = segment.advance(&region, |_| false).map_err(|e| self.poison(io::Error::other(e)))?;
            if frontier.offset >= goal {
                break frontier;
            }
            // Somebody is copying: it takes them as long as a memcpy takes.
            looks += 1;
            if looks < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        };
        let durable = self.durability.position();
        let begin = if durable.segment() == segment.number() { durable.offset() as usize } else { 0 };
        if begin < frontier.offset {
            let clock = Instant::now();
            let synced = file.sync_mapping(region.mapping(), begin..frontier.offset);
            synced.map_err(|source| self.poison(source))?;
            let lsn = segment.lsn_at(frontier).previous();
            self.counters.synced(lsn.0.saturating_sub(self.durability.lsn().0), clock.elapsed());
            let position = segment.position(frontier.offset);
            self.durability.advance(lsn, position);
            self.control.set_durable(lsn, position);
        }
        if segment.ends_by(frontier.offset) {
            segment.settle();
        }
        Ok(())
    }

    /// Refuses all writes from now on.
    fn poison(&self, source: io::Error) -> Error {
        let directory = self.storage.path().display();
        tracing::error!(error = &source as &dyn std::error::Error, %directory, "sync failed: the log is poisoned");
        self.control.set_poisoned();
        self.durability.poison(source)
    }

    /// The number behind the last record that readers can see.
    pub(crate) fn next_published(&self) -> Result<Lsn> {
        self.segments.load().next_published(self.durability.position())
    }
}

impl Source for Shared {
    fn truncations(&self) -> u64 {
        self.segments.truncations()
    }

    fn segments(&self) -> Arc<Segments> {
        self.segments.load()
    }

    fn refresh(&self) -> Result<()> {
        Ok(())
    }

    fn durable(&self) -> (Lsn, Position) {
        (self.durability.lsn(), self.durability.position())
    }
}
