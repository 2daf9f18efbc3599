//! What a log promises without saying so: tried out, not believed.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use memchr::memmem;
use rustix::process::Signal;
use serde::Serialize;

use crate::child;
use crate::peer::Facts;
use crate::task::{FILLER, Outcome, Task};

const LEN: usize = 128;
/// More than the buffers of a program hold, and less than those of the slowest log to make durable one by one.
const DYING_RECORDS: usize = 1000;
const DAMAGED_RECORDS: usize = 10_000;
const COMMITS: usize = 100;
/// Calls that make bytes durable.
const SYNC_CALLS: [&str; 6] = ["fsync", "fdatasync", "msync", "sync_file_range", "syncfs", "sync"];

#[derive(Debug, Serialize)]
pub(crate) struct Properties {
    /// How many of the records survived whose append had returned when the process was killed.
    pub(crate) survives_kill: String,
    /// The system calls of a commit, or what the source says.
    pub(crate) sync: String,
    /// What a reader gets for a record with one changed byte, with others after it.
    pub(crate) damage: String,
}

impl Properties {
    /// As they follow the name of a log in its row.
    pub(crate) fn texts(&self) -> Vec<String> {
        vec![self.survives_kill.clone(), self.sync.clone(), self.damage.clone()]
    }
}

/// Tries one log. System calls are counted only if `trace`.
pub(crate) fn examine(facts: &Facts, directory: &Path, trace: bool) -> Properties {
    let told = |result: Result<String>| result.unwrap_or_else(|error| format!("failed: {error:#}"));
    Properties {
        survives_kill: told(survivors(facts.name, directory)),
        sync: if trace { told(sync_calls(facts.name, directory)) } else { sync_by_source(facts) },
        damage: told(damage(facts.name, directory)),
    }
}

fn sync_by_source(facts: &Facts) -> String {
    (if facts.syncs { "yes" } else { "no" }).to_owned()
}

fn fresh(within: &Path) -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("audit-").tempdir_in(within)?)
}

fn survivors(peer: &str, within: &Path) -> Result<String> {
    let directory = fresh(within)?;
    let task = Task::Die { count: DYING_RECORDS, len: LEN };
    let (status, stderr) = child::run_to_death(peer, directory.path(), &task)?;
    ensure!(status.signal() == Some(Signal::KILL.as_raw()), "{status}: {stderr}");
    let outcome = child::run(peer, directory.path(), &Task::Check { len: LEN })?;
    let Outcome::Read { records, damaged, error, .. } = outcome else { anyhow::bail!("{outcome:?}") };
    let intact = records - damaged;
    let count = if intact == DYING_RECORDS as u64 { "all".to_owned() } else { format!("{intact} of {DYING_RECORDS}") };
    Ok(if let Some(error) = error { format!("{count}, then {error}") } else { count })
}

fn damage(peer: &str, within: &Path) -> Result<String> {
    let directory = fresh(within)?;
    child::run(peer, directory.path(), &Task::Fill { count: DAMAGED_RECORDS, len: LEN })?;
    change_a_byte(directory.path())?;
    let outcome = child::run(peer, directory.path(), &Task::Check { len: LEN })?;
    let Outcome::Read { records, damaged, error, .. } = outcome else { anyhow::bail!("{outcome:?}") };
    let missing = DAMAGED_RECORDS as u64 - records;
    Ok(match (damaged, error) {
        (0, Some(_)) => "reported".to_owned(),
        (0, None) if missing == 0 => "the byte is read by nobody".to_owned(),
        (0, None) => format!("silently drops {missing} of {DAMAGED_RECORDS}"),
        (_, _) => "handed out".to_owned(),
    })
}

/// Changes a byte in the middle of a payload, about in the middle of the largest file's payloads.
fn change_a_byte(directory: &Path) -> Result<()> {
    let pattern = [FILLER; LEN];
    let files: Vec<(PathBuf, Vec<usize>)> = files_below(directory)?
        .into_iter()
        .map(|path| {
            let bytes = std::fs::read(&path)?;
            let places = memmem::find_iter(&bytes, &pattern).collect();
            Ok((path, places))
        })
        .collect::<Result<_>>()?;
    let (path, places) = files.into_iter().max_by_key(|(_, places)| places.len()).context("it wrote no file")?;
    let place = *places.get(places.len() / 2).context("no payload is found in its files")?;
    let mut bytes = std::fs::read(&path)?;
    bytes[place + LEN / 2] ^= 0xff;
    Ok(std::fs::write(path, bytes)?)
}

fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(files_below(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

/// What the system is asked for by each of many commits of one thread, as `strace` sees it.
fn sync_calls(peer: &str, within: &Path) -> Result<String> {
    let (idle, busy) = (traced(peer, within, 0)?, traced(peer, within, COMMITS)?);
    let mut calls = String::new();
    for ((name, idle), busy) in SYNC_CALLS.iter().zip(idle).zip(busy) {
        let each = busy.saturating_sub(idle) as f64 / COMMITS as f64;
        if each > 0.0 {
            let separator = if calls.is_empty() { "" } else { ", " };
            write!(calls, "{separator}{each:.2} {name}")?;
        }
    }
    Ok(if calls.is_empty() { "none".to_owned() } else { calls })
}

/// How often each of [`SYNC_CALLS`] was made by a process that commits `count` records.
fn traced(peer: &str, within: &Path, count: usize) -> Result<[usize; SYNC_CALLS.len()]> {
    let directory = fresh(within)?;
    let trace = tempfile::NamedTempFile::new_in(within)?;
    let filter = format!("trace={}", SYNC_CALLS.join(","));
    let arguments = ["-f", "-qq", "-e", filter.as_str(), "-o"].map(OsStr::new);
    let arguments = [arguments.as_slice(), &[trace.path().as_os_str()]].concat();
    let status = child::run_under("strace", &arguments, peer, directory.path(), &Task::CommitSome { count, len: LEN })?;
    ensure!(status.success(), "{status}");
    let lines = std::fs::read_to_string(trace.path())?;
    // A call that is interrupted by one of another thread has its name and parenthesis in its first line only.
    Ok(SYNC_CALLS.map(|name| {
        let call = format!("{name}(");
        lines.lines().filter(|line| line.split_whitespace().any(|word| word.starts_with(&call))).count()
    }))
}
