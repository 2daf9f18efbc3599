//! Letting the page cache go of what is durable, where the options say so: a log that is written and seldom read would take the place
//! of what the application reads.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::format::position::Position;
use crate::memory::Region;
use crate::options::Options;
use crate::segment::Segment;
use crate::segment::filling::LARGEST_PAGE_LEN;
use crate::storage::StorageFile;

/// Let go at a time, so that no sync does more for it than some hundred microseconds.
const STEP_LEN: usize = 8 << 20;

/// What the page cache holds of the log.
#[derive(Debug)]
pub(crate) struct PageCache {
    is_kept: bool,
    /// Up to where it was let go, as a position. Relaxed: of the leader only.
    let_go: AtomicU64,
}

impl PageCache {
    pub(crate) fn new(options: &Options) -> Self {
        Self { is_kept: options.keep_page_cache, let_go: AtomicU64::new(0) }
    }

    /// What is to be let go of segment `number`, whose first `durable` bytes are durable, now that this is much.
    fn next(&self, number: u64, durable: usize) -> Option<Range<usize>> {
        let before = Position(self.let_go.load(Ordering::Relaxed));
        let start = if before.segment() == number { before.offset() as usize } else { 0 };
        // A page that reaches beyond what is let go stays.
        let end = durable - durable % LARGEST_PAGE_LEN;
        if self.is_kept || end < start + STEP_LEN {
            return None;
        }
        self.let_go.store(Position::new(number, end as u64).0, Ordering::Relaxed);
        Some(start..end)
    }

    /// Lets go of what is durable of `segment`, which is what comes before byte `end`, whenever that has become a good deal. Called by the
    /// leader.
    pub(crate) fn let_go_of_durable(&self, segment: &Segment, region: &Region, file: &dyn StorageFile, end: usize) {
        if let Some(range) = self.next(segment.number(), end) {
            // What is mapped stays in the page cache.
            region.release_pages(range.clone());
            let_go(file, range);
        }
    }

    /// Lets go of all of a segment that is durable to its end, and whose pages have been released.
    pub(crate) fn let_go_of_ended(&self, region: &Region, file: &dyn StorageFile) {
        if !self.is_kept {
            let_go(file, 0..region.len());
        }
    }
}

fn let_go(file: &dyn StorageFile, range: Range<usize>) {
    // Where it has no effect the system takes the memory when it needs it.
    let _ = file.drop_cache(range.start as u64..range.end as u64);
}
