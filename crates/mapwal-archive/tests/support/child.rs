//! Processes of a test's own: this test binary once more, running one ignored test, until they are killed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, prlimit};

/// Where a child finds its directory.
const DIRECTORY: &str = "MAPWAL_ARCHIVE_TEST_DIRECTORY";

/// A process that is killed when this value is dropped.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// The ignored test `role`, given by its path, for `directory`.
    pub(crate) fn of_test(role: &str, directory: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this test binary"));
        command.args([role, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        Self::start(for_directory(&mut command, directory).stdout(Stdio::null()))
    }

    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().expect("the program runs"))
    }

    /// Kills the process, which must not have ended by itself, as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        assert_eq!(self.0.try_wait().expect("a process of this one"), None, "it ended by itself");
        self.end();
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.0.try_wait().expect("a process of this one")
    }

    /// As Ctrl-C does.
    #[allow(dead_code, reason = "a kit: each program uses what it needs")]
    pub(crate) fn interrupt(&self) {
        kill_process(Pid::from_child(&self.0), Signal::INT).expect("a process of this one");
    }

    /// Takes back a limit of the length of files that it was started with.
    #[allow(dead_code, reason = "a kit: each program uses what it needs")]
    pub(crate) fn let_files_grow(&self) {
        let limit = getrlimit(Resource::Fsize);
        prlimit(Some(Pid::from_child(&self.0)), Resource::Fsize, limit).expect("a process of this one");
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn terminate(mut self) -> std::process::ExitStatus {
        kill_process(Pid::from_child(&self.0), Signal::TERM).expect("a process of this one");
        self.0.wait().expect("a process of this one")
    }

    fn end(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Tells the command which directory it is for.
pub(crate) fn for_directory<'c>(command: &'c mut Command, directory: &Path) -> &'c mut Command {
    command.env(DIRECTORY, directory)
}

/// The directory that this process was started for; `None` if it was not started for one.
pub(crate) fn directory() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).map(|path: OsString| PathBuf::from(path))
}
