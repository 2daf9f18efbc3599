//! Checking a whole log without opening it, as `mapwal verify` does.

use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use mapwal::inspect::{Inspection, VerifyOptions};
use mapwal::{Log, Options};

use crate::bench::Bench;
use crate::directory::{fresh, open};
use crate::limit::map;
use crate::report::Row;
use crate::samples::Samples;

/// Where the first frame of a segment is, and the bytes of a frame before its payload.
const FRAMES_START: usize = 4096;
const HEADER_LEN: usize = 24;
/// Enough for a median.
const ROUNDS_MIN: usize = 5;

pub(crate) fn run(bench: &mut Bench) {
    let name = "verify, 1 M x 1024 B";
    if !bench.wants(name) {
        return;
    }
    let (count, payload) = (bench.amount(1 << 20), vec![0x5a; 1 << 10]);
    let directory = fresh(bench.directory());
    let path = directory.path().join("log");
    let log: Log = open(&path, &Options::new());
    for _ in 0..count {
        log.append(1, &payload).expect("there is room");
    }
    log.close().expect("the disk works");
    let bytes = count * payload.len();
    let (mut rates, mut limits) = (Samples::default(), Samples::default());
    let rounds = bench.rounds().max(ROUNDS_MIN);
    // What is looked at for the first time comes from the device.
    walk_frames(&path);
    for round in 0..rounds {
        let began = Instant::now();
        assert!(walk_frames(&path) >= count);
        push_rate(&mut limits, bytes, began.elapsed());

        let began = Instant::now();
        let inspection = Inspection::open(&path).expect("the log is there");
        let report = inspection.verify(VerifyOptions::default(), &mut |_| {}).expect("the files are readable");
        push_rate(&mut rates, bytes, began.elapsed());
        assert!(report.records() == count as u64 && report.damage.is_empty());
        eprintln!("  round {} of {rounds}", round + 1);
    }
    let spread = |samples: &Samples| format!("{:.2}..{:.2}", samples.min(), samples.max());
    eprintln!("  GB/s: verify {}, L5c {}", spread(&rates), spread(&limits));
    bench.push(Row::new(name, "GB/s", rates).limit("L5c", limits).at_least(0.6).varies());
}

/// L5c: maps each segment and computes the checksum of each frame's bytes; returns how many frames there are.
fn walk_frames(directory: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(directory).expect("the log is there") {
        let path = entry.expect("the directory is readable").path();
        if path.extension().is_some_and(|extension| extension == "seg") {
            let map = map(&File::open(path).expect("the file is readable"));
            let mut rest = &map[FRAMES_START..];
            while let Some((len, _)) = rest.split_first_chunk() {
                let len = u32::from_le_bytes(*len) as usize;
                if len < HEADER_LEN {
                    break;
                }
                black_box(crc32fast::hash(&rest[8..len]));
                rest = &rest[len.next_multiple_of(8)..];
                count += 1;
            }
        }
    }
    count
}

/// Billion bytes of payloads a second.
fn push_rate(samples: &mut Samples, bytes: usize, took: Duration) {
    samples.push(bytes as f64 / took.as_secs_f64() / 1e9);
}
