//! Directories that are not, or not only, a log's: refused by an error that names what is wrong, and left as they are.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mapwal::error::FileKind;
use mapwal::inspect::Inspection;
use mapwal::{Error, Lsn};
use rustix::fs::{CWD, Mode, mkfifoat};

use crate::support::files::{names, segment, unchanged};
use crate::support::mounted::Mounted;
use crate::support::rights::without_rights;
use crate::support::scratch::{open_small, scratch};
use crate::support::{append, assert_records, closed_log, corruption, read_only, small, try_open};

/// The error by which both kinds of open refuse the directory, which they leave as it is.
fn refusal(directory: &Path) -> Error {
    unchanged(directory, || {
        let before = names(directory);
        let (by_log, by_reader) = (try_open(directory, &small()), read_only(directory));
        let (by_log, by_reader) = (by_log.expect_err("refused"), by_reader.expect_err("refused"));
        assert_eq!(by_log.to_string(), by_reader.to_string());
        assert_eq!(names(directory), before, "nothing is created");
        by_log
    })
}

#[test]
fn somebody_elses_files_are_not_taken_for_a_log() {
    for name in ["Cargo.toml", "00000000000000000001.log", "LOCK.old", "notes.tmp", ".hidden"] {
        let dir = scratch();
        fs::write(dir.path().join(name), "mine").unwrap();
        let error = refusal(dir.path());
        assert!(matches!(&error, Error::NotALog { path } if *path == dir.path().join(name)), "{error}");
    }
}

#[test]
fn a_directory_of_somebody_elses_is_not_taken_for_a_log() {
    let dir = scratch();
    fs::create_dir(dir.path().join("src")).unwrap();
    let error = refusal(dir.path());
    assert!(matches!(&error, Error::NotALog { path } if *path == dir.path().join("src")), "{error}");
}

/// After a power cut on a file system without a journal a name may be that of something else.
#[test]
fn whatever_is_left_of_an_unfinished_directory_of_pins_is_in_nobodys_way() {
    let leave: [fn(&Path); 2] = [|path| fs::create_dir(path).unwrap(), |path| fs::write(path, "old bytes").unwrap()];
    for leave in leave {
        let dir = scratch();
        let left = dir.path().join("pins.tmp");
        leave(&left);
        assert!(matches!(read_only(dir.path()), Err(Error::NoLog { .. })));
        let log = open_small(dir.path());
        append(&log, 1..=9);
        log.create_pin("backup", "me", Lsn(5), None).unwrap();
        assert!(!left.exists() && dir.path().join("pins/backup").is_file());
        drop(log);
        leave(&left);
        let log = open_small(dir.path());
        assert_records(&log.snapshot().unwrap(), 1, 9);
        assert_eq!(log.pins().len(), 1);
    }
}

#[test]
fn what_a_system_leaves_on_a_fresh_volume_is_no_strangers() {
    let dir = scratch();
    for name in ["lost+found", ".Trash-1000", ".fseventsd", "System Volume Information"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    for name in [".DS_Store", ".nfs0000000000a1b2c300000001"] {
        fs::write(dir.path().join(name), "system").unwrap();
    }
    let before = names(dir.path());
    assert!(matches!(read_only(dir.path()), Err(Error::NoLog { .. })));
    append(&open_small(dir.path()), 1..=9);
    assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, 9);
    assert!(before.iter().all(|name| dir.path().join(name).exists()));
}

#[test]
fn the_refusal_of_a_strangers_directory_says_what_to_do() {
    let dir = scratch();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let message = refusal(dir.path()).to_string();
    assert!(message.contains("notes.txt") && message.ends_with("; a log needs a directory of its own"), "{message}");
}

#[test]
fn a_segment_with_a_number_that_is_none_is_refused() {
    for name in ["1.seg", "00000000000000000000.seg", "0000000000000000000x.seg", "99999999999999999999.seg"] {
        let dir = closed_log();
        fs::write(dir.path().join(name), "").unwrap();
        let error = refusal(dir.path());
        assert!(matches!(&error, Error::NotALog { path } if *path == dir.path().join(name)), "{error}");
    }
}

