//! Owner, group and mode of a log's files.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use mapwal::{Error, Log, Lsn, Options, PinDirectory};

use crate::support::child::Child;
use crate::support::files::names;
use crate::support::rights::without_rights;
use crate::support::scratch::{open_small, scratch};
use crate::support::{append, open, small, try_open};

const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Everything in `directory`, and it itself.
fn all(directory: &Path) -> Vec<PathBuf> {
    let mut paths = vec![directory.to_owned()];
    for name in names(directory) {
        let path = directory.join(name);
        if path.is_dir() { paths.extend(all(&path)) } else { paths.push(path) }
    }
    paths
}

/// Has the log make a file of each kind.
fn use_all_of(log: &Log) {
    let next = log.next_lsn().0;
    append(log, next..=next + 9);
    log.rotate().unwrap();
    append(log, next + 10..=next + 19);
    log.rotate().unwrap();
    log.create_pin(&format!("replica-{next}"), "", log.next_lsn(), None).unwrap();
    log.sync().unwrap();
}

fn modes(directory: &Path) -> Vec<(PathBuf, u32)> {
    all(directory).into_iter().map(|path| (path.clone(), fs::metadata(&path).unwrap().mode() & 0o7777)).collect()
}

#[track_caller]
fn assert_modes(directory: &Path, file: u32, folder: u32) {
    for (path, mode) in modes(directory) {
        let expected = if path.is_dir() { folder } else { file };
        assert_eq!(mode, expected, "{mode:o}, not {expected:o}: {}", path.display());
    }
}

#[track_caller]
fn assert_owner(directory: &Path, owner: u32) {
    for path in all(directory) {
        let found = fs::metadata(&path).unwrap();
        assert_eq!(found.uid(), owner, "{}", path.display());
    }
}

#[test]
fn files_that_root_makes_belong_to_the_owner_of_the_log() {
    let dir = scratch();
    if !is_root() {
        return;
    }
    chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    // A new log, by the owner of the directory.
    use_all_of(&open_small(dir.path()));
    assert_owner(dir.path(), NOBODY);
    without_rights(|| use_all_of(&open_small(dir.path())));
    // Pins made by an operator, beside the log that a service has.
    PinDirectory::open(dir.path()).unwrap().create("operator", "", Lsn(1), None).unwrap();
    assert_owner(dir.path(), NOBODY);
    // A log that is there, by its owner, in a directory that is somebody else's.
    chown(dir.path(), Some(1), Some(1)).unwrap();
    use_all_of(&open_small(dir.path()));
    chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    assert_owner(dir.path(), NOBODY);
    without_rights(|| use_all_of(&open_small(dir.path())));
}

#[test]
fn a_directory_that_root_makes_belongs_to_the_owner_of_the_one_around_it() {
    let dir = scratch();
    if !is_root() {
        return;
    }
    chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    use_all_of(&open_small(&dir.path().join("app/log")));
    assert_owner(dir.path(), NOBODY);
}

#[test]
fn a_file_that_its_owner_could_not_use_is_not_made() {
    let dir = scratch();
    if !is_root() {
        return;
    }
    // Others may use the files, and may not give one to their owner.
    let log = open(dir.path(), &small().file_mode(0o606));
    append(&log, 1..=10);
    drop(log);
    for path in all(dir.path()) {
        chown(&path, Some(1), Some(1)).unwrap();
        if path.is_dir() {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        }
    }
    let before = names(dir.path());
    let refused = without_rights(|| try_open(dir.path(), &small()).map(drop));
    let Some(refused) = refused else { return };
    let error = refused.unwrap_err();
    let Error::Io { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(source.to_string().contains("belong to user 1"), "{source}");
    assert_eq!(names(dir.path()), before);
    drop(open_small(dir.path()));
}

#[test]
fn a_group_may_be_let_in_and_new_files_are_as_those_that_are_there() {
    let dir = scratch();
    let directory = dir.path().join("app/log");
    use_all_of(&open(&directory, &small().file_mode(0o640)));
    assert_modes(&dir.path().join("app"), 0o640, 0o750);
    use_all_of(&open_small(&directory));
    assert_modes(&directory, 0o640, 0o750);
    // Without the lock file, as in a copy, the segments show it.
    fs::remove_file(directory.join("LOCK")).unwrap();
    use_all_of(&open_small(&directory));
    assert_modes(&directory, 0o640, 0o750);
}

#[test]
fn the_mask_of_the_process_makes_no_difference() {
    for mask in ["0", "0777"] {
        let dir = scratch();
        let directory = dir.path().join("log");
        let script = format!("umask {mask} && exec \"$0\" \"$@\"");
        let mut child = Child::spawn_by(&["sh", "-c", &script], "support::child::serves", &directory);
        assert_eq!(child.ask("open"), "1");
        assert_eq!(child.ask("append 1000"), "1001");
        child.kill();
        // That of the next segment may have been made just then, before it was given its mode.
        for (path, _) in
            modes(&directory).into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "tmp"))
        {
            fs::remove_file(path).unwrap();
        }
        assert_modes(&directory, 0o600, 0o700);
    }
}

#[test]
fn a_mode_that_is_none_is_refused() {
    let dir = scratch();
    for mode in [0o700, 0o4600, 0o400, 0] {
        let refused = try_open(&dir.path().join("log"), &Options::new().file_mode(mode));
        assert!(matches!(refused, Err(Error::InvalidArgument { name: "file_mode", .. })), "{mode:o}");
    }
    assert_eq!(names(dir.path()), [""; 0]);
    assert_eq!(open(&dir.path().join("log"), &small().file_mode(0o666)).next_lsn(), Lsn(1));
}
