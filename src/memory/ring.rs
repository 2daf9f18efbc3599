//! Reservation: one atomic word gives every appender its place, without a lock and without a reference count.
//!
//! The idea of packing generation and offset into the word that is advanced is Aeron's tail counter; advancing it with
//! compare-and-swap instead of an addition keeps it from ever running past the end.
//!
//! ```text
//!   63      59 58     57                 30 29                            0
//!  +----------+------+---------------------+------------------------------+
//!  |generation|closed| ordinal of the next | remaining room in 8-byte     |
//!  |  mod 32  |      | record in region    | units, seal's room excluded  |
//!  +----------+------+---------------------+------------------------------+
//! ```
//!
//! The generation picks one of 32 slots, each holding one region. **What keeps a region alive for an appender is its own
//! unpublished commit word**: a slot is emptied only when its region is closed and published up to its end, and
//! `published` cannot pass a reservation that is still held.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

#[cfg(not(target_arch = "x86_64"))]
use zerocopy::IntoBytes;

use super::region::Region;
use super::sync::{AtomicU64, Ordering, Watched, yield_now};

const SLOTS: usize = 32;
/// Frames are looked for by the thread that rotates in so many bytes at the most: that takes less than a millisecond, a
/// whole segment of small frames ten times that.
pub(crate) const WALK_MAX_BYTES: usize = 1 << 20;
const ALIGN: usize = 8;
const ORDINAL_SHIFT: u32 = 30;
const CLOSED: u64 = 1 << 58;
const GENERATION_SHIFT: u32 = 59;
const REMAINING_MASK: u64 = (1 << ORDINAL_SHIFT) - 1;
const ORDINAL_MASK: u64 = (1 << 28) - 1;

/// Where appenders reserve their places. `C` travels with each region, for the caller.
pub(crate) struct Ring<C> {
    /// Release store by [`Rotor::install`], after the slot it names was filled; the acquire in [`Ring::reserve`] reads
    /// that store, or a later compare-and-swap in its release sequence, and so sees the slot.
    word: Padded<AtomicU64>,
    slots: [Slot<C>; SLOTS],
}

/// A value alone on its cache lines: the word is written by every append, what stands beside it is read by all.
#[repr(align(128))]
struct Padded<T>(T);

struct Slot<C>(Watched<Option<Entry<C>>>);

struct Entry<C> {
    region: Arc<Region>,
    /// Byte offset of the end of the room that appenders may take.
    limit: usize,
    context: C,
}

// SAFETY: slots are written by the one `Rotor` only, while no reservation in them exists and none can be made (see
// `Rotor::install` and `Rotor::retire`), and read through a reservation only. `Entry` is `Send + Sync` if `C` is.
unsafe impl<C: Send + Sync> Sync for Ring<C> {}
// SAFETY: owning a ring is owning its entries.
unsafe impl<C: Send> Send for Ring<C> {}

/// What the word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor(u64);

impl Cursor {
    /// The key that the region was installed with, modulo the number of slots.
    #[inline]
    pub(crate) fn is_of(self, key: u64) -> bool {
        self.generation() == slot_of(key)
    }

    /// How many records have been reserved in the region.
    #[inline]
    pub(crate) fn ordinal(self) -> u32 {
        u32::try_from(self.0 >> ORDINAL_SHIFT & ORDINAL_MASK).expect("28 bits")
    }

    /// Bytes not yet reserved.
    #[inline]
    pub(crate) fn remaining(self) -> usize {
        (self.0 & REMAINING_MASK) as usize * ALIGN
    }

    /// Whether no more can be reserved in the region.
    #[inline]
    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    fn generation(self) -> usize {
        (self.0 >> GENERATION_SHIFT) as usize
    }
}

fn slot_of(key: u64) -> usize {
    (key % SLOTS as u64) as usize
}

impl<C> Ring<C> {
    /// A ring with nothing installed, and the only handle that can change what is.
    pub(crate) fn new() -> (Arc<Self>, Rotor<C>) {
        let ring = Arc::new(Self {
            word: Padded(AtomicU64::new(CLOSED)),
            slots: std::array::from_fn(|_| Slot(Watched::new(None))),
        });
        let rotor = Rotor { ring: Arc::clone(&ring), current: None, closed: VecDeque::new() };
        (ring, rotor)
    }

