//! Appending.

use super::Log;
use super::inside;
use super::preparer::Need;
use super::shared::{Active, Shared};
use crate::error::{Error, Result};
use crate::format::frame::{self, FrameHead, FrameKind};
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::memory::Reservation;

/// Payloads of up to this many bytes that come in several slices are put together and summed before they get their place, as one slice
/// is, and for the same reason.
pub(super) const STAGED_LEN_MAX: usize = 512;

impl Log {
    /// Appends a record with type number `tag`, and returns its number. The payload is copied once, into the mapping.
    ///
    /// On return the record is in the page cache. Once it is published, that is once every append that took its place
    /// before it has ended too, it survives the death of this process. It survives a crash of the system after
    /// [`Log::sync`]. From many threads at once, the order of numbers is the order in which the appends took their
    /// places.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`], [`Error::NoSpace`] when a new segment is needed and the disk is full, [`Error::Io`]
    /// when it cannot be prepared for another reason, as where the process has no free descriptor to open its file, [`Error::Poisoned`], [`Error::Closed`], [`Error::Forked`],
    /// [`Error::InsideAppend`], [`Error::Exhausted`]. Nothing is written then, and no number used; but with
    /// [`Error::Poisoned`] the record may be in the log, where the file system has taken back what it had accepted.
    #[inline]
    pub fn append(&self, tag: u16, payload: &[u8]) -> Result<Lsn> {
        let shared = &*self.shared;
        // Computed before there is a place: it overlaps with draining the stores of the record before.
        let sum = shared.hasher.sum(payload);
        shared.append_summed(tag, payload, sum)
    }

    /// As [`Log::append`], with a payload that is given in several parts.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_vectored(&self, tag: u16, parts: &[&[u8]]) -> Result<Lsn> {
        self.append_for(Need::Ordinary, tag, parts)
    }

    /// As [`Self::append_vectored`]; what is essential may also use the room that is held back.
    #[inline]
    pub(crate) fn append_for(&self, need: Need, tag: u16, parts: &[&[u8]]) -> Result<Lsn> {
        let shared = &*self.shared;
        let len = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        if len <= STAGED_LEN_MAX {
            // The sum of several short slices takes longer than a copy, and the sum of all.
            let mut stage = [0; STAGED_LEN_MAX];
            let mut rest = &mut stage[..len];
            for part in parts {
                let (place, after) = rest.split_at_mut(part.len());
                place.copy_from_slice(part);
                rest = after;
            }
            let payload = &stage[..len];
            let sum = shared.hasher.sum(payload);
            let place = shared.reserve_record(len as u64, need)?;
            return shared.unless_lost(shared.append_to(place, tag, payload, sum));
        }
        let sum = shared.hasher.sum_parts(parts.iter().copied());
        let mut place = shared.reserve_record(len as u64, need)?;
        let lsn = lsn_of(&place);
        let mut at = frame::HEADER_LEN;
        for part in parts {
            place.write(at, part);
            at += part.len();
        }
        shared.publish_written(place, record(FrameKind::Data, tag, lsn), len, sum);
        shared.unless_lost(lsn)
    }

    /// Uses up the next record's number without a record, as a closure that panics in [`Log::append_with`] does, and
    /// returns it. Readers pass over it. For copies of logs that have lost records, so that the others keep their numbers.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_void(&self) -> Result<Lsn> {
        let place = self.shared.reserve_record(0, Need::Ordinary)?;
        let lsn = lsn_of(&place);
        self.shared.publish(place, record(FrameKind::Void, 0, lsn), &[]);
        self.shared.unless_lost(lsn)
    }
}

/// The number of the first record in `place`.
#[inline]
pub(super) fn lsn_of(place: &Reservation<'_, Active>) -> Lsn {
    // `Shared::rotate` keeps the sum away from the end of the number space.
    Lsn(place.context().base_lsn.0 + u64::from(place.ordinal()))
}

#[inline]
pub(super) fn record(kind: FrameKind, tag: u16, lsn: Lsn) -> FrameHead {
    FrameHead { kind, flags: 0, tag, lsn, durable_lag: 0 }
}

