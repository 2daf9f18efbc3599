//! How many instructions a scan takes, as `callgrind` counts them in a process of its own.
//!
//! The process opens a log and scans it not at all, once, or twice. What a scan takes is the difference, so that nothing else counts.
//! The functions of the crate `crc32fast` are taken off: what they take depends on the processor, which `valgrind` does not have all of.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mapwal::Options;

use crate::bench::Bench;
use crate::directory::{fresh, open};
use crate::report::Row;
use crate::samples::Samples;
use crate::scan::{read_all, write_log};

/// Tell a process how often it is to scan, and what.
const SCANS: &str = "MAPWAL_BENCH_SCANS";
const DIRECTORY: &str = "MAPWAL_BENCH_SCANS_DIRECTORY";
const COUNT: &str = "MAPWAL_BENCH_SCANS_COUNT";
const PAYLOAD_LEN: usize = 128;
/// Enough that what is done for each segment, or only once, is less than one instruction for each record.
const RECORDS: usize = 200_000;
/// In one segment there is nothing to read ahead.
const CASES: [(&str, u64); 2] = [("one thread", 64 << 20), ("with the reader ahead", 4 << 20)];
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

pub(crate) fn run(bench: &mut Bench) {
    for (case, segment_size) in CASES {
        let name = format!("scan {PAYLOAD_LEN} B, {case}");
        if !bench.wants(&name) {
            continue;
        }
        let directory = fresh(bench.directory());
        let count = bench.amount(RECORDS);
        write_log(&directory.path().join("log"), &Options::new().segment_size_bytes(segment_size), count, PAYLOAD_LEN);
        let Some(taken) =
            [0, 1, 2].map(|scans| count_instructions(directory.path(), scans, count)).into_iter().collect()
        else {
            eprintln!("  valgrind is not here, or does not work");
            continue;
        };
        let taken: Vec<Taken> = taken;
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

/// The instructions of all functions in what `callgrind` has written, and those of checksums.
fn own_and_crc(text: &str) -> (u64, u64) {
    let (mut own, mut crc) = (0, 0);
    let mut names = HashMap::new();
    let mut is_crc = false;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(function) = line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn=")) {
            // A number in parentheses, with a name where it is the first time.
            let (number, name) = function.split_once(' ').unwrap_or((function, ""));
            if !name.is_empty() {
                names.insert(number.to_owned(), name.contains("crc32fast"));
            }
            if line.starts_with("fn=") {
                is_crc = names.get(number).copied().unwrap_or(false);
            }
        } else if line.starts_with("calls=") {
            // What the called function took is its own.
            lines.next();
        } else if line.starts_with(['+', '-', '*']) || line.starts_with(|first: char| first.is_ascii_digit()) {
            let cost: u64 = line.split_whitespace().nth(1).and_then(|cost| cost.parse().ok()).unwrap_or(0);
            *(if is_crc { &mut crc } else { &mut own }) += cost;
        }
    }
    (own, crc)
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
