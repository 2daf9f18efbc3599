//! Appending, without waiting for the disk.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use mapwal::{Log, Lsn, Options};

use crate::bench::Bench;
use crate::device::Device;
use crate::directory::{fresh, ready_log};
use crate::limit::{ReadyMapping, write_buffered};
use crate::report::Row;
use crate::samples::Samples;
use crate::stall::append_latencies;
use crate::system::{page_faults, provide_memory};
use crate::trace;

const MIB: usize = 1 << 20;
/// Written in one burst: less than a segment, so that no append meets its end.
const BURST_BYTES: usize = 60 * MIB;
/// Ten segments.
const SUSTAINED_BYTES: usize = 640 * MIB;
/// What a log's record takes more than its payload, padding aside.
const FRAME_HEADER_LEN: usize = 24;

/// Payload lengths, with the share of L2 that a burst is to reach and the share of L2p that many segments are to.
const CASES: [(usize, Option<f64>, f64); 4] =
    [(32, None, 0.6), (128, Some(0.75), 0.65), (1 << 10, None, 0.6), (16 << 10, None, 0.7)];

pub(crate) fn run(bench: &mut Bench) {
    for (payload_len, target, _) in CASES {
        let count = records_in(bench.amount(BURST_BYTES), payload_len);
        let payload = vec![0x5a; payload_len];
        let fill = |log: &Log| append_all(log, count, &payload);
        burst(bench, &format!("append {payload_len} B, burst"), target, count, &payload, fill);
    }
    burst_in_place(bench);
    for (payload_len, target) in [(128, Some(0.8)), (1 << 10, Some(0.8))] {
        burst_from_a_writer(bench, payload_len, target);
    }
    burst_of_a_trace(bench);
    burst_of_two_threads(bench);
    for (payload_len, _, target) in CASES {
        sustained(bench, payload_len, target);
    }
}

/// How many records of the log take about `bytes`.
fn records_in(bytes: usize, payload_len: usize) -> usize {
    (bytes / (payload_len + FRAME_HEADER_LEN).next_multiple_of(8)).max(1)
}

/// Million records a second.
fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64() / 1e6
}

fn append_all(log: &Log, count: usize, payload: &[u8]) {
    for _ in 0..count {
        log.append(1, black_box(payload)).expect("there is room");
    }
}

/// How long `work` takes, and the page faults for each million of its `count` records.
fn counting_faults(count: usize, work: impl FnOnce()) -> (Duration, Option<f64>) {
    let before = page_faults();
    let began = Instant::now();
    work();
    let took = began.elapsed();
    let faults = before.zip(page_faults()).map(|(before, after)| (after - before) as f64 * 1e6 / count as f64);
    (took, faults)
}

/// From one thread into a segment that is ready, against a mapping that is ready.
fn burst(bench: &mut Bench, name: &str, target: Option<f64>, count: usize, payload: &[u8], fill: impl Fn(&Log)) {
    if !bench.wants(name) {
        return;
    }
    let mut limit = ReadyMapping::new(bench.directory(), count, payload);
    let (mut ours, mut limits, mut faults) = (Samples::default(), Samples::default(), Samples::default());
    let mut swapping = Samples::default();
    for _ in 0..bench.many_rounds() {
        limit.prepare();
        let began = Instant::now();
        limit.fill();
        limits.push(rate(count, began.elapsed()));
        limit.prepare();
        let began = Instant::now();
        limit.fill_swapping();
        swapping.push(rate(count, began.elapsed()));

        let (log, _directory) = ready_log(bench.directory(), &Options::new());
        let (took, faulted) = counting_faults(count, || fill(&log));
        ours.push(rate(count, took));
        faults.push_some(faulted);
    }
    let row = Row::new(name, "M/s", ours.clone()).limit("L2", limits);
    bench.push(if let Some(ratio) = target { row.at_least(ratio).varies() } else { row });
    bench.push(Row::new(format!("{name}, beside a swap each"), "M/s", ours).limit("L2s", swapping));
    bench.push(Row::new(format!("{name}, page faults"), "per M", faults));
}

/// As [`burst`], with a closure that writes the payload in place.
fn burst_in_place(bench: &mut Bench) {
    let payload = [0x5a; 128];
    let count = records_in(bench.amount(BURST_BYTES), payload.len());
    burst(bench, "append_with 128 B, burst", None, count, &payload, |log| {
        for _ in 0..count {
            let fill = |place: &mut [u8]| place.copy_from_slice(black_box(&payload));
            log.append_with(1, payload.len(), fill).expect("there is room");
        }
    });
}

