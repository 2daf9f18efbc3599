//! How far ahead of the appenders a segment is made ready, in pages of which length, and how much of it is settled: by how much is
//! appended between two syncs, and by how long these take.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::format::position::Position;
use crate::segment::filling::{LARGE_PAGE_LEN, PAGE_LEN, page_len_for};

/// How far ahead: less would be used up before the thread comes, and more is a burden to the page cache.
const AHEAD_LEN_MIN: usize = 2 << 20;
pub(super) const AHEAD_LEN_MAX: usize = 16 << 20;
/// For syncs of less than this, each of which would have to write metadata for its page, blocks are written beforehand.
const SETTLED_FOR: u64 = 32 << 10;
/// How far ahead of the last sync.
const SETTLED_LEN: usize = 1 << 20;
/// From this many bytes between two syncs on, all of a segment is made ready while nothing else is to be done.
const IDLE_FROM: u64 = 256 << 10;

/// Small syncs in a row that write large pages, until the segment is left.
const SMALL_SYNCS: u32 = 32;

/// Relaxed throughout: hints.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How long pages are to be; 0 for the smallest.
    page_len: AtomicUsize,
    /// Bytes between two syncs, on average over the last few; 0 if there was none yet.
    between: AtomicU64,
    /// Bytes that were not durable when room was asked for last.
    unsynced: AtomicU64,
    /// Nanoseconds that the last sync took.
    sync_time: AtomicU64,
    /// Where it ended, as a position.
    synced: AtomicU64,
    /// Syncs in a row, up to the last, that were small and wrote large pages. Of the leader.
    small_syncs: AtomicU32,
    /// Up to where the segment that takes appends is settled, as a position.
    settled: AtomicU64,
}

impl Pace {
    pub(super) fn page_len(&self) -> usize {
        self.page_len.load(Ordering::Relaxed).max(PAGE_LEN)
    }

    pub(super) fn use_single_pages(&self) {
        self.page_len.store(0, Ordering::Relaxed);
    }

    /// A sync of `len` bytes wrote at least one page of `page_len`.
    pub(super) fn note_page(&self, page_len: usize, len: usize) {
        let is_wasteful = page_len > PAGE_LEN && len < page_len / 8;
        let count = if is_wasteful { self.small_syncs.load(Ordering::Relaxed) + 1 } else { 0 };
        self.small_syncs.store(count, Ordering::Relaxed);
    }

    /// Whether many small syncs in a row have written large pages: then they are counted anew, and single pages used.
    pub(super) fn has_many_small_syncs(&self) -> bool {
        let has_many = self.small_syncs.load(Ordering::Relaxed) >= SMALL_SYNCS;
        if has_many {
            self.small_syncs.store(0, Ordering::Relaxed);
            self.use_single_pages();
        }
        has_many
    }

    /// Plans for appenders that have `unsynced` bytes which are not durable now; returns how far ahead of them to go.
    pub(super) fn plan(&self, unsynced: u64) -> usize {
        let between = self.between.load(Ordering::Relaxed);
        self.unsynced.store(unsynced, Ordering::Relaxed);
        let len = usize::try_from(between.max(unsynced)).unwrap_or(usize::MAX);
        let (page_len, before) = (page_len_for(len), self.page_len());
        // What comes between two syncs is never quite the same; files in whose pages nothing changes cost least.
        let is_near = page_len == before / 2 && page_len_for(len.saturating_add(len / 4)) == before;
        if !is_near {
            self.page_len.store(page_len, Ordering::Relaxed);
        }
        len.saturating_mul(4).clamp(AHEAD_LEN_MIN, AHEAD_LEN_MAX)
    }

    pub(super) fn note_sync(&self, position: Position, len: usize, time: Duration) {
        let before = self.between.load(Ordering::Relaxed);
        let between = if before == 0 { len as u64 } else { (7 * before + len as u64) / 8 };
        self.between.store(between.max(1), Ordering::Relaxed);
        self.sync_time.store(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.synced.store(position.0, Ordering::Relaxed);
    }

    /// What has been synced so far says nothing of what comes.
    pub(super) fn forget_syncs(&self) {
        self.between.store(0, Ordering::Relaxed);
        self.sync_time.store(0, Ordering::Relaxed);
    }

    pub(super) fn note_settled(&self, position: Position) {
        self.settled.store(position.0, Ordering::Relaxed);
    }

    /// Whether the small syncs, of which the last ended at `position`, come near to what is not settled.
    pub(super) fn wants_settling(&self, position: Position) -> bool {
        let near = position.0.saturating_add(SETTLED_LEN as u64 / 2);
        self.are_syncs_small() && near > self.settled.load(Ordering::Relaxed)
    }

    fn are_syncs_small(&self) -> bool {
        (1..SETTLED_FOR).contains(&self.between.load(Ordering::Relaxed))
    }

    /// What of segment `number` is to be settled.
    pub(super) fn to_settle(&self, number: u64) -> std::ops::Range<usize> {
        let synced = Position(self.synced.load(Ordering::Relaxed));
        if !self.are_syncs_small() || synced.segment() != number {
            return 0..0;
        }
        // Within a segment, which is mapped.
        let start = synced.offset() as usize;
        start..start + SETTLED_LEN
    }

    /// Whether more is to be made ready than has been asked for.
    pub(super) fn is_idling_worth_it(&self) -> bool {
        let between = self.between.load(Ordering::Relaxed);
        between == 0 || between.max(self.unsynced.load(Ordering::Relaxed)) >= IDLE_FROM
    }

    /// Whether the next segment is to be made ready beyond what its first frames take.
    pub(super) fn fills_spares(&self) -> bool {
        self.page_len() > PAGE_LEN
    }

    /// How long to leave the device to others after something that can wait: as long as several syncs take.
    pub(super) fn pause(&self) -> Duration {
        const SYNCS: u32 = 4;
        let sync_time = Duration::from_nanos(self.sync_time.load(Ordering::Relaxed));
        (sync_time * SYNCS).clamp(Duration::from_micros(200), Duration::from_millis(20))
    }
}

const _: () = assert!(LARGE_PAGE_LEN < AHEAD_LEN_MIN);
