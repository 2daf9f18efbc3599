//! A place in which the program is run as a user would.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::child::Process;
use crate::logs::{append_up_to, open};
use crate::s3::{BUCKET, Server};
use crate::schema::complaints;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_mapwal-archive");
const PATIENCE: Duration = Duration::from_secs(120);

/// What came of a run.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        assert_eq!((self.code, &*self.err), (Some(0), ""), "{}", self.out);
        self
    }

    /// What is told to people has one form: `mapwal-archive: what: why: where`.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, what: &str) -> Self {
        assert_eq!(self.code, Some(code), "{} {}", self.out, self.err);
        let lines: Vec<&str> = self.err.lines().collect();
        let [line] = lines.as_slice() else { panic!("{}", self.err) };
        let parts: Vec<&str> = line.split(": ").collect();
        assert!(parts[0] == "mapwal-archive" && parts.len() >= 4 && parts[1] == what, "{line}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        document(&self.out)
    }
}

/// A document, which is as its schema says.
#[track_caller]
pub(crate) fn document(text: &str) -> Value {
    let value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/mapwal-archive.schema.json");
    let schema = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(complaints(&schema, &schema, &value, ""), Vec::<String>::new());
    value
}

/// A directory to work in, and a server whose environment the program gets.
pub(crate) struct Place {
    scratch: tempfile::TempDir,
    pub(crate) server: Option<Server>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { scratch: tempfile::tempdir().unwrap(), server: None }
    }

    pub(crate) fn with_server() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let server = Server::start(&scratch.path().join("objects")).unwrap();
        Self { scratch, server: Some(server) }
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.scratch.path().join(name)
    }

    /// Where the archive is.
    pub(crate) fn url(&self) -> String {
        match self.server {
            Some(_) => format!("s3://{BUCKET}/logs/a"),
            None => format!("file://{}", self.path("archive").display()),
        }
    }

    /// The command: `URL` stands for where the archive is, and `./name` for a file of this place.
    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        for word in words.split_whitespace() {
            match word.strip_prefix("./") {
                Some(name) => command.arg(self.path(name)),
                None if word == "URL" => command.arg(self.url()),
                None => command.arg(word),
            };
        }
        if let Some(server) = &self.server {
            command.envs(server.environment());
        }
        command
    }

    pub(crate) fn run(&self, words: &str) -> Ran {
        let mut command = self.command(words);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = output_in_time(child);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        assert!(!err.contains("panicked"), "{err}");
        Ran { code: output.status.code(), out, err }
    }

    /// Archives `./log`, with the service, up to record `last`; what it has printed.
    pub(crate) fn archive(&self, last: u64) -> Vec<Value> {
        let output = self.path("status");
        let words = "run ./log URL --part-interval 20ms --status-interval 1ms --format json";
        let mut command = self.command(words);
        let service = Process::start(command.stdout(fs::File::create(&output).unwrap()));
        let began = Instant::now();
        // The store has it before the service knows that it has.
        let says_so = |text: String| text.lines().any(|line| line.contains(&format!("\"archived_lsn\":{}", last + 1)));
        while !(self.lists_up_to(last) && says_so(fs::read_to_string(&output).unwrap())) {
            assert!(began.elapsed() < PATIENCE, "not archived: {}", fs::read_to_string(&output).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(service.terminate().code(), Some(0));
        let text = fs::read_to_string(&output).unwrap();
        text.lines().map(document).collect()
    }

    pub(crate) fn lists_up_to(&self, last: u64) -> bool {
        let listed = self.run("list URL --format json");
        listed.code == Some(0)
            && listed.json()["epochs"].as_array().unwrap().iter().any(|epoch| epoch["next_lsn"] == last + 1)
    }
}

/// One that does not end is killed, and has no exit code then.
pub(crate) fn output_in_time(child: Child) -> Output {
    let process = Pid::from_child(&child);
    let (ended, has_ended) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if has_ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let _ = kill_process(process, Signal::KILL);
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    watch.join().unwrap();
    output
}

/// A closed log in `directory` with records up to `last`.
pub(crate) fn make_log(directory: &Path, last: u64) {
    let log = open(directory);
    append_up_to(&log, 1, last);
    log.close().unwrap();
}

pub(crate) fn wait_until(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "in vain");
        std::thread::sleep(Duration::from_millis(20));
    }
}
