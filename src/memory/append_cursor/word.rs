//! The word that says what has been reserved.
//!
//! ```text
//!   63      58   57    56                 29 28                           0
//!  +----------+------+---------------------+------------------------------+
//!  |generation|closed| ordinal of the next | remaining room in 8-byte     |
//!  |  mod 64  |      | record in region    | units                        |
//!  +----------+------+---------------------+------------------------------+
//! ```
//!
//! A region of 4 GiB has fewer than 2^29 units, and fewer than 2^28 records of at least 24 bytes.

use super::super::region::ALIGN;

const ORDINAL_SHIFT: u32 = 29;
const CLOSED_SHIFT: u32 = 57;
const GENERATION_SHIFT: u32 = 58;
const REMAINING_MASK: u64 = (1 << ORDINAL_SHIFT) - 1;
const ORDINAL_MASK: u64 = (1 << (CLOSED_SHIFT - ORDINAL_SHIFT)) - 1;

/// Generations that the word can tell apart.
pub(super) const GENERATIONS: usize = 1 << (u64::BITS - GENERATION_SHIFT);

/// A value of the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    /// No generation is open.
    pub(super) const CLOSED: Self = Self(1 << CLOSED_SHIFT);

    /// With `remaining` bytes of room, a multiple of 8, and `ordinal` records before.
    pub(super) fn new(generation: usize, ordinal: u32, remaining: usize) -> Self {
        let units = (remaining / ALIGN) as u64;
        assert!(generation < GENERATIONS && u64::from(ordinal) <= ORDINAL_MASK && units <= REMAINING_MASK);
        Self((generation as u64) << GENERATION_SHIFT | u64::from(ordinal) << ORDINAL_SHIFT | units)
    }

    #[inline]
    pub(super) fn generation(self) -> usize {
        (self.0 >> GENERATION_SHIFT) as usize
    }

    #[inline]
    pub(super) fn is_closed(self) -> bool {
        self.0 & Self::CLOSED.0 != 0
    }

    /// How many records have been reserved in the region.
    #[inline]
    pub(super) fn ordinal(self) -> u32 {
        // As many bits as the mask has.
        (self.0 >> ORDINAL_SHIFT & ORDINAL_MASK) as u32
    }

    /// Bytes not yet reserved.
    #[inline]
    pub(super) fn remaining(self) -> usize {
        (self.0 & REMAINING_MASK) as usize * ALIGN
    }

    /// After a reservation of `units` of 8 bytes for `count` records; `None` if there is not that much room.
    #[inline]
    pub(super) fn reserve(self, units: u64, count: u32) -> Option<Self> {
        let has_room = !self.is_closed() && self.0 & REMAINING_MASK >= units;
        has_room.then(|| Self(self.0 - units + (u64::from(count) << ORDINAL_SHIFT)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_its_parts_apart() {
        let word = Word::new(63, (1 << 28) - 1, (1 << 32) - 8);
        assert_eq!((word.generation(), word.ordinal(), word.remaining()), (63, (1 << 28) - 1, (1 << 32) - 8));
        assert!(!word.is_closed() && Word(word.0 | Word::CLOSED.0).is_closed());
        let word = Word::new(5, 7, 48);
        let next = word.reserve(4, 2).expect("room");
        assert_eq!((next.generation(), next.ordinal(), next.remaining()), (5, 9, 16));
        assert!(next.reserve(3, 1).is_none() && Word(next.0 | Word::CLOSED.0).reserve(1, 1).is_none());
    }
}
