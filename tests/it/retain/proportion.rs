//! A random run over what changes a log, which never takes more disk than in proportion to what it holds.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use mapwal::{Log, Lsn, Options};
use tempfile::TempDir;

use super::sizes::{EACH_SEGMENT, MIB, size_of, taken};
use crate::format::spec::RECYCLED;
use crate::support::files::{segment, segment_numbers};
use crate::support::open;
use crate::support::scratch::{append_stamped, scratch, segment_names};

/// What a log takes is in proportion to what it holds, after each step of a random run that is followed by a sync.
#[test]
fn a_log_never_takes_more_than_in_proportion() {
    for seed in 1..=3 {
        Run::new(seed).go(60);
    }
}

struct Run {
    dir: TempDir,
    log: Option<Log>,
    rng: fastrand::Rng,
    stamp: u64,
    /// No spare with a number above this was there, or under way, when segments were trimmed last.
    spare_max: u64,
    /// Bytes that truncations have cut off: at most so many are still there.
    cut: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        eprintln!("seed {seed}");
        let dir = scratch();
        let log = Some(open(dir.path(), &Self::options()));
        Self { dir, log, rng: fastrand::Rng::with_seed(seed), stamp: 1, spare_max: 0, cut: 0 }
    }

    fn options() -> Options {
        Options::new().segment_size_bytes(4 * MIB)
    }

    fn log(&self) -> &Log {
        self.log.as_ref().unwrap()
    }

    fn go(&mut self, steps: u32) {
        for _ in 0..steps {
            self.step();
            if self.rng.bool() {
                self.log().sync().unwrap();
                self.check();
            }
        }
    }

    fn append(&mut self, len: usize, count: u64) {
        append_stamped(self.log(), self.stamp, len, count);
        self.stamp += count;
    }

    fn step(&mut self) {
        match self.rng.u8(0..15) {
            0..=3 => self.append(100, 50),
            4..=6 => self.append(5000, 100),
            7 => self.append(300 << 10, 3),
            8..=9 => drop(self.log().rotate().unwrap()),
            10 => self.truncate(),
            11 => self.trim(),
            12 => self.reopen(true),
            13 => self.reopen(false),
            _ => {
                // It may leave a segment that has just been begun.
                let next = self.log().next_lsn();
                self.log().reset_to(next).unwrap();
                self.cut = 0;
            }
        }
    }

    fn truncate(&mut self) {
        let (first, next) = (self.log().first_lsn().0, self.log().next_lsn().0);
        let kept = self.rng.u64(first - 1..next);
        let held = used(self.log());
        self.log().truncate_after(Lsn(kept)).unwrap();
        self.cut += held - used(self.log()).min(held);
    }

    fn trim(&mut self) {
        let (first, next) = (self.log().first_lsn().0, self.log().next_lsn().0);
        let to = Lsn(self.rng.u64(first..=next));
        self.spare_max = segment_numbers(self.dir.path()).pop().unwrap() + 1;
        self.log().trim_before(to).unwrap();
    }

    fn reopen(&mut self, cleanly: bool) {
        let log = self.log.take().unwrap();
        if cleanly {
            log.close().unwrap();
        }
        drop(log);
        self.log = Some(open(self.dir.path(), &Self::options()));
    }

    fn check(&self) {
        let log = self.log();
        let began = Instant::now();
        loop {
            let stats = log.stats();
            let active = self.active();
            let size = size_of(self.dir.path(), active);
            let spare = self.exempt_spare(active);
            let segments = stats.sealed_segments as u64 + 2;
            let used = used(log);
            let bound = MIB.max(used * 3 / 2 + size) + segments * EACH_SEGMENT + self.cut + spare + kept(&self.dir);
            let taken = taken(self.dir.path());
            if taken <= bound {
                break;
            }
            let rest = began.elapsed() < Duration::from_secs(5);
            assert!(
                rest,
                "{taken} bytes taken, {bound} allowed, {used} used, {} cut, {active} active, {} spare: {stats:?} {:#?}",
                self.cut,
                self.spare_max,
                files(self.dir.path())
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What a spare takes that the bound leaves out.
    fn exempt_spare(&self, active: u64) -> u64 {
        let path = self.dir.path();
        let spares = segment_numbers(path).into_iter().filter(|&number| number > active);
        let exempt = spares.filter(|&number| number <= self.spare_max || is_recycled(path, number));
        exempt
            .filter_map(|number| std::fs::metadata(segment(path, number)).ok())
            .map(|found| found.blocks() * 512)
            .sum()
    }

    /// The number of the segment that takes appends: the newest that is no spare.
    fn active(&self) -> u64 {
        let newest = segment_names(self.dir.path()).pop().unwrap();
        newest.strip_suffix(".seg").unwrap().parse().unwrap()
    }
}

/// Whether segment `number` was another one before.
fn is_recycled(path: &Path, number: u64) -> bool {
    let mut features = [0; 4];
    let read = std::fs::File::open(segment(path, number)).and_then(|file| file.read_exact_at(&mut features, 56));
    read.is_ok() && u32::from_le_bytes(features) == RECYCLED
}

/// The name of each file, with its length and what it takes.
fn files(path: &Path) -> Vec<(String, u64, u64)> {
    let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    let file = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().ok()?;
        Some((entry.file_name().into_string().unwrap(), metadata.len(), metadata.blocks() * 512))
    };
    let mut files: Vec<_> = entries.filter_map(file).collect();
    files.sort();
    files
}

/// What files of dropped segments take.
fn kept(dir: &TempDir) -> u64 {
    let entries = std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap);
    let kept = entries.filter(|entry| entry.path().extension() == Some("tmp".as_ref()));
    kept.map(|entry| entry.metadata().map_or(0, |metadata| metadata.blocks() * 512)).sum()
}

/// Bytes of the records and their frames.
fn used(log: &Log) -> u64 {
    let snapshot = log.snapshot().unwrap();
    snapshot.iter().map(|record| 24 + (record.unwrap().payload().len() as u64).next_multiple_of(8)).sum()
}
