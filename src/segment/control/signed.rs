//! Words of the control page that prove themselves: 32 bits of a value and 32 bits of checksum.
//!
//! The system and the device store a word whole, and each of these is there, with its checksum, before the page has its name. So whatever a
//! crash does, each is an old one or a new one, and right by itself: one that is wrong is damage. Values that take several words have a
//! checksum over all of them as well: where that is wrong and each word is right, a crash came between the words.

use super::layout::{Word, checksum};
use crate::error::Damage;

/// The words of a value of 32 bits.
pub(super) const SINGLE: [Word; 3] = [Word::Version, Word::ActiveSegment, Word::OldestSegment];
/// The words of a watermark: number, position and record, the lower half of each first, and the checksum.
pub(super) const WATERMARK_WORDS: usize = 7;
/// The words of the close: offset and segment number, and the checksum.
pub(super) const CLOSED_WORDS: usize = 3;
/// Values of several words, with how many these are.
pub(super) const GROUPS: [(Word, usize); 3] =
    [(Word::DurableEven, WATERMARK_WORDS), (Word::DurableOdd, WATERMARK_WORDS), (Word::Closed, CLOSED_WORDS)];

/// `value`, for the word at `index`, with its checksum.
pub(super) fn signed(log_id: u128, index: usize, value: u32) -> u64 {
    u64::from(value) | u64::from(sum_of(log_id, index, value)) << 32
}

/// The value of `word`, which is the one at `index`, if its checksum is right.
pub(super) fn value_of(log_id: u128, index: usize, word: u64) -> Option<u32> {
    let value = word as u32;
    (word == signed(log_id, index, value)).then_some(value)
}

/// What is wrong with `word`, which is the one at `index`.
pub(super) fn damage_of(log_id: u128, index: usize, word: u64) -> Option<Damage> {
    let (expected, found) = (sum_of(log_id, index, word as u32), (word >> 32) as u32);
    (expected != found).then_some(Damage::Checksum { expected, found })
}

/// That of the version leaves the index out, as in each version of the page: any version can be told from damage.
fn sum_of(log_id: u128, index: usize, value: u32) -> u32 {
    let index = if index == Word::Version as usize { 0 } else { index as u64 };
    checksum(log_id, &[index << 32 | u64::from(value)])
}

/// The words of `values` from `first` on: a word for each half, the lower first, and one for the checksum of all of these.
pub(super) fn group<const WORDS: usize>(log_id: u128, first: Word, values: &[u64]) -> [u64; WORDS] {
    let (first, last) = (first as usize, WORDS - 1);
    let half = |at: usize| (values[at / 2] >> (at % 2 * 32)) as u32;
    let mut words: [u64; WORDS] =
        std::array::from_fn(|at| if at < last { signed(log_id, first + at, half(at)) } else { 0 });
    words[last] = signed(log_id, first + last, checksum(log_id, &words[..last]));
    words
}

/// The values that `words` are the group of, if they are of one moment and not damaged.
pub(super) fn values<const VALUES: usize>(log_id: u128, words: &[u64]) -> Option<[u64; VALUES]> {
    let (&sum, halves) = words.split_last()?;
    // It covers the checksums of the words too.
    let is_whole = sum as u32 == checksum(log_id, halves);
    let half = |at: usize| u64::from(halves[at] as u32);
    is_whole.then(|| std::array::from_fn(|at| half(2 * at) | half(2 * at + 1) << 32))
}
