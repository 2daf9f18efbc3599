//! Each measurement is a process of its own, so that no log finds what another left in memory, and none can stop the
//! others.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use wait_timeout::ChildExt;

use crate::task::{Outcome, Task};

/// The hidden command that a child is started with.
pub(crate) const COMMAND: &str = "child";
/// A log that takes longer is given up.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Does `task` with the log `peer` in a process of its own.
pub(crate) fn run(peer: &str, directory: &Path, task: &Task) -> Result<Outcome> {
    let (status, stdout, stderr) = finish(command(peer, directory, task)?)?;
    if !status.success() {
        let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        bail!("{status}: {last}");
    }
    // A log may print something of its own before.
    let outcome = stdout.lines().last().unwrap_or_default();
    serde_json::from_str(outcome).with_context(|| format!("unexpected output: {outcome}"))
}

/// As [`run`], for a task that ends with the death of the process. Returns how it ended.
pub(crate) fn run_to_death(peer: &str, directory: &Path, task: &Task) -> Result<(ExitStatus, String)> {
    let (status, _, stderr) = finish(command(peer, directory, task)?)?;
    Ok((status, stderr))
}

/// As [`run`], under another program. Returns how that program ended.
pub(crate) fn run_under(
    program: &str,
    arguments: &[&OsStr],
    peer: &str,
    directory: &Path,
    task: &Task,
) -> Result<ExitStatus> {
    let child = command(peer, directory, task)?;
    let mut outer = Command::new(program);
    outer.args(arguments).arg(child.get_program()).args(child.get_args());
    outer.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(finish(outer)?.0)
}

fn command(peer: &str, directory: &Path, task: &Task) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([COMMAND, peer]).arg(directory).arg(serde_json::to_string(task)?);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Its end, and what it wrote.
fn finish(mut command: Command) -> Result<(ExitStatus, String, String)> {
    let mut child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let mut stdout = child.stdout.take().context("its output is piped")?;
    let mut stderr = child.stderr.take().context("its output is piped")?;
    std::thread::scope(|scope| {
        let stderr = scope.spawn(move || read(&mut stderr));
        let stdout = scope.spawn(move || read(&mut stdout));
        let status = child.wait_timeout(TIME_MAX)?;
        if status.is_none() {
            child.kill()?;
            child.wait()?;
        }
        let stdout = stdout.join().expect("reading does not panic")?;
        let stderr = stderr.join().expect("reading does not panic")?;
        let status = status.with_context(|| format!("not done after {} s", TIME_MAX.as_secs()))?;
        Ok((status, stdout, stderr))
    })
}

fn read(from: &mut impl Read) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
