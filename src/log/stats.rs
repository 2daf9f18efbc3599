//! Counters, and what they add up to.

use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::Log;
use super::histogram::Histogram;
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::memory::Region;

/// Operators are told of one sync in this many, and of some of the first: it takes some microseconds.
const TOLD_EACH: u64 = 64;

/// What is counted as it happens. Relaxed throughout: each is a number by itself.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Records and bytes appended to segments that are full, less what the active one held when it was opened.
    records: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
    records_synced: AtomicU64,
    sync_times: Histogram,
    zeros_written_bytes: AtomicU64,
    stalls: AtomicU64,
    recycled_segments: AtomicU64,
    removed_segments: AtomicU64,
    /// The oldest record that a pin of this process keeps; 0 if there is none.
    oldest_guarded: AtomicU64,
    /// Mappings of files that have lost their names, and their sizes.
    unlinked: Mutex<Vec<(Weak<Region>, u64)>>,
}

impl Counters {
    /// The active segment takes no more: it held `ordinal` records, up to byte `offset`.
    pub(crate) fn segment_full(&self, ordinal: u32, offset: usize) {
        self.records.fetch_add(u64::from(ordinal), Ordering::Relaxed);
        self.bytes.fetch_add(offset as u64, Ordering::Relaxed);
    }

    /// A segment takes appends that holds `ordinal` records already, up to byte `offset`.
    pub(crate) fn segment_opened(&self, ordinal: u32, offset: usize) {
        self.records.fetch_sub(u64::from(ordinal), Ordering::Relaxed);
        self.bytes.fetch_sub(offset as u64, Ordering::Relaxed);
    }

    pub(crate) fn synced(&self, records: u64, took: Duration) {
        self.sync_times.record(took);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.records_synced.fetch_add(records, Ordering::Relaxed);
    }

    /// Whether operators are to be told of the last sync.
    pub(crate) fn are_due(&self) -> bool {
        let syncs = self.syncs.load(Ordering::Relaxed);
        syncs.is_power_of_two() || syncs.is_multiple_of(TOLD_EACH)
    }

    /// For [`ControlPage::set_activity`](crate::segment::control::ControlPage::set_activity).
    pub(crate) fn activity(&self, spares: usize) -> [u64; 10] {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let [p50, p99] = [50, 99].map(|part| self.sync_times.percentile(part).as_nanos() as u64);
        [
            load(&self.syncs),
            p50,
            p99,
            load(&self.stalls),
            load(&self.zeros_written_bytes),
            load(&self.recycled_segments),
            load(&self.removed_segments),
            spares as u64,
            load(&self.oldest_guarded),
            self.unlinked_bytes(),
        ]
    }

    /// What is counted since the log was opened.
    #[cfg(feature = "metrics")]
    pub(crate) fn totals(&self) -> Totals {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            syncs: load(&self.syncs),
            stalls: load(&self.stalls),
            zeros_written_bytes: load(&self.zeros_written_bytes),
            recycled_segments: load(&self.recycled_segments),
            removed_segments: load(&self.removed_segments),
        }
    }

    /// A file of `size` bytes has lost its name, and its mapping is still in use.
    pub(crate) fn unlinked(&self, region: Weak<Region>, size: u64) {
        let mut unlinked = self.unlinked.lock();
        unlinked.retain(|(region, _)| region.strong_count() > 0);
        unlinked.push((region, size));
    }

    pub(crate) fn unlinked_bytes(&self) -> u64 {
        let mut unlinked = self.unlinked.lock();
        unlinked.retain(|(region, _)| region.strong_count() > 0);
        unlinked.iter().map(|(_, size)| size).sum()
    }

    /// Zeros of `len` bytes have begun to be written to the device.
    pub(crate) fn settled(&self, len: usize) {
        self.zeros_written_bytes.fetch_add(len as u64, Ordering::Relaxed);
    }

    /// An appender has to wait for room, or to make it.
    pub(crate) fn stalled(&self) {
        self.stalls.fetch_add(1, Ordering::Relaxed);
    }

    /// A segment takes the file of one that was dropped.
    pub(crate) fn recycled(&self) {
        self.recycled_segments.fetch_add(1, Ordering::Relaxed);
    }

    /// Pins of this process have come or gone.
    pub(crate) fn guarded(&self, oldest: Option<Lsn>) {
        self.oldest_guarded.store(oldest.map_or(0, |lsn| lsn.0), Ordering::Relaxed);
    }

    /// The file of a segment that was dropped has been removed.
    pub(crate) fn removed(&self) {
        self.removed_segments.fetch_add(1, Ordering::Relaxed);
    }
}

/// Some of the counters at one moment.
#[cfg(feature = "metrics")]
pub(crate) struct Totals {
    pub(crate) syncs: u64,
    pub(crate) stalls: u64,
    pub(crate) zeros_written_bytes: u64,
    pub(crate) recycled_segments: u64,
    pub(crate) removed_segments: u64,
}

