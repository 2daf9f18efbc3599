//! Commits beside what a log does for itself: making its first segment ready, and removing what was trimmed.

use std::time::{Duration, Instant};

use mapwal::{Log, Options};

use super::{FRAME_LEN, MIB, PAYLOAD_LEN, SEGMENT_BYTES, full_size, noise};
use crate::bench::Bench;
use crate::commit::commit;
use crate::directory::fresh_log;
use crate::limit::SyncedFile;
use crate::report::Row;
use crate::samples::{Latencies, Samples};

const SMALL: usize = 200;
/// Segments that one trim lets go.
const TRIMMED: usize = 64;
/// How long commits are measured beside a trim, and without one: longer than the removing takes.
const TRIM_TIME: Duration = Duration::from_secs(1);

pub(super) fn run(bench: &mut Bench) {
    first_seconds(bench);
    beside_a_trim(bench);
}

/// What commits take each, for `time`.
fn commits_for(time: Duration, mut commit: impl FnMut()) -> Latencies {
    let mut latencies = Latencies::with_capacity(1 << 17);
    let began = Instant::now();
    while began.elapsed() < time {
        let clock = Instant::now();
        commit();
        latencies.record(clock.elapsed());
    }
    latencies
}

/// From the first commit to a log with default options on, against one that writes and syncs a file of zeros.
fn first_seconds(bench: &mut Bench) {
    let time = bench.time();
    let name = "durable commit 200 B, first seconds";
    if !bench.wants(name) {
        return;
    }
    let payload = vec![0x5a; SMALL];
    let (mut p50, mut p99) = (Samples::default(), Samples::default());
    let (mut bare_p50, mut bare_p99) = (Samples::default(), Samples::default());
    let mut file = SyncedFile::new(bench.directory(), 64 << 20, SMALL);
    for _ in 0..bench.five_rounds() {
        let mut bare = commits_for(time, || file.commit(&payload));
        bare_p50.push(bare.quantile_us(0.5));
        bare_p99.push(bare.quantile_us(0.99));
        let (log, _directory) = fresh_log(bench.directory(), &Options::new());
        let mut ours = commits_for(time, || commit(&log, &payload));
        p50.push(ours.quantile_us(0.5));
        p99.push(ours.quantile_us(0.99));
    }
    bench.push(Row::new(format!("{name}, p50"), "us", p50).limit("L3", bare_p50).at_most(1.05));
    bench.push(Row::new(format!("{name}, p99"), "us", p99).limit("L3", bare_p99).at_most(1.2));
}

/// Another thread trims: the same commits on the same log a moment earlier are the limit.
fn beside_a_trim(bench: &mut Bench) {
    let name = "durable commit 200 B, beside a trim";
    if !bench.wants(name) {
        return;
    }
    let payload = vec![0x5a; SMALL];
    let time = TRIM_TIME.min(bench.time());
    let (mut p99, mut before_p99, mut calls) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..bench.five_rounds() {
        let (log, _directory) = fresh_log(bench.directory(), &full_size());
        fill(&log, bench.amount(TRIMMED));
        before_p99.push(commits_for(time, || commit(&log, &payload)).quantile_us(0.99));
        let (took, mut during) = std::thread::scope(|scope| {
            let trimming = scope.spawn(|| {
                let clock = Instant::now();
                log.trim_before(log.durable_lsn()).expect("the disk takes it");
                clock.elapsed()
            });
            let during = commits_for(time, || commit(&log, &payload));
            (trimming.join().expect("a trim does not panic"), during)
        });
        p99.push(during.quantile_us(0.99));
        calls.push(took.as_secs_f64() * 1e3);
    }
    bench.push(Row::new(format!("{name}, p99"), "us", p99).limit("before", before_p99).at_most(1.2));
    bench.push(Row::new(format!("{name}, the trim"), "ms", calls));
}

/// Appends and syncs `segments` segments.
fn fill(log: &Log, segments: usize) {
    const SYNC_BYTES: usize = 4 * MIB;
    let payload = noise(PAYLOAD_LEN);
    for _ in 0..(segments * SEGMENT_BYTES as usize).div_ceil(SYNC_BYTES) {
        for _ in 0..SYNC_BYTES / FRAME_LEN {
            log.append(1, &payload).expect("there is room");
        }
        log.sync().expect("the disk takes it");
    }
}
