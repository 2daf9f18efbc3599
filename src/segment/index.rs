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
    /// Made when the first record is noted. Zeroed by the allocator, so that untouched entries cost no memory. In units of 8.
    entries: OnceLock<Box<[AtomicU32]>>,
    /// Distance of each record from the preceding index entry, in units of 8 bytes, plus one; 0 if it is not known or
    /// too long. Made when the first record is looked up.
    distances: OnceLock<Box<[AtomicU16]>>,
}

impl Index {
    pub(crate) fn new(segment_size: u64) -> Self {
        Self { segment_size, entries: OnceLock::new(), distances: OnceLock::new() }
    }

    /// The record of this `ordinal` in the segment starts at `offset`.
    #[inline]
    pub(crate) fn note(&self, ordinal: u64, offset: usize) {
        if !ordinal.is_multiple_of(INTERVAL) {
            return;
        }
        let entries = self.entries.get_or_init(|| zeroed(self.records_max() / INTERVAL + 1));
        if let Some(entry) = entries.get(index(ordinal / INTERVAL)) {
            // A segment's largest offset, in units of 8, is 2^29.
            entry.store((offset / ALIGN) as u32, Ordering::Relaxed);
        }
    }

    /// The last indexed record at or before `ordinal`, which has been noted: its ordinal and its offset.
    #[inline]
    pub(crate) fn nearest(&self, ordinal: u64) -> (u64, usize) {
        let at = ordinal / INTERVAL;
        let units = self.entries.get().and_then(|entries| entries.get(index(at)));
        let units = units.map_or(0, |entry| entry.load(Ordering::Relaxed));
        (at * INTERVAL, units as usize * ALIGN)
    }

    /// The offset of the record of this `ordinal`, if it has been looked up, or one in the same interval has.
    #[inline]
    pub(crate) fn known(&self, ordinal: u64) -> Option<usize> {
        let distance = self.distances.get()?.get(index(ordinal))?.load(Ordering::Relaxed);
        let units = usize::from(distance.checked_sub(1)?);
        Some(self.nearest(ordinal).1 + units * ALIGN)
    }

    /// The record of this `ordinal` starts `distance` bytes after the preceding index entry.
    pub(crate) fn learn(&self, ordinal: u64, distance: usize) {
        let distances = self.distances.get_or_init(|| zeroed(self.records_max()));
        if let (Some(place), Ok(units)) = (distances.get(index(ordinal)), u16::try_from(distance / ALIGN + 1)) {
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

/// Nothing, if there is no memory: then nothing is found in it, and `nearest` finds no frame at offset 0.
fn zeroed<T: FromZeros>(len: u64) -> Box<[T]> {
    <[T]>::new_box_zeroed_with_elems(index(len)).unwrap_or_default()
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
