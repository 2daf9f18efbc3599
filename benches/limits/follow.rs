//! Following a log that is read from its directory: how fast what is there goes by, and how soon what is new is seen.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mapwal::{Log, LogReader, Lsn, Options, Visibility};
use rustix::time::{ClockId, clock_gettime};

use crate::bench::Bench;
use crate::directory::{fresh, fresh_log, open};
use crate::limit::walk_segments;
use crate::report::Row;
use crate::samples::{Latencies, Samples};
use crate::scan::push_rate;

/// Says which directory a process is to follow, and how.
const DIRECTORY: &str = "MAPWAL_BENCH_FOLLOW";
const SPINS: &str = "MAPWAL_BENCH_FOLLOW_SPINS";
const PAYLOAD_LEN: usize = 1 << 10;
/// Long enough for the follower to be asleep, and for the next record not to wait for this one.
const PAUSE: Duration = Duration::from_micros(500);

pub(crate) fn run(bench: &mut Bench) {
    catch_up(bench);
    latency(bench, "woken", false);
    latency(bench, "spinning", true);
}

/// 1 GiB in the page cache, every frame checked.
fn catch_up(bench: &mut Bench) {
    let name = "follow from the directory, 1 GiB x 1 KiB";
    if !bench.wants(name) {
        return;
    }
    let count = bench.amount(1 << 20);
    let directory = fresh(bench.directory());
    write_log(directory.path(), count);
    let (mut follows, mut limits) = (Samples::default(), Samples::default());
    for _ in 0..bench.rounds() {
        let began = Instant::now();
        assert!(walk_segments(directory.path()) >= count);
        push_rate(&mut limits, count, began.elapsed());
        let began = Instant::now();
        follow_all(directory.path(), count);
        push_rate(&mut follows, count, began.elapsed());
    }
    bench.push(Row::new(name, "M/s", follows).limit("L5s", limits).at_least(0.7));
}

fn write_log(path: &Path, count: usize) {
    let log = open(path, &Options::new());
    for _ in 0..count {
        log.append(1, &[0x5a; PAYLOAD_LEN]).expect("there is room");
    }
    log.close().expect("the disk works");
}

fn follow_all(path: &Path, count: usize) {
    let mut follower = read_only(path).follow(Lsn::FIRST, Visibility::Published).expect("the log is whole");
    for _ in 0..count {
        black_box(follower.next().expect("the log is whole").expect("as many as were appended").payload());
    }
    assert!(follower.next().expect("the log is whole").is_none());
}

#[expect(unsafe_code, reason = "opening a log is")]
pub(crate) fn read_only(path: &Path) -> LogReader {
    // SAFETY: the directory is a temporary one of this program, on the disk, and only the log changes its files.
    unsafe { LogReader::open(path) }.expect("there is a log")
}

/// From before an append until a follower in another process has the record.
fn latency(bench: &mut Bench, how: &str, spins: bool) {
    let name = format!("append to a follower's hands, another process, {how}");
    if !bench.wants(&name) {
        return;
    }
    let count = bench.amount(8_000);
    let (mut medians, mut tails) = (Samples::default(), Samples::default());
    for _ in 0..bench.rounds() {
        let (log, directory) = fresh_log(bench.directory(), &Options::new());
        let mut latencies = measure(&log, directory.path(), spins, count);
        medians.push(latencies.quantile_us(0.5));
        tails.push(latencies.quantile_us(0.99));
        log.close().expect("the disk works");
    }
    bench.push(Row::new(format!("{name}, p50"), "us", medians));
    bench.push(Row::new(format!("{name}, p99"), "us", tails));
}

fn measure(log: &Log, path: &Path, spins: bool, count: usize) -> Latencies {
    let mut follower = Process::start(path, spins);
    let mut latencies = Latencies::with_capacity(count);
    // The first ones find the follower still starting.
    for at in 0..=count + count / 10 {
        std::thread::sleep(PAUSE);
        log.append(1, &now().to_le_bytes()).expect("there is room");
        let took = follower.read_latency();
        if at > count / 10 {
            latencies.record(took);
        }
    }
    latencies
}

/// Nanoseconds of a clock that processes share.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// A process that follows; it does not outlive this value.
struct Process {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    line: String,
}

impl Process {
    fn start(path: &Path, spins: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env(DIRECTORY, path).stdout(Stdio::piped());
        if spins {
            command.env(SPINS, "1");
        }
        let mut child = command.spawn().expect("this program runs");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, output, line: String::new() }
    }

    fn read_latency(&mut self) -> Duration {
        self.line.clear();
        self.output.read_line(&mut self.line).expect("the follower speaks plainly");
        Duration::from_nanos(self.line.trim().parse().expect("the follower tells nanoseconds"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It waits for a record that does not come.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Follows, and tells how old each record is, if this process was started for that.
pub(crate) fn serve() -> bool {
    let Some(path) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return false };
    let spins = std::env::var_os(SPINS).is_some();
    let mut follower = read_only(&path).follow(Lsn::FIRST, Visibility::Published).expect("the log is whole");
    let mut out = std::io::stdout();
    loop {
        let record = if spins { follower.next() } else { follower.next_blocking().map(Some) };
        let Some(record) = record.expect("the log is whole") else { continue };
        let arrived = now();
        let sent = u64::from_le_bytes(*record.payload().first_chunk().expect("as appended"));
        writeln!(out, "{}", arrived - sent).and_then(|()| out.flush()).expect("the bench listens");
    }
}
