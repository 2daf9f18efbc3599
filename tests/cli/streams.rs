//! Standard streams that are closed, full, or the null device.
//!
//! Planted, and noticed: streams that are not looked at before `main`, `/dev/null` taken for a closed one, an output that is only read from.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::logs::{closed, copy, damaged, scratch, synced};
use crate::program::{PROGRAM, Ran, start};

/// Every command, on a log and for a copy of it.
const ALL: [&str; 24] = [
    "append DIR",
    "dump DIR",
    "verify DIR",
    "verify DIR --format json",
    "tail DIR --no-follow",
    "tail DIR --no-follow --since-last-run OUT/position",
    "stat DIR",
    "stat DIR --format json",
    "stat DIR --format prometheus",
    "segments DIR",
    "meta DIR",
    "pins DIR",
    "pins DIR add p 1",
    "pins DIR advance q 2",
    "pins DIR drop q",
    "backup DIR OUT",
    "diff DIR DIR",
    "trim DIR --before 1",
    "repair DIR",
    "salvage DIR OUT",
    "bench OUT --seconds 1",
    "completions bash",
    "man",
    "--help",
];
/// Those that print nothing when all is well, or nothing that they could not be without.
const SILENT: [&str; 3] = ["pins DIR drop q", "meta DIR", "repair DIR"];

/// The program, with its streams as `redirections` for a shell have them.
fn redirected(log: &Path, out: &Path, command: &str, redirections: &str) -> Ran {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec \"$@\" {redirections}"), "sh", PROGRAM]);
    let words = command.split(' ').map(|word| match word {
        "DIR" => log.display().to_string(),
        word => word.replace("OUT", out.to_str().unwrap()),
    });
    let shell = shell.args(words).stdin(Stdio::null());
    Ran::new(shell.output().unwrap())
}

/// All files in a directory, with what is in them.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
            files.insert(path, Vec::new());
        } else {
            let bytes = fs::read(&path).unwrap();
            files.insert(path, bytes);
        }
    }
    files
}

fn with_pin() -> tempfile::TempDir {
    let log = synced(1200);
    crate::program::run(log.path(), "pins DIR add q 1 --no-limit").done();
    log
}

#[test]
fn where_the_output_is_closed_no_command_does_anything() {
    let (log, out) = (with_pin(), scratch());
    let before = files(log.path());
    for command in ALL {
        for redirections in [">&-", "<&- >&-", "1</dev/null"] {
            let ran = redirected(log.path(), out.path(), command, redirections);
            let told = "mapwal: cannot write: it is closed, or open for the other direction only: standard output\n";
            assert_eq!((ran.code, &*ran.err), (4, told), "{command} {redirections}");
        }
        assert_eq!(redirected(log.path(), out.path(), command, ">&- 2>&-").code, 4, "{command}");
        assert!(files(log.path()) == before, "{command} has changed the log");
        assert!(files(out.path()).is_empty(), "{command} has made something");
    }
}

#[test]
fn the_null_device_is_no_closed_output() {
    let (log, out) = (with_pin(), scratch());
    for command in ALL.into_iter().filter(|command| !command.starts_with("bench")) {
        // However it was opened.
        for (number, redirections) in
            [">/dev/null", "1<>/dev/null", "<&- 1<>/dev/null", ">/dev/null 2>&-"].iter().enumerate()
        {
            if redirections.contains("<&-") && command.starts_with("append") {
                continue;
            }
            let (log, out) = (copy(log.path()), out.path().join(format!("{number}")));
            fs::create_dir(&out).unwrap();
            let ran = redirected(log.path(), &out, command, redirections);
            assert_eq!((ran.code, &*ran.err), (0, ""), "{command} {redirections}");
            fs::remove_dir_all(&out).unwrap();
        }
    }
}

#[test]
fn from_an_input_that_is_closed_nothing_is_appended() {
    let parent = scratch();
    let (log, file) = (parent.path().join("log"), parent.path().join("lines"));
    for command in ["append DIR", "append DIR -", "append DIR --length-prefixed"] {
        for redirections in ["<&-", "0>/dev/null"] {
            let ran = redirected(&log, parent.path(), command, redirections);
            let told = "mapwal: cannot read: it is closed, or open for the other direction only: standard input\n";
            assert_eq!((ran.code, &*ran.err), (4, told), "{command}");
            assert!(!log.exists(), "{command}");
        }
    }
    fs::write(&file, "one\n").unwrap();
    assert_eq!(redirected(&log, parent.path(), "append DIR OUT/lines", "<&-").done().text(), "1\n");
}

#[test]
fn an_output_that_is_full_is_an_error() {
    let (log, out) = (with_pin(), scratch());
    for command in ALL.into_iter().filter(|command| !SILENT.contains(command)) {
        let (log, out) = (copy(log.path()), out.path().join("out"));
        fs::create_dir(&out).unwrap();
        // `append` has something to print.
        let command = if command == "append DIR" { "append DIR OUT/../lines" } else { command };
        fs::write(out.join("../lines"), "one\n").unwrap();
        let ran = redirected(log.path(), &out, command, ">/dev/full");
        // What has been done by then is said.
        let place = match command.split(' ').collect::<Vec<_>>()[..] {
            ["append", ..] => "; it stopped at record 1 of the input, byte 0",
            ["pins", _, "add", ..] => "; pin p is made",
            ["pins", _, "advance", ..] => "; pin q is moved",
            ["backup" | "salvage", ..] => "; the copy is complete",
            ["trim", ..] => "; the log is trimmed",
            _ => "",
        };
        let told = format!("mapwal: cannot write: no space left on device{place}: standard output\n");
        assert_eq!((ran.code, ran.err), (4, told), "{command}");
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn the_code_tells_where_standard_error_cannot_be_written() {
    let (none, log, out) = (scratch(), damaged(600), scratch());
    for redirections in ["2>/dev/full", "2>&-"] {
        for command in ALL.into_iter().filter(|command| command.contains("DIR") && !command.starts_with("append")) {
            let ran = redirected(none.path(), out.path(), command, redirections);
            assert_eq!((ran.code, &*ran.err), (4, ""), "{command} {redirections}");
        }
        for (command, code) in [("verify DIR", 2), ("dump DIR", 2), ("verify --wrong DIR", 64), ("frobnicate", 64)] {
            assert_eq!(
                redirected(log.path(), out.path(), command, redirections).code,
                code,
                "{command} {redirections}"
            );
        }
    }
}

#[test]
fn what_is_printed_of_a_log_is_ascii_and_a_message_is_one_line() {
    let (log, out) = (with_pin(), scratch());
    for command in ALL.into_iter().filter(|command| !command.starts_with("bench")) {
        let mut program = start(log.path(), &command.replace("OUT", out.path().join("out").to_str().unwrap()));
        let ran = Ran::new(program.env("LC_ALL", "C").output().unwrap());
        assert!(ran.out.is_ascii(), "{command}: {}", ran.text());
    }
    let odd = closed(1);
    let missing = odd.path().join("a\nb\u{1b}[31m");
    let ran = Ran::new(start(&missing, "dump DIR").output().unwrap());
    assert!(ran.code == 4 && ran.err.ends_with("a\\nb\\u{1b}[31m\n"), "{}", ran.err);
}
