//! Records that a closure writes in place.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use super::Log;
use super::append::{STAGED_LEN_MAX, lsn_of, record};
use super::inside::Inside;
use super::preparer::Need;
use super::shared::{Active, Shared};
use crate::error::{Error, Result};
use crate::format::frame::{FrameHasher, FrameKind, HEADER_LEN};
use crate::lsn::Lsn;
use crate::memory::{Reservation, copy_into};

impl Log {
    /// Appends a record of `len` bytes that `fill` writes in place. It is given zeros.
    ///
    /// If `fill` panics, the record is voided: its number is used, readers pass over it, and the panic goes on. While
    /// `fill` runs, records appended later by other threads wait to be published; it must not wait for them. Calls from
    /// inside it that append to any log, or would wait for it, return [`Error::InsideAppend`].
    ///
    /// A sync, a close, a truncation, and a trim that has to sync wait until `fill` has ended. So do appends, once room has been made for
    /// them 64 times meanwhile. If it never ends, the log stops.
    ///
    /// The checksum is computed from the bytes once `fill` has stored them; by [`Self::append_with_writer`], while they are written.
    ///
    /// # Errors
    /// As [`Log::append`].
    ///
    /// # Panics
    /// When `fill` does.
    #[inline]
    pub fn append_with(&self, tag: u16, len: usize, fill: impl FnOnce(&mut [u8])) -> Result<Lsn> {
        let mut in_place = InPlace::reserve(&self.shared, tag, len)?;
        fill(in_place.payload_mut());
        let lsn = in_place.lsn;
        in_place.publish_stored(FrameKind::Data);
        drop(in_place);
        self.shared.unless_lost(lsn)
    }

    /// Appends a record of `len` bytes that `fill` writes from front to back: a payload that is summed while it is encoded, without
    /// a buffer of the caller's.
    ///
    /// It is appended if `fill` writes `len` bytes, no more and no less, and returns `Ok`. A payload of up to 512 bytes is put together
    /// before the record gets its place: nothing waits for `fill` then, and it has run also if the append is refused after it. A longer
    /// one is written in place, and `fill` is as the closure of [`Log::append_with`]. The same calls return [`Error::InsideAppend`] in both.
    ///
    /// # Errors
    /// As [`Log::append`]; [`Error::GivenUp`] when `fill` fails, or writes too little or too much: nothing is appended then, or,
    /// if the record had its place, it is voided.
    ///
    /// # Panics
    /// When `fill` does, with the same result.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
    /// use std::io::Write;
    ///
    /// use mapwal::{Error, PayloadWriter};
    ///
    /// let (key, value) = ("a key", "a value");
    /// let lsn = log.append_with_writer(7, 4 + key.len() + value.len(), |payload: &mut PayloadWriter<'_>| {
    ///     payload.put_slice(&u32::try_from(key.len()).expect("short").to_le_bytes());
    ///     payload.put_slice(key.as_bytes());
    ///     assert_eq!(payload.remaining(), value.len());
    ///     write!(payload, "{value}")
    /// })?;
    /// assert_eq!(log.get(lsn)?.expect("a record").payload(), b"\x05\0\0\0a keya value");
    ///
    /// let short = log.append_with_writer(7, 8, |payload| payload.write_all(b"short"));
    /// assert!(matches!(short, Err(Error::GivenUp { lsn: None, len: 8, written: 5, .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn append_with_writer(
        &self,
        tag: u16,
        len: usize,
        fill: impl FnOnce(&mut PayloadWriter<'_>) -> io::Result<()>,
    ) -> Result<Lsn> {
        let shared = &*self.shared;
        if len <= STAGED_LEN_MAX {
            shared.append_staged(tag, len, fill)
        } else {
            shared.append_in_place(tag, len, fill)
        }
    }
}

type Filled = io::Result<()>;

impl Shared {
    /// Appends a payload of no more than [`STAGED_LEN_MAX`] bytes once `fill` has written it.
    #[expect(clippy::inline_always, reason = "as for an append")]
    #[inline(always)]
    fn append_staged(&self, tag: u16, len: usize, fill: impl FnOnce(&mut PayloadWriter<'_>) -> Filled) -> Result<Lsn> {
        self.check_call()?;
        let mut stage = [0; STAGED_LEN_MAX];
        let payload = &mut stage[..len];
        let inside = Inside::enter();
        PayloadWriter::fill(payload, None, None, fill).or_else(|given_up| self.check_open().and(Err(given_up)))?;
        drop(inside);
        // Summed as a whole, which takes less than the sums of several slices.
        self.append_summed(tag, payload, self.hasher.sum(payload))
    }

    /// Appends a payload that `fill` writes in place.
    #[inline(never)]
    fn append_in_place(
        &self,
        tag: u16,
        len: usize,
        fill: impl FnOnce(&mut PayloadWriter<'_>) -> Filled,
    ) -> Result<Lsn> {
        let mut in_place = InPlace::reserve(self, tag, len)?;
        let lsn = in_place.lsn;
        let mut sum = self.hasher.clone();
        PayloadWriter::fill(in_place.payload_mut(), Some(&mut sum), Some(lsn), fill)?;
        in_place.publish(FrameKind::Data, sum.finish());
        drop(in_place);
        self.unless_lost(lsn)
    }
}

/// Long slices are stored and summed in steps of this many bytes, which a near cache still holds for the second of the two.
const STEP_LEN: usize = 16 << 10;

/// Writes the payload of a record, from front to back: what a closure of [`Log::append_with_writer`] is given.
pub struct PayloadWriter<'p> {
    payload: &'p mut [u8],
    written: usize,
    /// Of what is written in place.
    sum: Option<&'p mut FrameHasher>,
    /// Bytes that there was no room for.
    excess: usize,
}

impl<'p> PayloadWriter<'p> {
    /// Has all of `payload` written, and adds it to `sum`. `lsn` is the record's number, if it has one yet.
    #[expect(clippy::inline_always, reason = "as for an append")]
    #[inline(always)]
    fn fill(
        payload: &'p mut [u8],
        sum: Option<&'p mut FrameHasher>,
        lsn: Option<Lsn>,
        fill: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> Result<()> {
        let mut writer = Self { payload, written: 0, sum, excess: 0 };
        match fill(&mut writer) {
            Ok(()) if writer.remaining() == 0 && writer.excess == 0 => Ok(()),
            filled => Err(writer.given_up(lsn, filled.err())),
        }
    }

    /// Bytes that are still to be written.
    #[inline]
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.payload.len() - self.written
    }

