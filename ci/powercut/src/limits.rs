//! How much a run does, shared by its lanes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is left to do. All of it is relaxed: a cut more or less does not matter.
#[derive(Debug)]
pub struct Limits {
    next_seed: AtomicU64,
    end_seed: u64,
    /// Cuts still to be looked at.
    left: AtomicU64,
    deadline: Option<Instant>,
    stop: AtomicBool,
    /// Ends with the first finding.
    first: bool,
}

impl Limits {
    pub fn new(seed: u64, sessions: u64, cuts: u64, time: Option<Duration>, first: bool) -> Self {
        Self {
            next_seed: AtomicU64::new(seed),
            end_seed: seed.saturating_add(sessions),
            left: AtomicU64::new(cuts),
            deadline: time.map(|time| Instant::now() + time),
            stop: AtomicBool::new(false),
            first,
        }
    }

    /// Whether enough has been looked at.
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
            || self.left.load(Ordering::Relaxed) == 0
            || self.deadline.is_some_and(|deadline| Instant::now() > deadline)
    }

    /// The seed of the next session.
    pub fn seed(&self) -> Option<u64> {
        if self.is_over() {
            return None;
        }
        Some(self.next_seed.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < self.end_seed)
    }

    /// A cut has been looked at.
    pub fn looked_at_one(&self) {
        let less = |left: u64| Some(left.saturating_sub(1));
        // The closure always returns a value.
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Something was found.
    pub fn found(&self) {
        if self.first {
            self.stop();
        }
    }

    /// Ends the run.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
