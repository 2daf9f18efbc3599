//! From one segment to the next.

use std::sync::Arc;

use super::Log;
use super::mark::Mark;
use super::preparer::Need;
use super::preparer::growth::Extent;
use super::recovery::unused::Unused;
use super::shared::{Active, Rotation, Shared, append_limit, check_lsn};
use crate::error::{Error, Result};
use crate::events::{calling, report};
use crate::format::frame::{self, FrameHead, FrameKind};
use crate::format::link::{self, Link, Predecessor, Seal, SegmentEnd};
use crate::format::position::Position;
use crate::format::tally::Tally;
use crate::format::{self, segment_header};
use crate::lsn::Lsn;
use crate::memory::{Reservation, Taken};
use crate::segment::filling::{Filling, PAGE_LEN};
use crate::segment::prepare::{self, Prepared};
use crate::segment::{Segment, SegmentInfo};

/// How many bytes of frames a thread that rotates counts at once: that takes less than a millisecond, beside the wait for a sync that
/// counts frames just then.
const COUNT_LEN: usize = 1 << 20;
/// How often it looks for a record that is being written.
const COUNTS: u32 = 64;
/// What is not counted when this many bytes have been appended after it is counted by the appender that makes room: the task `prepare`, whose
/// work that is, has no processor.
const LATE_LEN: usize = 8 << 20;

impl Log {
    /// Seals the segment that takes appends, and goes on in the next one. Does nothing if nothing has been appended to
    /// it. Durable with the next sync, or once the mark that is returned has been waited for.
    ///
    /// # Errors
    /// [`Error::NoSpace`](crate::Error::NoSpace), with nothing changed; [`Error::Poisoned`](crate::Error::Poisoned),
    /// [`Error::Io`](crate::Error::Io), [`Error::InsideAppend`](crate::Error::InsideAppend),
    /// [`Error::Exhausted`](crate::Error::Exhausted).
    pub fn rotate(&self) -> Result<Mark> {
        let _calling = calling();
        let _entered = self.shared.enter()?;
        self.shared.look_around()?;
        let mut rotation = self.shared.lock_rotation();
        self.shared.durability.check()?;
        let is_empty = self.shared.reserved_end() <= rotation.begin;
        if !is_empty {
            self.shared.rotate(&mut rotation, Need::Ordinary, 0)?;
        }
        Ok(self.shared.mark_at(rotation.begin))
    }
}

impl Shared {
    /// Goes on to the next segment, unless another thread has done so already.
    #[cold]
    pub(super) fn make_room(&self, len: usize, need: Need) -> Result<()> {
        let _calling = calling();
        let _entered = self.enter()?;
        self.look_around()?;
        let mut rotation = self.lock_begun_rotation(need)?;
        self.make_room_locked(&mut rotation, len, need)
    }

    fn make_room_locked(&self, rotation: &mut Rotation, len: usize, need: Need) -> Result<()> {
        self.durability.check()?;
        let (active, reserved) = self.reserved();
        if reserved.has_room(len) {
            return Ok(());
        }
        let offset = Position(reserved.position).offset() as usize;
        if offset + len > append_limit(active.info().size) {
            self.check_fits(len)?;
            return self.rotate(rotation, need, self.size_for(len));
        }
        self.wait_for_slot(rotation)?;
        if offset >= rotation.ask_at || offset + len > rotation.room {
            self.preparer.ask(offset, || self.unsynced_bytes());
        }
        let room = match self.room_in(&active, offset + len) {
            // What is held back has all of its room.
            Err(Error::NoSpace { .. }) if need == Need::Essential => {
                self.check_fits(len)?;
                return self.rotate(rotation, need, self.size_for(len));
            }
            room => room?,
        };
        rotation.extend(active.info(), offset, offset + len, room);
        self.retire(rotation, &active, offset);
        self.preparer.walk_later(&active, offset);
        if let Some((region, _)) = active.unsynced() {
            active.count_if_late(&region, offset.saturating_sub(LATE_LEN), LATE_LEN);
        }
        Ok(())
    }

