//! What one process does with one log.

use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};

use crate::peer::{Cannot, Peer, Seen};
use crate::stream::Amount;

/// Payloads are full of it, so that they are found in the files.
pub(crate) const FILLER: u8 = 0x5a;
/// Records between two looks at the clock.
const APPEND_STEP: usize = 256;
/// Commits of each thread, or look-ups all over the log, before any is measured.
const WARM_UP: usize = 20;
/// Look-ups in one call.
const GET_STEP: usize = 256;
const SEED: u64 = 7;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Until this much payload is appended, or the time is over.
    Append { len: usize, bytes: usize, seconds: f64 },
    /// For this time.
    Commit { threads: usize, len: usize, seconds: f64 },
    /// So many, and that is all.
    CommitSome { count: usize, len: usize },
    /// Makes a log that others read.
    Fill { count: usize, len: usize },
    /// Opens it and reads all of it.
    Scan,
    /// The same, and compares each payload with what it must be.
    Check { len: usize },
    /// Fills a log and looks at random records, so many or until the time is over.
    Get { count: usize, len: usize, lookups: usize, seconds: f64 },
    /// Appends, and is killed as soon as the last append returns.
    Die { count: usize, len: usize },
    /// Appends and makes durable, for as long as a log lives.
    Stream(Amount),
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Done,
    /// Records a second.
    Rate(f64),
    Commits {
        per_second: f64,
        p50_us: f64,
    },
    Read {
        records: u64,
        damaged: u64,
        seconds: f64,
        /// Why reading ended early.
        error: Option<String>,
    },
    /// For each look-up.
    Nanoseconds(f64),
    Stream {
        mib_per_second: f64,
        p50_us: f64,
        p99_us: f64,
        /// Bytes that reached the device for each byte appended, where the system counts them.
        amp: Option<f64>,
    },
    /// Why the interface of the log has no way to do it.
    Cannot(String),
}

/// Does `task` in this process.
pub(crate) fn run<P: Peer>(directory: &Path, task: &Task) -> Result<Outcome> {
    match *task {
        Task::Append { len, bytes, seconds } => append::<P>(directory, len, bytes, Duration::from_secs_f64(seconds)),
        Task::Commit { threads, len, seconds } => {
            commit::<P>(directory, threads, len, Duration::from_secs_f64(seconds))
        }
        Task::CommitSome { count, len } => commit_some::<P>(directory, count, len),
        Task::Fill { count, len } => fill::<P>(directory, count, len),
        Task::Scan => Ok(scan::<P>(directory, Seen::default())),
        Task::Check { len } => Ok(scan::<P>(directory, Seen::expecting(payload(len)))),
        Task::Get { count, len, lookups, seconds } => {
            get::<P>(directory, count, len, lookups, Duration::from_secs_f64(seconds))
        }
        Task::Die { count, len } => die::<P>(directory, count, len),
        Task::Stream(_) => anyhow::bail!("a stream has another interface"),
    }
}

fn payload(len: usize) -> Vec<u8> {
    vec![FILLER; len]
}

/// Has the host of a virtual machine provide memory before `bytes` are appended. What it has taken back costs ten times as much
/// to touch first, and whom that meets is chance.
fn provide_memory(bytes: usize) {
    const TIMES: usize = 10;
    black_box(vec![1_u8; TIMES * bytes]);
}

fn append<P: Peer>(directory: &Path, len: usize, bytes: usize, limit: Duration) -> Result<Outcome> {
    let payload = payload(len);
    let mut log = P::open(directory)?;
    provide_memory(bytes);
    let count = bytes / len;
    let mut done = 0;
    let began = Instant::now();
    while done < count && began.elapsed() < limit {
        log.append(black_box(&payload), APPEND_STEP)?;
        done += APPEND_STEP;
    }
    Ok(Outcome::Rate(done as f64 / began.elapsed().as_secs_f64()))
}