/// With a closure that writes the payload from front to back: in one piece, beside appends of the same slice, and in three, beside
/// appends of the same three. With a closure that gets the whole place, beside the same appends.
fn burst_from_a_writer(bench: &mut Bench, payload_len: usize, target: Option<f64>) {
    let name = format!("append_with_writer {payload_len} B, burst");
    if !bench.wants(&name) {
        return;
    }
    let payload = vec![0x5a; payload_len];
    let count = records_in(bench.amount(BURST_BYTES), payload_len);
    let parts = || {
        let (header, body) = black_box(&payload).split_at(16);
        let (key, value) = body.split_at(24);
        [header, key, value]
    };
    let copy = |log: &Log| log.append(1, black_box(&payload));
    let place = RefCell::new(vec![0; payload_len]);
    let copy_twice = |log: &Log| {
        let mut place = place.borrow_mut();
        place.copy_from_slice(black_box(&payload));
        log.append(1, black_box(&place))
    };
    let write = |log: &Log| {
        log.append_with_writer(1, payload.len(), |writer| {
            writer.put_slice(black_box(&payload));
            Ok(())
        })
    };
    let fill =
        |log: &Log| log.append_with(1, payload.len(), |place: &mut [u8]| place.copy_from_slice(black_box(&payload)));
    let copy_parts = |log: &Log| log.append_vectored(1, &parts());
    let write_parts = |log: &Log| {
        log.append_with_writer(1, payload.len(), |writer| {
            for part in parts() {
                writer.put_slice(part);
            }
            Ok(())
        })
    };
    let [mut copies, mut writes, mut fills, mut part_copies, mut part_writes, mut second_copies] =
        std::array::from_fn(|_| Samples::default());
    for _ in 0..bench.many_rounds() {
        copies.push(burst_rate(bench, count, copy));
        writes.push(burst_rate(bench, count, write));
        fills.push(burst_rate(bench, count, fill));
        second_copies.push(burst_rate(bench, count, copy_twice));
        part_copies.push(burst_rate(bench, count, copy_parts));
        part_writes.push(burst_rate(bench, count, write_parts));
    }
    let row = Row::new(name.as_str(), "M/s", writes.clone()).limit("append", copies.clone());
    bench.push(if let Some(ratio) = target { row.at_least(ratio) } else { row });
    let beside = format!("{name}, beside a copy each");
    bench.push(Row::new(beside, "M/s", writes).limit("copy and append", second_copies));
    bench.push(Row::new(format!("{name}, in 3 parts"), "M/s", part_writes).limit("append_vectored", part_copies));
    let filled = format!("append_with {payload_len} B, burst, beside an append each");
    bench.push(Row::new(filled, "M/s", fills).limit("append", copies));
}

/// Of `count` records that `append` appends one by one.
fn burst_rate(bench: &Bench, count: usize, append: impl Fn(&Log) -> mapwal::Result<Lsn>) -> f64 {
    let (log, _directory) = ready_log(bench.directory(), &Options::new());
    let began = Instant::now();
    for _ in 0..count {
        append(&log).expect("there is room");
    }
    rate(count, began.elapsed())
}

/// Records of the lengths that a real database wrote.
fn burst_of_a_trace(bench: &mut Bench) {
    let name = "append of traced lengths, burst";
    if !bench.wants(name) {
        return;
    }
    let lens = trace::lengths();
    let longest = lens.iter().copied().max().unwrap_or(0);
    let payload = vec![0x5a; longest];
    // Headers of the log are longer than those of the limit: it takes a tenth more room at the most.
    let total = bench.amount(BURST_BYTES) / 10 * 9;
    let mut limit = ReadyMapping::new(bench.directory(), total.div_ceil(longest), &payload);
    let (mut ours, mut limits) = (Samples::default(), Samples::default());
    for _ in 0..bench.many_rounds() {
        limit.prepare();
        let began = Instant::now();
        let count = limit.fill_with(&lens);
        limits.push(rate(count, began.elapsed()));

        let (log, _directory) = ready_log(bench.directory(), &Options::new());
        let began = Instant::now();
        for &len in lens.iter().cycle().take(count) {
            log.append(1, black_box(&payload[..len])).expect("there is room");
        }
        ours.push(rate(count, began.elapsed()));
    }
    bench.push(Row::new(name, "M/s", ours).limit("L2", limits));
}

