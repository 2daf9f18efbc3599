//! Files of a log say when they were changed last, for backups that copy what is newer than the last copy.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::support::child::Child;
use crate::support::files::segment;
use crate::support::rights::without_rights;
use crate::support::scratch::{open_small, scratch};
use crate::support::{append, open, small};

/// Has `path` say that it was changed long ago.
fn make_old(path: &Path) {
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(path).unwrap().set_times(FileTimes::new().set_modified(long_ago)).unwrap();
}

/// As [`make_old`], once nothing is made ready in it any more.
fn make_old_at_rest(path: &Path) {
    loop {
        make_old(path);
        std::thread::sleep(Duration::from_millis(100));
        if is_old(path) {
            break;
        }
    }
}

fn is_old(path: &Path) -> bool {
    fs::metadata(path).unwrap().modified().unwrap().elapsed().unwrap() > Duration::from_secs(1800)
}

#[test]
fn a_segment_is_touched_when_it_is_sealed() {
    let is_shown = || {
        let dir = scratch();
        let log = open_small(dir.path());
        // So much that nothing is given back.
        log.append(1, &[7; 50 << 10]).unwrap();
        append(&log, 2..=10);
        let path = segment(dir.path(), 1);
        // The page is dirty already: no store says that it changes the file.
        make_old_at_rest(&path);
        append(&log, 11..=20);
        log.rotate().unwrap();
        // If the thread that makes room came in between, it would have been noticed without being touched.
        let shows = is_old(&path);
        log.sync().unwrap();
        assert!(!is_old(&path));
        shows
    };
    assert!((0..20).any(|_| is_shown()));
}

#[test]
fn a_segment_and_the_control_page_are_touched_when_the_log_is_closed() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=10);
    let paths = [segment(dir.path(), 1), dir.path().join("control")];
    paths.iter().for_each(|path| make_old_at_rest(path));
    log.close().unwrap();
    for path in paths {
        assert!(!is_old(&path), "{}", path.display());
    }
}

#[test]
fn a_segment_is_touched_when_it_is_recovered() {
    let dir = scratch();
    let mut child = Child::serving(dir.path());
    child.ask("open");
    child.ask("append 10");
    child.kill();
    let path = segment(dir.path(), 1);
    make_old(&path);
    drop(open_small(dir.path()));
    assert!(!is_old(&path));
}

#[test]
fn a_segment_of_another_member_of_the_group_is_touched_as_well() {
    let dir = scratch();
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let log = open(dir.path(), &small().file_mode(0o666));
    append(&log, 1..=10);
    log.close().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let Some(log) = without_rights(|| open_small(dir.path())) else { return };
    let path = segment(dir.path(), 1);
    make_old_at_rest(&path);
    append(&log, 11..=20);
    without_rights(|| log.close().unwrap()).unwrap();
    assert!(!is_old(&path));
}
