//! Looking up many records at once.

use super::record::{Record, RecordRef};
use super::snapshot::Snapshot;
use crate::error::Result;
use crate::lsn::Lsn;

/// Records that [`Snapshot::get_many`] has the processor fetch before it looks at the first of them: about as many as it can wait for.
const FETCHED_AT_ONCE: usize = 32;

impl Snapshot {
    /// Records of these numbers, in their order: of each what [`Self::get`] returns. Where they are far apart, the processor
    /// fetches several of them from memory at once, which takes a fraction of the time of one after the other.
    ///
    /// # Errors
    /// As [`Self::get`], of the first number for which that fails.
    pub fn get_many(&self, lsns: &[Lsn]) -> Result<Vec<Option<Record<'_>>>> {
        let mut records = Vec::with_capacity(lsns.len());
        for some in lsns.chunks(FETCHED_AT_ONCE) {
            for &lsn in some {
                self.prefetch(lsn);
            }
            for &lsn in some {
                records.push(self.get(lsn)?);
            }
        }
        Ok(records)
    }

    /// As [`Self::get_many`], with shares in the mappings of their own.
    pub(crate) fn get_many_refs(&self, lsns: &[Lsn]) -> Result<Vec<Option<RecordRef>>> {
        let mut records = Vec::with_capacity(lsns.len());
        for some in lsns.chunks(FETCHED_AT_ONCE) {
            let found = self.get_many(some)?;
            let share = |record: &Record<'_>| self.own(record).expect("a record of this view");
            records.extend(found.iter().map(|record| record.as_ref().map(share)));
        }
        Ok(records)
    }
}
