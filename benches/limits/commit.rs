//! Appending, and waiting until the record is durable.

use std::path::Path;
use std::sync::Barrier;
use std::time::Instant;

use mapwal::{Log, Options, Stats};

use crate::bench::Bench;
use crate::device::Device;
use crate::directory::settled_log;
use crate::limit::{SyncedFile, SyncedMapping};
use crate::rendezvous::Rendezvous;
use crate::report::Row;
use crate::samples::{Latencies, Samples};
use crate::system::voluntary_switches;

const COMMITS: usize = 2_000;
const COMMITS_OF_A_GROUP: usize = 16_000;
const SMALL: usize = 200;
const LARGE: usize = 4 << 10;
/// Bytes written to the device for a small commit, at most.
const SMALL_WRITTEN_KIB: f64 = 8.0;

/// A file system whose syncs take no time, so that what is left is the threads waking each other.
const MEMORY: &str = "/dev/shm";

/// Numbers of threads.
const GROUPS: [usize; 2] = [8, 32];
/// The share of what threads reach that do nothing but meet, write and sync.
const OF_A_RENDEZVOUS: f64 = 0.9;

pub(crate) fn run(bench: &mut Bench) {
    for payload_len in [SMALL, LARGE] {
        one_thread(bench, payload_len);
        for threads in GROUPS {
            group(bench, payload_len, threads);
        }
    }
}

pub(crate) fn commit(log: &Log, payload: &[u8]) {
    let lsn = log.append(1, payload).expect("there is room");
    log.wait_durable(lsn).expect("the disk takes it");
}

/// What `count` commits in a row took each, and how much was written to the device for each, in KiB.
fn measure(device: Option<&Device>, count: usize, mut commit: impl FnMut()) -> (Latencies, Option<f64>) {
    let written = || device.and_then(Device::bytes_written);
    let mut latencies = Latencies::with_capacity(count);
    let before = written();
    for _ in 0..count {
        let began = Instant::now();
        commit();
        latencies.record(began.elapsed());
    }
    let each = before.zip(written()).map(|(before, after)| (after - before) as f64 / count as f64 / 1024.0);
    (latencies, each)
}

#[derive(Default)]
struct Figures {
    p50: Samples,
    p99: Samples,
    written: Samples,
}

impl Figures {
    fn push(&mut self, (mut latencies, written): (Latencies, Option<f64>)) {
        self.p50.push(latencies.quantile_us(0.5));
        self.p99.push(latencies.quantile_us(0.99));
        self.written.push_some(written);
    }
}

fn one_thread(bench: &mut Bench, payload_len: usize) {
    let name = format!("commit {payload_len} B, 1 thread");
    if !bench.wants(&name) {
        return;
    }
    let payload = vec![0x5a; payload_len];
    let count = bench.amount(COMMITS);
    let device = Device::of(bench.directory());
    let (mut ours, mut limits, mut mapped) = (Figures::default(), Figures::default(), Figures::default());
    let mut file = SyncedFile::new(bench.directory(), 64 << 20, payload_len);
    let mut mapping = SyncedMapping::new(bench.directory(), 64 << 20, payload_len);
    for _ in 0..bench.many_rounds() {
        limits.push(measure(device.as_ref(), count, || file.commit(&payload)));
        mapped.push(measure(device.as_ref(), count, || mapping.commit(&payload)));
        let (log, _directory) = settled_log(bench.directory(), &Options::new());
        ours.push(measure(device.as_ref(), count, || commit(&log, &payload)));
    }
    bench.push(Row::new(format!("{name}, p50"), "us", ours.p50.clone()).limit("L3", limits.p50).at_most(1.1));
    bench.push(Row::new(format!("{name}, p50, of a mapping"), "us", ours.p50).limit("L3m", mapped.p50));
    bench.push(Row::new(format!("{name}, p99"), "us", ours.p99).limit("L3", limits.p99));
    let written = Row::new(name + ", written each", "KiB", ours.written).limit("L3", limits.written);
    bench.push(if payload_len == SMALL { written.value_at_most(SMALL_WRITTEN_KIB) } else { written });
}

