//! `tail --since-last-run`: its position counts what is where it was to go, and nothing else.
//!
//! Planted, and noticed: a position that passes a record that was printed in part; one that is kept before what was printed is
//! durable.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mapwal::{Log, Options};
use rustix::fs::{CWD, Mode, mkfifoat};

use crate::logs::{closed, scratch};
use crate::program::{PROGRAM, Ran, plain, run_with_input, start};
use crate::wait;

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
    assert_eq!(fs::metadata(printed).unwrap().len(), 300 << 10);
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

#[test]
fn a_position_is_read_once_no_other_run_moves_it() {
    let (log, home) = (closed(10), scratch());
    let (position, lock) = (home.path().join("position"), home.path().join("position.lock"));
    let old = home.path().join("old");
    tail(home.path(), log.path(), "/dev/null").done();
    fs::copy(&position, &old).unwrap();
    run_with_input(log.path(), "append DIR", b"one more\n").done();
    assert_eq!(tail(home.path(), log.path(), "/dev/stdout").done().text(), "one more");
    // A run that waits for its lock, and has looked at the position as it was before.
    let new = home.path().join("new");
    fs::rename(&position, &new).unwrap();
    fs::rename(&old, &position).unwrap();
    fs::remove_file(&lock).unwrap();
    mkfifoat(CWD, &lock, Mode::RUSR | Mode::WUSR).unwrap();
    let mut program = start(log.path(), "tail DIR --no-follow --since-last-run");
    let waiting = program.arg(&position).spawn().unwrap();
    let state = || fs::read_to_string(format!("/proc/{}/syscall", waiting.id())).unwrap_or_default();
    // Opening a file, wherever that can be seen.
    wait::until("it waits", || {
        !state().starts_with("running") && {
            std::thread::sleep(Duration::from_millis(20));
            !state().starts_with("running")
        }
    });
    fs::rename(&new, &position).unwrap();
    let _opened = fs::File::open(&lock).unwrap();
    let ran = Ran::new(waiting.wait_with_output().unwrap()).done();
    assert_eq!(ran.text(), "", "it has been printed");
}
