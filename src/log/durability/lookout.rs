//! When to look whether the files of an open log are where they were, and at which of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(1);

/// When and where to look next.
#[derive(Debug)]
pub(crate) struct Lookout {
    began: Instant,
    /// In milliseconds since then. Relaxed: a hint.
    due: AtomicU64,
    /// The number of the sealed segment to begin with. Relaxed: a hint.
    resume: AtomicU64,
}

impl Lookout {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), due: AtomicU64::new(0), resume: AtomicU64::new(0) }
    }

    /// Whether it is time to look; one caller is told so.
    pub(super) fn take_if_due(&self) -> bool {
        let now = self.began.elapsed().as_millis() as u64;
        let due = self.due.load(Ordering::Relaxed);
        let next = now + INTERVAL.as_millis() as u64;
        due <= now && self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The number of the sealed segment to begin with.
    pub(super) fn resume(&self) -> u64 {
        self.resume.load(Ordering::Relaxed)
    }

    pub(super) fn resume_at(&self, number: u64) {
        self.resume.store(number, Ordering::Relaxed);
    }
}