/// From two threads into one segment, against one thread, and against two that share a counter and a mapping.
fn burst_of_two_threads(bench: &mut Bench) {
    let name = "append 128 B, burst of 2 threads";
    if !bench.wants(name) {
        return;
    }
    let payload = vec![0x5a; 128];
    let count = records_in(bench.amount(BURST_BYTES), payload.len()).next_multiple_of(2);
    let limit = ReadyMapping::new(bench.directory(), count, &payload);
    let (mut ours, mut limits, mut alone) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..bench.many_rounds() {
        limit.prepare();
        let next = AtomicUsize::new(0);
        let filler = || limit.fill_together(&next);
        limits.push(rate(count, together([filler, filler])));

        let (log, directory) = ready_log(bench.directory(), &Options::new());
        let began = Instant::now();
        append_all(&log, count, &payload);
        alone.push(rate(count, began.elapsed()));
        drop((log, directory));

        let (log, _directory) = ready_log(bench.directory(), &Options::new());
        let appender = || append_all(&log, count / 2, &payload);
        ours.push(rate(count, together([appender, appender])));
    }
    bench.push(Row::new(name, "M/s", ours.clone()).limit("1 thread", alone).at_least(1.0).varies());
    bench.push(Row::new(format!("{name}, beside a bare loop"), "M/s", ours).limit("L2 x 2 threads", limits));
}

/// How long two threads take that begin together, from the first to begin to the last to end.
fn together(work: [impl FnOnce() + Send; 2]) -> Duration {
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let threads = work.map(|work| {
            scope.spawn(|| {
                barrier.wait();
                let began = Instant::now();
                work();
                (began, Instant::now())
            })
        });
        let times = threads.map(|thread| thread.join().expect("a worker does not panic"));
        let [began, ended] = [times.map(|time| time.0).into_iter().min(), times.map(|time| time.1).into_iter().max()];
        ended.zip(began).map_or(Duration::ZERO, |(ended, began)| ended - began)
    })
}

/// Over many segments on end, against a buffer that is written to a file.
fn sustained(bench: &mut Bench, payload_len: usize, target: f64) {
    let name = format!("append {payload_len} B, sustained");
    if !bench.wants(&name) {
        return;
    }
    let payload = vec![0x5a; payload_len];
    let total = bench.amount(SUSTAINED_BYTES);
    let count = records_in(total, payload_len);
    let (mut ours, mut limits, mut faults) = (Samples::default(), Samples::default(), Samples::default());
    let (mut p999, mut longest, mut writes) = (Samples::default(), Samples::default(), Samples::default());
    let (device, mut stalls) = (Device::of(bench.directory()), Vec::new());
    for _ in 0..bench.rounds() {
        let directory = fresh(bench.directory());
        provide_memory(total);
        let began = Instant::now();
        let (written, longest_write) = write_buffered(directory.path(), total, &payload);
        limits.push(rate(written, began.elapsed()));
        writes.push(longest_write.as_secs_f64() * 1e3);
        drop(directory);

        let (log, directory) = ready_log(bench.directory(), &Options::new());
        provide_memory(total);
        let (took, faulted) = counting_faults(count, || append_all(&log, count, &payload));
        ours.push(rate(count, took));
        faults.push_some(faulted);
        drop((log, directory));

        // On a log of its own: looking at the clock takes as long as half an append.
        if payload_len == 128 {
            let (log, _directory) = ready_log(bench.directory(), &Options::new());
            provide_memory(total);
            let (mut latencies, stall) = append_latencies(&log, count, &payload, device.as_ref());
            p999.push(latencies.quantile_us(0.999));
            longest.push(stall.longest.as_secs_f64() * 1e3);
            stalls.push(stall);
        }
    }
    bench.push(Row::new(name.as_str(), "M/s", ours).limit("L2p", limits).at_least(target));
    if payload_len == 128 {
        bench.push(Row::new(format!("{name}, p99.9"), "us", p999));
        let name = format!("{name}, longest stall");
        for (round, stall) in stalls.iter().enumerate() {
            bench.note(format!("{name}, round {}: {stall}", round + 1));
        }
        bench.push(Row::new(name, "ms", longest).limit("longest write of L2p", writes).at_most(1.0));
    }
    bench.push(Row::new(name + ", page faults", "per M", faults));
}
