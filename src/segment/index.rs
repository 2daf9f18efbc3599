//! An index from record to offset: sparse for what has been walked, dense where records have been looked up.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use zerocopy::FromZeros;

use crate::format::frame::{ALIGN, HEADER_LEN};

/// One entry for this many records: it costs four bytes for as long as the segment is known.
const INTERVAL: u64 = 16;

/// Byte offsets of every 16th record of a segment, and of all records of an interval in which one has been looked up.
///
/// Relaxed throughout: the segment's frontier is released after the entries below it were stored, and is acquired
/// before they are read; distances are stored by readers, which all find the same.
#[derive(Debug)]
pub(crate) struct Index {
    segment_size: u64,
    /// In units of 8 bytes.
    entries: Table<AtomicU32, 4096>,
    /// Distance of each record from the preceding index entry, in units of 8 bytes, plus one; 0 if it is not known or
    /// too long.
    distances: Table<AtomicU16, 8192>,
}

/// Numbers that are 0 until they are stored, in blocks that are made when the first one in them is.
#[derive(Debug)]
struct Table<T, const BLOCK: usize>(OnceLock<Box<[Block<T, BLOCK>]>>);

/// `None` if there was no memory for it: nothing is found in it then.
type Block<T, const LEN: usize> = OnceLock<Option<Box<[T; LEN]>>>;

impl<T: FromZeros, const BLOCK: usize> Table<T, BLOCK> {
    const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// `None` if it is 0, or beyond the end.
    #[inline]
    fn get(&self, at: usize) -> Option<&T> {
        let block = self.0.get()?.get(at / BLOCK)?.get()?.as_ref()?;
        Some(&block[at % BLOCK])
    }

    #[cfg(test)]
    fn blocks(&self) -> usize {
        self.0.get().map_or(0, |blocks| blocks.iter().filter(|block| block.get().is_some()).count())
    }

    /// To be stored to, in a table of `len`. `None` beyond the end, or if there is no memory.
    fn make(&self, at: usize, len: u64) -> Option<&T> {
        let blocks = self.0.get_or_init(|| (0..index(len).div_ceil(BLOCK)).map(|_| OnceLock::new()).collect());
        let block = blocks.get(at / BLOCK)?.get_or_init(|| <[T; BLOCK]>::new_box_zeroed().ok()).as_ref()?;
        Some(&block[at % BLOCK])
    }
}

impl Index {
    pub(crate) fn new(segment_size: u64) -> Self {
        Self { segment_size, entries: Table::new(), distances: Table::new() }
    }

    /// The record of this `ordinal` in the segment starts at `offset`.
    #[inline]
    pub(crate) fn note(&self, ordinal: u64, offset: usize) {
        if !ordinal.is_multiple_of(INTERVAL) {
            return;
        }
        if let Some(entry) = self.entries.make(index(ordinal / INTERVAL), self.records_max() / INTERVAL + 1) {
            // A segment's largest offset, in units of 8, is 2^29.
            entry.store((offset / ALIGN) as u32, Ordering::Relaxed);
        }
    }

    /// The last indexed record at or before `ordinal`, which has been noted: its ordinal and its offset.
    #[inline]
    pub(crate) fn nearest(&self, ordinal: u64) -> (u64, usize) {
        let at = ordinal / INTERVAL;
        let units = self.entries.get(index(at)).map_or(0, |entry| entry.load(Ordering::Relaxed));
        (at * INTERVAL, units as usize * ALIGN)
    }

    /// The offset of the record of this `ordinal`, if it has been looked up, or one in the same interval has.
    #[inline]
    pub(crate) fn known(&self, ordinal: u64) -> Option<usize> {
        let distance = self.distances.get(index(ordinal))?.load(Ordering::Relaxed);
        let units = usize::from(distance.checked_sub(1)?);
        Some(self.nearest(ordinal).1 + units * ALIGN)
    }

    /// The record of this `ordinal` starts `distance` bytes after the preceding index entry.
    pub(crate) fn learn(&self, ordinal: u64, distance: usize) {
        let place = self.distances.make(index(ordinal), self.records_max());
        if let (Some(place), Ok(units)) = (place, u16::try_from(distance / ALIGN + 1)) {
            place.store(units, Ordering::Relaxed);
        }
    }

    /// Whether the record of this `ordinal` is the last before an indexed record.
    pub(crate) fn ends_interval(ordinal: u64) -> bool {
        (ordinal + 1).is_multiple_of(INTERVAL)
    }

    fn records_max(&self) -> u64 {
        self.segment_size / HEADER_LEN as u64
    }
}

fn index(ordinal: u64) -> usize {
    usize::try_from(ordinal).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_from_the_entry_before_it() {
        let index = Index::new(1 << 16);
        (0..100_u64).for_each(|ordinal| index.note(ordinal, 4096 + 24 * usize::try_from(ordinal).expect("small")));
        assert_eq!(index.nearest(0), (0, 4096));
        assert_eq!(index.nearest(47), (32, 4096 + 24 * 32));
        assert_eq!(index.nearest(48), (48, 4096 + 24 * 48));
    }

    #[test]
    fn what_was_not_noted_takes_no_memory() {
        let index = Index::new(1 << 26);
        index.note(INTERVAL * 5000, 4096);
        index.learn(INTERVAL * 5000 + 1, 24);
        assert_eq!((index.entries.blocks(), index.distances.blocks()), (1, 1));
        assert_eq!(index.known(INTERVAL * 5000 + 1), Some(4096 + 24));
        assert_eq!((index.nearest(INTERVAL * 9000).1, index.known(INTERVAL * 9000)), (0, None));
    }

    #[test]
    fn what_has_been_learnt_is_known() {
        let index = Index::new(1 << 24);
        (0..100_u64).for_each(|ordinal| index.note(ordinal, 4096 + 24 * usize::try_from(ordinal).expect("small")));
        assert_eq!(index.known(47), None);
        index.learn(47, 24 * 15);
        assert_eq!(index.known(47), Some(4096 + 24 * 47));
        index.learn(48, 0);
        assert_eq!(index.known(48), Some(4096 + 24 * 48), "one that is indexed");
        index.learn(46, 8 << 16);
        assert_eq!(
            (index.known(46), index.known(45), index.known(u64::MAX)),
            (None, None, None),
            "too far, and not learnt"
        );
    }
}
