//! Opening a log and reading all of it.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use mapwal::{Log, Options};

use crate::bench::Bench;
use crate::directory::{fresh, open};
use crate::limit::{walk, walk_segments, write_records};
use crate::report::Row;
use crate::samples::Samples;
use crate::system::anonymous_kib;

pub(crate) fn run(bench: &mut Bench) {
    scan(bench, 2_000_000, 128);
    scan(bench, 200_000, 1 << 10);
}

/// All files stay in the page cache, except what opening drops from it. A log of several segments is read ahead by another thread
/// than the one that scans it, which does all of it where there is but one segment: [`one_segment`].
fn scan(bench: &mut Bench, count: usize, payload_len: usize) {
    let name = format!("verified scan, {} k x {payload_len} B", count / 1000);
    if !bench.wants(&name) {
        return;
    }
    let count = bench.amount(count);
    let payload = vec![0x5a; payload_len];
    let directory = fresh(bench.directory());
    let plain = directory.path().join("plain");
    write_records(&plain, count, &payload);
    let path = directory.path().join("log");
    write_log(&path, &Options::new(), count, payload_len);
    let alone = directory.path().join("alone");
    write_log(&alone, &one_segment(room_for(count, payload_len)), count, payload_len);
    let (mut scans_alone, mut walks) = (Samples::default(), Samples::default());
    let (mut scans, mut limits) = (Samples::default(), Samples::default());
    let (mut both, mut opens) = (Samples::default(), Samples::default());
    let (mut allocations, mut memory) = (Samples::default(), Samples::default());
    for _ in 0..bench.rounds() {
        let began = Instant::now();
        assert_eq!(walk(&plain), count);
        push_rate(&mut limits, count, began.elapsed());

        let began = Instant::now();
        assert!(walk_segments(&alone) >= count);
        push_rate(&mut walks, count, began.elapsed());

        let log = open(&alone, &Options::new());
        assert_eq!(log.recovery().segments, 1, "one thread");
        let began = Instant::now();
        read_all(&log, count);
        push_rate(&mut scans_alone, count, began.elapsed());
        log.close().expect("the disk works");

        let began = Instant::now();
        let log = open(&path, &Options::new());
        let opened = began.elapsed();
        read_all(&log, count);
        push_rate(&mut both, count, began.elapsed());
        opens.push(opened.as_secs_f64() * 1e3);
        log.close().expect("the disk works");

        let log = open(&path, &Options::new());
        let held = anonymous_kib();
        let began = Instant::now();
        let counted = allocation_counter::measure(|| read_all(&log, count));
        push_rate(&mut scans, count, began.elapsed());
        allocations.push(counted.count_total as f64 / count as f64);
        memory.push_some(held.zip(anonymous_kib()).map(|(before, after)| after.saturating_sub(before) as f64 / 1024.0));
        log.close().expect("the disk works");
    }
    let alone = format!("{name}, one thread");
    bench
        .push(Row::new(alone.as_str(), "M/s", scans_alone.clone()).limit("L5", limits.clone()).at_least(0.85).varies());
    bench.push(Row::new(format!("{alone}, of the log's frames"), "M/s", scans_alone).limit("L5s", walks));
    let ahead = format!("{name}, with the reader ahead");
    bench.push(Row::new(ahead.as_str(), "M/s", scans).limit("L5", limits.clone()).at_least(0.85));
    bench.push(Row::new(format!("open + {ahead}"), "M/s", both).limit("L5", limits).at_least(0.85));
    bench.push(Row::new(format!("{name}, its open"), "ms", opens));
    bench.push(Row::new(format!("{name}, allocations each"), "", allocations).value_at_most(ALLOCATIONS_EACH));
    bench.push(Row::new(format!("{name}, anonymous memory"), "MiB", memory));
}

/// The size of a segment that holds `count` records, and some room.
fn room_for(count: usize, payload_len: usize) -> u64 {
    const FRAME_HEADER_LEN: usize = 24;
    ((count * (FRAME_HEADER_LEN + payload_len).next_multiple_of(8)) as u64 + (1 << 20)).next_power_of_two()
}

/// A log whose first segment has `size` bytes, and no further one as long as that holds all: segments grow unless they are told not to.
pub(crate) fn one_segment(size: u64) -> Options {
    Options::new().segment_size_bytes(size).first_segment_size_bytes(size)
}

/// None for a record: a handful for each segment, and there are thousands of records in each.
const ALLOCATIONS_EACH: f64 = 0.001;

pub(crate) fn write_log(path: &Path, options: &Options, count: usize, payload_len: usize) {
    let payload = vec![0x5a; payload_len];
    let log = open(path, options);
    for _ in 0..count {
        log.append(1, &payload).expect("there is room");
    }
    log.close().expect("the disk works");
}

pub(crate) fn read_all(log: &Log, count: usize) {
    let snapshot = log.snapshot().expect("the log is whole");
    let mut seen = 0;
    for record in &snapshot {
        black_box(record.expect("the log is whole").payload());
        seen += 1;
    }
    assert_eq!(seen, count);
}

/// Million records a second.
pub(crate) fn push_rate(samples: &mut Samples, count: usize, took: Duration) {
    samples.push(count as f64 / took.as_secs_f64() / 1e6);
}