/// The state of a log in numbers. Taken without stopping any thread, so the numbers may be some appends apart.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::Stats;
///
/// log.append_batch(&[(1, b"a".as_slice()), (1, b"b")])?;
/// log.sync()?;
/// let stats: Stats = log.stats();
/// assert_eq!((stats.records_appended, stats.records_synced), (2, 2));
/// println!("{} records per sync, half within {:?}", stats.records_per_sync(), stats.sync_time_p50);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Segments before the newest one.
    pub sealed_segments: usize,
    /// Segments prepared and not yet used, with one that a [`Wal`](crate::wal::Wal) holds back, and files of dropped ones that are kept
    /// for the next.
    pub spare_segments: usize,
    /// Segments begun in the file of one that was dropped, since the log was opened.
    pub recycled_segments: u64,
    /// Files of dropped segments, and of spares, that were removed, or could not be.
    pub removed_segments: u64,
    /// Pins of this process, and named ones as they were when this log last trimmed, or changed one.
    pub pins: usize,
    /// The length of the log's files, without spares, less what was given back. The unused part of a new one may take no room yet.
    pub disk_bytes: u64,
    /// The length of the files of segments that were trimmed or truncated away and that views still hold.
    pub unlinked_bytes: u64,
    /// Records appended since the log was opened, voided ones included.
    pub records_appended: u64,
    /// Bytes of their frames, and of those of metadata.
    pub bytes_appended: u64,
    /// Syncs of a segment that had something to sync.
    pub syncs: u64,
    /// Records that they made durable.
    pub records_synced: u64,
    /// Half of the syncs took no longer than this, which is at most a thirty-second too long.
    pub sync_time_p50: Duration,
    /// 99 in a hundred syncs took no longer than this.
    pub sync_time_p99: Duration,
    /// Zeros written to the device ahead of records, so that small syncs find blocks that have been written.
    pub zeros_written_bytes: u64,
    /// How often an appender had to wait for room, or to make it itself.
    pub stalls: u64,
    /// Bytes that were dropped as a torn end when the log was opened.
    pub torn_bytes: u64,
    /// The first record kept.
    pub first_lsn: Lsn,
    /// The last record known to be durable.
    pub durable_lsn: Lsn,
    /// The next record's number.
    pub next_lsn: Lsn,
}

impl Stats {
    /// Records made durable by one sync, on average.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "lossless up to 2^53 records")]
    pub fn records_per_sync(&self) -> f64 {
        if self.syncs == 0 { 0.0 } else { self.records_synced as f64 / self.syncs as f64 }
    }
}

impl Log {
    /// The state of the log in numbers. Cheap: it asks no disk; but it waits for a segment that is just being sealed, as an append does,
    /// and for a change of the list of segments. In a forked child pins, spares and unlinked bytes are 0, and what was appended is 0
    /// where it cannot be told.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &*self.shared;
        let counters = &shared.counters;
        // In a forked child a thread that is not there may hold any lock.
        let is_own = shared.process.is_current();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (records, bytes, taken) = loop {
            let before = (load(&counters.records), load(&counters.bytes));
            let reserved = shared.try_reserved();
            // Between two segments, the full one is counted already or not yet.
            let is_between = reserved.as_ref().is_some_and(|(_, reserved)| reserved.is_closed())
                && shared.check_open().is_ok()
                && shared.durability.check().is_ok();
            if !is_between && before == (load(&counters.records), load(&counters.bytes)) {
                break (before.0, before.1, reserved);
            }
            std::thread::yield_now();
        };
        let [records_appended, bytes_appended, next] = taken.map_or([0; 3], |(segment, reserved)| {
            let (ordinal, offset) = (reserved.ordinal(), Position(reserved.position).offset());
            // Subtracted before they were added, the sums wrap around and come back.
            [records.wrapping_add(ordinal.into()), bytes.wrapping_add(offset), segment.lsn_of(ordinal).0]
        });
        let known = if is_own { Some(shared.segments.load()) } else { shared.segments.try_load() };
        let first_lsn = known.as_ref().map_or(Lsn::ZERO, |segments| segments.first_lsn());
        let segments = known.unwrap_or_default();
        Stats {
            sealed_segments: segments.as_slice().len().saturating_sub(1),
            spare_segments: if is_own { shared.preparer.spare_count() } else { 0 },
            pins: if is_own { shared.pins.count() } else { 0 },
            disk_bytes: segments.as_slice().iter().map(|segment| segment.taken()).sum(),
            unlinked_bytes: if is_own { counters.unlinked_bytes() } else { 0 },
            records_appended,
            bytes_appended,
            syncs: load(&counters.syncs),
            records_synced: load(&counters.records_synced),
            sync_time_p50: counters.sync_times.percentile(50),
            sync_time_p99: counters.sync_times.percentile(99),
            zeros_written_bytes: load(&counters.zeros_written_bytes),
            stalls: load(&counters.stalls),
            recycled_segments: load(&counters.recycled_segments),
            removed_segments: load(&counters.removed_segments),
            torn_bytes: shared.report.torn_bytes,
            first_lsn,
            durable_lsn: shared.durability.lsn(),
            next_lsn: Lsn(next),
        }
    }
}
