//! What the program may not look at, and what it cannot make sense of.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::logs::{closed, scratch};
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

#[test]
fn what_is_no_log_is_called_what_it_is() {
    let parent = scratch();
    let (log, link) = (parent.path().join("log"), parent.path().join("link"));
    fs::rename(closed(10).keep(), &log).unwrap();
    std::os::unix::fs::symlink(parent.path().join("gone"), &link).unwrap();
    for missing in [parent.path().join("missing"), log.join("00000000000000000009.seg"), link] {
        for command in ["verify DIR", "dump DIR", "stat DIR"] {
            let ran = run(&missing, command);
            let told = format!("mapwal: no log: nothing is there: {}\n", missing.display());
            assert_eq!((ran.code, ran.err), (4, told), "{command}");
        }
    }
    fs::write(parent.path().join("text"), "root:x:0:0\n").unwrap();
    for file in [parent.path().join("text"), log.join("LOCK")] {
        let ran = run(&file, "dump DIR");
        let told = format!("mapwal: not a log: the file is no segment: {}\n", file.display());
        assert_eq!((ran.code, ran.err), (4, told));
    }
    let empty = log.join("00000000000000000001.seg");
    fs::write(&empty, "").unwrap();
    let ran = run(&empty, "dump DIR");
    assert_eq!(
        (ran.code, ran.err.contains("damaged: file is 0 bytes long, instead of 4096 ")),
        (2, true),
        "{}",
        ran.err
    );
}

#[test]
fn no_process_is_named_that_has_ended() {
    let log = closed(10);
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let lock = |pid: u32| fs::write(log.path().join("LOCK"), format!("{pid}\n")).unwrap();
    let held = fs::File::open(log.path()).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    for (pid, who) in
        [(ended.id(), "another process".to_owned()), (std::process::id(), format!("process {}", std::process::id()))]
    {
        lock(pid);
        let ran = run(log.path(), "append DIR");
        assert_eq!((ran.code, ran.err.contains(&format!(": {who} has the log open: "))), (4, true), "{}", ran.err);
    }
}

#[test]
fn what_no_log_could_take_is_wrong_on_the_command_line() {
    let log = closed(10);
    for command in [
        "append DIR --segment-size 65537",
        "append DIR --segment-size 8GiB",
        "append DIR --segment-size 32KiB",
        "pins DIR add a/b now",
        "pins DIR drop .",
    ] {
        assert_eq!(run(log.path(), command).code, 64, "{command}");
    }
}

#[test]
fn what_is_there_in_the_place_of_another_kind_of_file_is_named_with_the_kind_that_belongs_there() {
    let log = closed(10);
    std::os::unix::fs::symlink("elsewhere", log.path().join("pins")).unwrap();
    let ran = run(log.path(), "verify DIR");
    assert!(ran.code == 4 && ran.err.contains("this is a symbolic link, where a directory belongs"), "{}", ran.err);
    fs::remove_file(log.path().join("pins")).unwrap();
    let place = crate::logs::scratch();
    let ran = run(log.path(), &format!("tail DIR --no-follow --since-last-run {}", place.path().display()));
    assert!(ran.code == 4 && ran.err.contains("kept in a file, and this is a directory"), "{}", ran.err);
}
