//! `tail --since-last-run`: its position counts what is where it was to go, and nothing else.
//!
//! Planted, and noticed: a position that passes a record that was printed in part; one that is kept before what was printed is
//! durable.

use std::path::Path;
use std::process::Command;

use mapwal::{Log, Options};

use crate::logs::{closed, scratch};
use crate::program::{PROGRAM, Ran, plain};

/// Runs `tail` with its output going to `to`.
fn tail(home: &Path, log: &Path, to: &str) -> Ran {
    let line = format!("exec {PROGRAM} tail \"$0\" --no-follow --format raw --since-last-run \"$1\" > {to}");
    let mut shell: Command = plain("sh");
    shell.args(["-c", &line]).arg(log).arg(home.join("position"));
    Ran::new(shell.output().unwrap())
}

#[test]
fn a_position_does_not_pass_a_record_that_was_not_printed_to_its_end() {
    let (dir, home) = (scratch(), scratch());
    // SAFETY: the directory is one of this test.
    let log = unsafe { Log::open(dir.path(), &Options::new().segment_size_bytes(1 << 20)) }.unwrap();
    // More than is printed at once.
    log.append(0, &vec![b'x'; 300 << 10]).unwrap();
    log.close().unwrap();
    let ran = tail(home.path(), dir.path(), "/dev/full");
    assert_eq!((ran.code, ran.err.contains("cannot write")), (4, true), "{}", ran.err);
    let printed = home.path().join("printed");
    tail(home.path(), dir.path(), printed.to_str().unwrap()).done();
    assert_eq!(std::fs::metadata(printed).unwrap().len(), 300 << 10);
}

#[test]
#[cfg(target_os = "linux")]
fn a_position_is_kept_once_what_was_printed_is_durable() {
    let (log, home) = (closed(1), scratch());
    // A file that is written to, and cannot be synced: the name of the process.
    let ran = tail(home.path(), log.path(), "/proc/self/comm");
    assert_eq!((ran.code, ran.err.contains("standard output")), (4, true), "{}", ran.err);
    assert!(!home.path().join("position").exists());
    // A pipe has nothing to be synced.
    tail(home.path(), log.path(), "/dev/null").done();
    assert!(home.path().join("position").exists());
}
