//! `mapwal bench`: what a disk allows, and what a log on it reaches, measured in turn in one run.

mod bare;
mod log;
mod measured;
mod report;

use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::arguments::Bench;
use crate::failure::{Failure, Outcome, Result, describe};
use crate::stop::Stop;
use crate::{out, progress};
use bare::{Grow, Overwrite};
use log::{Commits, Streams};
use measured::Measured;
use report::{Report, Row};

/// Payload of a commit.
const COMMIT_LEN: usize = 200;
/// Threads that commit at the same time.
const THREADS: [u16; 3] = [1, 4, 16];
/// Payload of the records of a stream, and bytes between two of its syncs.
const RECORD_LEN: usize = 1000;
const SYNC_LENS: [usize; 4] = [4 << 10, 64 << 10, 256 << 10, 1 << 20];
/// All are measured in turn, so often: a disturbance meets all of them alike.
const ROUNDS: u32 = 5;
/// Free space below which nothing is measured: what the logs and files take, and as much again.
const ROOM_BYTES: u64 = 1 << 30;

/// Where a measurement ends: at a time, or when the user has had enough.
#[derive(Clone, Copy)]
struct Until<'a> {
    time: Instant,
    stop: &'a Stop,
}

impl Until<'_> {
    /// Something is `measured` in each round, also on a machine that is so busy that its time is over before.
    fn is_over(&self, measured: &Measured) -> bool {
        self.stop.is_asked() || (!measured.syncs.is_empty() && Instant::now() >= self.time)
    }
}

pub(crate) fn run(arguments: &Bench) -> Result<Outcome> {
    let place = &*arguments.directory;
    out::check_outside_of_logs(place)?;
    check_room(place)?;
    let stop = Stop::by_signals()?;
    let made = tempfile::Builder::new().prefix("mapwal-bench-").tempdir_in(place);
    let directory = made.map_err(|error| Failure::new("cannot create", describe(&error), place))?;
    let rows = measure(directory.path(), Duration::from_secs(arguments.seconds.into()), &stop);
    // Also after an error: what is left would be in the way of the next run.
    let removed = directory.close();
    let rows = rows?;
    removed.map_err(|error| Failure::new("cannot remove what was measured with", describe(&error), place))?;
    Report::new(place, rows).print(arguments.format)?;
    Ok(Outcome::Done)
}

fn check_room(place: &Path) -> Result<()> {
    let looked = rustix::fs::statvfs(place);
    let found = looked.map_err(|error| Failure::new("cannot look at", describe(&error.into()), place))?;
    let free = found.f_bavail * found.f_frsize;
    if free >= ROOM_BYTES {
        return Ok(());
    }
    Err(Failure::new("disk full", format!("{ROOM_BYTES} bytes are needed, and {free} are free"), place))
}

/// One thing that is measured, again and again.
trait Task {
    fn round(&mut self, until: Until<'_>) -> Result<Measured>;
}

/// The rows of the report, and what measures each.
fn measure(directory: &Path, time: Duration, stop: &Stop) -> Result<Vec<Row>> {
    let commits = Commits::new(directory)?;
    let streams = Streams::new(directory, stop)?;
    let overwritten = Overwrite::new(directory)?;
    let mut tasks: Vec<(Row, Box<dyn Task + '_>)> = Vec::new();
    tasks.push((Row::bare_commit(), Box::new(overwritten.syncing(log::frame_len(COMMIT_LEN)))));
    for threads in THREADS {
        tasks.push((Row::commit(threads), Box::new(commits.by(threads))));
    }
    for len in SYNC_LENS {
        let records = len / log::frame_len(RECORD_LEN);
        let len = records * log::frame_len(RECORD_LEN);
        tasks.push((Row::grow(len), Box::new(Grow::new(directory, len))));
        tasks.push((Row::overwrite(len), Box::new(overwritten.syncing(len))));
        tasks.push((Row::stream(len), Box::new(streams.syncing(records))));
    }
    let bar = progress::of_steps("bench", tasks.len() as u64 * u64::from(ROUNDS));
    let rows = take_turns(&mut tasks, time, stop, &bar);
    bar.finish_and_clear();
    rows?;
    Ok(tasks.into_iter().map(|(row, _)| row).collect())
}

fn take_turns(tasks: &mut [(Row, Box<dyn Task + '_>)], time: Duration, stop: &Stop, bar: &ProgressBar) -> Result<()> {
    let share = time / ROUNDS / u32::try_from(tasks.len()).expect("there are a few");
    for _ in 0..ROUNDS {
        for (row, task) in &mut *tasks {
            row.measured.push(task.round(Until { time: Instant::now() + share, stop })?);
            if stop.is_asked() {
                return Err(Failure::new("stopped", "before all had been measured", Path::new("bench")));
            }
            bar.inc(1);
        }
    }
    Ok(())
}
