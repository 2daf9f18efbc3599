//! Appending.

use std::cell::Cell;

use super::Log;
use super::shared::{Active, Shared};
use crate::error::{Error, Result};
use crate::format::frame::{self, FrameHead, FrameKind};
use crate::lsn::Lsn;
use crate::memory::Reservation;

thread_local! {
    /// How many `append_with` closures this thread is inside of.
    static INSIDE: Cell<u32> = const { Cell::new(0) };
}

/// An error inside of an `append_with` closure: what waits for all appends would wait for this one.
pub(super) fn check_outside() -> Result<()> {
    if INSIDE.get() == 0 { Ok(()) } else { Err(Error::InsideAppend) }
}

impl Log {
    /// Appends a record with type number `tag`, and returns its number. The payload is copied once, into the mapping.
    ///
    /// On return the record is in the page cache: once it is published, that is once every append that began before it
    /// has come to its end as well, it survives the death of this process. It survives a crash of the system after
    /// [`Log::sync`]. From many threads at once, the order of numbers is the order in which the appends took their
    /// places.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`], [`Error::NoSpace`] when a new segment is needed and the disk is full, [`Error::Io`]
    /// when it cannot be prepared for another reason, [`Error::Poisoned`]. Nothing is written then, and no number used.
    #[inline]
    pub fn append(&self, tag: u16, payload: &[u8]) -> Result<Lsn> {
        let shared = &*self.shared;
        let frame_len = shared.frame_len(payload.len() as u64)?;
        let place = shared.reserve(frame_len, 1)?;
        let lsn = lsn_of(&place);
        shared.publish(place, record(FrameKind::Data, tag, lsn), payload);
        Ok(lsn)
    }

    /// Appends a record of `len` bytes that `fill` writes in place. It is given zeros.
    ///
    /// If `fill` panics, the record is given up: its number is used, readers pass over it, and the panic goes on. While
    /// `fill` runs, records appended later by other threads wait to be published; it must not wait for them. Calls
    /// from inside it that would wait for it return [`Error::InsideAppend`].
    ///
    /// # Errors
    /// As [`Log::append`].
    ///
    /// # Panics
    /// When `fill` does.
    #[inline]
    pub fn append_with(&self, tag: u16, len: usize, fill: impl FnOnce(&mut [u8])) -> Result<Lsn> {
        let shared = &*self.shared;
        let frame_len = shared.frame_len(len as u64)?;
        let place = shared.reserve(frame_len, 1)?;
        let lsn = lsn_of(&place);
        let mut filling = Filling { shared, place: Some(place), kind: FrameKind::Void, tag, lsn, len };
        INSIDE.set(INSIDE.get() + 1);
        if let Some(place) = &mut filling.place {
            fill(place.bytes_mut(frame::HEADER_LEN..frame::HEADER_LEN + len));
        }
        filling.kind = FrameKind::Data;
        drop(filling);
        Ok(lsn)
    }
}

/// A record being written by a closure. Dropping it publishes it: as void, unless it was completed.
struct Filling<'l> {
    shared: &'l Shared,
    place: Option<Reservation<'l, Active>>,
    kind: FrameKind,
    tag: u16,
    lsn: Lsn,
    len: usize,
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        INSIDE.set(INSIDE.get() - 1);
        if let Some(place) = self.place.take() {
            self.shared.publish_written(place, record(self.kind, self.tag, self.lsn), self.len);
        }
    }
}

/// The number of the first record in `place`.
#[inline]
fn lsn_of(place: &Reservation<'_, Active>) -> Lsn {
    // `Shared::rotate` keeps the sum away from the end of the number space.
    Lsn(place.context().base_lsn.0 + u64::from(place.ordinal()))
}

#[inline]
fn record(kind: FrameKind, tag: u16, lsn: Lsn) -> FrameHead {
    FrameHead { kind, flags: 0, tag, lsn, durable_lag: 0 }
}

impl Shared {
    /// Bytes that a frame takes, padding included.
    #[inline]
    fn frame_len(&self, payload_len: u64) -> Result<usize> {
        if payload_len > self.payload_len_max {
            return Err(Error::RecordTooLarge { len: payload_len, max: self.payload_len_max });
        }
        // Bounded by a segment's size, which is mapped.
        Ok(frame::padded(frame::HEADER_LEN + payload_len as usize))
    }
}
