//! Files that somebody removes or replaces under a log that is open.

use std::error::Error as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use mapwal::{Error, Follower, Log, Lsn, Visibility};

use crate::support::files::segment;
use crate::support::scratch::{open_small, scratch};
use crate::support::wait::{LONG, until};
use crate::support::{append, read_only, small, try_open};

/// A log in `directory` with records in several segments.
fn log_in(directory: &Path) -> Log {
    let log = open_small(directory);
    for first in [1, 11, 21, 31] {
        append(&log, first..=first + 9);
        log.rotate().unwrap();
    }
    append(&log, 41..=50);
    log.sync().unwrap();
    log
}

/// Uses the log until it refuses; the file that it says is not where it was.
#[track_caller]
fn noticed_by_writer(log: &Log) -> String {
    let began = Instant::now();
    let error = loop {
        let used = log.append(0, b"more").and_then(|_| log.sync());
        match used {
            Err(error) => break error,
            Ok(_) if began.elapsed() < LONG => std::thread::sleep(Duration::from_millis(20)),
            Ok(_) => panic!("not noticed"),
        }
    };
    assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    assert!(matches!(log.append(0, b"more"), Err(Error::Poisoned { .. })), "it goes on");
    let source = error.source().expect("the cause").to_string();
    source.strip_suffix(" has been removed or replaced while the log is open").expect(&source).to_owned()
}