    /// Writes all of `bytes`.
    ///
    /// # Panics
    /// When they are more than [`Self::remaining`].
    #[inline]
    pub fn put_slice(&mut self, bytes: &[u8]) {
        let (len, remaining) = (bytes.len(), self.remaining());
        assert!(len <= remaining, "{len} bytes for a payload of which {remaining} remain");
        self.store(bytes);
    }

    /// Stores and sums `bytes`, for which there is room.
    #[expect(clippy::inline_always, reason = "as for an append")]
    #[inline(always)]
    fn store(&mut self, bytes: &[u8]) {
        if bytes.len() > STEP_LEN {
            self.store_by_steps(bytes);
        } else {
            self.store_step(bytes);
        }
    }

    #[cold]
    fn store_by_steps(&mut self, bytes: &[u8]) {
        bytes.chunks(STEP_LEN).for_each(|step| self.store_step(step));
    }

    #[expect(clippy::inline_always, reason = "as for an append")]
    #[inline(always)]
    fn store_step(&mut self, bytes: &[u8]) {
        let end = self.written + bytes.len();
        copy_into(&mut self.payload[self.written..end], bytes);
        // Summed where they come from: a load of what was just stored would wait for that.
        if let Some(sum) = &mut self.sum {
            sum.update(bytes);
        }
        self.written = end;
    }

    #[cold]
    fn given_up(&self, lsn: Option<Lsn>, source: Option<io::Error>) -> Error {
        let (len, written) = (self.payload.len() as u64, (self.written + self.excess) as u64);
        Error::GivenUp { lsn, len, written, source }
    }
}

/// `write` takes as much as remains; `write_all` takes nothing unless all of it fits.
impl Write for PayloadWriter<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.remaining());
        if len == 0 {
            self.excess += bytes.len();
        }
        self.store(&bytes[..len]);
        Ok(len)
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > self.remaining() {
            self.excess += bytes.len();
            return Err(ErrorKind::WriteZero.into());
        }
        self.store(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for PayloadWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("PayloadWriter");
        out.field("len", &self.payload.len()).field("written", &self.written).finish_non_exhaustive()
    }
}

/// A record being written by a closure. Dropping it publishes it as void, unless it has been published.
struct InPlace<'l> {
    shared: &'l Shared,
    _inside: Inside,
    place: Option<Reservation<'l, Active>>,
    tag: u16,
    lsn: Lsn,
    len: usize,
}

impl<'l> InPlace<'l> {
    #[inline]
    fn reserve(shared: &'l Shared, tag: u16, len: usize) -> Result<Self> {
        let place = shared.reserve_record(len as u64, Need::Ordinary)?;
        let lsn = lsn_of(&place);
        Ok(Self { shared, _inside: Inside::enter(), place: Some(place), tag, lsn, len })
    }

    #[inline]
    fn place_mut(&mut self) -> &mut Reservation<'l, Active> {
        self.place.as_mut().expect("there until it is published")
    }

    #[inline]
    fn payload_mut(&mut self) -> &mut [u8] {
        let end = HEADER_LEN + self.len;
        self.place_mut().bytes_mut(HEADER_LEN..end)
    }

    /// Publishes it with the checksum of the bytes that are there.
    #[inline]
    fn publish_stored(&mut self, kind: FrameKind) {
        let hasher = &self.shared.hasher;
        let sum = hasher.sum(self.payload_mut());
        self.publish(kind, sum);
    }

    #[inline]
    fn publish(&mut self, kind: FrameKind, sum: u32) {
        // A child that a closure has forked has a copy of it, and publishes nothing.
        if let Some(place) = self.place.take().filter(|_| self.shared.process.is_current()) {
            self.shared.publish_written(place, record(kind, self.tag, self.lsn), self.len, sum);
        }
    }
}

impl Drop for InPlace<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.place.is_some() {
            self.void();
        }
    }
}

impl InPlace<'_> {
    #[cold]
    fn void(&mut self) {
        self.publish_stored(FrameKind::Void);
    }
}
