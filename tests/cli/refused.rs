//! What the program may not look at, and what it cannot make sense of.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::logs::closed;
use crate::program::{PROGRAM, Ran, run};

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
    for words in [
        "segments DIR",
        "meta DIR",
        "stat DIR --format prometheus",
        "dump DIR",
        "verify DIR",
        "tail DIR --no-follow",
        "stat DIR",
        "pins DIR",
        "append DIR",
        "trim DIR --before 2",
        "backup DIR /tmp/mapwal-no-copy",
        "diff DIR DIR",
        "repair DIR",
        "repair DIR --apply",
    ] {
        let ran = Ran::new(command(words).output().unwrap());
        assert_eq!(ran.code, 4, "{words}: {}", ran.err);
        assert!(ran.err.contains("permission denied: "), "{words}: {}", ran.err);
    }
    fs::set_permissions(log.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn what_is_no_number_of_a_record_is_told_with_what_would_do() {
    let log = closed(10);
    for (command, said) in [
        ("pins DIR add x foo", "'foo' for '<LSN>': this is neither the number of a record, nor `oldest`, nor `now`"),
        (
            "tail DIR --from foo",
            "'foo' for '--from <LSN>': this is neither the number of a record, nor `start`, nor `end`",
        ),
        ("meta DIR --slot 16", "'16' for '--slot <N>': there are 16 slots, with numbers from 0 to 15"),
        ("meta DIR --slot x", "'x' for '--slot <N>': there are 16 slots, with numbers from 0 to 15"),
        ("pins DIR add x 5 --limit KiB", "'KiB' for '--limit <SIZE>': \"\" is not a number of bytes"),
    ] {
        let ran = run(log.path(), command);
        assert_eq!(ran.code, 64);
        assert!(ran.err.contains(said), "{}", ran.err);
    }
}
