//! A run: lanes that work side by side until enough has been looked at.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::child::WorkerSetup;
use crate::filesystem::Filesystem;
use crate::lane::{Lane, Task};
use crate::limits::Limits;
use crate::tally::Tally;
use crate::teardown;

/// What a run is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The file systems; all if none is named
    #[arg(long = "fs", value_enum)]
    filesystems: Vec<Filesystem>,
    /// How many cuts to look at on each
    #[arg(long, default_value_t = 200)]
    cuts: u64,
    /// How many cuts more to look at on each with errors of the disk, and file systems that stop
    #[arg(long, default_value_t = 0)]
    errors: u64,
    /// The seed of the first session; the others follow
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many sessions at most: 1 is that of the seed alone
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    sessions: u64,
    /// How many file systems of a kind at the same time
    #[arg(long, default_value_t = 6)]
    lanes: usize,
    /// Ends after this many seconds on each file system, whatever is left to do
    #[arg(long)]
    seconds: Option<u64>,
    /// Ends with the first finding
    #[arg(long)]
    first: bool,
    /// Tells what happens in each session
    #[arg(long)]
    tell: bool,
    /// A library to load first where the log is used
    #[arg(long)]
    preload: Option<PathBuf>,
}

/// Does the run.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    teardown::leftovers();
    let named = &arguments.filesystems[..];
    let filesystems = if named.is_empty() { &Filesystem::ALL[..] } else { named };
    let mut findings = 0;
    for &filesystem in filesystems {
        let begun = Instant::now();
        let mut tally = Tally::default();
        for (errors, cuts) in [(false, arguments.cuts), (true, arguments.errors)] {
            if cuts > 0 && !(arguments.first && tally.findings() > 0) {
                tally += side_by_side(arguments, filesystem, errors, cuts)?;
            }
        }
        findings += tally.findings();
        let seconds = begun.elapsed().as_secs_f64();
        println!("{} seed={} seconds={seconds:.0}", tally.line(filesystem), arguments.seed);
    }
    Ok(if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn side_by_side(arguments: &Arguments, filesystem: Filesystem, errors: bool, cuts: u64) -> Result<Tally> {
    let setup = WorkerSetup { preload: arguments.preload.clone() };
    let time = arguments.seconds.map(Duration::from_secs);
    let limits = Arc::new(Limits::new(arguments.seed, arguments.sessions, cuts, time, arguments.first));
    let lane = |number| {
        let task = Task { filesystem, errors, tell: arguments.tell, setup: setup.clone() };
        let done = lane_runs(task, number, &limits);
        if done.is_err() {
            limits.stop();
        }
        done
    };
    let tallies: Vec<Result<Tally>> = std::thread::scope(|scope| {
        let lane = &lane;
        let threads: Vec<_> = (0..arguments.lanes).map(|number| scope.spawn(move || lane(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a lane does not panic")).collect()
    });
    let mut total = Tally::default();
    for tally in tallies {
        total += tally.with_context(|| format!("on {}", filesystem.name()))?;
    }
    Ok(total)
}

fn lane_runs(task: Task, number: usize, limits: &Arc<Limits>) -> Result<Tally> {
    let mut lane = Lane::new(task, number, Arc::clone(limits))?;
    while let Some(seed) = limits.seed() {
        lane.run(seed).with_context(|| format!("in the session of seed {seed}"))?;
    }
    Ok(lane.tally)
}
