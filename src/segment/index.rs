//! A sparse index from record to offset.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use zerocopy::FromZeros;

use crate::format::frame::HEADER_LEN;

/// One entry for so many records: a look-up passes half as many frames on average, and each entry costs four bytes for as
/// long as the segment is known.
const INTERVAL: u64 = 16;

/// Byte offsets of every 16th record of a segment, in units of 8.
#[derive(Debug)]
pub(crate) struct Index {
    segment_size: u64,
    /// Made when the first record is noted. Zeroed by the allocator, so that untouched entries cost no memory.
    /// Relaxed: the segment's frontier is released after the entries below it were stored, and is acquired before they
    /// are read; walkers that race store the same values.
    entries: OnceLock<Box<[AtomicU32]>>,
}

impl Index {
    pub(crate) fn new(segment_size: u64) -> Self {
        Self { segment_size, entries: OnceLock::new() }
    }

    /// The record of this `ordinal` in the segment starts at `offset`.
    #[inline]
    pub(crate) fn note(&self, ordinal: u64, offset: usize) {
        if !ordinal.is_multiple_of(INTERVAL) {
            return;
        }
        let entries = self.entries.get_or_init(|| self.allocate());
        if let Some(entry) = entries.get(usize::try_from(ordinal / INTERVAL).unwrap_or(usize::MAX)) {
            // A segment's largest offset, in units of 8, is 2^29.
            entry.store((offset / 8) as u32, Ordering::Relaxed);
        }
    }

    /// The last indexed record at or before `ordinal`, which has been noted: its ordinal and its offset.
    #[inline]
    pub(crate) fn nearest(&self, ordinal: u64) -> (u64, usize) {
        let at = ordinal / INTERVAL;
        let entry = self.entries.get().and_then(|entries| entries.get(usize::try_from(at).ok()?));
        let units = entry.map_or(0, |entry| entry.load(Ordering::Relaxed));
        (at * INTERVAL, units as usize * 8)
    }

    fn allocate(&self) -> Box<[AtomicU32]> {
        let len = usize::try_from(self.segment_size / HEADER_LEN as u64 / INTERVAL).unwrap_or(0) + 1;
        // Without memory for it there is no index entry, and `nearest` finds no frame at offset 0.
        <[AtomicU32]>::new_box_zeroed_with_elems(len).unwrap_or_default()
    }
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
}
