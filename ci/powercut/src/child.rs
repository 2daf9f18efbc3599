//! The processes of a lane: the one that serves its disk, and the one that uses the log.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::disk;
use crate::worker::{DONE, Job, encode};

/// How long a session may take. A log that waits for ever is told apart from a slow machine by this.
const SESSION_MAX: Duration = Duration::from_secs(30);
/// How long the disk may take to come up, and to go away.
const DISK_MAX: Duration = Duration::from_secs(30);

/// What a process of a lane says, line by line.
struct Piped {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Piped {
    fn start(command: &mut Command) -> Result<Self> {
        // In a process group of its own: an interrupt from the keyboard is for the laboratory, which ends its processes.
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let output = BufReader::new(child.stdout.take().context("no pipe")?);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { input: child.stdin.take(), child, lines })
    }
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Done,
    /// The process died.
    Died(ExitStatus),
    /// It did not come to an end, and was killed.
    Hung,
}

impl End {
    /// The signal that ended the process.
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Died(status) => status.signal(),
            _ => None,
        }
    }
}

/// How workers are started.
#[derive(Debug, Clone, Default)]
pub struct WorkerSetup {
    /// A library that is loaded first.
    pub preload: Option<PathBuf>,
}

/// A worker, which is started anew after it has died.
pub struct Worker {
    setup: WorkerSetup,
    /// It has the guard against `SIGBUS`.
    guarded: bool,
    process: Option<Piped>,
}

impl Worker {
    pub fn new(setup: WorkerSetup, guarded: bool) -> Self {
        Self { setup, guarded, process: None }
    }

    fn start(&self) -> Result<Piped> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("worker");
        if self.guarded {
            command.arg("--guarded");
        }
        if let Some(library) = &self.setup.preload {
            command.env("LD_PRELOAD", library);
        }
        Piped::start(&mut command)
    }

    /// Has a job done.
    pub fn run(&mut self, job: &Job) -> Result<End> {
        let mut process = match self.process.take() {
            Some(process) => process,
            None => self.start()?,
        };
        let sent = process.input.as_mut().context("no pipe")?.write_all(&encode(job)?);
        match sent.map(|()| process.lines.recv_timeout(SESSION_MAX)) {
            Ok(Ok(line)) => {
                ensure!(line == DONE, "a worker says {line}");
                self.process = Some(process);
                Ok(End::Done)
            }
            Ok(Err(RecvTimeoutError::Timeout)) => {
                process.child.kill()?;
                process.child.wait()?;
                Ok(End::Hung)
            }
            Ok(Err(RecvTimeoutError::Disconnected)) | Err(_) => Ok(End::Died(process.child.wait()?)),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.input.take());
            // It ends by itself, since its input has; an error says that it has ended before.
            let _ = process.child.wait();
        }
    }
}

/// The process that serves the disk of a lane. It takes down the lane when it is dropped.
pub struct DiskProcess(Piped);

impl DiskProcess {
    pub fn start(pid: u32, lane: usize) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("disk").arg(pid.to_string()).arg(lane.to_string());
        let process = Piped::start(&mut command)?;
        let said = process.lines.recv_timeout(DISK_MAX).context("the disk does not come up")?;
        ensure!(said == disk::READY, "the disk says {said}");
        Ok(Self(process))
    }
}

impl Drop for DiskProcess {
    fn drop(&mut self) {
        drop(self.0.input.take());
        // Its output ends when it does.
        while self.0.lines.recv_timeout(DISK_MAX).is_ok() {}
        if matches!(self.0.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(100));
        }
        if matches!(self.0.child.try_wait(), Ok(None)) {
            eprintln!("the disk in process {} does not end", self.0.child.id());
        }
    }
}