/// Many threads that commit at once, against as many that do nothing but meet, one of which writes and syncs for all, and against
/// one that writes and syncs alone.
fn group(bench: &mut Bench, payload_len: usize, threads: usize) {
    let name = format!("commit {payload_len} B, {threads} threads");
    if !bench.wants(&name) {
        return;
    }
    let payload = vec![0x5a; payload_len];
    let each = bench.amount(COMMITS_OF_A_GROUP).div_ceil(threads);
    let (mut ours, mut alone) = (Group::default(), Samples::default());
    let (mut latency, mut waits) = (Figures::default(), Samples::default());
    let mut file = SyncedFile::new(bench.directory(), 64 << 20, payload_len);
    let limit = Rendezvous::new(bench.directory(), threads, payload_len);
    let mapping = Rendezvous::mapped(bench.directory(), threads, payload_len);
    let memory = Path::new(MEMORY).is_dir().then(|| Rendezvous::new(Path::new(MEMORY), threads, payload_len));
    let mut mapped = Samples::default();
    let mut in_memory = Group::default();
    for _ in 0..bench.rounds() {
        let count = bench.amount(COMMITS);
        let began = Instant::now();
        (0..count).for_each(|_| file.commit(&payload));
        alone.push(rate(count, began));

        ours.limits.push(limit.rate(each) / 1e3);
        mapped.push(mapping.rate(each) / 1e3);
        let (latencies, waited) = ours.measure(bench.directory(), threads, each, &payload);
        latency.push((latencies, None));
        waits.push_some(waited.map(|waited| waited as f64 / (each * threads) as f64));

        if let Some(limit) = &memory {
            in_memory.limits.push(limit.rate(each) / 1e3);
            in_memory.measure(Path::new(MEMORY), threads, each, &payload);
        }
    }
    let has_target = payload_len == SMALL;
    bench.push(Row::new(format!("{name}, beside one alone"), "k/s", ours.rates.clone()).limit("L3", alone));
    bench.push(Row::new(format!("{name}, of a mapping"), "k/s", ours.rates.clone()).limit("Lgm", mapped));
    ours.push(bench, &name, has_target);
    bench.push(Row::new(format!("{name}, p50"), "us", latency.p50));
    bench.push(Row::new(format!("{name}, p99"), "us", latency.p99));
    bench.push(Row::new(format!("{name}, waits each"), "", waits));
    if memory.is_some() {
        in_memory.push(bench, &format!("{name}, without a disk"), has_target);
    }
}

/// Commits of many threads, round by round.
#[derive(Default)]
struct Group {
    rates: Samples,
    limits: Samples,
    per_sync: Samples,
}

impl Group {
    /// In a new log in `directory`.
    fn measure(&mut self, directory: &Path, threads: usize, each: usize, payload: &[u8]) -> (Latencies, Option<u64>) {
        let (log, _directory) = settled_log(directory, &Options::new());
        let (before, began) = (log.stats(), Instant::now());
        let measured = commit_together(&log, threads, each, payload);
        self.rates.push(rate(each * threads, began));
        self.per_sync.push(records_per_sync(&before, &log.stats()));
        measured
    }

    fn push(self, bench: &mut Bench, name: &str, has_target: bool) {
        let row = Row::new(name, "k/s", self.rates).limit("Lg", self.limits);
        bench.push(if has_target { row.at_least(OF_A_RENDEZVOUS).varies() } else { row });
        bench.push(Row::new(format!("{name}, records a sync"), "", self.per_sync));
    }
}

/// How many records each sync made durable since `before`.
fn records_per_sync(before: &Stats, after: &Stats) -> f64 {
    (after.records_synced - before.records_synced) as f64 / (after.syncs - before.syncs) as f64
}

/// Thousand commits a second.
fn rate(count: usize, began: Instant) -> f64 {
    count as f64 / began.elapsed().as_secs_f64() / 1e3
}

/// What `each` commits of each thread took, and how often a thread gave the processor away to wait.
fn commit_together(log: &Log, threads: usize, each: usize, payload: &[u8]) -> (Latencies, Option<u64>) {
    let barrier = Barrier::new(threads);
    let work = || {
        let mut latencies = Latencies::with_capacity(each);
        barrier.wait();
        let before = voluntary_switches();
        for _ in 0..each {
            let began = Instant::now();
            commit(log, payload);
            latencies.record(began.elapsed());
        }
        (latencies, before.zip(voluntary_switches()).map(|(before, after)| after - before))
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut latencies = Latencies::default();
        let mut waits = Some(0);
        for worker in workers {
            let (measured, waited) = worker.join().expect("a worker does not panic");
            latencies.merge(measured);
            waits = waits.zip(waited).map(|(sum, more)| sum + more);
        }
        (latencies, waits)
    })
}