/// Checks that what `put` puts in the place of each of the log's files is refused by its kind.
fn assert_refused_in_place_of_a_file(found: FileKind, put: impl Fn(&Path)) {
    for name in ["00000000000000000002.seg", "LOCK", "control"] {
        let dir = closed_log();
        let path = dir.path().join(name);
        fs::rename(&path, dir.path().with_extension("aside")).unwrap();
        put(&path);
        let inspected = Inspection::open(dir.path()).map(|_| ()).unwrap_err();
        let errors = [refusal(dir.path()), inspected];
        fs::remove_file(dir.path().with_extension("aside")).unwrap();
        for error in errors {
            match error {
                Error::NotARegularFile { path: named, found: kind } => assert_eq!((named, kind), (path.clone(), found)),
                other => panic!("{name}: {other}"),
            }
        }
    }
}

#[test]
fn a_symlink_in_the_place_of_a_file_is_refused() {
    assert_refused_in_place_of_a_file(FileKind::Symlink, |path| {
        symlink(path.parent().unwrap().with_extension("aside"), path).unwrap();
    });
}

#[test]
fn a_directory_in_the_place_of_a_file_is_refused() {
    assert_refused_in_place_of_a_file(FileKind::Directory, |path| fs::create_dir(path).unwrap());
}

#[test]
fn a_fifo_in_the_place_of_a_file_is_refused() {
    assert_refused_in_place_of_a_file(FileKind::Other, |path| mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).unwrap());
}

#[test]
fn an_empty_file_in_the_place_of_a_segment_is_refused() {
    for number in [1, 2] {
        let dir = closed_log();
        fs::write(segment(dir.path(), number), "").unwrap();
        unchanged(dir.path(), || {
            let by_log = corruption(try_open(dir.path(), &small()));
            assert_eq!(by_log.path, segment(dir.path(), number));
            assert_eq!(by_log, corruption(read_only(dir.path())));
        });
    }
}

#[test]
fn a_segment_that_may_not_be_read_is_refused() {
    for number in [1, 2] {
        let dir = closed_log();
        let path = segment(dir.path(), number);
        give_to_all(dir.path());
        fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        let Some(errors) = without_rights(|| opens(dir.path())) else { return };
        for error in errors {
            assert_denied(error, &path);
        }
    }
}

#[test]
fn a_last_segment_that_may_not_be_written_is_refused_and_can_be_read() {
    let dir = closed_log();
    let path = segment(dir.path(), 2);
    give_to_all(dir.path());
    fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
    let Some([by_log, by_reader]) = without_rights(|| opens(dir.path())) else { return };
    assert_denied(by_log, &path);
    assert!(by_reader.is_none(), "{by_reader:?}");
}

/// Lets everyone write to the directory, and to all that is in it.
fn give_to_all(directory: &Path) {
    fs::set_permissions(directory, Permissions::from_mode(0o777)).unwrap();
    for name in names(directory) {
        fs::set_permissions(directory.join(name), Permissions::from_mode(0o666)).unwrap();
    }
}

/// What opening the log fails with, for writing and for reading.
fn opens(directory: &Path) -> [Option<Error>; 2] {
    unchanged_names(directory, || [try_open(directory, &small()).err(), read_only(directory).err()])
}

fn unchanged_names<T>(directory: &Path, act: impl FnOnce() -> T) -> T {
    let before = names(directory);
    let result = act();
    assert_eq!(names(directory), before);
    result
}

fn assert_denied(error: Option<Error>, expected: &Path) {
    match error {
        Some(Error::Io { path, source, .. }) => {
            assert_eq!((path.as_path(), source.kind()), (expected, std::io::ErrorKind::PermissionDenied));
        }
        other => panic!("{other:?}"),
    }
}

/// Enough to notice if each is looked at against all the others.
const MANY: u64 = 20_000;
/// Many times what it takes of a processor, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(10);

