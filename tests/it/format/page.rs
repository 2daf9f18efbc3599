//! The control page, from `docs/design/format.md` alone.

use super::spec::{crc32, u64_at};

pub(crate) const LEN: usize = 4096;
pub(crate) const VERSION: u32 = 2;
pub(crate) const SHOWN: &[u8; 8] = b"mapwctl\x01";
pub(crate) const UNFINISHED: &[u8; 8] = b"mapwopen";
/// The words of a number with a checksum: version, active segment and oldest.
pub(crate) const SINGLE: [usize; 3] = [5, 7, 9];
/// The first words of what is durable, in both places.
pub(crate) const DURABLE: [usize; 2] = [80, 88];
pub(crate) const DURABLE_WORDS: usize = 7;
/// The first word of the close.
pub(crate) const CLOSED: usize = 96;
pub(crate) const CLOSED_WORDS: usize = 3;

pub(crate) fn word(page: &[u8], at: usize) -> u64 {
    u64_at(page, 8 * at)
}

pub(crate) fn put(page: &mut [u8], at: usize, words: &[u64]) {
    for (place, word) in page[8 * at..].chunks_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
}

/// The checksum of words, in the page of the log that `page` is of.
pub(crate) fn checksum(page: &[u8], words: &[u64]) -> u32 {
    let words: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    crc32(crc32(0, &page[8..24]), &words)
}

/// Word `at` of a page, with this in its low half.
pub(crate) fn signed(page: &[u8], at: usize, value: u32) -> u64 {
    let at = if at == 5 { 0 } else { at as u64 };
    u64::from(checksum(page, &[at << 32 | u64::from(value)])) << 32 | u64::from(value)
}

/// The low half of word `at`, if its checksum is right.
pub(crate) fn number(page: &[u8], at: usize) -> Option<u64> {
    let word = word(page, at);
    let value = word & u64::from(u32::MAX);
    (word == signed(page, at, u32::try_from(value).unwrap())).then_some(value)
}

/// The words from `at` on that have these values.
pub(crate) fn group(page: &[u8], at: usize, values: &[u64]) -> Vec<u64> {
    let halves = values.iter().flat_map(|value| [value & u64::from(u32::MAX), value >> 32]);
    let mut words: Vec<u64> =
        halves.zip(at..).map(|(half, at)| signed(page, at, u32::try_from(half).unwrap())).collect();
    words.push(signed(page, at + words.len(), checksum(page, &words)));
    words
}

pub(crate) fn put_signed(page: &mut [u8], at: usize, value: u32) {
    let word = signed(page, at, value);
    put(page, at, &[word]);
}

pub(crate) fn put_group(page: &mut [u8], at: usize, values: &[u64]) {
    let words = group(page, at, values);
    put(page, at, &words);
}

/// Lets the page say nothing of what is durable, as one that is new.
pub(crate) fn forget_durable(page: &mut [u8]) {
    DURABLE.into_iter().for_each(|at| put_group(page, at, &[0; 3]));
}

/// The values of the `count` words from `at` on, if they are whole.
pub(crate) fn values(page: &[u8], at: usize, count: usize) -> Option<Vec<u64>> {
    let words: Vec<u64> = (at..at + count).map(|at| word(page, at)).collect();
    let (sum, halves) = words.split_last().unwrap();
    let low = |word: u64| word & u64::from(u32::MAX);
    let is_whole = low(*sum) == u64::from(checksum(page, halves));
    is_whole.then(|| halves.chunks(2).map(|halves| low(halves[0]) | low(halves[1]) << 32).collect())
}

/// What is durable, by the place that counts: number, position and record.
pub(crate) fn durable(page: &[u8]) -> Option<[u64; 3]> {
    let places = DURABLE.into_iter().filter_map(|at| values(page, at, DURABLE_WORDS));
    places.max_by_key(|values| values[0]).map(|values| values.try_into().unwrap())
}

/// Whether the page is of another version, by a word that has its checksum.
pub(crate) fn is_other(page: &[u8]) -> bool {
    number(page, 5).is_some_and(|version| version != u64::from(VERSION))
}

/// Every word that has a checksum of its own.
pub(crate) fn with_checksum() -> impl Iterator<Item = usize> {
    let durable = DURABLE.into_iter().flat_map(|at| at..at + DURABLE_WORDS);
    SINGLE.into_iter().chain(durable).chain(CLOSED..CLOSED + CLOSED_WORDS)
}
