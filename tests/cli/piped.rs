//! Colours, pipes that end early, and memory.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::logs::{closed, damaged, live, scratch, synced};
use crate::program::{PROGRAM, Ran, run, start};

/// What prints something of a log, and reads no more than that log.
const LOOKING: [&str; 8] = [
    "dump DIR",
    "verify DIR",
    "tail DIR --no-follow",
    "stat DIR",
    "stat DIR --format prometheus",
    "segments DIR",
    "meta DIR",
    "pins DIR",
];

fn coloured(log: &Path, command: &str, variables: &[(&str, &str)]) -> bool {
    let mut program = start(log, command);
    program.envs(variables.iter().copied());
    let ran = Ran::new(program.output().unwrap());
    assert!(ran.code == 0 || ran.code == 2, "{}", ran.err);
    ran.out.contains(&0x1b)
}

#[test]
fn colours_are_as_the_environment_asks() {
    let log = damaged(600);
    for command in ["verify DIR", "segments DIR"] {
        assert!(!coloured(log.path(), command, &[]), "{command}: not in a pipe");
        assert!(coloured(log.path(), command, &[("CLICOLOR_FORCE", "1")]), "{command}");
        assert!(!coloured(log.path(), command, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), "{command}");
        let json = format!("{command} --format json");
        assert!(!coloured(log.path(), &json, &[("CLICOLOR_FORCE", "1")]), "{command}: not for machines");
    }
}

/// The exit code, and what is said, of a command whose output no process reads.
fn unread(log: &Path, command: &str) -> (i32, String) {
    let mut child = start(log, command).spawn().unwrap();
    drop(child.stdout.take());
    let ran = Ran::new(child.wait_with_output().unwrap());
    (ran.code, ran.err)
}

#[test]
fn a_pipe_that_ends_early_is_no_error() {
    let log = synced(1200);
    run(log.path(), "pins DIR add a 1").done();
    for command in LOOKING {
        assert_eq!(unread(log.path(), command), (0, String::new()), "{command}");
    }
    for command in ["completions bash", "man", "--help", "verify --help"] {
        assert_eq!(unread(log.path(), command), (0, String::new()), "{command}");
    }
    // As `head` does: what has been read is right, and the rest is not missed.
    let directory = scratch();
    let _writer = live(directory.path(), 10);
    let mut tail = start(directory.path(), "tail DIR --from start").spawn().unwrap();
    let mut printed = BufReader::new(tail.stdout.take().unwrap());
    printed.read_line(&mut String::new()).unwrap();
    drop(printed);
    // Without another record to come.
    let limit = Instant::now() + Duration::from_secs(60);
    let status = loop {
        match tail.try_wait().unwrap() {
            None if Instant::now() < limit => std::thread::sleep(Duration::from_millis(10)),
            status => break status,
        }
    };
    // If it goes on, it does not any longer.
    let _ = tail.kill();
    assert_eq!(status.expect("it ends").code(), Some(0));
}

#[test]
fn damage_is_told_by_the_exit_code_also_when_no_process_reads_the_rest() {
    let log = damaged(600);
    assert_eq!(unread(log.path(), "verify DIR").0, 2);
    let lost = synced(1200);
    std::fs::remove_file(&crate::logs::segments(lost.path())[1]).unwrap();
    for command in ["segments DIR", "meta DIR", "stat DIR --format prometheus", "verify DIR --format json"] {
        assert_eq!(unread(lost.path(), command).0, 2, "{command}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_the_log() {
    let log = scratch();
    let input = log.path().join("input");
    std::fs::write(&input, format!("{}\n", "x".repeat(1000)).repeat(40 << 10)).unwrap();
    let directory = log.path().join("log");
    run(&directory, &format!("append DIR {} --segment-size 4MiB --sync none", input.display()));
    let out = scratch();
    let backup = format!("backup DIR {}/backup", out.path().display());
    let salvage = format!("salvage DIR {}/salvage", out.path().display());
    for command in LOOKING.into_iter().chain([&*backup, &*salvage]) {
        let command = command.replace("DIR", directory.to_str().unwrap());
        // Of its own memory; what is mapped of the log does not count. A thread takes 2 MiB or more of it.
        let line = format!("ulimit -d 24576; exec {PROGRAM} {command} > /dev/null");
        let ran = Ran::new(Command::new("sh").args(["-c", &line]).output().unwrap());
        assert_eq!((ran.code, &*ran.err), (0, ""), "{command}");
    }
    let bytes =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum::<u64>();
    assert!(bytes > 40_000_000, "the log is larger than that: {bytes}");
}

#[test]
fn an_interrupt_ends_what_goes_on() {
    let log = closed(10);
    for command in ["tail DIR", "stat DIR --watch"] {
        let mut going = crate::program::Running::start(log.path(), command);
        if command.starts_with("stat") {
            going.line();
        } else {
            // It has begun once it has the directory open, and the signal is caught before that.
            wait_until_open(going.child.id(), log.path());
        }
        // Before it is caught, it ends the program as well, unless that was started with interrupts ignored.
        let status = loop {
            going.interrupt();
            match going.child.try_wait().unwrap() {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        assert!(status.success() || std::os::unix::process::ExitStatusExt::signal(&status) == Some(2), "{status:?}");
    }
}

fn wait_until_open(pid: u32, directory: &Path) {
    let limit = Instant::now() + Duration::from_secs(60);
    let is_open = || {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|path| path.starts_with(directory))
    };
    while !is_open() {
        assert!(Instant::now() < limit, "it never opens the log");
        std::thread::yield_now();
    }
}

#[test]
fn help_that_cannot_be_printed_is_an_error() {
    for command in ["--help", "help", "verify --help", "--version"] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ran = Ran::new(start(Path::new("log"), command).stdout(full).output().unwrap());
        assert_eq!(ran.code, 4, "{command}: {}", ran.err);
    }
}
