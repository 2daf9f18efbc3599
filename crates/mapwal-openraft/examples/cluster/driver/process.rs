//! The process of a node.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio, id};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::{DiskKind, Flaw, Outcome};

const START: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pub(super) address: SocketAddr,
}

/// A value as it is written in a command.
fn written(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

impl Process {
    /// Starts a node, and waits until it listens. The thread that does it must stay until the end: the process ends with it.
    pub(super) async fn start(
        (id_of_node, kind): (u64, DiskKind),
        (directory, said): &(PathBuf, PathBuf),
        seed: u64,
        flaw: Option<Flaw>,
        snapshots: &Arc<AtomicU64>,
    ) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("node").args(["--id", &id_of_node.to_string(), "--disk", &written(&kind)]);
        command.arg("--directory").arg(directory);
        command.args(["--seed", &seed.to_string(), "--parent", &id().to_string()]);
        if let Some(flaw) = flaw {
            command.args(["--flaw", &written(&flaw)]);
        }
        let said = OpenOptions::new().create(true).append(true).open(said)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(said);
        let mut child = command.spawn()?;
        let (sender, receiver) = oneshot::channel();
        if let Some(stdout) = child.stdout.take() {
            let snapshots = Arc::clone(snapshots);
            thread::spawn(move || listen(stdout, sender, &snapshots));
        }
        if let Ok(Ok(address)) = timeout(START, receiver).await {
            return Ok(Self { child, address });
        }
        child.kill()?;
        Err(format!("node {id_of_node} does not start: {}", child.wait()?).into())
    }

    /// How it has ended, if it has.
    pub(super) fn status(&mut self) -> Outcome<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    pub(super) fn signal(&self, signal: Signal) -> Outcome {
        let id = Pid::from_child(&self.child);
        Ok(kill_process(id, signal)?)
    }

    /// Waits for its end.
    pub(super) async fn end(&mut self, limit: Duration) -> Outcome<ExitStatus> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if let Some(status) = self.status()? {
                return Ok(status);
            }
            sleep(Duration::from_millis(2)).await;
        }
        Err("a node does not end".into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Why a node has ended, as it has said itself: what a panic says, or else its last line.
pub(super) fn last_words(said: &Path) -> String {
    let said = fs::read_to_string(said).unwrap_or_default();
    let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    let panic = lines.iter().rposition(|line| line.contains("panicked at"));
    let line = lines.get(panic.map_or(lines.len().saturating_sub(1), |at| at + 1));
    line.map_or_else(|| "it has said nothing".to_owned(), |line| (*line).to_owned())
}

/// Whether a process was killed.
pub(super) fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::KILL.as_raw())
}

fn listen(stdout: ChildStdout, sender: oneshot::Sender<SocketAddr>, snapshots: &AtomicU64) {
    let mut sender = Some(sender);
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if let Some(address) = line.strip_prefix("listening ") {
            if let (Some(sender), Ok(address)) = (sender.take(), address.parse()) {
                let _ = sender.send(address);
            }
        } else if line.starts_with("snapshot ") {
            snapshots.fetch_add(1, Ordering::Relaxed);
        }
    }
}
