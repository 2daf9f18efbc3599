//! Records appended and synced every few KiB or MiB, for as long as a log lives: at its beginning, and in the steady state in
//! which it is trimmed as it grows.

mod bare;
mod beside;
mod mapped;

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use mapwal::{Log, Options};
use tempfile::TempDir;

use crate::bench::Bench;
use crate::device::Device;
use crate::directory::fresh_log;
use crate::report::Row;
use crate::samples::{Latencies, Samples};
use bare::BareFile;
use mapped::MappedFile;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
pub(crate) const SEGMENT_BYTES: u64 = 16 << 20;
/// What a log in its steady state keeps.
const RETAINED_BYTES: usize = 64 * MIB;
/// Written before the steady state is measured, at first in syncs of 4 MiB, and then as it will be: by then every file has been
/// recycled in pages of the length that such syncs get.
const WARM_UP_BYTES: usize = 3 * RETAINED_BYTES;
const LAST_BYTES: usize = RETAINED_BYTES + 3 * SEGMENT_BYTES as usize;
const PAYLOAD_LEN: usize = 1000;
/// Header, payload and padding.
const FRAME_LEN: usize = 1024;
/// Measured of each, in each round.
const BYTES_MAX: usize = 128 * MIB;
const SYNCS_MAX: usize = 2000;
/// From here on it is the rate that counts, and below it the time of one sync.
const LARGE: usize = 64 * KIB;
const SIZES: [(usize, &str); 6] = [
    (4 * KIB, "4 KiB"),
    (16 * KIB, "16 KiB"),
    (64 * KIB, "64 KiB"),
    (256 * KIB, "256 KiB"),
    (MIB, "1 MiB"),
    (4 * MIB, "4 MiB"),
];

pub(crate) fn run(bench: &mut Bench) {
    for (sync_bytes, size) in SIZES {
        stream(bench, sync_bytes, size);
    }
    beside::run(bench);
}

/// What one kind of file or log did, over the rounds.
#[derive(Default)]
struct Figures {
    rate: Samples,
    p50: Samples,
    p99: Samples,
    written: Samples,
}

impl Figures {
    /// `count` times `append`, which appends `bytes`, and `sync`.
    fn measure(
        &mut self,
        device: Option<&Device>,
        (count, bytes): (usize, usize),
        mut append: impl FnMut(),
        mut sync: impl FnMut(),
    ) {
        let written = || device.and_then(Device::bytes_written);
        let mut latencies = Latencies::with_capacity(count);
        let (before, began) = (written(), Instant::now());
        for _ in 0..count {
            append();
            let clock = Instant::now();
            sync();
            latencies.record(clock.elapsed());
        }
        let total = (count * bytes) as f64;
        self.rate.push(total / MIB as f64 / began.elapsed().as_secs_f64());
        self.p50.push(latencies.quantile_us(0.5));
        self.p99.push(latencies.quantile_us(0.99));
        self.written.push_some(before.zip(written()).map(|(before, after)| (after - before) as f64 / total));
    }

    /// As [`Self::measure`], of a file.
    fn measure_bare(&mut self, device: Option<&Device>, amount: (usize, usize), file: &mut BareFile) {
        // Both closures want the file, one after the other.
        let file = std::cell::RefCell::new(file);
        self.measure(device, amount, || file.borrow_mut().write(), || file.borrow().sync());
    }

    /// As [`Self::measure`], of a mapping.
    fn measure_mapped(&mut self, device: Option<&Device>, amount: (usize, usize), file: &mut MappedFile) {
        let file = std::cell::RefCell::new(file);
        self.measure(device, amount, || file.borrow_mut().write(), || file.borrow().sync());
    }
}

/// Segments that have grown.
fn full_size() -> Options {
    Options::new().segment_size_bytes(SEGMENT_BYTES).first_segment_size_bytes(SEGMENT_BYTES)
}

/// A log that is appended to, and keeps so much.
struct Stream {
    log: Log,
    payload: Vec<u8>,
    retained: u64,
    _directory: TempDir,
}

impl Stream {
    fn new(parent: &Path, retained: usize) -> Self {
        let (log, directory) = fresh_log(parent, &full_size());
        Self { log, payload: noise(PAYLOAD_LEN), retained: (retained / FRAME_LEN) as u64, _directory: directory }
    }

    fn append(&self, bytes: usize) {
        for _ in 0..bytes / FRAME_LEN {
            self.log.append(1, black_box(&self.payload)).expect("there is room");
        }
    }

    /// Syncs, and lets go of what is older than the log keeps.
    fn trim(&self) {
        let oldest = mapwal::Lsn(self.log.durable_lsn().0.saturating_sub(self.retained).max(1));
        self.log.trim_before(oldest).expect("the disk takes it");
    }

    fn sync(&self) {
        self.log.sync().expect("the disk takes it");
    }
}