/// Follows the log until that fails; the file that is not where it was.
#[track_caller]
fn noticed_by_follower(follower: &mut Follower) -> String {
    let began = Instant::now();
    loop {
        match follower.next_timeout(Duration::from_millis(50)) {
            Ok(_) => assert!(began.elapsed() < LONG, "not noticed"),
            Err(Error::Displaced { path }) => return path.display().to_string(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn a_second_writer_is_kept_out_when_the_lock_file_is_gone() {
    let dir = scratch();
    let log = log_in(dir.path());
    fs::remove_file(dir.path().join("LOCK")).unwrap();
    assert!(matches!(try_open(dir.path(), &small()), Err(Error::Locked { .. })));
    fs::write(dir.path().join("LOCK"), "1\n").unwrap();
    assert!(matches!(try_open(dir.path(), &small()), Err(Error::Locked { .. })));
    drop(log);
    drop(open_small(dir.path()));
}

#[test]
fn a_writer_notices_that_its_control_page_was_removed_or_replaced() {
    for is_replaced in [false, true] {
        let dir = scratch();
        let log = log_in(dir.path());
        let control = dir.path().join("control");
        let bytes = fs::read(&control).unwrap();
        fs::remove_file(&control).unwrap();
        if is_replaced {
            fs::write(&control, bytes).unwrap();
        }
        assert_eq!(noticed_by_writer(&log), shown(&control));
        drop(log);
        assert_eq!(open_small(dir.path()).first_lsn(), Lsn(1));
    }
}

#[test]
fn a_trim_notes_nothing_in_a_control_page_without_a_name() {
    let dir = scratch();
    let log = log_in(dir.path());
    // The next look around is a second away.
    until("a look around", || {
        let _ = log.rotate().unwrap();
        log.append(0, b"more").unwrap();
        log.stats().sealed_segments > 8
    });
    fs::remove_file(dir.path().join("control")).unwrap();
    assert!(matches!(log.trim_before(Lsn(31)), Err(Error::Poisoned { .. })));
    assert_eq!(log.first_lsn(), Lsn(1));
    drop(log);
    assert_eq!(open_small(dir.path()).first_lsn(), Lsn(1), "nothing was trimmed");
}

#[test]
fn a_writer_notices_that_its_lock_file_was_removed_or_replaced() {
    for is_replaced in [false, true] {
        let dir = scratch();
        let log = log_in(dir.path());
        fs::remove_file(dir.path().join("LOCK")).unwrap();
        if is_replaced {
            fs::write(dir.path().join("LOCK"), "1\n").unwrap();
        }
        assert_eq!(noticed_by_writer(&log), shown(&dir.path().join("LOCK")));
    }
}

#[test]
fn a_writer_notices_that_its_directory_was_moved_or_replaced() {
    for is_replaced in [false, true] {
        let dir = scratch();
        let directory = dir.path().join("log");
        let log = log_in(&directory);
        fs::rename(&directory, dir.path().join("elsewhere")).unwrap();
        if is_replaced {
            fs::create_dir(&directory).unwrap();
        }
        assert_eq!(noticed_by_writer(&log), shown(&directory));
        drop(log);
        assert_eq!(open_small(&dir.path().join("elsewhere")).first_lsn(), Lsn(1));
    }
}

#[test]
fn a_writer_notices_that_segments_were_removed_or_replaced() {
    for (number, is_replaced) in [(5, false), (5, true), (2, false), (1, false)] {
        let dir = scratch();
        let log = log_in(dir.path());
        let path = segment(dir.path(), number);
        if is_replaced {
            fs::copy(&path, dir.path().join("copy")).unwrap();
            fs::rename(dir.path().join("copy"), &path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(noticed_by_writer(&log), shown(&path));
    }
}

#[test]
fn a_trim_and_a_rotation_notice_as_well() {
    let uses: [fn(&Log) -> mapwal::Result<()>; 2] =
        [|log| log.trim_before(Lsn(1)).map(drop), |log| log.append(0, b"one").and_then(|_| log.rotate()).map(|_| ())];
    for act in uses {
        let dir = scratch();
        let log = log_in(dir.path());
        fs::remove_file(dir.path().join("LOCK")).unwrap();
        let began = Instant::now();
        while act(&log).is_ok() {
            assert!(began.elapsed() < LONG, "not noticed");
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(matches!(log.sync(), Err(Error::Poisoned { .. })));
    }
}

#[test]
fn a_log_whose_files_are_all_there_goes_on() {
    let dir = scratch();
    let directory = dir.path().join("log");
    fs::create_dir(&directory).unwrap();
    let link = dir.path().join("current");
    std::os::unix::fs::symlink(&directory, &link).unwrap();
    let log = log_in(&link);
    let began = Instant::now();
    let mut round = 0;
    while began.elapsed() < Duration::from_millis(2500) {
        // A link that leads elsewhere by now makes no difference to the files.
        let _ = fs::remove_file(&link);
        log.append(0, b"more").unwrap();
        if round % 3 == 0 {
            log.rotate().unwrap();
        }
        log.sync().unwrap();
        if round % 10 == 9 {
            log.trim_before(log.next_lsn()).unwrap();
        }
        round += 1;
    }
}

#[test]
fn a_follower_notices_that_the_directory_was_moved_or_replaced() {
    for is_replaced in [false, true] {
        let dir = scratch();
        let directory = dir.path().join("log");
        drop(log_in(&directory));
        let mut follower = read_only(&directory).unwrap().follow(Lsn(51), Visibility::Published).unwrap();
        assert!(follower.next_timeout(Duration::from_millis(700)).unwrap().is_none());
        fs::rename(&directory, dir.path().join("elsewhere")).unwrap();
        if is_replaced {
            drop(log_in(&directory));
        }
        assert_eq!(noticed_by_follower(&mut follower), shown(&directory));
    }
}

#[test]
fn a_follower_notices_that_the_segment_that_it_follows_was_replaced_or_removed() {
    let dir = scratch();
    drop(log_in(dir.path()));
    let path = segment(dir.path(), 5);
    let mut follower = read_only(dir.path()).unwrap().follow(Lsn(51), Visibility::Published).unwrap();
    assert!(follower.next_timeout(Duration::from_millis(700)).unwrap().is_none());
    fs::copy(&path, dir.path().join("copy")).unwrap();
    fs::rename(dir.path().join("copy"), &path).unwrap();
    assert_eq!(noticed_by_follower(&mut follower), shown(&path));
    assert_eq!(noticed_by_follower(&mut follower), shown(&path), "it stays so");
    let mut follower = read_only(dir.path()).unwrap().follow(Lsn(51), Visibility::Published).unwrap();
    assert!(follower.next_timeout(Duration::from_millis(700)).unwrap().is_none());
    fs::remove_file(&path).unwrap();
    let began = Instant::now();
    while follower.next_timeout(Duration::from_millis(50)).is_ok() {
        assert!(began.elapsed() < LONG, "not noticed");
    }
}
