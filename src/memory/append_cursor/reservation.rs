//! Bytes that belong to one appender.

use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;

use super::super::atomics::Ordering;
use super::super::copy::copy;
use super::super::mapping::Mapping;
use super::super::region::ALIGN;
use super::word::Word;
use super::{AppendCursor, Entry};

/// Bytes that belong to one appender until it publishes them.
///
/// Dropping one without publishing it leaves a hole that `published` never passes.
pub(crate) struct Reservation<'r, C> {
    /// Valid until the commit word is stored. A pointer, since a reference would have to stay valid for longer than
    /// that: until the end of the function that takes it.
    entry: NonNull<Entry<C>>,
    /// The first of `len` bytes of the entry's region, at `offset`, a multiple of 8: valid for as long as the entry.
    start: NonNull<u8>,
    offset: usize,
    len: usize,
    ordinal: u32,
    cursor: PhantomData<&'r AppendCursor<C>>,
}

// SAFETY: a reservation is shared access to an entry, and exclusive access to bytes that nothing else refers to.
unsafe impl<C: Send + Sync> Send for Reservation<'_, C> {}

impl<'r, C> Reservation<'r, C> {
    /// The first `len` of the bytes that `word`, which is of the generation of `entry`, says remain.
    #[inline]
    pub(super) fn new(entry: &'r Entry<C>, word: Word, len: usize) -> Self {
        let remaining = word.remaining();
        debug_assert!(len <= remaining && remaining <= entry.limit);
        // SAFETY: no more than `limit` bytes remain (see `Entry`), and the region has that many before `end`.
        let start = unsafe { entry.end.sub(remaining) };
        let offset = entry.limit - remaining;
        Self { entry: NonNull::from(entry), start, offset, len, ordinal: word.ordinal(), cursor: PhantomData }
    }

    /// `len` bytes at `offset` of the region of `entry`, where no one else has been given any.
    pub(super) fn trailer(entry: &'r Entry<C>, offset: usize, len: usize, ordinal: u32) -> Self {
        assert!(offset.is_multiple_of(ALIGN) && len >= ALIGN && offset + len <= entry.region.len());
        let start = entry.region.at(offset);
        Self { entry: NonNull::from(entry), start, offset, len, ordinal, cursor: PhantomData }
    }

    #[inline]
    fn entry(&self) -> &Entry<C> {
        // SAFETY: the slot is not written while this reservation is unpublished (see `AppendCursor::reserve`), and publishing
        // consumes it.
        unsafe { self.entry.as_ref() }
    }

    #[inline]
    pub(crate) fn context(&self) -> &C {
        &self.entry().context
    }

    /// What it is in.
    pub(crate) fn mapping(&self) -> &Mapping {
        self.entry().region.mapping()
    }

    /// Byte offset in the region.
    #[inline]
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes reserved.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The number of its first record among those of the region.
    #[inline]
    pub(crate) fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// Copies `bytes` to `at`, which is after the commit word.
    #[inline]
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        let destination = self.place(at..at + bytes.len());
        // SAFETY: the destination lies in this reservation (checked by `place`), whose bytes nobody else touches,
        // and cannot overlap `bytes`: no reference to unpublished bytes exists outside of `bytes_mut`'s borrow.
        unsafe { copy(bytes, destination) };
    }

    /// Writes two little-endian words to `at`, which is after the commit word.
    #[inline]
    pub(crate) fn write_words(&mut self, at: usize, words: [u64; 2]) {
        // One by one, from registers. Copied together, they would be loaded from where both have just been stored: such a load waits
        // until all stores before it have left the processor, those of the payload as well.
        let [first, second] = words;
        self.write_word(at, first);
        self.write_word(at + ALIGN, second);
    }

    #[inline]
    fn write_word(&mut self, at: usize, word: u64) {
        let destination = self.place(at..at + ALIGN).cast::<u64>();
        // SAFETY: eight bytes in this reservation (checked by `place`), which nobody else touches.
        unsafe { destination.write_unaligned(word.to_le()) };
    }

    /// The bytes in `range`, which is after the commit word, to be written in place.
    #[inline]
    pub(crate) fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        let len = range.len();
        let start = self.place(range);
        // SAFETY: the range lies in this reservation (checked by `place`) and is borrowed from it exclusively;
        // mapped bytes are initialized.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) }
    }

    #[inline]
    fn place(&self, range: Range<usize>) -> NonNull<u8> {
        assert!(range.start >= ALIGN && range.start <= range.end && range.end <= self.len);
        self.entry().region.shadow().write(self.offset + range.start..self.offset + range.end);
        // SAFETY: `start` is valid for `len` bytes, and `range` lies in them (asserted).
        unsafe { self.start.add(range.start) }
    }

    /// Two reservations: the first `len` bytes, a multiple of 8, for `records` records, and the rest.
    pub(crate) fn split(self, len: usize, records: u32) -> (Self, Self) {
        assert!(len.is_multiple_of(ALIGN) && len >= ALIGN && self.len >= len + ALIGN);
        // SAFETY: `start` is valid for `self.len` bytes, which are more than `len` (asserted).
        let start = unsafe { self.start.add(len) };
        let (offset, ordinal) = (self.offset + len, self.ordinal + records);
        let rest = Self { start, offset, len: self.len - len, ordinal, ..self };
        (Self { len, ..self }, rest)
    }

    /// Stores the commit word of the frame, of `frame_len` bytes without padding: a walk may pass it from then on.
    #[inline]
    pub(crate) fn complete(self, frame_len: u32, crc: u32) {
        // Rounded up to a multiple of 8, it is what was reserved.
        assert!(self.len.wrapping_sub(frame_len as usize) < ALIGN);
        let word = u64::from(crc) << 32 | u64::from(frame_len);
        let start = self.start.cast().as_ptr();
        // SAFETY: `start` is valid for a commit word and aligned, since mappings are, and limits and what remains are
        // multiples of 8; from the start of a frame it is accessed as this atomic only, until the frame is published and
        // immutable.
        let commit_word = unsafe { self.entry().region.shadow().word(start, self.offset / ALIGN) };
        // Release: the acquire load in `Region::extend` that sees this word sees the frame's bytes. It is the last use
        // of the entry.
        commit_word.store(word.to_le(), Ordering::Release);
    }
}
