//! Processes of a test's own: this test binary once more, running one ignored test that does what it is told.
//!
//! A child is told by lines on its standard input, and answers each with a line on its standard output. It ends with its
//! input, or when it is killed.

#![allow(dead_code, reason = "a kit: each test uses what it needs")]

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};

use mapwal::{Log, Lsn, Options};
use parking_lot::{RwLock, RwLockReadGuard};
use rustix::process::{Pid, Signal, WaitOptions};

use super::{append, payload, small, tag, try_open};

/// Where a child finds the directory of its log.
const DIRECTORY: &str = "MAPWAL_TEST_DIRECTORY";
/// Begins an answer, among what the test harness prints.
const ANSWER: &str = "answer: ";

/// Written while a process is being spawned. Until it runs another program it holds copies of this one's open files, and
/// with them the locks of all its logs: one that was dropped and is opened again would be found locked.
static SPAWNING: RwLock<()> = RwLock::new(());

/// Holds off spawning for as long as the guard lives.
pub(crate) fn keep_from_spawning() -> RwLockReadGuard<'static, ()> {
    SPAWNING.read()
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> io::Result<Output> {
    let _spawning = SPAWNING.write();
    command.output()
}

/// A process that is killed when this value is dropped.
pub(crate) struct Child {
    process: std::process::Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Child {
    /// Starts the ignored test `role`, given by its path, on the log in `directory`.
    pub(crate) fn spawn(role: &str, directory: &Path) -> Self {
        Self::spawn_by(&[], role, directory)
    }

    /// As [`Self::spawn`], run by the program `by`, whose arguments are followed by the command.
    pub(crate) fn spawn_by(by: &[&str], role: &str, directory: &Path) -> Self {
        let binary = std::env::current_exe().expect("this test binary");
        let mut command = Command::new(by.first().map_or(binary.as_os_str(), OsStr::new));
        if let [_, arguments @ ..] = by {
            command.args(arguments).arg(&binary);
        }
        command.args([role, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(DIRECTORY, directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let spawning = SPAWNING.write();
        let mut process = command.spawn().expect("this test binary runs");
        let input = process.stdin.take();
        let mut output = BufReader::new(process.stdout.take().expect("piped"));
        // What it says first shows that it runs: `spawn` returns a little before those copies are closed.
        output.read_line(&mut String::new()).expect("the test harness speaks first");
        drop(spawning);
        Self { process, input, output }
    }

    /// A child that [`serves`] a log.
    pub(crate) fn serving(directory: &Path) -> Self {
        Self::spawn("support::child::serves", directory)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a line and returns the answer.
    pub(crate) fn ask(&mut self, request: &str) -> String {
        self.say(request);
        self.hear()
    }

    /// Sends a line.
    pub(crate) fn say(&mut self, request: &str) {
        let input = self.input.as_mut().expect("open until the child is ended");
        writeln!(input, "{request}").expect("the child listens");
    }

    /// The next answer.
    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.output.read_line(&mut line).expect("the child speaks plainly");
            assert!(read > 0, "the child ended instead of answering");
            if let Some((_, answer)) = line.split_once(ANSWER) {
                return answer.trim_end().to_owned();
            }
        }
    }

    /// Waits until the process has ended by itself; the signal that ended it, if one did.
    pub(crate) fn ended_by(self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        self.ended().signal()
    }

    /// Waits until the process has ended by itself, and tells how.
    pub(crate) fn ended(mut self) -> ExitStatus {
        drop(self.input.take());
        self.process.wait().expect("a process of this one")
    }

    /// Stops the process, and waits until it stands still.
    pub(crate) fn stop(&self) {
        self.send(Signal::STOP);
        let options = WaitOptions::UNTRACED;
        let waited = rustix::process::waitpid(Some(self.pid()), options).expect("a process of this one");
        assert!(waited.is_some_and(|(_, status)| status.stopped()), "it ended instead");
    }

    /// Lets the process go on.
    pub(crate) fn go_on(&self) {
        self.send(Signal::CONT);
    }

    pub(crate) fn send(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("a process of this one");
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Kills the process, which must not have ended by itself, as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        assert_eq!(self.process.try_wait().expect("a process of this one"), None, "it ended by itself");
        self.end();
    }

    fn end(&mut self) {
        drop(self.input.take());
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

/// The directory that this process was started for; `None` if nobody started it as a child.
pub(crate) fn directory() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).map(|path: OsString| PathBuf::from(path))
}

/// Answers the parent.
pub(crate) fn answer(answer: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{ANSWER}{answer}").and_then(|()| out.flush()).expect("the parent listens");
}

/// Opens, appends to, fills, rotates, trims, truncates, syncs, closes and drops a log on request, and answers with the next record's number or
/// with what came of it.
#[test]
#[ignore = "other tests run it as a process of its own"]
fn serves() {
    let Some(directory) = directory() else { return };
    let mut log: Option<Log> = None;
    for line in std::io::stdin().lines() {
        let line = line.expect("the parent speaks plainly");
        answer(&serve(&mut log, &directory, &line));
    }
}

fn serve(log: &mut Option<Log>, directory: &Path, request: &str) -> String {
    let (verb, count) = request.split_once(' ').unwrap_or((request, "0"));
    match verb {
        "open" | "open-default" => match try_open(directory, &if verb == "open" { small() } else { Options::new() }) {
            Ok(opened) => *log = Some(opened),
            Err(error) => return error.to_string(),
        },
        "append" => {
            let log = log.as_ref().expect("open");
            let next = log.next_lsn().0;
            append(log, next..=next + count.parse::<u64>().expect("a number") - 1);
        }
        "fill" => {
            let log = log.as_ref().expect("open");
            let error = (log.next_lsn().0..).find_map(|number| log.append(tag(number), &payload(number)).err());
            return error.expect("it ends").to_string();
        }
        "trim" => {
            let log = log.as_ref().expect("open");
            return log.trim_before(log.next_lsn()).map_or_else(|error| error.to_string(), |count| count.to_string());
        }
        "sync" => match log.as_ref().expect("open").sync() {
            Ok(durable) => return durable.to_string(),
            Err(error) => return error.to_string(),
        },
        "truncate" => {
            if let Err(error) = log.as_ref().expect("open").truncate_after(Lsn(count.parse().expect("a number"))) {
                return error.to_string();
            }
        }
        "rotate" => {
            if let Err(error) = log.as_ref().expect("open").rotate() {
                return error.to_string();
            }
        }
        "close" => {
            if let Err(error) = log.take().expect("open").close() {
                return error.to_string();
            }
        }
        "drop" => drop(log.take()),
        _ => panic!("no such request: {request}"),
    }
    log.as_ref().map_or("none".into(), |log| log.next_lsn().to_string())
}
