//! What `backup` and `salvage` make: the same log, of the same owner, and nothing if that is not to be had.
//!
//! Planted, and noticed: a copy that is not compared with what the next segment says of it; a pin that is removed by its name
//! alone; owners and modes that are not copied; a directory that is left; a copy that is a log before all of it is there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Child;

use mapwal::{Log, Lsn, Options, PinDirectory};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::logs::{closed, copy, damaged, scratch, segments, synced, write_at};
use crate::program::{Ran, run, run_with_input, start};
use crate::repaired::{ended_at, files, numbers};

fn backup(log: &Path, out: &Path, options: &str) -> Ran {
    run(log, &format!("backup DIR {} {options}", out.display()))
}

/// A log with a full segment of another one that has gone a different way from the same beginning, with frames of the same lengths.
fn mixed() -> tempfile::TempDir {
    let lines = |name: &str| -> String { (0..2000).map(|at| format!("{name} {at:0100}\n")).collect() };
    let one = synced(500);
    let other = copy(one.path());
    run_with_input(one.path(), "append DIR", lines("one").as_bytes()).done();
    run_with_input(other.path(), "append DIR", lines("two").as_bytes()).done();
    let (into, from) = (segments(one.path()), segments(other.path()));
    assert!(into.len() > 4);
    fs::copy(&from[3], &into[3]).unwrap();
    one
}

