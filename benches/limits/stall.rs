//! The longest append of many, and what the system and the device did meanwhile.

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use mapwal::Log;

use crate::device::Device;
use crate::samples::Latencies;
use crate::system::{page_faults, switches};

/// Counters are read so often: to read them takes as long as some hundred appends, between two of which it is done.
const STEP: usize = 1 << 14;

/// The field of a device's statistics for how many milliseconds it has been busy.
const BUSY_MS: usize = 9;

/// What has happened in the step with the longest append of a round.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stall {
    /// Of the one append.
    pub(crate) longest: Duration,
    /// Of the whole step.
    took: Duration,
    since: Counters,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    page_faults: u64,
    /// The thread has given the processor away to wait, and has lost it to another one.
    waits: u64,
    preemptions: u64,
    /// Appends that have waited for a segment or for room.
    stalls: u64,
    /// Bytes written to the device, and for how many milliseconds it was busy.
    written: u64,
    busy_ms: u64,
}

impl Counters {
    fn read(log: &Log, device: Option<&Device>) -> Self {
        let (waits, preemptions) = switches().unwrap_or_default();
        let written = device.and_then(Device::bytes_written).unwrap_or_default();
        let busy_ms = device.and_then(|device| device.field(BUSY_MS)).unwrap_or_default();
        let stalls = log.stats().stalls;
        Self { page_faults: page_faults().unwrap_or_default(), waits, preemptions, stalls, written, busy_ms }
    }

    fn since(self, before: Self) -> Self {
        Self {
            page_faults: self.page_faults - before.page_faults,
            waits: self.waits - before.waits,
            preemptions: self.preemptions - before.preemptions,
            stalls: self.stalls - before.stalls,
            written: self.written - before.written,
            busy_ms: self.busy_ms - before.busy_ms,
        }
    }
}

/// What `count` appends in a row took each, and the longest of them.
pub(crate) fn append_latencies(log: &Log, count: usize, payload: &[u8], device: Option<&Device>) -> (Latencies, Stall) {
    let mut latencies = Latencies::with_capacity(count);
    let mut worst = Stall::default();
    let mut before = Counters::read(log, device);
    for first in (0..count).step_by(STEP) {
        let (mut longest, began) = (Duration::ZERO, Instant::now());
        let mut last = began;
        for _ in first..count.min(first + STEP) {
            log.append(1, black_box(payload)).expect("there is room");
            let now = Instant::now();
            let took = now - last;
            last = now;
            latencies.record(took);
            longest = longest.max(took);
        }
        let after = Counters::read(log, device);
        if longest > worst.longest {
            worst = Stall { longest, took: last - began, since: after.since(before) };
        }
        before = after;
    }
    (latencies, worst)
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counters { page_faults, waits, preemptions, stalls, written, busy_ms } = self.since;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        write!(
            f,
            "{:.2} ms; in the {:.1} ms around it {page_faults} page faults, {waits} waits, {preemptions} times the processor lost, \
             {stalls} waits for room; the device was busy for {busy_ms} ms and took {:.1} MiB",
            ms(self.longest),
            ms(self.took),
            written as f64 / f64::from(1 << 20),
        )
    }
}