/// For how long this thread has been running.
fn running() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

#[test]
fn thousands_of_files_that_are_not_the_logs_do_it_no_harm() {
    let dir = closed_log();
    (0..MANY).for_each(|number| drop(File::create(dir.path().join(format!("{number}.old"))).unwrap()));
    let before = running();
    unchanged(dir.path(), || assert_records(&read_only(dir.path()).unwrap().snapshot().unwrap(), 1, 20));
    assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, 20);
    let took = running() - before;
    assert!(took < PATIENCE, "{took:?}");
    let strangers = names(dir.path()).iter().filter(|name| name.ends_with(".old")).count();
    assert_eq!(strangers as u64, MANY, "they are left alone");
}

#[test]
fn thousands_of_files_and_no_segment_are_not_taken_for_a_log() {
    let dir = scratch();
    (0..MANY).for_each(|number| drop(File::create(dir.path().join(format!("{number}.old"))).unwrap()));
    let before = running();
    assert!(matches!(refusal(dir.path()), Error::NotALog { .. }));
    let took = running() - before;
    assert!(took < PATIENCE, "{took:?}");
}

#[test]
fn thousands_of_empty_segments_are_refused_by_the_first() {
    let dir = closed_log();
    (3..MANY).for_each(|number| drop(File::create(segment(dir.path(), number)).unwrap()));
    let before = running();
    for corruption in [corruption(try_open(dir.path(), &small())), corruption(read_only(dir.path()))] {
        assert_eq!(corruption.path, segment(dir.path(), 3));
    }
    let took = running() - before;
    assert!(took < PATIENCE, "{took:?}");
    assert_eq!(names(dir.path()).len() as u64, MANY - 1 + 2, "segments, lock and page of watermarks");
}

#[test]
fn thousands_of_unfinished_files_are_removed() {
    let dir = closed_log();
    (3..MANY).for_each(|number| drop(File::create(dir.path().join(format!("{number:020}.tmp"))).unwrap()));
    let before = running();
    assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, 20);
    let took = running() - before;
    assert!(took < PATIENCE, "{took:?}");
    assert!(names(dir.path()).iter().all(|name| !name.ends_with(".tmp")));
}

#[test]
fn a_file_in_the_place_of_the_directory_is_refused() {
    let dir = scratch();
    let path = dir.path().join("log");
    fs::write(&path, "a file").unwrap();
    for error in [try_open(&path, &small()).map(drop), read_only(&path).map(drop)] {
        let error = error.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot open {}", path.display()));
    }
    assert_eq!(fs::read(&path).unwrap(), b"a file");
}

#[test]
fn no_log_is_made_where_none_is_wanted() {
    let dir = scratch();
    let (missing, empty) = (dir.path().join("missing"), dir.path().join("empty"));
    fs::create_dir(&empty).unwrap();
    for path in [&missing, &empty] {
        for error in [try_open(path, &small().create(false)).map(drop), read_only(path).map(drop)] {
            assert!(matches!(error.unwrap_err(), Error::NoLog { path: named } if named == *path));
        }
    }
    assert!(!missing.exists() && names(&empty).is_empty());
}

#[test]
fn a_missing_directory_is_made_with_its_parents_for_the_owner_only() {
    let dir = scratch();
    let path: PathBuf = dir.path().join("a/b/log");
    append(&open_small(&path), 1..=1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&segment(&path, 1))), (0o700, 0o600));
    assert_eq!((mode(&path.join("LOCK")), mode(&path.join("control"))), (0o600, 0o600));
}

#[test]
fn a_log_that_cannot_be_written_can_be_read() {
    let dir = closed_log();
    let Some(mounted) = Mounted::read_only(dir.path()) else { return };
    unchanged(dir.path(), || {
        let error = try_open(mounted.path(), &small()).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot lock {}", mounted.path().join("LOCK").display()));
        let reader = read_only(mounted.path()).unwrap();
        assert_records(&reader.snapshot().unwrap(), 1, 20);
    });
}