fn noise(len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(1);
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

fn stream(bench: &mut Bench, sync_bytes: usize, size: &str) {
    let [steady, first] = ["steady", "first lap"].map(|lap| format!("durable {size}, {lap}"));
    let (wants_steady, wants_first) = (bench.wants(&steady), bench.wants(&first));
    if !wants_steady && !wants_first {
        return;
    }
    let device = Device::of(bench.directory());
    let device = device.as_ref();
    let count = bench.amount((BYTES_MAX / sync_bytes).min(SYNCS_MAX));
    let amount = (count, sync_bytes);
    let bytes = noise(sync_bytes);
    let mut reused = BareFile::reused(bench.directory(), bytes.clone(), BYTES_MAX as u64);
    let mut stored = wants_steady.then(|| MappedFile::reused(bench.directory(), bytes.clone(), BYTES_MAX));
    let trimmed = wants_steady.then(|| warmed_up(bench, sync_bytes));
    let (mut reuse, mut grow, mut mapped) = (Figures::default(), Figures::default(), Figures::default());
    let (mut ours, mut begun) = (Figures::default(), Figures::default());
    for _ in 0..bench.five_rounds() {
        if let Some(log) = &trimmed {
            reuse.measure_bare(device, amount, &mut reused);
            let appended = || {
                log.trim();
                log.append(sync_bytes);
            };
            ours.measure(device, amount, appended, || log.sync());
        }
        if let Some(file) = &mut stored {
            mapped.measure_mapped(device, amount, file);
        }
        if wants_first {
            grow.measure_bare(device, amount, &mut BareFile::growing(bench.directory(), bytes.clone()));
            let log = Stream::new(bench.directory(), usize::MAX);
            begun.measure(device, amount, || log.append(sync_bytes), || log.sync());
        }
    }
    if wants_steady {
        report_mapped(bench, size, mapped, &ours, &reuse);
        report_steady(bench, &steady, sync_bytes, ours, reuse);
    }
    if wants_first {
        report_first(bench, &first, sync_bytes, begun, grow);
    }
}

/// A log in its steady state.
fn warmed_up(bench: &Bench, sync_bytes: usize) -> Stream {
    let log = Stream::new(bench.directory(), RETAINED_BYTES);
    for _ in 0..bench.amount(WARM_UP_BYTES / (4 * MIB)) {
        log.append(4 * MIB);
        log.sync();
        log.trim();
    }
    for _ in 0..bench.amount((LAST_BYTES / sync_bytes).min(4 * SYNCS_MAX)) {
        log.append(sync_bytes);
        log.sync();
        log.trim();
    }
    log
}

/// What stores to a mapping and `msync` can reach, and what the log reaches of that.
fn report_mapped(bench: &mut Bench, size: &str, mapped: Figures, ours: &Figures, reuse: &Figures) {
    let name = format!("durable {size}, a bare mapping");
    bench.push(Row::new(&*name, "MiB/s", mapped.rate.clone()).limit("reuse", reuse.rate.clone()));
    bench.push(Row::new(format!("{name}, p50"), "us", mapped.p50.clone()).limit("reuse", reuse.p50.clone()));
    bench.push(Row::new(format!("{name}, p99"), "us", mapped.p99.clone()).limit("reuse", reuse.p99.clone()));
    let name = format!("durable {size}, steady, of a mapping");
    bench.push(Row::new(&*name, "MiB/s", ours.rate.clone()).limit("mapping", mapped.rate));
    bench.push(Row::new(format!("{name}, p50"), "us", ours.p50.clone()).limit("mapping", mapped.p50));
    bench.push(Row::new(format!("{name}, p99"), "us", ours.p99.clone()).limit("mapping", mapped.p99));
}

fn report_steady(bench: &mut Bench, name: &str, sync_bytes: usize, ours: Figures, reuse: Figures) {
    let is_large = sync_bytes >= LARGE;
    let rate = Row::new(name, "MiB/s", ours.rate).limit("reuse", reuse.rate);
    bench.push(if is_large { rate.at_least(0.9) } else { rate });
    let p50 = Row::new(format!("{name}, p50"), "us", ours.p50).limit("reuse", reuse.p50);
    bench.push(if is_large { p50 } else { p50.at_most(1.05) });
    bench.push(Row::new(format!("{name}, p99"), "us", ours.p99).limit("reuse", reuse.p99).at_most(1.5));
    bench.push(Row::new(format!("{name}, amp"), "", ours.written).limit("reuse", reuse.written).at_most(1.1));
}

fn report_first(bench: &mut Bench, name: &str, sync_bytes: usize, ours: Figures, grow: Figures) {
    bench.push(Row::new(name, "MiB/s", ours.rate).limit("grow", grow.rate).at_least(1.0));
    bench.push(Row::new(format!("{name}, p50"), "us", ours.p50).limit("grow", grow.p50));
    bench.push(Row::new(format!("{name}, p99"), "us", ours.p99).limit("grow", grow.p99));
    let amp = Row::new(format!("{name}, amp"), "", ours.written).limit("grow", grow.written);
    bench.push(if sync_bytes >= LARGE { amp.value_at_most(1.15) } else { amp });
}
