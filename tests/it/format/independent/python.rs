//! The other reader, as a process that answers line by line.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/read_mapwal.py");

/// What a reader says of a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) verdict: String,
    pub(super) records: u64,
    /// Of the records; of a damaged log they are counted only.
    pub(super) digest: Option<u32>,
}

pub(super) struct Python {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Python {
    pub(super) fn is_there() -> bool {
        Command::new("python3").arg("--version").output().is_ok_and(|ran| ran.status.success())
    }

    pub(super) fn start() -> Self {
        let mut command = Command::new("python3");
        command.args([SCRIPT, "--summary", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    pub(super) fn ask(&mut self, directory: &Path) -> Answer {
        writeln!(self.input, "{}", directory.display()).unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let fields: Vec<&str> = line.split('\t').collect();
        let &[verdict, records, digest, _] = &*fields else { panic!("no answer: {line:?}") };
        let digest = u32::from_str_radix(digest, 16).unwrap();
        let is_compared = verdict.starts_with("sound") || verdict.starts_with("torn");
        Answer { verdict: verdict.to_owned(), records: records.parse().unwrap(), digest: is_compared.then_some(digest) }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
