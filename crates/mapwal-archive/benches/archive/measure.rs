//! What is measured, and how it is shown.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mapwal::{Log, Options};
use rustix::time::{ClockId, clock_gettime};

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) segment_size: u64,
    pub(crate) segments: u64,
    pub(crate) rounds: usize,
    pub(crate) commits: usize,
}

impl Scale {
    pub(crate) const FULL: Self = Self { segment_size: 64 << 20, segments: 3, rounds: 7, commits: 2000 };
    pub(crate) const QUICK: Self = Self { segment_size: 4 << 20, segments: 3, rounds: 3, commits: 200 };

    pub(crate) fn bytes(&self) -> u64 {
        self.segment_size * self.segments
    }
}

/// Wall-clock time, and processor time of this process.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(crate) struct Sample {
    pub(crate) wall: f64,
    pub(crate) processor: f64,
}

impl Sample {
    pub(crate) fn of<T>(work: impl FnOnce() -> T) -> (Self, T) {
        let (began, processor) = (Instant::now(), processor());
        let done = work();
        (Self { wall: began.elapsed().as_secs_f64(), processor: (self::processor() - processor).as_secs_f64() }, done)
    }
}

fn processor() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One line of the table: rates of `bytes`, and the medians of what the ratios of each round are: of times, and of processor times.
pub(crate) fn show(name: &str, bytes: u64, bare: &[Sample], ours: &[Sample], target: &str) {
    let rate = |samples: &[Sample]| bytes as f64 / median(samples.iter().map(|sample| sample.wall).collect()) / 1e6;
    let ratio =
        |of: fn(&Sample, &Sample) -> f64| median(bare.iter().zip(ours).map(|(bare, ours)| of(bare, ours)).collect());
    println!(
        "{name:<16} {:>7.0} MB/s {:>7.0} MB/s {:>7.2} {target:>7}  {:>10.2}x",
        rate(bare),
        rate(ours),
        ratio(|bare, ours| bare.wall / ours.wall),
        ratio(|bare, ours| ours.processor / bare.processor)
    );
}

/// A log in `directory` with full, sealed segments.
pub(crate) fn log(directory: &Path, scale: Scale) -> Arc<Log> {
    let log = open(directory, scale);
    let payload = payload();
    while log.sealed(0).expect("it works").len() < scale.segments as usize {
        for _ in 0..scale.segment_size / 8192 {
            log.append(1, &payload).expect("it works");
        }
        // Only what is durable counts as sealed.
        log.sync().expect("it works");
    }
    // Nothing is left for a part: what is archived are the bytes that a bare loop puts.
    log.rotate().expect("it works");
    log.sync().expect("it works");
    log
}

pub(crate) fn open(directory: &Path, scale: Scale) -> Arc<Log> {
    let size = scale.segment_size;
    let options = Options::new().segment_size_bytes(size).first_segment_size_bytes(size);
    // SAFETY: the directory is the measurement's own, and only this log writes to it.
    Arc::new(unsafe { Log::open(directory, &options) }.expect("it works"))
}

/// 256 bytes, as a row of a table may have.
pub(crate) fn payload() -> Vec<u8> {
    (0..=255).collect()
}
