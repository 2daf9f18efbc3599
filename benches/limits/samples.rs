//! What several rounds, or many single operations, measured.

use std::time::Duration;

/// One figure for each round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds the figure, if there is one.
    pub(crate) fn push_some(&mut self, value: Option<f64>) {
        self.0.extend(value);
    }

    /// Of an even number of figures, the lower one in the middle. Zero without any.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
    }

    pub(crate) fn min(&self) -> f64 {
        self.0.iter().copied().reduce(f64::min).unwrap_or(0.0)
    }

    pub(crate) fn max(&self) -> f64 {
        self.0.iter().copied().reduce(f64::max).unwrap_or(0.0)
    }
}

/// How long each of many operations took.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    nanoseconds: Vec<u64>,
    sorted: bool,
}

impl Latencies {
    /// Room for `count` of them, in memory that has been written to: recording one neither allocates nor meets a page for the first
    /// time, which would be measured with the operations.
    pub(crate) fn with_capacity(count: usize) -> Self {
        // Zeros would come from the system, untouched.
        let mut nanoseconds = vec![1; count];
        nanoseconds.clear();
        Self { nanoseconds, sorted: true }
    }

    pub(crate) fn record(&mut self, took: Duration) {
        self.nanoseconds.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.sorted = false;
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.nanoseconds.extend(other.nanoseconds);
        self.sorted = false;
    }

    /// Microseconds that a share of `quantile` of the operations did not exceed.
    pub(crate) fn quantile_us(&mut self, quantile: f64) -> f64 {
        if !self.sorted {
            self.nanoseconds.sort_unstable();
            self.sorted = true;
        }
        let rank = (quantile * self.nanoseconds.len() as f64).ceil() as usize;
        self.nanoseconds.get(rank.saturating_sub(1)).map_or(0.0, |&ns| ns as f64 / 1e3)
    }
}
