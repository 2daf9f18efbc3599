//! Reservation: one atomic word gives every appender its place, without a lock and without a reference count.
//!
//! The idea of packing generation and offset into the word that is advanced is Aeron's tail counter; advancing it with
//! compare-and-swap instead of an addition keeps it from ever running past the end.
//!
//! A generation is a region with so much room in it. It picks one of the slots, which says where the room ends; that is
//! never changed: more room in the same region is another generation. **What keeps a region alive for an appender is its own
//! unpublished commit word**: a slot is emptied only when its generation is over and its region published up to where that
//! ended, and `published` cannot pass a reservation that is still held.

mod control;
mod reservation;
mod word;

use std::ptr::NonNull;
use std::sync::Arc;

pub(crate) use control::{CursorControl, Taken};
pub(crate) use reservation::Reservation;

use super::atomics::{AtomicU64, Ordering, Watched, recall, remember, spin_loop};
use super::region::{ALIGN, Region};
use word::{GENERATIONS, Word};

/// Generations at a time. In models few, so that they come round.
const SLOTS: usize = if cfg!(all(test, loom)) { 3 } else { GENERATIONS };

/// How long a thread backs off, in rounds of some ten nanoseconds each.
const STAND_BACK: u32 = 100;

/// Where appenders reserve their places. `C` travels with each generation, for the caller.
pub(crate) struct AppendCursor<C> {
    /// Release store by [`CursorControl`], after the slot that it names was filled; the acquire in [`AppendCursor::reserve`] reads
    /// that store, or a later compare-and-swap in its release sequence, and so sees the slot.
    word: Padded<AtomicU64>,
    /// The positions at which the room of the generations ends. Release, before the word is of the generation, by the
    /// thread that changes it: the acquire in [`AppendCursor::reserved`] sees that the word has left the one before.
    ends: [AtomicU64; SLOTS],
    slots: [Slot<C>; SLOTS],
}

/// A value alone on its cache lines: the word is written by every append, and its neighbours are read by all.
#[repr(align(128))]
struct Padded<T>(T);

struct Slot<C>(Watched<Option<Entry<C>>>);

struct Entry<C> {
    region: Arc<Region>,
    /// Byte offset of the end of the room that appenders may take, a multiple of 8, and the address of that place, which is in
    /// the region. While the word is of this entry's generation, no more than `limit` bytes remain.
    limit: usize,
    end: NonNull<u8>,
    context: C,
}

impl<C> Entry<C> {
    fn new(region: Arc<Region>, limit: usize, context: C) -> Self {
        assert!(limit <= region.len() && limit.is_multiple_of(ALIGN));
        let end = region.at(limit);
        Self { region, limit, end, context }
    }
}

// SAFETY: slots are written by the one `CursorControl` only, while no reservation in them exists and none can be made (see
// `CursorControl::fill_slot` and `CursorControl::retire`), and read through a reservation only. `Entry` is `Send + Sync` if `C` is.
unsafe impl<C: Send + Sync> Sync for AppendCursor<C> {}
// SAFETY: owning a cursor is owning its entries.
unsafe impl<C: Send> Send for AppendCursor<C> {}

/// What has been reserved, at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reserved {
    word: Word,
    /// The end of it, as a position in the count that regions were installed with.
    pub(crate) position: u64,
}

impl Reserved {
    /// How many records have been reserved in the region.
    pub(crate) fn ordinal(&self) -> u32 {
        self.word.ordinal()
    }

    /// Whether no more can be reserved.
    pub(crate) fn is_closed(&self) -> bool {
        self.word.is_closed()
    }

    /// Whether `len` bytes can be reserved.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        !self.word.is_closed() && self.word.remaining() >= len
    }
}

impl<C> AppendCursor<C> {
    /// A cursor with nothing installed, and the only handle that can change what is.
    pub(crate) fn new() -> (Arc<Self>, CursorControl<C>) {
        let cursor = Arc::new(Self {
            word: Padded(AtomicU64::new(Word::CLOSED.0)),
            ends: std::array::from_fn(|_| AtomicU64::new(0)),
            slots: std::array::from_fn(|_| Slot(Watched::new(None))),
        });
        let cursor_control = CursorControl::new(Arc::clone(&cursor));
        (cursor, cursor_control)
    }

