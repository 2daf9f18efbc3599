//! How long the syncs of one or more rounds took.

use std::time::{Duration, Instant};

/// What one round did.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// How long each sync took, or each commit.
    pub(super) syncs: Vec<Duration>,
    pub(super) bytes: u64,
    pub(super) elapsed: Duration,
}

impl Measured {
    /// Takes the time of one call of `work`, which makes `bytes` durable.
    pub(super) fn time<E>(&mut self, bytes: usize, work: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let begin = Instant::now();
        work()?;
        self.syncs.push(begin.elapsed());
        self.bytes += bytes as u64;
        Ok(())
    }

    /// Takes in what another thread did at the same time.
    pub(super) fn join(&mut self, other: Self) {
        self.syncs.extend(other.syncs);
        self.bytes += other.bytes;
    }

    fn seconds(&self) -> f64 {
        self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// What all rounds of one row come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Summary {
    pub(super) per_second: f64,
    pub(super) bytes_per_second: f64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) max: Duration,
}

/// Rates are medians of the rounds; times are of all syncs of all rounds.
pub(super) fn summary(rounds: &[Measured]) -> Summary {
    let mut syncs: Vec<Duration> = rounds.iter().flat_map(|round| round.syncs.iter().copied()).collect();
    syncs.sort_unstable();
    Summary {
        per_second: median(rounds, |round| amount(round.syncs.len() as u64) / round.seconds()),
        bytes_per_second: median(rounds, |round| amount(round.bytes) / round.seconds()),
        p50: quantile(&syncs, 50),
        p99: quantile(&syncs, 99),
        max: syncs.last().copied().unwrap_or_default(),
    }
}

fn median(rounds: &[Measured], of: impl Fn(&Measured) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The least value that `percent` of all do not exceed.
fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a rate is shown in three digits")]
fn amount(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(micros: &[u64], seconds: u64) -> Measured {
        let syncs = micros.iter().map(|&micros| Duration::from_micros(micros)).collect();
        Measured { syncs, bytes: 1000 * micros.len() as u64, elapsed: Duration::from_secs(seconds) }
    }

    #[test]
    fn rates_are_medians_of_rounds_and_times_are_of_all_syncs() {
        let slow = round(&[900], 1);
        let rounds = [round(&[100, 200], 1), slow, round(&[300; 97], 1)];
        let Summary { per_second, bytes_per_second, p50, p99, max } = summary(&rounds);
        assert!((per_second - 2.0).abs() < 1e-9 && (bytes_per_second - 2000.0).abs() < 1e-9);
        let micros = [p50, p99, max].map(|time| time.as_micros());
        assert_eq!(micros, [300, 300, 900]);
    }

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let sorted: Vec<_> = (1..=10).map(Duration::from_micros).collect();
        assert_eq!([1, 50, 90, 99, 100].map(|p| quantile(&sorted, p).as_micros()), [1, 5, 9, 10, 10]);
        assert_eq!(quantile(&[], 50), Duration::ZERO);
    }
}
