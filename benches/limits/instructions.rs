//! How many instructions a scan takes, as `callgrind` counts them in a process of its own.
//!
//! The process opens a log and scans it not at all, once, or twice. What a scan takes is the difference, so that nothing else counts.
//! What is of the crate `crc32fast` is taken off, its functions and what is inlined of its files: what that takes depends on the processor,
//! which `valgrind` does not have all of.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use mapwal::Options;

use crate::bench::Bench;
use crate::directory::{fresh, open};
use crate::report::Row;
use crate::samples::Samples;
use crate::scan::{one_segment, read_all, write_log};

/// Tell a process how often it is to scan, and what.
const SCANS: &str = "MAPWAL_BENCH_SCANS";
const DIRECTORY: &str = "MAPWAL_BENCH_SCANS_DIRECTORY";
const COUNT: &str = "MAPWAL_BENCH_SCANS_COUNT";
const PAYLOAD_LEN: usize = 128;
/// Enough that what is done only once is less than one instruction for each record.
const RECORDS: usize = 200_000;
/// The sizes of segments. In one that holds all there is nothing to read ahead.
const CASES: [(&str, u64, bool); 2] = [("one thread", 64 << 20, true), ("with the reader ahead", 2 << 20, false)];
/// A record's own part, when it is scanned first and when it has been checked before.
const FIRST_MAX: f64 = 120.0;
const CHECKED_MAX: f64 = 35.0;

/// What all threads of a process took.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    own: u64,
    /// Of [`Self::own`], on other threads than the first.
    others: u64,
    crc: u64,
}

/// An error if `valgrind` cannot be run.
pub(crate) fn run(bench: &mut Bench) -> io::Result<()> {
    for (case, segment_size, is_alone) in CASES {
        let name = format!("scan {PAYLOAD_LEN} B, {case}");
        if !bench.wants(&name) {
            continue;
        }
        let directory = fresh(bench.directory());
        let count = bench.amount(RECORDS);
        let path = directory.path().join("log");
        write_log(&path, &one_segment(segment_size), count, PAYLOAD_LEN);
        let log = open(&path, &Options::new());
        assert!(log.recovery().segments == 1 || !is_alone, "{case}");
        log.close().expect("the disk works");
        let taken: Option<Vec<Taken>> =
            [0, 1, 2].map(|scans| count_instructions(directory.path(), scans, count)).into_iter().collect();
        let taken = taken.ok_or_else(|| io::Error::other("valgrind is not here, or does not work"))?;
        let each = |scan: usize, part: fn(&Taken) -> u64| {
            let mut samples = Samples::default();
            samples.push((part(&taken[scan]) as f64 - part(&taken[scan - 1]) as f64) / count as f64);
            samples
        };
        bench.push(Row::new(format!("{name}, first"), UNIT, each(1, |taken| taken.own)).value_at_most(FIRST_MAX));
        bench.push(Row::new(format!("{name}, first, on other threads"), UNIT, each(1, |taken| taken.others)));
        bench.push(Row::new(format!("{name}, first, its CRC besides"), UNIT, each(1, |taken| taken.crc)));
        bench.push(Row::new(format!("{name}, checked"), UNIT, each(2, |taken| taken.own)).value_at_most(CHECKED_MAX));
        bench.push(Row::new(format!("{name}, checked, its CRC besides"), UNIT, each(2, |taken| taken.crc)));
    }
    Ok(())
}

const UNIT: &str = "instructions";

/// Of a process that scans the log in `directory` so often.
fn count_instructions(directory: &Path, scans: usize, count: usize) -> Option<Taken> {
    let outputs = fresh(directory);
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=yes", "--dump-line=no", "--fair-sched=yes"])
        .arg(format!("--callgrind-out-file={}", outputs.path().join("out").display()))
        .arg(std::env::current_exe().expect("this program"))
        .envs([(SCANS, scans.to_string()), (COUNT, count.to_string())])
        .env(DIRECTORY, directory.join("log"))
        .stderr(Stdio::null())
        .status();
    status.ok().filter(std::process::ExitStatus::success)?;
    let mut taken = Taken::default();
    for entry in fs::read_dir(outputs.path()).ok()? {
        let path = entry.ok()?.path();
        // Without a number: of no thread.
        let Some((_, thread)) = path.file_name()?.to_str()?.split_once('-') else { continue };
        let (own, crc) = own_and_crc(&fs::read_to_string(&path).ok()?);
        taken.own += own;
        taken.crc += crc;
        taken.others += if thread == "01" { 0 } else { own };
    }
    Some(taken)
}

/// The instructions of all functions in what `callgrind` has written but those of checksums, and those.
fn own_and_crc(text: &str) -> (u64, u64) {
    let (mut own, mut crc) = (0, 0);
    let (mut functions, mut files) = (Names::default(), Names::default());
    let (mut is_crc_function, mut is_crc_file) = (false, false);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        match line.split_once('=') {
            Some(("fn", name)) => is_crc_function = functions.are_crc(name),
            // `fi` and `fe`: from here on of another file, as code of that is inlined, or was until here.
            Some(("fl" | "fi" | "fe", name)) => is_crc_file = files.are_crc(name),
            Some(("cfn", name)) => _ = functions.are_crc(name),
            Some(("cfl" | "cfi", name)) => _ = files.are_crc(name),
            // What the called function took is its own.
            Some(("calls", _)) => _ = lines.next(),
            _ if line.starts_with(['+', '-', '*']) || line.starts_with(|first: char| first.is_ascii_digit()) => {
                let cost: u64 = line.split_whitespace().nth(1).and_then(|cost| cost.parse().ok()).unwrap_or(0);
                *(if is_crc_function || is_crc_file { &mut crc } else { &mut own }) += cost;
            }
            _ => {}
        }
    }
    (own, crc)
}

/// The numbers of functions or of files that have been named, and whether they are of the checksum.
#[derive(Debug, Default)]
struct Names<'t>(HashMap<&'t str, bool>);

impl<'t> Names<'t> {
    /// Of a number in parentheses, with a name where it is the first time.
    fn are_crc(&mut self, name: &'t str) -> bool {
        let (number, name) = name.split_once(' ').unwrap_or((name, ""));
        if !name.is_empty() {
            self.0.insert(number, name.contains("crc32fast"));
        }
        self.0.get(number).copied().unwrap_or(false)
    }
}

/// Does what is to be counted, if this process was started for that.
pub(crate) fn serve() -> bool {
    let number = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
    let Some(scans) = number(SCANS) else { return false };
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).expect("set by the bench"));
    let count = number(COUNT).expect("set by the bench");
    let log = open(&directory, &Options::new());
    (0..scans).for_each(|_| read_all(&log, count));
    log.close().expect("the disk works");
    true
}
