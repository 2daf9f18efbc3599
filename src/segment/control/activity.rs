//! What a writer has done since it opened the log, for operators: on the control page, since no other process can count
//! it.

use std::time::Duration;

use super::ControlPage;
use super::words::{Said, Word, checksum};
use crate::lsn::Lsn;

/// Words of the page, with their checksum.
pub(super) const WORDS: usize = 11;

/// What the writer of a log has done since it opened the log. Written with some of the first syncs of a run, with one in 64, and when the
/// log is closed: so the numbers may be some syncs old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Activity {
    /// Syncs of a segment that had something to sync.
    pub syncs: u64,
    /// Half of the syncs took no longer than this, which is at most a thirty-second too long.
    pub sync_time_p50: Duration,
    /// 99 in a hundred syncs took no longer than this.
    pub sync_time_p99: Duration,
    /// How often an appender had to wait for room, or to make it itself.
    pub stalls: u64,
    /// Zeros written to the device ahead of records.
    pub zeros_written_bytes: u64,
    /// Segments begun in the file of one that was dropped.
    pub recycled_segments: u64,
    /// Files of dropped segments, and of spares, that were removed, or could not be.
    pub removed_segments: u64,
    /// Segments prepared and not yet used, and files of dropped ones that are kept for the next.
    pub spare_segments: u64,
    /// The oldest record that a [`Pin`](crate::Pin) of the writer's process keeps.
    pub oldest_guarded: Option<Lsn>,
    /// The length of the files of segments that were dropped and that views of the writer's process still hold.
    pub unlinked_bytes: u64,
}

impl Activity {
    pub(crate) fn new(counts: [u64; WORDS - 1]) -> Self {
        let [syncs, p50, p99, stalls, zeros_written_bytes, counts @ ..] = counts;
        let [recycled_segments, removed_segments, spare_segments, guarded, unlinked_bytes] = counts;
        let (sync_time_p50, sync_time_p99) = (Duration::from_nanos(p50), Duration::from_nanos(p99));
        Self {
            syncs,
            sync_time_p50,
            sync_time_p99,
            stalls,
            zeros_written_bytes,
            recycled_segments,
            removed_segments,
            spare_segments,
            oldest_guarded: Some(Lsn(guarded)).filter(|&lsn| lsn != Lsn::ZERO),
            unlinked_bytes,
        }
    }
}

impl ControlPage {
    /// What is in `counts` is that of [`Activity::new`]. Called by one thread at a time. Should it fail, the page says less.
    pub(crate) fn set_activity(&self, counts: [u64; WORDS - 1]) {
        let mut words = [0; WORDS];
        words[..counts.len()].copy_from_slice(&counts);
        words[counts.len()] = sum(self.log_id, self.get(Word::Epoch), &counts);
        let _ = self.write(Word::Activity, words);
    }
}

impl<F: Fn(usize) -> u64> Said<F> {
    /// `None` if the page does not say so, or that of another run.
    pub(super) fn activity(&self) -> Option<Activity> {
        let words: [u64; WORDS] = std::array::from_fn(|at| (self.word)(Word::Activity as usize + at));
        let (&found, counts) = words.split_last()?;
        let epoch = (self.word)(Word::Epoch as usize);
        let is_whole = found == sum(self.log_id, epoch, counts);
        is_whole.then(|| Activity::new(std::array::from_fn(|at| counts[at])))
    }
}

fn sum(log_id: u128, epoch: u64, counts: &[u64]) -> u64 {
    checksum(log_id, &[&[epoch], counts].concat()).into()
}