    /// Takes `len` bytes, a multiple of 8, for `count` records; `None` if there is no room or the region is closed.
    #[inline]
    pub(crate) fn reserve(&self, len: usize, count: u32) -> Option<Reservation<'_, C>> {
        self.reserve_if(len, count, |_| true)
    }

    /// As [`Self::reserve`]; `None` also if anything has been reserved since the word was `cursor`.
    pub(crate) fn reserve_at(&self, len: usize, count: u32, cursor: Cursor) -> Option<Reservation<'_, C>> {
        self.reserve_if(len, count, |word| word == cursor.0)
    }

    #[inline]
    fn reserve_if(&self, len: usize, count: u32, allowed: impl Fn(u64) -> bool) -> Option<Reservation<'_, C>> {
        debug_assert!(len.is_multiple_of(ALIGN) && len >= 3 * ALIGN * count as usize);
        let units = (len / ALIGN) as u64;
        let mut word = self.word.0.load(Ordering::Relaxed);
        loop {
            if word & CLOSED != 0 || word & REMAINING_MASK < units || !allowed(word) {
                return None;
            }
            let next = word - units + (u64::from(count) << ORDINAL_SHIFT);
            match self.word.0.compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        let cursor = Cursor(word);
        let slot = self.slots[cursor.generation()].0.read();
        // SAFETY: the swap succeeded, so this generation is installed and not closed, and from now on it has an
        // unpublished reservation below its end: `Rotor::retire` leaves the slot alone until that is published, and
        // `Rotor::install` fills empty slots only. Nobody writes the slot while this borrow lives: `Reservation`
        // does not use it once it has stored the commit word.
        let entry = unsafe { &*slot };
        let entry = entry.as_ref().expect("an installed generation has an entry");
        let offset = entry.limit - cursor.remaining();
        Some(Reservation::new(entry, offset, len, cursor.ordinal()))
    }

    /// The state of the word. Acquire, so that what its region's installer did before is visible.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor(self.word.0.load(Ordering::Acquire))
    }
}

/// The one handle that installs, closes and retires regions.
pub(crate) struct Rotor<C> {
    ring: Arc<Ring<C>>,
    current: Option<Current>,
    /// Closed regions whose slots are not yet empty, oldest first.
    closed: VecDeque<Closed>,
}

struct Current {
    slot: usize,
    region: Arc<Region>,
    limit: usize,
}

struct Closed {
    slot: usize,
    region: Arc<Region>,
    end: usize,
}

impl<C> Rotor<C> {
    /// Opens `region` for appenders, from its published end up to `limit`, with `ordinal` records already in it. The
    /// one before must have been closed.
    pub(crate) fn install(&mut self, key: u64, region: Arc<Region>, limit: usize, ordinal: u32, context: C) {
        assert!(self.current.is_none(), "close the open region first");
        let slot = slot_of(key);
        while let Some(closed) = self.closed.iter().find(|closed| closed.slot == slot) {
            closed.region.extend(closed.region.published(), |_| true);
            self.retire();
            yield_now();
        }
        let start = region.published();
        assert!(start <= limit && limit <= region.len() && start.is_multiple_of(ALIGN) && limit.is_multiple_of(ALIGN));
        let entry = Entry { region: Arc::clone(&region), limit, context };
        let place = self.ring.slots[slot].0.write();
        // SAFETY: only this handle writes slots. This one is empty, and the word is closed, so that nobody can make a
        // reservation that would read it before the store below.
        unsafe { *place = Some(entry) };
        self.current = Some(Current { slot, region, limit });
        let remaining = ((limit - start) / ALIGN) as u64;
        let word = (slot as u64) << GENERATION_SHIFT | u64::from(ordinal) << ORDINAL_SHIFT | remaining;
        self.ring.word.0.store(word, Ordering::Release);
    }

    /// Stops reservations, and returns the end of those made and how many records they are. With `trailer_len > 0`,
    /// that many bytes behind the end, which the region must have behind its limit, are reserved for the caller.
    pub(crate) fn close(&mut self, trailer_len: usize) -> Option<(usize, u32, Option<Reservation<'_, C>>)> {
        let Current { slot, region, limit } = self.current.take()?;
        let cursor = Cursor(self.ring.word.0.fetch_or(CLOSED, Ordering::AcqRel));
        let offset = limit - cursor.remaining();
        assert!(trailer_len.is_multiple_of(ALIGN) && trailer_len <= region.len() - offset);
        self.closed.push_back(Closed { slot, region, end: offset + trailer_len });
        let ordinal = cursor.ordinal();
        if trailer_len == 0 {
            return Some((offset, ordinal, None));
        }
        let place = self.ring.slots[slot].0.read();
        // SAFETY: as in `Ring::reserve`: the trailer lies below the end just recorded and is not published, and this
        // borrow of the only `Rotor` lasts as long as the reservation.
        let entry = unsafe { &*place };
        let entry = entry.as_ref().expect("the open region has an entry");
        Some((offset, ordinal, Some(Reservation::new(entry, offset, trailer_len, ordinal))))
    }

