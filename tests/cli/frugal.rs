//! No command needs more memory for a log that is larger: each is given a tenth of what the log takes.
//!
//! Planted, and noticed: a `verify` that reads all files first.

#![cfg(target_os = "linux")]

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::logs::scratch;
use crate::program::{Ran, run_with_input, start};

/// What a program may take besides files that it maps: the heap, and the stacks of its threads, of 2 MiB each.
const MEMORY_LEN: u64 = 16 << 20;
/// What the threads of a writer take besides: their stacks, of which they use little, and what the allocator sets aside for each.
const WRITER_LEN: u64 = 24 << 20;
const RECORD_LEN: usize = 256 << 10;

/// Runs the program with so much memory and no more. What it prints goes nowhere.
fn run(log: &Path, command: &str) -> Ran {
    run_with(MEMORY_LEN, log, command)
}

fn run_with(len: u64, log: &Path, command: &str) -> Ran {
    let mut program = start(log, command);
    let limit =
        move || -> io::Result<()> { Ok(setrlimit(Resource::Data, Rlimit { current: Some(len), maximum: Some(len) })?) };
    // SAFETY: it is one system call.
    unsafe { program.pre_exec(limit) };
    Ran::new(program.stdout(Stdio::null()).output().unwrap())
}

#[test]
fn no_command_needs_more_memory_than_a_tenth_of_a_log() {
    let (log, out) = (scratch(), scratch());
    let record = "x".repeat(RECORD_LEN - 1) + "\n";
    let count = MEMORY_LEN as usize * 10 / RECORD_LEN;
    run_with_input(log.path(), "append DIR --segment-size 4MiB --sync none", record.repeat(count).as_bytes()).done();
    let at = |name: &str| out.path().join(name).display().to_string();
    let (backup, against) = (at("backup"), at("against"));
    for command in [
        "verify DIR",
        "segments DIR",
        "meta DIR",
        "pins DIR",
        "stat DIR",
        "stat DIR --format prometheus",
        "dump DIR --format raw",
        "dump DIR --format json",
        "tail DIR --no-follow",
    ] {
        run(log.path(), command).done();
    }
    run(log.path(), &format!("backup DIR {backup}")).done();
    run(log.path(), &format!("backup DIR {against} --against {backup}")).done();
    std::fs::remove_dir_all(&against).unwrap();
    run(log.path(), &format!("diff DIR {backup}")).done();
    std::fs::remove_dir_all(&backup).unwrap();
    for command in [format!("salvage DIR {}", at("salvaged")), "trim DIR --keep-records 10".to_owned()] {
        run_with(MEMORY_LEN + WRITER_LEN, log.path(), &command).done();
    }
}
