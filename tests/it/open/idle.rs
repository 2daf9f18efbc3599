//! The files that an idle log has open, and the one that it opens again: that of its spare.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use mapwal::{Error, Log, Lsn, Options};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::Errno;

use crate::support::child::{self, Child};
use crate::support::faulty::Call;
use crate::support::files::segment;
use crate::support::scratch::{await_spare, open_small, scratch};
use crate::support::wait::LONG;
use crate::support::{append, assert_records, open, open_faulty};

/// Those of an idle log.
const FILES: usize = 4;
/// A log is idle that has the same files open for this long.
const REST: Duration = Duration::from_millis(700);

/// The open files of the log in `parent` that has the most.
fn most_open_in(parent: &Path) -> Vec<String> {
    let mut of = BTreeMap::<_, Vec<_>>::new();
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        // It may be closed by now.
        let Ok(file) = fs::read_link(entry.unwrap().path()) else { continue };
        let Ok(below) = file.strip_prefix(parent) else { continue };
        if let Some(directory) = below.components().next() {
            of.entry(directory.as_os_str().to_owned()).or_default().push(file.display().to_string());
        }
    }
    of.into_values().max_by_key(Vec::len).unwrap_or_default()
}

fn append_some(log: &Log) {
    log.append_batch(&[(1, &[7; 200][..]); 100]).unwrap();
    log.sync().unwrap();
}

/// Fills several segments, the last of which has another one after it.
fn grow(log: &Log) {
    for _ in 0..20 {
        log.append_batch(&[(1, &[7; 1000][..]); 100]).unwrap();
    }
    log.rotate().unwrap();
    append_some(log);
}

/// Opens logs and uses them, and tells which files are open.
#[test]
#[ignore = "other tests run it as a process of its own"]
fn has_some() {
    let Some(directory) = child::directory() else { return };
    let mut logs: Vec<Log> = Vec::new();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("open", count) => {
                let paths = (0..count.parse().unwrap()).map(|number: usize| directory.join(number.to_string()));
                logs = paths.map(|path| open(&path, &Options::new())).collect();
            }
            ("append", _) => logs.iter().for_each(append_some),
            ("grow", _) => logs.iter().for_each(grow),
            ("read", _) => {
                logs.iter().for_each(|log| assert!(log.snapshot().unwrap().iter().all(|record| record.is_ok())))
            }
            ("trim", _) => logs.iter().for_each(|log| assert!(log.trim_before(log.next_lsn()).is_ok())),
            ("truncate", _) => logs.iter().for_each(|log| {
                log.truncate_after(Lsn(log.next_lsn().0 - 2)).unwrap();
                append_some(log);
            }),
            ("drop", _) => logs.clear(),
            ("close", _) => logs.drain(..).for_each(|log| log.close().unwrap()),
            ("count", _) => {}
            _ => panic!("no such request: {line}"),
        }
        child::answer(&most_open_in(&directory).join(" "));
    }
}

/// Does these, and returns the files that a log has open once it is idle, without the directory's own name.
fn open_when_idle(child: &mut Child, directory: &Path, requests: &[&str]) -> Vec<String> {
    requests.iter().for_each(|request| drop(child.ask(request)));
    let began = Instant::now();
    let (mut found, mut since) = (child.ask("count"), began);
    // Spares are made some time after a log has been opened, and files are closed soon after a use: all of that takes longer where the
    // machine has much else to do.
    while since.elapsed() < REST || (found.split(' ').count() > FILES && began.elapsed() < LONG / 4) {
        std::thread::sleep(Duration::from_millis(50));
        let now = child.ask("count");
        if now != found {
            (found, since) = (now, Instant::now());
        }
    }
    let names = found.split(' ').map(|path| Path::new(path).strip_prefix(directory).unwrap());
    let mut names: Vec<_> = names.map(|path| path.components().skip(1).collect::<std::path::PathBuf>()).collect();
    names.sort();
    names.into_iter().map(|name| name.display().to_string()).collect()
}

