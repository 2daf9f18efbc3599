//! From one segment to the next.

use std::sync::Arc;

use super::shared::{Active, Rotation, Shared, append_limit, check_lsn};
use super::{Log, append};
use crate::error::Result;
use crate::format::frame::{FrameHead, FrameKind};
use crate::format::link::{self, Link, MetaSlots, Predecessor, SegmentEnd};
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::memory::{Reservation, WALK_MAX_BYTES};
use crate::sabotage::{Break, is};
use crate::segment::prepare::Prepared;
use crate::segment::{Segment, SegmentInfo};

impl Log {
    /// Seals the segment that takes appends, and goes on in the next one. Does nothing if nothing has been appended to
    /// it. Durable with the next sync.
    ///
    /// # Errors
    /// [`Error::NoSpace`](crate::Error::NoSpace), with nothing changed; [`Error::Poisoned`](crate::Error::Poisoned),
    /// [`Error::Io`](crate::Error::Io), [`Error::InsideAppend`](crate::Error::InsideAppend).
    pub fn rotate(&self) -> Result<()> {
        append::check_outside()?;
        let mut rotation = self.shared.lock_rotation();
        self.shared.durability.check()?;
        let is_empty = self.shared.reserved_end() <= rotation.begin;
        if is_empty { Ok(()) } else { self.shared.rotate(&mut rotation) }
    }
}

impl Shared {
    /// Goes on to the next segment, unless somebody else has done so already.
    #[cold]
    pub(super) fn make_room(&self, len: usize) -> Result<()> {
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
        if end > WALK_MAX_BYTES as u64 {
            self.spares.walk_later(&active);
        }
        let previous = Predecessor { number: active.number(), end, crc };
        self.counters.segment_full(ordinal, offset);
        self.open_segment(rotation, spare, Some(previous), next_lsn, None);
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
        let Prepared { number, size, salt, mut region, file, .. } = prepared;
        let meta = if is(Break::LinkWithoutMeta) { MetaSlots::default() } else { self.meta.lock().clone() };
        let link = Link { previous, oldest: rotation.oldest, meta }.encode();
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
            Some(mut kept) => {
                kept.push(segment);
                self.segments.truncate(base_lsn, kept)
            }
        };
        self.counters.segment_opened(0, begin);
        rotation.rotor.install(number, region, append_limit(size), 0, Active { base_lsn, salt, start });
        rotation.rotor.retire();
        self.control.set_active_segment(number);
        if !old.is_empty() {
            self.control.wake_all(&*self.storage);
        }
        tracing::info!(segment = number, first_lsn = base_lsn.0, "segment opened");
        old
    }
}