    /// An error if `len` bytes do not fit into a new segment: metadata may have grown since that was asked first.
    fn check_fits(&self, len: usize) -> Result<()> {
        let max = self.payload_len_max();
        let len = len as u64;
        if len <= frame::padded(frame::HEADER_LEN) as u64 + max.next_multiple_of(frame::ALIGN as u64) {
            return Ok(());
        }
        Err(Error::RecordTooLarge { len: len - frame::HEADER_LEN as u64, max })
    }

    /// The size of a segment that has room for `len` bytes of frames.
    fn size_for(&self, len: usize) -> u64 {
        format::segment_size_for(len, self.meta.lock().encoded_len())
    }

    /// Releases what appenders no longer use, now that those of `segment` have passed byte `end`.
    fn retire(&self, rotation: &mut Rotation, segment: &Arc<Segment>, end: usize) {
        if !rotation.cursor_control.retire() {
            self.preparer.walk_later(segment, end);
        }
    }

    /// As [`Self::reserve`], for a control frame.
    pub(crate) fn reserve_control_frame(
        &self,
        rotation: &mut Rotation,
        len: usize,
        need: Need,
    ) -> Result<Reservation<'_, Active>> {
        loop {
            if let Some(reservation) = self.cursor.reserve(len, 0) {
                return Ok(reservation);
            }
            self.make_room_locked(rotation, len, need)?;
        }
    }

    /// The room in the segment that takes appends, up to byte `end` at least. A full disk gives it what is kept for further segments.
    fn room_in(&self, active: &Segment, end: usize) -> Result<usize> {
        loop {
            let before = self.housekeeper.count();
            match self.preparer.room_to(active.number(), end) {
                Err(Error::NoSpace { .. })
                    if self.preparer.pool().give_up_one() || self.housekeeper.finish_some(before) => {}
                room => return room,
            }
        }
    }

    /// The next segment, of `size` bytes at least, which are no more than segments may have, and ready for a link with `meta_len` bytes
    /// of metadata. If there is no room for one, it tries once more when the files of dropped segments are gone.
    pub(crate) fn take_spare(&self, need: Need, size: u64, meta_len: usize) -> Result<Prepared> {
        let size = size.max(format::segment_size_for(0, meta_len));
        let before = self.housekeeper.count();
        let taken = match self.preparer.take(need, size) {
            Err(Error::NoSpace { .. }) if self.housekeeper.finish_some(before) => self.preparer.take(need, size),
            taken => taken,
        };
        self.ready_for_link(taken?, meta_len)
    }

    /// Seals the active segment and opens the next one, of `size` bytes at least.
    pub(crate) fn rotate(&self, rotation: &mut Rotation, need: Need, size: u64) -> Result<()> {
        let active = self.segments.last().expect("an open log has a segment");
        check_lsn(active.base_lsn())?;
        self.wait_for_slot(rotation)?;
        let meta_len = self.meta.lock().encoded_len();
        let spare = self.take_spare(need, size, meta_len)?;
        self.durability.check()?;
        // While appends go on: so there is little left to be counted after them.
        count_some(&active);
        let closed = rotation.cursor_control.close(link::SEAL_FRAME_LEN).expect("a log takes appends");
        let Taken { offset, ordinal, trailer: seal } = closed;
        let next_lsn = Lsn(active.base_lsn().0 + u64::from(ordinal));
        let payload = Seal { next: spare.number, tally: count_to(&active, offset) }.encode();
        let seal = seal.expect("asked for");
        self.ask_for_last(&seal)?;
        let crc = self.publish(seal, FrameHead::control(FrameKind::Seal, next_lsn, 0), &payload);
        let end = (offset + link::SEAL_FRAME_LEN) as u64;
        active.set_end(SegmentEnd { offset: end, next_lsn, crc });
        let previous = Predecessor { number: active.number(), end, crc };
        self.counters.segment_full(ordinal, offset);
        self.note_unused(Unused { number: active.number(), size: active.info().size, start: end });
        self.open_segment(rotation, spare, Some(previous), next_lsn, None);
        self.give_back_unused_locked(rotation);
        self.retire(rotation, &active, offset);
        Ok(())
    }

    /// `spare`, ready as far as its first frames reach, of which the link has `meta_len` bytes of metadata: they may need more than
    /// the first part of a segment.
    pub(crate) fn ready_for_link(&self, mut spare: Prepared, meta_len: usize) -> Result<Prepared> {
        let begin = segment_header::LEN + link::frame_len(meta_len) + link::TRUNCATE_FRAME_LEN;
        let end = Filling::end_for(begin);
        let ready = spare.fill_to(end, &*self.storage, PAGE_LEN).and_then(|()| {
            // It may have been filled for long, and been written back since.
            let asked = self.ask_for_pages(spare.region.mapping(), 0..end);
            asked.map_err(|source| prepare::failed(&*self.storage, spare.number, spare.size, source))
        });
        // Another one is made when there is room again.
        ready.inspect_err(|_| self.preparer.abandon(spare.number))?;
        // While the log can go on as it is: once the segment before has ended, appenders wait for this one.
        assert!(begin <= spare.filling.room(), "the first frames fit");
        Ok(spare)
    }

    /// What there is besides the segment that takes appends: the size of the next one follows from it.
    pub(super) fn extent_before(&self) -> Extent {
        let before =
            self.segments.with(|segments| segments.as_slice().split_last().map(|(_, ended)| Extent::of(ended)));
        before.unwrap_or_default()
    }

    /// Notes that this is something else.
    pub(super) fn note_extent(&self) {
        self.preparer.note_before(self.extent_before());
    }

    /// Lets appenders write to `prepared`, whose link says what came before. If it replaces a suffix, `kept` are the
    /// segments before that, and a truncation frame follows the link.
    pub(crate) fn open_segment(
        &self,
        rotation: &mut Rotation,
        prepared: Prepared,
        previous: Option<Predecessor>,
        base_lsn: Lsn,
        kept: Option<Vec<Arc<Segment>>>,
    ) -> Vec<Arc<Segment>> {
        let Prepared { number, size, layout, mut region, file, filling, is_of_this_run } = prepared;
        let meta = self.meta.lock().clone();
        let link = Link { previous, oldest: rotation.oldest, meta }.encode();
        let last = link::encode_number(base_lsn.previous().0);
        let truncate = kept.as_ref().map(|_| (FrameKind::Truncate, &last[..]));
        for (kind, payload) in std::iter::once((FrameKind::Link, &link[..])).chain(truncate) {
            let position = Position::new(number, region.published() as u64);
            let head = FrameHead::control(kind, base_lsn, position.lag_units(self.durability.position()));
            region.fill(&head.encode(layout.salt, payload));
        }
        let begin = region.published();
        let tally = Some(Tally::START);
        rotation.begin = Position::new(number, begin as u64);
        let region = Arc::new(region);
        let info = SegmentInfo { number, size, layout, base_lsn };
        let (storage, cache) = (Arc::clone(&self.storage), Arc::clone(&self.cache));
        let segment = Segment::live(info, None, tally, Arc::clone(&region), file, storage, cache);
        let segment = Arc::new(if is_of_this_run { segment.of_this_run() } else { segment });
        let counted = Arc::clone(&segment);
        // In the list before the first append to it: a record is found as soon as its number is known.
        let old = match kept {
            None => self.segments.change(|segments| {
                segments.push(segment);
                Vec::new()
            }),
            Some(mut kept) => {
                kept.push(segment);
                self.segments.truncate(base_lsn, kept)
            }
        };
        self.counters.segment_opened(0, begin);
        let room = self.preparer.begin(&counted, filling, self.extent_before());
        rotation.open(info, region, room, 0);
        self.control.set_active_segment(number);
        if !old.is_empty() {
            self.control.wake_all(&*self.storage);
        }
        report!(info, segment = number, first_lsn = base_lsn.0, "segment opened");
        old
    }
}

/// Counts frames of the segment that takes appends: a mebibyte at the most.
fn count_some(segment: &Segment) {
    if let Some((region, _)) = segment.unsynced() {
        segment.count(&region, COUNT_LEN);
    }
}

/// What the frames of `segment` up to byte `end` come to, unless there is too much left to be counted, or a closure
/// takes long to write a record: that is not waited for.
fn count_to(segment: &Segment, end: usize) -> Option<Tally> {
    let (region, _) = segment.unsynced()?;
    (0..COUNTS).find_map(|_| {
        let tally = segment.count(&region, COUNT_LEN)?;
        std::hint::spin_loop();
        (tally.end == end as u64).then_some(tally)
    })
}