fn commit<P: Peer>(directory: &Path, threads: usize, len: usize, duration: Duration) -> Result<Outcome> {
    let log = P::open(directory)?;
    // What was written before must not be on its way to the disk meanwhile.
    rustix::fs::syncfs(File::open(directory)?)?;
    let ready = Barrier::new(threads);
    let took: Result<Vec<Vec<Duration>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let (log, ready) = (&log, &ready);
                scope.spawn(move || commit_for(log, thread, &payload(len), ready, duration))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a committer does not panic")).collect()
    });
    let mut took: Vec<Duration> = took?.into_iter().flatten().collect();
    took.sort_unstable();
    let p50 = took.get(took.len() / 2).context("nothing was committed")?;
    let per_second = took.len() as f64 / duration.as_secs_f64();
    Ok(Outcome::Commits { per_second, p50_us: p50.as_secs_f64() * 1e6 })
}

/// How long each commit of this thread took that ended in time.
fn commit_for(
    log: &impl Peer,
    thread: usize,
    payload: &[u8],
    ready: &Barrier,
    duration: Duration,
) -> Result<Vec<Duration>> {
    let warmed_up = (0..WARM_UP).try_for_each(|_| log.commit(thread, payload));
    // Also after a failure, as the others wait for all.
    ready.wait();
    warmed_up?;
    let began = Instant::now();
    let mut before = Duration::ZERO;
    let mut took = Vec::new();
    loop {
        log.commit(thread, payload)?;
        let now = began.elapsed();
        if now > duration {
            return Ok(took);
        }
        took.push(now - before);
        before = now;
    }
}

fn commit_some<P: Peer>(directory: &Path, count: usize, len: usize) -> Result<Outcome> {
    let log = P::open(directory)?;
    (0..count).try_for_each(|_| log.commit(0, &payload(len)))?;
    Ok(Outcome::Done)
}

fn fill<P: Peer>(directory: &Path, count: usize, len: usize) -> Result<Outcome> {
    let mut log = P::open_to_keep(directory)?;
    log.fill(&payload(len), count)?;
    log.close()?;
    Ok(Outcome::Done)
}

fn scan<P: Peer>(directory: &Path, mut seen: Seen) -> Outcome {
    let began = Instant::now();
    let result = P::scan(directory, &mut seen);
    let seconds = began.elapsed().as_secs_f64();
    black_box(seen.touched());
    let error = result.err().map(|error| format!("{error:#}"));
    Outcome::Read { records: seen.records, damaged: seen.damaged, seconds, error }
}

fn get<P: Peer>(directory: &Path, count: usize, len: usize, lookups: usize, limit: Duration) -> Result<Outcome> {
    let mut log = P::open_to_keep(directory)?;
    let mut random = fastrand::Rng::with_seed(SEED);
    // A log that cannot do it says so before it is filled.
    log.get(&[], &mut Seen::default())?;
    let places = log.fill(&payload(len), count)?;
    // The first look at a part of a log may make an index of it.
    log.get(&places.iter().copied().step_by(count / WARM_UP).collect::<Vec<_>>(), &mut Seen::default())?;
    let mut seen = Seen::default();
    let (mut done, mut took) = (0, Duration::ZERO);
    while done < lookups && took < limit {
        let chosen: Vec<P::Place> = (0..GET_STEP).map(|_| places[random.usize(..places.len())]).collect();
        let began = Instant::now();
        log.get(&chosen, &mut seen)?;
        took += began.elapsed();
        done += GET_STEP;
    }
    black_box(seen.touched());
    ensure!(seen.records == done as u64, "it showed {} of {done} records", seen.records);
    Ok(Outcome::Nanoseconds(took.as_secs_f64() * 1e9 / done as f64))
}

fn die<P: Peer>(directory: &Path, count: usize, len: usize) -> Result<Outcome> {
    let payload = payload(len);
    let mut log = P::open_to_keep(directory)?;
    let appended = log.append(&payload, count);
    match appended {
        Err(error) if error.is::<Cannot>() => (0..count).try_for_each(|_| log.commit(0, &payload))?,
        other => other?,
    }
    kill_process(getpid(), Signal::KILL)?;
    anyhow::bail!("it survived")
}
