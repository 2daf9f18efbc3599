//! Running the program.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

/// The program, which `cargo test` builds before it runs any test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_mapwal");

/// A program in an environment that says nothing of colours and widths, whatever runs the tests: a build service sets `CI`, which asks
/// for colours on any terminal.
pub(crate) fn plain(program: &str) -> Command {
    let mut command = Command::new(program);
    for variable in ["CI", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES", "PAGER"] {
        command.env_remove(variable);
    }
    command
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn new(output: Output) -> Self {
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(!err.contains("panicked"), "{err}");
        let code = output.status.code().unwrap_or_else(|| panic!("{:?}: {err}", output.status));
        let ran = Self { code, out: output.stdout, err };
        ran.check_messages();
        ran
    }

    /// Whatever is told to people has the form that the manual states: `mapwal: what: why: where`.
    fn check_messages(&self) {
        for line in self.err.lines() {
            let parts: Vec<&str> = line.split(": ").collect();
            assert!(parts[0] == "mapwal" && parts.len() >= 4, "{}", self.err);
        }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    pub(crate) fn lines(&self) -> Vec<&str> {
        self.text().lines().collect()
    }

    /// The output of a run that went well.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        assert_eq!((self.code, &*self.err), (0, ""), "{}", self.text());
        self
    }
}

/// Runs the program on a directory: `command` is the words around it, with `DIR` in its place.
pub(crate) fn run(directory: &Path, command: &str) -> Ran {
    run_with_input(directory, command, b"")
}

pub(crate) fn run_with_input(directory: &Path, command: &str, input: &[u8]) -> Ran {
    ran_with_input(&mut start(directory, command), input)
}

/// Runs a program that is ready to be started.
pub(crate) fn ran_with_input(program: &mut Command, input: &[u8]) -> Ran {
    let mut child = program.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // One that ends early closes its end: what it does not read, it does not want.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let ran = Ran::new(child.wait_with_output().unwrap());
    writer.join().unwrap();
    ran
}

/// The program, ready to be started.
pub(crate) fn start(directory: &Path, command: &str) -> Command {
    let mut program = plain(PROGRAM);
    program.args(command.split_whitespace().map(|word| match word {
        "DIR" => directory.as_os_str(),
        word => word.as_ref(),
    }));
    program.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
    // What runs the tests in the background, a shell or `nohup`, has their children ignore some, too.
    let default = || {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            // SAFETY: a system call, which has no function be called.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: it is nothing but that.
    unsafe { program.pre_exec(default) };
    program
}

/// A program that goes on, and is killed when this value is dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) input: Option<ChildStdin>,
    pub(crate) output: BufReader<ChildStdout>,
    /// Dropped once the test is over.
    _over: Sender<()>,
}

/// One that goes on for longer is killed, so that a test that waits for it fails.
const LIMIT: Duration = Duration::from_secs(5 * 60);

fn watch(child: &Child) -> Sender<()> {
    let (over, is_over) = channel::<()>();
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap();
    std::thread::spawn(move || {
        if is_over.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            // It may have ended just then.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    });
    over
}

impl Running {
    pub(crate) fn start(directory: &Path, command: &str) -> Self {
        let mut child = start(directory, command).stdin(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let over = watch(&child);
        Self { child, input, output, _over: over }
    }

    pub(crate) fn say(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
        input.flush().unwrap();
    }

    /// The next line that it prints, or `None` at the end.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.pop().map(|_newline| line)
    }

    /// Has it end by a signal that it may take notice of.
    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