impl Shared {
    /// A place for `len` bytes, a multiple of 8, that hold `count` records.
    #[inline]
    pub(crate) fn reserve(&self, len: usize, count: u32, need: Need) -> Result<Reservation<'_, Active>> {
        loop {
            if let Some(place) = self.cursor.reserve(len, count) {
                self.ask_for_room(&place);
                return Ok(place);
            }
            self.make_room(len, need)?;
        }
    }

    /// Has more room made if the appenders have come far enough.
    #[inline]
    pub(super) fn ask_for_room(&self, place: &Reservation<'_, Active>) {
        if place.offset() >= place.context().ask_at {
            self.preparer.ask(place.offset(), || self.unsynced_bytes());
        }
    }

    /// As [`Log::append`], of a payload that has this sum.
    #[expect(clippy::inline_always, reason = "handing over a place takes longer than all of this")]
    #[inline(always)]
    pub(super) fn append_summed(&self, tag: u16, payload: &[u8], sum: u32) -> Result<Lsn> {
        match self.try_reserve_record(payload.len() as u64) {
            Some(place) => self.unless_lost(self.append_to(place, tag, payload, sum)),
            None => self.append_slowly(tag, payload, sum),
        }
    }

    /// As [`Self::reserve_record`], on the fast path only: `None` if anything else has to be done first.
    #[expect(
        clippy::inline_always,
        reason = "a place that is returned in memory is loaded in other pieces than it was stored in"
    )]
    #[inline(always)]
    fn try_reserve_record(&self, payload_len: u64) -> Option<Reservation<'_, Active>> {
        if inside::is_inside() || payload_len > self.payload_len_max() || !self.process.is_current() {
            return None;
        }
        let place = self.cursor.reserve(frame::padded(frame::HEADER_LEN + payload_len as usize), 1)?;
        self.ask_for_room(&place);
        Some(place)
    }

    /// Appends a record whose payload has this sum to `place`; returns its number.
    #[expect(clippy::inline_always, reason = "handing over a place takes longer than all of this")]
    #[inline(always)]
    fn append_to(&self, mut place: Reservation<'_, Active>, tag: u16, payload: &[u8], sum: u32) -> Lsn {
        let lsn = lsn_of(&place);
        place.write(frame::HEADER_LEN, payload);
        self.publish_written(place, record(FrameKind::Data, tag, lsn), payload.len(), sum);
        lsn
    }

    #[cold]
    #[inline(never)]
    fn append_slowly(&self, tag: u16, payload: &[u8], sum: u32) -> Result<Lsn> {
        let place = self.reserve_record(payload.len() as u64, Need::Ordinary)?;
        self.unless_lost(self.append_to(place, tag, payload, sum))
    }

    /// A place for one record with a payload of `payload_len` bytes.
    #[inline]
    pub(super) fn reserve_record(&self, payload_len: u64, need: Need) -> Result<Reservation<'_, Active>> {
        self.check_call()?;
        let max = self.payload_len_max();
        if payload_len > max {
            return self.check_open().and(Err(Error::RecordTooLarge { len: payload_len, max }));
        }
        // Bounded by a segment's size, which is mapped.
        self.reserve(frame::padded(frame::HEADER_LEN + payload_len as usize), 1, need)
    }

    /// Completes and publishes a frame. Its lag is filled in here. Returns its checksum.
    pub(crate) fn publish(&self, mut place: Reservation<'_, Active>, head: FrameHead, payload: &[u8]) -> u32 {
        place.write(frame::HEADER_LEN, payload);
        self.publish_written(place, head, payload.len(), frame::payload_sum(payload))
    }

    /// As [`Self::publish`], for a payload of this sum that is in place already.
    #[expect(clippy::inline_always, reason = "handing over a place takes longer than all of this")]
    #[inline(always)]
    pub(crate) fn publish_written(
        &self,
        mut place: Reservation<'_, Active>,
        mut head: FrameHead,
        payload_len: usize,
        payload_sum: u32,
    ) -> u32 {
        let Active { salt, start, .. } = *place.context();
        let position = Position(start.0 + place.offset() as u64);
        head.durable_lag = position.lag_units(self.durability.position());
        let tail = head.tail();
        place.write_words(frame::COMMIT_WORD_LEN, tail);
        // No frame is longer than a segment, and none of those is longer than 4 GiB.
        let len = (frame::HEADER_LEN + payload_len) as u32;
        let crc = frame::checksum(salt, len, tail, payload_sum);
        let end = Position(position.0 + place.len() as u64);
        place.complete(len, crc);
        self.control.wake_published(&*self.storage);
        if self.durability.is_due(end) {
            self.wake_background();
        }
        crc
    }

    #[cold]
    fn wake_background(&self) {
        self.durability.set_due(Position(u64::MAX));
        self.background.notify();
    }
}