#[test]
fn an_idle_log_has_four_files_open() {
    let dir = scratch();
    let mut child = Child::spawn("open::idle::has_some", dir.path());
    let states: [&[&str]; 10] = [
        &["open 3"],
        &["append"],
        &["trim", "append"],
        &["close", "open 3"],
        &["append"],
        &["grow", "grow"],
        &["trim", "read"],
        &["truncate"],
        // What a drop leaves is what a crash of the process does.
        &["drop", "open 3"],
        &["grow", "trim", "append"],
    ];
    for requests in states {
        let names = open_when_idle(&mut child, dir.path(), requests);
        let [directory, segment, lock, control] = &names[..] else { panic!("{names:?} after {requests:?}") };
        assert!(segment.ends_with(".seg"), "{names:?}");
        assert_eq!((&**directory, &**lock, &**control), ("", "LOCK", "control"), "after {requests:?}");
    }
    assert_eq!(child.ask("close"), "", "a log that is closed has none");
}

#[test]
fn a_thousand_idle_logs_have_four_files_open_each() {
    let dir = scratch();
    let mut child = Child::spawn("open::idle::has_some", dir.path());
    let states: [&[&str]; 2] = [&["open 1000", "append"], &["close", "open 1000"]];
    for requests in states {
        let names = open_when_idle(&mut child, dir.path(), requests);
        assert_eq!(names.len(), FILES, "{names:?} after {requests:?}");
    }
}

#[test]
fn a_spare_that_somebody_has_removed_or_replaced_is_not_used() {
    type Replace = fn(&Path);
    let replacements: [(&str, Replace); 6] = [
        ("nothing", |_| ()),
        ("a copy", |spare| assert!(fs::copy(spare.with_file_name("other"), spare).unwrap() > 0)),
        ("a link to a copy", |spare| symlink("other", spare).unwrap()),
        ("a link to nothing", |spare| symlink("missing", spare).unwrap()),
        ("a directory", |spare| fs::create_dir(spare).unwrap()),
        ("a pipe", |spare| mknodat(CWD, spare, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap()),
    ];
    for (what, replace) in replacements {
        let dir = scratch();
        let log = open_small(dir.path());
        append(&log, 1..=10);
        await_spare(&log);
        let spare = segment(dir.path(), 2);
        fs::copy(&spare, dir.path().join("other")).unwrap();
        fs::remove_file(&spare).unwrap();
        replace(&spare);
        for number in 11..=20 {
            log.rotate().unwrap_or_else(|error| panic!("{what}: {error}"));
            append(&log, number..=number);
        }
        log.sync().unwrap();
        drop(log);
        let _ = fs::remove_file(&spare).or_else(|_| fs::remove_dir(&spare));
        let log = open_small(dir.path());
        assert_records(&log.snapshot().unwrap(), 1, 20);
        assert!(segment(dir.path(), 3).exists(), "{what}");
    }
}

#[test]
fn a_spare_that_may_not_be_opened_any_more_is_not_used() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    append(&log, 1..=10);
    await_spare(&log);
    // As where somebody has changed the mode of its file.
    let spare = segment(dir.path(), 2);
    faults.fail_on(spare.file_name().unwrap().to_str().unwrap(), Call::Open, Errno::ACCESS);
    for number in 11..=20 {
        log.rotate().unwrap();
        append(&log, number..=number);
    }
    log.sync().unwrap();
    assert_records(&log.snapshot().unwrap(), 1, 20);
}

#[test]
fn a_spare_that_cannot_be_opened_waits_for_the_next_rotation() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    append(&log, 1..=10);
    await_spare(&log);
    faults.fail(Call::Open, Errno::MFILE);
    faults.fail(Call::Create, Errno::MFILE);
    for number in 11..=12 {
        let Err(Error::Io { operation: "open", path, .. }) = log.rotate() else { panic!("it has been opened") };
        assert_eq!(path, segment(dir.path(), 2));
        append(&log, number..=number);
        log.sync().unwrap();
    }
    faults.heal();
    log.rotate().unwrap();
    append(&log, 13..=20);
    log.sync().unwrap();
    assert_records(&log.snapshot().unwrap(), 1, 20);
    assert!(segment(dir.path(), 2).exists());
    assert_eq!(log.stats().sealed_segments, 1);
}