    /// Takes `len` bytes, a multiple of 8, for `count` records; `None` if there is no room or the region is closed.
    #[expect(
        clippy::inline_always,
        reason = "a place that is returned in memory is loaded in other pieces than it was stored in"
    )]
    #[inline(always)]
    pub(crate) fn reserve(&self, len: usize, count: u32) -> Option<Reservation<'_, C>> {
        let guess = self.guess();
        let swapped = next_word(guess, len, count).is_some_and(|next| self.swap(guess, next).is_ok());
        let word = if swapped { guess } else { self.swap_now(len, count)? };
        Some(self.reserved_at(word, len))
    }

    /// Reserves for a thread that has guessed wrong; returns what the word was.
    #[cold]
    #[inline(never)]
    fn swap_now(&self, len: usize, count: u32) -> Option<Word> {
        let mut word = self.load();
        loop {
            if self.swap(word, next_word(word, len, count)?).is_ok() {
                return Some(word);
            }
            // Other threads are reserving now. The word goes from processor to processor with each reservation, which
            // takes longer than all the rest: better let them make several.
            for _ in 0..STAND_BACK {
                spin_loop();
            }
            word = self.load();
        }
    }

    /// As [`Self::reserve`]; `None` also if anything has been reserved since the word was that of `reserved`.
    pub(crate) fn reserve_after(&self, reserved: Reserved, len: usize, count: u32) -> Option<Reservation<'_, C>> {
        let word = reserved.word;
        loop {
            match self.swap(word, next_word(word, len, count)?) {
                Ok(_) => return Some(self.reserved_at(word, len)),
                // It may fail for no reason.
                Err(now) if now == word.0 => {}
                Err(_) => return None,
            }
        }
    }

    #[inline]
    fn swap(&self, word: Word, next: Word) -> Result<u64, u64> {
        let swapped = self.word.0.compare_exchange_weak(word.0, next.0, Ordering::Acquire, Ordering::Relaxed);
        if swapped.is_ok() {
            remember(std::ptr::from_ref(self).addr(), next.0);
        }
        swapped
    }

    /// This thread's last value of the word: right if no other thread has reserved since.
    ///
    /// A load of it would have to wait for the last swap to be complete, and the stores of this record with it. A wrong
    /// guess costs a swap that fails.
    #[inline]
    fn guess(&self) -> Word {
        recall(std::ptr::from_ref(self).addr()).map_or_else(|| self.load(), Word)
    }

    #[inline]
    fn load(&self) -> Word {
        Word(self.word.0.load(Ordering::Relaxed))
    }

    /// The reservation of `len` bytes that was just made by replacing `word`.
    #[inline]
    fn reserved_at(&self, word: Word, len: usize) -> Reservation<'_, C> {
        let slot = self.slots[word.generation()].0.read();
        // SAFETY: the swap succeeded, so this generation was open, and from now on its region has an unpublished
        // reservation below its end: `CursorControl::retire` leaves the slot alone until that is published, and
        // `CursorControl::fill_slot` fills empty slots only. Nobody writes the slot while this borrow lives: `Reservation`
        // does not use it once it has stored the commit word.
        let entry = unsafe { &*slot };
        let entry = entry.as_ref().expect("an open generation has an entry");
        Reservation::new(entry, word, len)
    }

    /// What has been reserved by now.
    pub(crate) fn reserved(&self) -> Reserved {
        loop {
            // Acquire, so that what the region's installer did before is visible.
            let word = Word(self.word.0.load(Ordering::Acquire));
            // Acquire: a thread that has stored another end since has seen the word leave the generation, and so does
            // the next load. If the word is the same then all the same, it is of the later generation, and so is this
            // end.
            let end = self.ends[word.generation()].load(Ordering::Acquire);
            if self.load() == word {
                return Reserved { word, position: end - word.remaining() as u64 };
            }
        }
    }
}

/// What `word` becomes by a reservation, if that can be made.
#[inline]
fn next_word(word: Word, len: usize, count: u32) -> Option<Word> {
    debug_assert!(len.is_multiple_of(ALIGN) && len >= 3 * ALIGN * count as usize);
    word.reserve((len / ALIGN) as u64, count)
}

#[cfg(test)]
mod tests {
    use super::super::mapping::{HeapMemory, Mapping};
    use super::*;

    fn region(len: usize) -> Arc<Region> {
        Arc::new(Region::live(Mapping::from_heap(Arc::new(HeapMemory::zeroed(len))), 0))
    }

    fn append(cursor: &AppendCursor<()>, len: usize, fill: u8) -> Option<usize> {
        let mut slot = cursor.reserve(len, 1)?;
        let offset = slot.offset();
        slot.bytes_mut(8..len).fill(fill);
        slot.complete(u32::try_from(len).expect("small"), 1);
        Some(offset)
    }

    #[test]
    fn places_follow_each_other_and_end_at_the_limit() {
        let (cursor, mut cursor_control) = AppendCursor::new();
        assert!(cursor.reserve(24, 1).is_none(), "nothing installed");
        cursor_control.install(region(128), 1000, 96, 0, ());
        assert_eq!(append(&cursor, 24, 1), Some(0));
        assert_eq!(append(&cursor, 40, 2), Some(24));
        assert_eq!(append(&cursor, 40, 3), None, "72 bytes remain below the limit only");
        assert_eq!(append(&cursor, 32, 4), Some(64));
        let reserved = cursor.reserved();
        assert_eq!((reserved.ordinal(), reserved.position, reserved.has_room(8)), (3, 1096, false));
        let taken = cursor_control.close(32).expect("open");
        assert_eq!((taken.offset, taken.ordinal), (96, 3));
        taken.trailer.expect("asked for").complete(32, 1);
        assert!(append(&cursor, 24, 1).is_none() && cursor.reserved().is_closed());
    }

