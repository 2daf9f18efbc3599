//! Many logs in one process, each with a few records.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mapwal::{Log, Options};
use memmap2::Mmap;
use tempfile::TempDir;

use crate::bench::Bench;
use crate::commit::commit;
use crate::directory::{fresh, open};
use crate::limit::SyncedFile;
use crate::report::Row;
use crate::samples::Samples;

const LOGS: usize = 1_000;
const RECORDS: usize = 100;
const PAYLOAD: [u8; 200] = [0x5a; 200];
/// A file system whose calls take next to no time, so that what is left is the logs' own.
const MEMORY: &str = "/dev/shm";
/// Of a bare file beside them.
const FILE_LEN: usize = 64 << 10;
/// Times that each log is committed to for one figure.
const ROUNDS_IN_TURN: usize = 4;
const THREADS_MAX: f64 = 12.0;
const DESCRIPTORS_MAX: f64 = 4.0;
const TIME_MAX_MS: f64 = 1000.0;
const MIB: f64 = 1_048_576.0;
/// Of each log, in MiB.
const DISK_MAX_MIB: f64 = 1.1 * 1024.0 / 1000.0;

pub(crate) fn run(bench: &mut Bench) {
    if bench.wants("many logs") {
        in_memory(bench);
        in_turn(bench, None);
        in_turn(bench, Some(Path::new(MEMORY)));
    }
}

fn options() -> Options {
    Options::new()
}

fn paths(directory: &TempDir, count: usize) -> Vec<PathBuf> {
    (0..count).map(|number| directory.path().join(number.to_string())).collect()
}

fn open_all(paths: &[PathBuf]) -> Vec<Log> {
    paths.iter().map(|path| open(path, &options())).collect()
}

/// Threads of this process, and open files.
fn entries(of: &str) -> usize {
    fs::read_dir(Path::new("/proc/self").join(of)).map_or(0, Iterator::count)
}

/// What the file system has given to all logs, in MiB.
fn disk_mib(paths: &[PathBuf]) -> f64 {
    let files = paths.iter().flat_map(|path| fs::read_dir(path).expect("it was made before"));
    // What goes meanwhile takes nothing.
    let blocks = files.filter_map(|file| Some(file.ok()?.metadata().ok()?.blocks()));
    blocks.sum::<u64>() as f64 * 512.0 / MIB
}

fn append_records(log: &Log) {
    for _ in 0..RECORDS {
        log.append(1, &PAYLOAD).expect("there is room");
    }
}

fn milliseconds(act: impl FnOnce()) -> f64 {
    let began = Instant::now();
    act();
    began.elapsed().as_secs_f64() * 1e3
}

/// The same files, opened and mapped by nothing but the calls for that.
fn open_bare(path: &Path) -> Vec<(File, Mmap)> {
    let files = fs::read_dir(path).expect("it was made before").filter_map(|entry| {
        let file = File::open(entry.ok()?.path()).ok()?;
        #[expect(unsafe_code, reason = "mapping a file is")]
        // SAFETY: no log is open there, and nothing else changes its files.
        let map = unsafe { Mmap::map(&file) }.ok()?;
        std::hint::black_box(map.first());
        Some((file, map))
    });
    files.collect()
}

fn in_memory(bench: &mut Bench) {
    let count = bench.amount(LOGS);
    let parent = if Path::new(MEMORY).is_dir() { Path::new(MEMORY) } else { bench.directory() };
    let directory = fresh(parent);
    let paths = paths(&directory, count);
    for log in open_all(&paths) {
        append_records(&log);
        log.close().expect("memory works");
    }
    let (mut opens, mut bare, mut drops) = (Samples::default(), Samples::default(), Samples::default());
    let (mut threads, mut descriptors, mut disk) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..bench.rounds() {
        bare.push(milliseconds(|| drop(paths.iter().map(|path| open_bare(path)).collect::<Vec<_>>())));
        let before = entries("fd");
        let mut logs = Vec::new();
        opens.push(milliseconds(|| logs = open_all(&paths)));
        for log in &logs {
            append_records(log);
            log.sync().expect("memory works");
        }
        std::thread::sleep(Duration::from_millis(500));
        threads.push(entries("task") as f64);
        descriptors.push((entries("fd") - before) as f64 / count as f64);
        disk.push(disk_mib(&paths));
        drops.push(milliseconds(|| drop(logs)));
        // A drop leaves a log as a crash does.
        for log in open_all(&paths) {
            log.close().expect("memory works");
        }
    }
    let name = |what: &str| format!("many logs, {count}: {what}");
    bench.push(Row::new(name("open all after a close"), "ms", opens).limit("bare", bare).value_at_most(TIME_MAX_MS));
    bench.push(Row::new(name("drop all"), "ms", drops).value_at_most(TIME_MAX_MS));
    bench.push(Row::new(name("threads of the process"), "", threads).value_at_most(THREADS_MAX));
    bench.push(Row::new(name("open files of each"), "", descriptors).value_at_most(DESCRIPTORS_MAX));
    bench.push(Row::new(name("disk of all"), "MiB", disk).value_at_most(DISK_MAX_MIB * count as f64));
}

/// Commits to each of them in turn, beside as many to one of them, and beside commits to as many bare files in turn.
fn in_turn(bench: &mut Bench, memory: Option<&Path>) {
    let count = bench.amount(LOGS);
    let directory = fresh(memory.unwrap_or(bench.directory()));
    let logs = open_all(&paths(&directory, count));
    // What is made ready once is.
    for log in logs.iter().chain(&logs) {
        commit(log, &PAYLOAD);
    }
    std::thread::sleep(Duration::from_millis(500));
    let commits = count * ROUNDS_IN_TURN;
    let rate = |ms: f64| commits as f64 / ms;
    let (mut each, mut alone, mut bare) = (Samples::default(), Samples::default(), Samples::default());
    let mut files: Vec<SyncedFile> =
        (0..count).map(|_| SyncedFile::new(directory.path(), FILE_LEN, PAYLOAD.len())).collect();
    for round in 0..bench.rounds() {
        bare.push(rate(milliseconds(|| {
            for _ in 0..ROUNDS_IN_TURN {
                for file in &mut files {
                    file.commit(&PAYLOAD);
                }
            }
        })));
        let one = &logs[round % count];
        alone.push(rate(milliseconds(|| (0..commits / 4).for_each(|_| commit(one, &PAYLOAD)))) / 4.0);
        each.push(rate(milliseconds(|| {
            for _ in 0..ROUNDS_IN_TURN {
                for log in &logs {
                    commit(log, &PAYLOAD);
                }
            }
        })));
    }
    let place = if memory.is_some() { "in memory" } else { "on disk" };
    let name = format!("many logs, {count}: commits in turn {place}");
    let row = Row::new(name.as_str(), "k/s", each.clone()).limit("one log", alone);
    bench.push(if memory.is_some() { row } else { row.at_least(0.9) });
    bench.push(Row::new(format!("{name}, beside bare files"), "k/s", each).limit("L3 in turn", bare));
}
