//! Appending several records at once, or under a number that the caller expects.

use std::ops::Range;
use std::slice;

use super::Log;
use super::append::{lsn_of, record};
use super::preparer::Need;
use super::shared::{Active, Shared};
use crate::error::{Error, Result};
use crate::format::frame::{self, FrameHead, FrameKind};
use crate::lsn::Lsn;
use crate::memory::Reservation;

impl Log {
    /// Appends several records, of type number and payload each, with consecutive numbers, which are returned. Readers
    /// see all of them or none, also after a crash, unless a truncation has cut the batch. A batch fits into one segment.
    ///
    /// # Errors
    /// As [`Log::append`]; [`Error::RecordTooLarge`] with the length of all frames, less one header, when they do not fit
    /// into a segment together.
    pub fn append_batch(&self, records: &[(u16, &[u8])]) -> Result<Range<Lsn>> {
        self.shared.append_items(None, records)
    }

    /// As [`Log::append_batch`], with payloads that are given in several parts: keys and values need not be joined.
    ///
    /// # Errors
    /// As [`Log::append_batch`].
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
    /// use mapwal::{Error, Lsn};
    ///
    /// let put: [&[u8]; 3] = [b"key", b"=", b"value"];
    /// let delete: [&[u8]; 1] = [b"other key"];
    /// assert_eq!(log.append_batch_vectored(&[(1, &put), (2, &delete)])?, Lsn(1)..Lsn(3));
    /// assert_eq!(log.get(Lsn(1))?.expect("a record").payload(), b"key=value");
    ///
    /// // For a caller that counts as well: an error if the numbers are others.
    /// log.append_at(Lsn(3), 2, b"last key")?;
    /// let refused = log.append_batch_at(Lsn(3), &[(1, &put)]);
    /// assert!(matches!(refused, Err(Error::NotNext { expected: Lsn(3), next: Lsn(4) })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn append_batch_vectored(&self, records: &[(u16, &[&[u8]])]) -> Result<Range<Lsn>> {
        self.shared.append_items(None, records)
    }

    /// As [`Log::append`], if the record gets the number `expected`. Whatever else appends at the same time, it is written
    /// under this number or not at all.
    ///
    /// # Errors
    /// [`Error::NotNext`] when the next record would get another number; otherwise as [`Log::append`].
    pub fn append_at(&self, expected: Lsn, tag: u16, payload: &[u8]) -> Result<()> {
        self.shared.append_items(Some(expected), &[(tag, payload)]).map(drop)
    }

    /// As [`Log::append_batch_vectored`], if the first record gets the number `expected`. For no records it says whether
    /// the next one would.
    ///
    /// # Errors
    /// [`Error::NotNext`] when it would get another number; otherwise as [`Log::append_batch`].
    pub fn append_batch_at(&self, expected: Lsn, records: &[(u16, &[&[u8]])]) -> Result<Range<Lsn>> {
        self.shared.append_items(Some(expected), records)
    }
}

/// A record to be appended together with others.
trait Item {
    fn tag(&self) -> u16;
    fn parts(&self) -> &[&[u8]];

    /// Bytes of the payload.
    fn len(&self) -> usize {
        self.parts().iter().fold(0, |sum, part| part.len().saturating_add(sum))
    }

    /// Bytes that the frame takes, padding included.
    fn frame_len(&self) -> usize {
        frame::padded(frame::HEADER_LEN.saturating_add(self.len()).min(usize::MAX - frame::ALIGN))
    }
}

impl Item for (u16, &[u8]) {
    fn tag(&self) -> u16 {
        self.0
    }

    fn parts(&self) -> &[&[u8]] {
        slice::from_ref(&self.1)
    }
}

impl Item for (u16, &[&[u8]]) {
    fn tag(&self) -> u16 {
        self.0
    }

    fn parts(&self) -> &[&[u8]] {
        self.1
    }
}

impl Shared {
    /// Appends `records` as one batch, the first as number `expected` if that is given.
    #[inline]
    fn append_items<I: Item>(&self, expected: Option<Lsn>, records: &[I]) -> Result<Range<Lsn>> {
        let Some((start, rest)) = records.split_first() else {
            self.check_call()?;
            self.check_open()?;
            self.durability.check()?;
            let next = self.next_lsn();
            let expected = expected.unwrap_or(next);
            return if expected == next { Ok(next..next) } else { Err(Error::NotNext { expected, next }) };
        };
        let mut place = self.reserve_items(expected, records)?;
        let first = lsn_of(&place);
        let next = Lsn(first.0 + records.len() as u64);
        // The last first: readers come from the start of the batch, and see nothing until the first frame is there,
        // which completes it.
        let mut flags = 0;
        for (index, item) in rest.iter().enumerate().rev() {
            let records_before = u32::try_from(index + 1).expect("they fit into a segment");
            let len_before = place.len() - item.frame_len();
            let (before, last) = place.split(len_before, records_before);
            self.publish_item(last, flags, Lsn(first.0 + u64::from(records_before)), item);
            flags = frame::FLAG_BATCH_CONTINUES;
            place = before;
        }
        self.publish_item(place, flags, first, start);
        self.unless_lost(first..next)
    }

    #[inline]
    fn publish_item<I: Item>(&self, mut place: Reservation<'_, Active>, flags: u8, lsn: Lsn, item: &I) {
        let mut at = frame::HEADER_LEN;
        for part in item.parts() {
            place.write(at, part);
            at += part.len();
        }
        let sum = self.hasher.sum_parts(item.parts().iter().copied());
        let head = FrameHead { flags, ..record(FrameKind::Data, item.tag(), lsn) };
        self.publish_written(place, head, at - frame::HEADER_LEN, sum);
    }

    /// A place for all of `records`.
    fn reserve_items<I: Item>(&self, expected: Option<Lsn>, records: &[I]) -> Result<Reservation<'_, Active>> {
        self.check_call()?;
        let max = self.payload_len_max();
        let len = records.iter().fold(0_u64, |sum, item| sum.saturating_add(item.frame_len() as u64));
        let padded_max = frame::padded(frame::HEADER_LEN + max as usize) as u64;
        match u32::try_from(records.len()) {
            Ok(count) if len <= padded_max => match expected {
                None => self.reserve(len as usize, count, Need::Ordinary),
                Some(expected) => self.reserve_at(len as usize, count, expected),
            },
            _ => self.check_open().and(Err(Error::RecordTooLarge { len: len - frame::HEADER_LEN as u64, max })),
        }
    }

    /// A place for `count` records of which the first gets number `expected`.
    pub(super) fn reserve_at(&self, len: usize, count: u32, expected: Lsn) -> Result<Reservation<'_, Active>> {
        loop {
            let (segment, reserved) = self.reserved();
            let next = segment.lsn_of(reserved.ordinal());
            if next != expected {
                return self.check_open().and(Err(Error::NotNext { expected, next }));
            }
            match self.cursor.reserve_after(reserved, len, count) {
                Some(place) => {
                    self.ask_for_room(&place);
                    return Ok(place);
                }
                None if reserved.has_room(len) => {}
                None => self.make_room(len, Need::Ordinary)?,
            }
        }
    }
}