#[test]
fn a_full_segment_of_another_history_is_not_copied() {
    let (log, out) = (mixed(), scratch());
    assert_eq!(run(log.path(), "verify DIR").code, 2);
    let ran = backup(log.path(), &out.path().join("copy"), "--no-pin");
    assert_eq!((ran.code, ran.err.contains("damaged: checksum is ")), (2, true), "{}{}", ran.text(), ran.err);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

/// A log of some size, which this process has open.
fn large(dir: &Path) -> Log {
    // SAFETY: the directory is one of the test that calls this.
    let log = unsafe { Log::open(dir, &Options::new().segment_size_bytes(1 << 20)) }.unwrap();
    for _ in 0..300 {
        log.append(0, &vec![1; 200 << 10]).unwrap();
    }
    log.sync().unwrap();
    log
}

/// A backup that has made its pin, and is stopped then.
fn stopped(dir: &Path, out: &Path, options: &str) -> Child {
    let mut program = start(dir, &format!("backup DIR {} {options}", out.display()));
    let backup = program.env("MAPWAL_STOP_AT_STEP", "1").spawn().unwrap();
    let status = waitpid(Some(Pid::from_child(&backup)), WaitOptions::UNTRACED).unwrap();
    assert!(status.is_some_and(|(_, status)| status.stopped()));
    assert!(run(dir, "pins DIR").text().contains("mapwal-backup"));
    backup
}

/// The exit code of a backup that goes on.
fn ended(mut backup: Child) -> Option<i32> {
    kill_process(Pid::from_child(&backup), Signal::CONT).unwrap();
    backup.wait().unwrap().code()
}

#[test]
fn the_pin_of_a_backup_that_lives_is_not_taken_for_one_that_is_left_over() {
    let (dir, out) = (scratch(), scratch());
    let log = large(dir.path());
    let first = stopped(dir.path(), &out.path().join("first"), "--limit 1");
    // The trim passes the limit of its pin.
    log.trim_before(Lsn(150)).unwrap();
    let ran = backup(dir.path(), &out.path().join("second"), "");
    assert_eq!((ran.code, ran.err.contains("another backup is under way")), (4, true), "{}", ran.err);
    assert_eq!(ended(first), Some(4), "what it had not copied is gone");
    assert_eq!(log.pins(), []);
}

#[test]
fn a_backup_whose_pin_is_gone_is_complete_and_leaves_that_of_another() {
    let (dir, out) = (scratch(), scratch());
    let log = large(dir.path());
    for is_replaced in [false, true] {
        let copy = out.path().join(format!("{is_replaced}"));
        let first = stopped(dir.path(), &copy, "");
        run(dir.path(), "pins DIR drop mapwal-backup").done();
        if is_replaced {
            let pins = PinDirectory::open(dir.path()).unwrap();
            pins.create("mapwal-backup", "process 1, to /other", Lsn(1), None).unwrap();
        }
        assert_eq!(ended(first), Some(0), "the copy is complete");
        assert_eq!(numbers(&copy).len(), 300);
        assert_eq!(log.pins().len(), usize::from(is_replaced));
    }
}

#[test]
fn a_copy_has_the_owner_and_the_modes_of_the_log() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root gives files away");
        return;
    }
    let log = synced(1200);
    let all =
        |directory: &Path| fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    for path in all(log.path()).into_iter().chain([log.path().to_owned()]) {
        std::os::unix::fs::chown(&path, Some(12345), Some(12346)).unwrap();
        let mode = if path.is_dir() { 0o750 } else { 0o640 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let out = scratch();
    let at = |name: &str| out.path().join(name);
    backup(log.path(), &at("first"), "").done();
    backup(log.path(), &at("second"), &format!("--against {}", at("first").display())).done();
    run(log.path(), &format!("salvage DIR {}", at("saved").display())).done();
    for name in ["first", "second", "saved"] {
        for path in all(&at(name)).into_iter().chain([at(name)]) {
            let found = fs::metadata(&path).unwrap();
            let mode = if path.is_dir() { 0o750 } else { 0o640 };
            let owner = (found.uid(), found.gid(), found.mode() & 0o777);
            assert_eq!(owner, (12345, 12346, mode), "{}", path.display());
        }
    }
}

#[test]
fn of_a_copy_that_comes_to_nothing_no_directory_is_left() {
    let (log, out) = (damaged(600), scratch());
    let place = out.path().join("a/b/c");
    assert_eq!(backup(log.path(), &place, "").code, 2);
    segments(log.path()).iter().for_each(|path| write_at(path, 20, &[99]));
    let ran = run(log.path(), &format!("salvage DIR {}", place.display()));
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn a_salvage_that_is_killed_at_any_step_leaves_no_log() {
    let log = damaged(900);
    for at in 1.. {
        let out = scratch();
        if let Some(ran) = ended_at(log.path(), &format!("salvage DIR {}", out.path().display()), at) {
            assert!(at > 5 && ran.code == 3, "{at}: {}", ran.err);
            assert_eq!(numbers(out.path()).len(), 899);
            break;
        }
        let before = files(out.path());
        for command in ["verify DIR", "dump DIR", "append DIR"] {
            let ran = run(out.path(), command);
            assert_eq!((ran.code, ran.err.contains("a copy was not finished")), (4, true), "{at}: {}", ran.err);
        }
        assert!(files(out.path()) == before);
    }
}

#[test]
fn a_salvage_says_what_it_has_saved_once_that_is_a_log() {
    let (log, out) = (damaged(900), scratch());
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut program = start(log.path(), &format!("salvage DIR {} --renumber", out.path().display()));
    // What is lost is told before, and nothing is left then.
    assert_eq!(Ran::new(program.stdout(full).output().unwrap()).code, 4);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
    let (sound, out) = (closed(900), scratch());
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut program = start(sound.path(), &format!("salvage DIR {}", out.path().display()));
    let ran = Ran::new(program.stdout(full).output().unwrap());
    assert_eq!((ran.code, ran.err.contains("; the copy is complete: ")), (4, true), "{}", ran.err);
    assert_eq!(numbers(out.path()).len(), 900);
}

#[test]
fn a_copy_is_not_opened_to_another_group_than_the_log() {
    if !crate::states::has_other_user() {
        return;
    }
    let (log, out) = (synced(600), scratch());
    let user = crate::states::OTHER_USER;
    let all =
        |directory: &Path| fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    for path in all(log.path()).into_iter().chain([log.path().to_owned()]) {
        // Of a group that the user does not belong to.
        std::os::unix::fs::chown(&path, Some(user), Some(12346)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(if path.is_dir() { 0o750 } else { 0o640 })).unwrap();
    }
    std::os::unix::fs::chown(out.path(), Some(user), None).unwrap();
    for command in ["backup", "salvage"] {
        let copy = out.path().join(command);
        let mut program = start(log.path(), &format!("{command} DIR {}", copy.display()));
        Ran::new(program.uid(user).gid(user).output().unwrap()).done();
        for path in all(&copy).into_iter().chain([copy]) {
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o077, 0, "{}", path.display());
        }
    }
}