    /// Empties the slots of closed regions that are published to their end, and so lets go of the regions. It looks for
    /// frames that nobody has looked for only if those take less than [`WALK_MAX_BYTES`].
    pub(crate) fn retire(&mut self) {
        while let Some(Closed { slot, region, end }) = self.closed.front() {
            let mut published = region.published();
            if published < *end && *end - published <= WALK_MAX_BYTES {
                (published, _) = region.extend(published, |_| true);
            }
            if published < *end {
                return;
            }
            let place = self.ring.slots[*slot].0.write();
            // SAFETY: only this handle writes slots. The generation is closed, so no reservation can begin in it, and
            // every one made was below `end` and is published; publishing is the last thing that a reservation does,
            // and whoever moved `published` over it has acquired it, as the load above acquires that.
            unsafe { *place = None };
            self.closed.pop_front();
        }
    }
}

/// Bytes that belong to one appender until it publishes them.
///
/// Dropping one without publishing it leaves a hole that `published` never passes.
pub(crate) struct Reservation<'r, C> {
    /// Valid until the commit word is stored. A pointer, since a reference would have to stay valid for longer than
    /// that: until the end of the function that takes it.
    entry: NonNull<Entry<C>>,
    offset: usize,
    len: usize,
    ordinal: u32,
    ring: PhantomData<&'r Ring<C>>,
}

// SAFETY: a reservation is shared access to an entry, and exclusive access to bytes that nothing else refers to.
unsafe impl<C: Send + Sync> Send for Reservation<'_, C> {}

impl<'r, C> Reservation<'r, C> {
    fn new(entry: &'r Entry<C>, offset: usize, len: usize, ordinal: u32) -> Self {
        Self { entry: NonNull::from(entry), offset, len, ordinal, ring: PhantomData }
    }

    #[inline]
    fn entry(&self) -> &Entry<C> {
        // SAFETY: the slot is not written while this reservation is unpublished (see `Ring::reserve`), and publishing
        // consumes it.
        unsafe { self.entry.as_ref() }
    }

    #[inline]
    pub(crate) fn context(&self) -> &C {
        &self.entry().context
    }

