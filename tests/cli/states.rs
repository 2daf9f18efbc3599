//! Every command on a log in every state: exit code, and what is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::logs::{closed, copy, damaged, live, scratch, segments, torn, write_at};
use crate::program::{PROGRAM, Ran, run_with_input};

/// The commands, by the words around the directory.
const COMMANDS: [&str; 9] = [
    "append DIR",
    "dump DIR",
    "verify DIR",
    "tail DIR --no-follow",
    "stat DIR",
    "pins DIR",
    "pins DIR add p 1",
    "pins DIR drop p",
    "salvage DIR OUT",
];

/// Runs each command on a directory that `prepare` gives it, and checks the exit codes. With a code of 4, or of 2 from
/// anything but `verify`, `told` must be told.
fn check(codes: [i32; 9], told: &str, run: impl Fn(&str) -> Ran) {
    for (command, code) in COMMANDS.into_iter().zip(codes) {
        let out = scratch();
        let ran = run(&command.replace("OUT", out.path().to_str().unwrap()));
        assert_eq!(ran.code, code, "{command}: {} {}", ran.err, String::from_utf8_lossy(&ran.out));
        match code {
            0 | 1 => assert_eq!(ran.err, "", "{command}"),
            2 if command.starts_with("verify") => assert_eq!(ran.err, "", "{command}"),
            2 | 4 => assert!(ran.err.contains(told) || ran.err.contains("no pin p"), "{command}: {}", ran.err),
            _ => {}
        }
    }
}

fn check_copies(log: &Path, codes: [i32; 9], told: &str) {
    check(codes, told, |command| run_with_input(copy(log).path(), command, b"more\n"));
}

#[test]
fn an_empty_directory_is_no_log_and_can_become_one() {
    let empty = scratch();
    check_copies(empty.path(), [0, 4, 4, 4, 4, 4, 4, 4, 4], "no log: there are no segments: ");
}

#[test]
fn a_directory_that_is_not_there_is_no_log_and_can_become_one() {
    let parent = scratch();
    let missing = parent.path().join("log");
    check([0, 4, 4, 4, 4, 4, 4, 4, 4], "no log: there are no segments: ", |command| {
        let _ = fs::remove_dir_all(&missing);
        run_with_input(&missing, command, b"more\n")
    });
}

#[test]
fn a_sound_log_is_served_by_all() {
    let log = closed(600);
    check_copies(log.path(), [0, 0, 0, 0, 0, 0, 0, 4, 0], "no pin p");
}

#[test]
fn a_live_log_is_read_and_refused_to_other_writers() {
    let directory = scratch();
    let mut writer = live(directory.path(), 600);
    let told = format!("cannot open for writing: process {} has the log open: ", writer.child.id());
    check([4, 0, 0, 0, 0, 0, 0, 0, 0], &told, |command| run_with_input(directory.path(), command, b"more\n"));
    writer.say("still there");
    assert_eq!(writer.line().as_deref(), Some("601"), "the writer has not been disturbed");
}

#[test]
fn a_torn_end_is_told_by_verify_and_dropped_by_writers() {
    let log = torn(100);
    check_copies(log.path(), [0, 0, 1, 0, 0, 0, 0, 4, 0], "no pin p");
}

#[test]
fn damage_is_told_by_all_that_come_across_it() {
    let log = damaged(100);
    // A log that was closed is opened without a look at its records.
    check_copies(log.path(), [0, 2, 2, 2, 2, 0, 0, 4, 3], "mapwal: damaged: ");
}

#[test]
fn an_unknown_version_is_refused_and_named() {
    let log = closed(10);
    // With a checksum that no known version has.
    write_at(&segments(log.path())[0], 8, &[9]);
    write_at(&segments(log.path())[0], 60, &[1]);
    let told = "unknown version: written in format 9; this mapwal reads 3: ";
    check_copies(log.path(), [4; 9], told);
}

#[test]
fn a_directory_of_somebody_else_is_no_log() {
    let directory = scratch();
    fs::write(directory.path().join("notes.txt"), "not a log").unwrap();
    check([4; 9], "not a log: this is no file of mapwal, and a log needs a directory of its own: ", |command| {
        run_with_input(directory.path(), command, b"more\n")
    });
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing was made there");
}

#[test]
fn a_file_is_no_log() {
    let directory = scratch();
    let file = directory.path().join("notes.txt");
    fs::write(&file, "not a log".repeat(1000)).unwrap();
    check([4; 9], "", |command| run_with_input(&file, command, b"more\n"));
}

#[test]
fn a_directory_without_permission_is_refused() {
    let log = closed(10);
    fs::set_permissions(log.path(), fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything, so the program is run as somebody else, who must be able to find it.
    let is_root = rustix::process::geteuid().is_root();
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = home.path().join("mapwal");
    fs::copy(PROGRAM, &program).unwrap();
    let command = |words: &str| {
        let mut command = Command::new(&program);
        command
            .args(words.split_whitespace().map(|word| if word == "DIR" { log.path().to_str().unwrap() } else { word }));
        if is_root {
            command.uid(65534).gid(65534);
        }
        command
    };
    if let Err(error) = command("--version").output() {
        eprintln!("SKIPPED: nobody else can run the program here: {error}");
        return;
    }
    check([4; 9], "permission denied: ", |words| Ran::new(command(words).output().unwrap()));
    fs::set_permissions(log.path(), fs::Permissions::from_mode(0o700)).unwrap();
}
