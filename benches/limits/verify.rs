//! Checking a whole log without opening it, as `mapwal verify` does.

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
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
/// Bytes that are read at once.
const PIECE_LEN: usize = 256 << 10;
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
    let (mut rates, mut limits, mut reads) = (Samples::default(), Samples::default(), Samples::default());
    let rounds = bench.rounds().max(ROUNDS_MIN);
    // What is looked at for the first time comes from the device.
    walk_frames(&path);
    for round in 0..rounds {
        let began = Instant::now();
        assert!(walk_frames(&path) >= count);
        push_rate(&mut limits, bytes, began.elapsed());

        let began = Instant::now();
        assert!(read_frames(&path) >= count);
        push_rate(&mut reads, bytes, began.elapsed());

        let began = Instant::now();
        let inspection = Inspection::open(&path).expect("the log is there");
        let report = inspection.verify(VerifyOptions::default(), &mut |_| {}).expect("the files are readable");
        push_rate(&mut rates, bytes, began.elapsed());
        assert!(report.records() == count as u64 && report.damage.is_empty());
        eprintln!("  round {} of {rounds}", round + 1);
    }
    let spread = |samples: &Samples| format!("{:.2}..{:.2}", samples.min(), samples.max());
    eprintln!("  GB/s: verify {}, L5c {}", spread(&rates), spread(&limits));
    bench.push(Row::new(name, "GB/s", rates.clone()).limit("L5c", limits).at_least(0.6).varies());
    bench.push(Row::new(format!("{name}, of a read"), "GB/s", rates).limit("L5r", reads));
}

/// L5c: maps each segment and computes the checksum of each frame's bytes; returns how many frames there are.
fn walk_frames(directory: &Path) -> usize {
    segments(directory).map(|file| walk(&map(&file)[FRAMES_START..]).0).sum()
}

/// L5r: as L5c, of bytes that are read into a buffer, so that no other process can change or cut them meanwhile.
fn read_frames(directory: &Path) -> usize {
    let mut buffer = Vec::with_capacity(2 * PIECE_LEN);
    let read_segment = |mut file: File| {
        let mut count = 0;
        buffer.clear();
        let mut start = FRAMES_START;
        while (&mut file).take(PIECE_LEN as u64).read_to_end(&mut buffer).expect("the file is readable") > 0 {
            let (more, end) = walk(&buffer[start..]);
            if end == 0 {
                break;
            }
            count += more;
            buffer.drain(..start + end);
            start = 0;
        }
        count
    };
    segments(directory).map(read_segment).sum()
}

fn segments(directory: &Path) -> impl Iterator<Item = File> {
    let paths = std::fs::read_dir(directory).expect("the log is there");
    let paths = paths.map(|entry| entry.expect("the directory is readable").path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .map(|path| File::open(path).expect("the file is readable"))
}

/// How many whole frames `bytes` begin with, whose checksums are computed, and where they end.
fn walk(bytes: &[u8]) -> (usize, usize) {
    let (mut count, mut end) = (0, 0);
    while let Some((len, _)) = bytes[end..].split_first_chunk() {
        let len = u32::from_le_bytes(*len) as usize;
        let next = end + len.next_multiple_of(8);
        if len < HEADER_LEN || next > bytes.len() {
            break;
        }
        black_box(crc32fast::hash(&bytes[end + 8..end + len]));
        end = next;
        count += 1;
    }
    (count, end)
}

/// Billion bytes of payloads a second.
fn push_rate(samples: &mut Samples, bytes: usize, took: Duration) {
    samples.push(bytes as f64 / took.as_secs_f64() / 1e9);
}