    /// Byte offset in the region.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes reserved.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The number of its first record among those of the region.
    pub(crate) fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// Copies `bytes` to `at`, which lies behind the commit word.
    #[inline]
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        let destination = self.start_of(&(at..at + bytes.len()));
        // SAFETY: the destination lies in this reservation (checked by `start_of`), whose bytes nobody else touches,
        // and cannot overlap `bytes`: no reference to unpublished bytes exists outside of `bytes_mut`'s borrow.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), destination, bytes.len()) };
    }

    /// Writes two little-endian words to `at`, which lies behind the commit word.
    ///
    /// In one store: a checksum that soon loads them together would otherwise have to wait until both have left the
    /// store buffer, and with them all stores before.
    #[inline]
    pub(crate) fn write_words(&mut self, at: usize, words: [u64; 2]) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_mm_set_epi64x, _mm_storeu_si128};
            let destination = self.start_of(&(at..at + size_of_val(&words)));
            // SAFETY: SSE2 is part of the architecture.
            let value = unsafe { _mm_set_epi64x(words[1].cast_signed(), words[0].cast_signed()) };
            // SAFETY: the destination lies in this reservation (checked by `start_of`), whose bytes nobody else
            // touches; the store needs no alignment.
            unsafe { _mm_storeu_si128(destination.cast(), value) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        self.write(at, words.map(u64::to_le).as_bytes());
    }

    /// The bytes in `range`, which lies behind the commit word, to be written in place.
    #[inline]
    pub(crate) fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        let start = self.start_of(&range);
        // SAFETY: the range lies in this reservation (checked by `start_of`) and is borrowed from it exclusively;
        // mapped bytes are initialized.
        unsafe { std::slice::from_raw_parts_mut(start, range.len()) }
    }

    fn start_of(&self, range: &Range<usize>) -> *mut u8 {
        assert!(range.start >= ALIGN && range.start <= range.end && range.end <= self.len);
        let region = &self.entry().region;
        region.shadow().write(self.offset + range.start..self.offset + range.end);
        region.at(self.offset + range.start).as_ptr()
    }

    /// Two reservations: the first `len` bytes, a multiple of 8, for `records` records, and the rest.
    pub(crate) fn split(self, len: usize, records: u32) -> (Self, Self) {
        assert!(len.is_multiple_of(ALIGN) && len >= ALIGN && self.len >= len + ALIGN);
        let rest = Self { offset: self.offset + len, len: self.len - len, ordinal: self.ordinal + records, ..self };
        (Self { len, ..self }, rest)
    }

    /// Shows the frame, of `frame_len` bytes without padding, to readers.
    #[inline]
    pub(crate) fn publish(self, frame_len: u32, crc: u32) {
        assert!(frame_len > 0 && (frame_len as usize).next_multiple_of(ALIGN) == self.len);
        let word = u64::from(crc) << 32 | u64::from(frame_len);
        // Release: the acquire load in `Region::extend` that sees this word sees the frame's bytes. It is the last use
        // of the entry.
        self.entry().region.commit_word(self.offset).store(word.to_le(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::super::mapping::{HeapMemory, Mapping};
    use super::*;

    fn region(len: usize) -> Arc<Region> {
        Arc::new(Region::live(Mapping::from_heap(Arc::new(HeapMemory::zeroed(len))), 0))
    }

    fn append(ring: &Ring<()>, len: usize, fill: u8) -> Option<usize> {
        let mut slot = ring.reserve(len, 1)?;
        let offset = slot.offset();
        slot.bytes_mut(8..len).fill(fill);
        slot.publish(u32::try_from(len).expect("small"), 1);
        Some(offset)
    }

    #[test]
    fn places_follow_each_other_and_end_at_the_limit() {
        let (ring, mut rotor) = Ring::new();
        assert!(ring.reserve(24, 1).is_none(), "nothing installed");
        rotor.install(1, region(128), 96, 0, ());
        assert_eq!(append(&ring, 24, 1), Some(0));
        assert_eq!(append(&ring, 40, 2), Some(24));
        assert_eq!(append(&ring, 40, 3), None, "72 bytes remain below the limit only");
        assert_eq!(append(&ring, 32, 4), Some(64));
        assert_eq!(ring.cursor().ordinal(), 3);
        let (end, records, trailer) = rotor.close(32).expect("open");
        assert_eq!((end, records), (96, 3));
        trailer.expect("asked for").publish(32, 1);
        assert!(append(&ring, 24, 1).is_none());
    }

    #[test]
    fn a_region_is_kept_until_its_last_reservation_is_published() {
        let (ring, mut rotor) = Ring::new();
        let first = region(128);
        rotor.install(1, Arc::clone(&first), 128, 0, ());
        let held = ring.reserve(24, 1).expect("room");
        append(&ring, 24, 7);
        rotor.close(0);
        rotor.install(2, region(128), 128, 0, ());
        rotor.retire();
        assert_eq!(Arc::strong_count(&first), 3, "slot, rotor and test");
        held.publish(24, 1);
        rotor.retire();
        assert_eq!(Arc::strong_count(&first), 1);
    }

    #[test]
    fn threads_fill_regions_without_a_hole_or_an_overlap() {
        const THREADS: u8 = 4;
        // Miri takes seconds for each.
        const ROUNDS: u64 = if cfg!(miri) { 2 } else { 100 };
        let (ring, mut rotor) = Ring::new();
        let full = |region: &Region| {
            let mut frames = 0;
            region.extend(0, |frame| {
                assert!(frame[8..].iter().all(|&b| b == frame[8]), "torn frame");
                frames += 1;
                true
            });
            frames
        };
        for key in 0..ROUNDS {
            let region = region(4096);
            rotor.install(key, Arc::clone(&region), 4096, 0, ());
            std::thread::scope(|scope| {
                for thread in 1..=THREADS {
                    let ring = &ring;
                    scope.spawn(move || while append(ring, 24 + 8 * (thread as usize % 3), thread).is_some() {});
                }
            });
            let (end, records, _) = rotor.close(0).expect("open");
            assert_eq!(full(&region), records);
            assert_eq!(region.published(), end);
        }
    }
}
