//! Reading entries in place.

use std::ops::{Bound, RangeBounds};

use bytes::Bytes;

use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::raft::RaftTypeConfig;
use crate::store::{Inner, check_begin};
use crate::stored::{self, Begin, index_of, lsn_of, slot};

/// Room is made for so many entries before they are looked at.
const ENTRIES_AT_ONCE: usize = 1 << 12;

impl<C: RaftTypeConfig, K: Codec<C>> Inner<C, K> {
    /// The entries from `start` to before `end` that are there: no more than `bytes_max` of them, but at least one.
    pub(crate) fn read(&self, start: u64, end: u64, bytes_max: usize) -> Result<Vec<C::Entry>> {
        let start = start.max(self.first());
        let snapshot = self.log.snapshot()?;
        if snapshot.first_lsn() > lsn_of(start) {
            // Unless another call drops entries just now: then the slot says so, before they go.
            let begin = Begin::<C>::decode(&self.codec, &self.meta(slot::PURGED)?.unwrap_or_default())?;
            check_begin(begin.first, snapshot.first_lsn())?;
        }
        let mut expected = lsn_of(start).max(snapshot.first_lsn());
        let end = lsn_of(end).min(snapshot.next_lsn());
        let mut entries = Vec::with_capacity((end.0.saturating_sub(expected.0) as usize).min(ENTRIES_AT_ONCE));
        // All entries of a segment share one owner of its mapping.
        let mut segment = Bytes::new();
        let mut left = bytes_max;
        for record in snapshot.range(expected..end) {
            let record = record?;
            if record.lsn() != expected {
                break;
            }
            let payload = record.payload();
            if payload.len() > left && !entries.is_empty() {
                return Ok(entries);
            }
            left = left.saturating_sub(payload.len());
            if !holds(&segment, payload) {
                let share = snapshot.segment_bytes(&record).ok_or(Error::Missing { index: index_of(expected) })?;
                segment = Bytes::from_owner(share);
            }
            entries.push(stored::decode_entry(&self.codec, &record, segment.slice_ref(payload))?);
            expected = expected.next();
        }
        if expected < end { Err(Error::Missing { index: index_of(expected) }) } else { Ok(entries) }
    }
}

/// The first index of `range`, and the one after its last.
pub(crate) fn indices(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(&index) => index,
        Bound::Excluded(&index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&index) => index.saturating_add(1),
        Bound::Excluded(&index) => index,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

/// Whether `part` is a part of `whole`, in memory.
fn holds(whole: &Bytes, part: &[u8]) -> bool {
    whole.as_ptr_range().start <= part.as_ptr() && part.as_ptr_range().end <= whole.as_ptr_range().end
}
