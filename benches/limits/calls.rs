//! How many system calls the log makes, as `strace` sees it in a process of its own. Without `strace` there are no such rows.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mapwal::{Log, Lsn, Options};

use crate::bench::Bench;
use crate::commit::commit;
use crate::directory::{fresh, ready_log};
use crate::report::Row;
use crate::samples::Samples;
use crate::spare;

/// Tell a process what it is to do, where, and how often.
const CASE: &str = "MAPWAL_BENCH_CALLS";
const DIRECTORY: &str = "MAPWAL_BENCH_CALLS_DIRECTORY";
const COUNT: &str = "MAPWAL_BENCH_CALLS_COUNT";
/// Names of files that do not exist. Looking for them shows in the trace where the work begins and ends.
const BEGINS: &str = "mapwal-bench-begins";
const ENDS: &str = "mapwal-bench-ends";

/// What is done: in the rows' names, how often, and how many of those the figures are about.
const CASES: [(&str, usize, usize, &str); 4] = [
    ("append 128 B, burst", 400_000, 1_000_000, "per M"),
    ("append 128 B, sustained", 4_000_000, 1_000_000, "per M"),
    ("commit 200 B, 1 thread", 2_000, 1, "each"),
    ("get", 400_000, 1_000_000, "per M"),
];

pub(crate) fn run(bench: &mut Bench) {
    for (case, full, per, unit) in CASES {
        let name = format!("{case}, system calls");
        if !bench.wants(&name) {
            continue;
        }
        let count = bench.amount(full);
        let Some((own, others)) = trace(bench.directory(), case, count) else {
            eprintln!("  strace is not here, or not allowed");
            continue;
        };
        let each = |calls: usize| {
            let mut samples = Samples::default();
            samples.push(calls as f64 * per as f64 / count as f64);
            samples
        };
        bench.push(Row::new(name.clone(), unit, each(own)));
        bench.push(Row::new(format!("{name}, of other threads"), unit, each(others)));
    }
}

/// System calls of the thread that does the work, and of the log's own threads meanwhile.
fn trace(directory: &Path, case: &str, count: usize) -> Option<(usize, usize)> {
    let directory = fresh(directory);
    let output = directory.path().join("strace");
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(&output)
        .arg(std::env::current_exe().expect("this program"))
        .envs([(CASE, case), (COUNT, &count.to_string())])
        .env(DIRECTORY, directory.path())
        .stderr(Stdio::null())
        .status();
    status.ok().filter(std::process::ExitStatus::success)?;
    let text = fs::read_to_string(output).ok()?;
    // Each line begins with the thread's number. A call that another one interrupts has a second line.
    let calls =
        text.lines().filter_map(|line| line.split_once(' ')).filter(|(_, call)| !call.trim_start().starts_with('<'));
    let mut calls = calls.skip_while(|(_, call)| !call.contains(BEGINS));
    let (worker, _) = calls.next()?;
    let (own, others): (Vec<_>, Vec<_>) =
        calls.take_while(|(_, call)| !call.contains(ENDS)).partition(|(thread, _)| *thread == worker);
    Some((own.len(), others.len()))
}

/// Does what is to be traced, if this process was started for that.
pub(crate) fn serve() -> bool {
    let Ok(case) = std::env::var(CASE) else { return false };
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).expect("set by the bench"));
    let count = std::env::var(COUNT).ok().and_then(|count| count.parse().ok()).expect("set by the bench");
    spare::watch();
    let (log, _directory) = ready_log(&directory, &Options::new());
    if case.starts_with("get") {
        append(&log, count);
    }
    let first = log.next_lsn();
    let mark = |name: &str| assert!(!Path::new(name).exists());
    mark(BEGINS);
    match case.split_once(' ') {
        Some(("append", _)) => append(&log, count),
        Some(("commit", _)) => (0..count).for_each(|_| commit(&log, &[0x5a; 200])),
        _ => {
            for back in 1..=count as u64 {
                black_box(log.get(Lsn(first.0 - back)).expect("it was appended"));
            }
        }
    }
    mark(ENDS);
    true
}

fn append(log: &Log, count: usize) {
    for _ in 0..count {
        log.append(1, black_box(&[0x5a; 128])).expect("there is room");
    }
}