    #[test]
    fn how_long_the_trailer_is_may_depend_on_where_it_begins() {
        let (cursor, mut cursor_control) = AppendCursor::new();
        cursor_control.install(region(128), 0, 96, 0, ());
        append(&cursor, 40, 1);
        let taken = cursor_control.close_with(|end| {
            assert!(end == 40 && cursor.reserve(24, 1).is_none(), "nothing moves it any more");
            56
        });
        let trailer = taken.and_then(|taken| taken.trailer).expect("asked for");
        assert_eq!((trailer.offset(), trailer.len()), (40, 56));
        trailer.complete(56, 1);
        assert!(cursor_control.retire());
    }

    #[test]
    fn room_is_added_without_moving_anything() {
        let (cursor, mut cursor_control) = AppendCursor::new();
        let region = region(256);
        cursor_control.install(Arc::clone(&region), 1000, 64, 5, ());
        let held = cursor.reserve(24, 1).expect("room");
        assert_eq!(append(&cursor, 48, 1), None);
        for limit in [64, 128, 200] {
            cursor_control.extend(limit, ());
            assert_eq!((cursor.reserved().position, cursor.reserved().ordinal()), (1024, 6));
        }
        assert_eq!(append(&cursor, 48, 1), Some(24));
        assert_eq!(append(&cursor, 136, 2), None, "128 bytes remain");
        held.complete(24, 1);
        let taken = cursor_control.close(0).expect("open");
        assert_eq!((taken.offset, taken.ordinal), (72, 7));
        region.extend(0, |_| true);
        assert_eq!(region.published(), 72);
        cursor_control.extend(256, ());
        assert!(cursor.reserve(24, 1).is_none(), "a closed region gets no more room");
    }

    #[test]
    fn a_place_is_given_only_after_what_was_seen() {
        let (cursor, mut cursor_control) = AppendCursor::new();
        cursor_control.install(region(128), 0, 128, 0, ());
        let seen = cursor.reserved();
        append(&cursor, 24, 1);
        assert!(cursor.reserve_after(seen, 24, 1).is_none());
        cursor.reserve_after(cursor.reserved(), 24, 1).expect("nobody came in between").complete(24, 1);
        let seen = cursor.reserved();
        cursor_control.extend(128, ());
        assert!(cursor.reserve_after(seen, 24, 1).is_none(), "of another generation");
    }

    #[test]
    fn a_region_is_kept_until_its_last_reservation_is_published() {
        let (cursor, mut cursor_control) = AppendCursor::new();
        let first = region(128);
        cursor_control.install(Arc::clone(&first), 0, 128, 0, ());
        let held = cursor.reserve(24, 1).expect("room");
        append(&cursor, 24, 7);
        cursor_control.close(0);
        cursor_control.install(region(128), 0, 128, 0, ());
        cursor_control.retire();
        assert_eq!(Arc::strong_count(&first), 3, "slot, control and test");
        held.complete(24, 1);
        cursor_control.retire();
        assert_eq!(Arc::strong_count(&first), 1);
    }

    #[test]
    fn threads_fill_regions_without_a_hole_or_an_overlap() {
        const THREADS: u8 = 4;
        // Miri takes seconds for each.
        const ROUNDS: u64 = if cfg!(miri) { 2 } else { 100 };
        let (cursor, mut cursor_control) = AppendCursor::new();
        let count = |region: &Region| {
            region.extend(region.published(), |_| true);
            let mut rest = region.bytes(0..region.published()).expect("published");
            let mut frames = 0;
            while let Some((len, _)) = rest.split_first_chunk() {
                let (frame, after) = rest.split_at(u32::from_le_bytes(*len) as usize);
                assert!(frame[8..].iter().all(|&b| b == frame[8]), "torn frame");
                (frames, rest) = (frames + 1, after);
            }
            frames
        };
        for _ in 0..ROUNDS {
            let region = region(4096);
            cursor_control.install(Arc::clone(&region), 0, 1024, 0, ());
            std::thread::scope(|scope| {
                for thread in 1..=THREADS {
                    let cursor = &cursor;
                    let fits = move || 4096 - cursor.reserved().position as usize >= 40;
                    scope.spawn(move || {
                        while fits() {
                            append(cursor, 24 + 8 * (thread as usize % 3), thread);
                        }
                    });
                }
                for limit in (1024..=4096).step_by(128) {
                    cursor_control.extend(limit, ());
                    std::thread::yield_now();
                }
            });
            let taken = cursor_control.close(0).expect("open");
            let (end, records) = (taken.offset, taken.ordinal);
            assert_eq!(count(&region), records);
            assert_eq!(region.published(), end);
        }
    }
}
