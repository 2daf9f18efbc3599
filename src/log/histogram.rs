//! How long something took, counted in classes that are never wider than a thirty-second of what is in them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Classes for each power of two, as bits.
const CLASS_BITS: u32 = 5;
const CLASSES_PER_POWER: usize = 1 << CLASS_BITS;
/// Beyond 2^40 ns, eighteen minutes, all is in the last class.
const BITS_MAX: u32 = 40;
const CLASSES: usize = (BITS_MAX - CLASS_BITS + 1) as usize * CLASSES_PER_POWER;

/// Relaxed throughout: each count is a number by itself.
#[derive(Debug)]
pub(crate) struct Histogram(Box<[AtomicU64]>);

impl Default for Histogram {
    fn default() -> Self {
        Self((0..CLASSES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Histogram {
    pub(crate) fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0[class_of(nanos)].fetch_add(1, Ordering::Relaxed);
    }

    /// What the fastest `part` in a hundred did not exceed: at most a thirty-second too long. Zero without any.
    pub(crate) fn percentile(&self, part: u64) -> Duration {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let wanted = (counts.iter().sum::<u64>() * part).div_ceil(100);
        let mut seen = 0;
        let class = counts.iter().position(|count| {
            seen += count;
            seen >= wanted && seen > 0
        });
        class.map_or(Duration::ZERO, |class| Duration::from_nanos(last_of(class)))
    }
}

/// The first powers of two have a class for each number, the others all the same number of classes.
fn class_of(nanos: u64) -> usize {
    let power = nanos.checked_ilog2().unwrap_or(0);
    let Some(shift) = power.checked_sub(CLASS_BITS) else { return nanos as usize };
    let class = (shift as usize + 1) * CLASSES_PER_POWER + (nanos >> shift) as usize - CLASSES_PER_POWER;
    class.min(CLASSES - 1)
}

/// The largest number in `class`.
fn last_of(class: usize) -> u64 {
    let (power, at) = (class / CLASSES_PER_POWER, class % CLASSES_PER_POWER);
    match power.checked_sub(1) {
        None => at as u64,
        Some(shift) => (((CLASSES_PER_POWER + at + 1) as u64) << shift) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_in_a_class_of_its_own_size() {
        let mut before = 0;
        for nanos in (0..2000).chain((11..40).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1])) {
            let class = class_of(nanos);
            assert!(class >= before, "{nanos}");
            before = class;
            let last = last_of(class);
            assert!(last >= nanos && last - nanos <= nanos / 32, "{nanos} counts as {last}");
            assert!(class == 0 || last_of(class - 1) < nanos, "{nanos} is in the class before");
        }
        assert_eq!(class_of(u64::MAX), CLASSES - 1);
    }

    #[test]
    fn percentiles_are_within_a_twentieth() {
        let histogram = Histogram::default();
        assert_eq!(histogram.percentile(99), Duration::ZERO);
        (1..=1000_u64).for_each(|micros| histogram.record(Duration::from_micros(micros)));
        for part in [1, 50, 99, 100] {
            let found = histogram.percentile(part).as_nanos() as u64;
            let exact = part * 10_000;
            assert!((exact..=exact + exact / 20).contains(&found), "{part}: {found} for {exact}");
        }
    }
}
