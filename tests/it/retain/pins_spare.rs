//! The spare of a named pin: what it was before, which is written over when it changes.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use mapwal::internals::{Access, Disk, Storage};
use mapwal::{Error, Log, Lsn, PinDirectory, PinState};
use rustix::io::Errno;

use super::named_pins::{beside, fill};
use crate::support::faulty::{Call, Faulty};
use crate::support::file_system::{FileSystem, Kind};
use crate::support::files::names;
use crate::support::scratch::{open_small, scratch};
use crate::support::{SMALL, open_on};

const LEN: usize = 96;

/// A log with the pin `a` at record 1.
fn pinned(dir: &Path) -> Log {
    let log = open_small(dir);
    fill(&log, 2);
    log.create_pin("a", "at first", Lsn(1), None).unwrap();
    log
}

/// Leaves no byte free on the file system.
fn fill_up(file: &Path) {
    let mut file = fs::File::create(file).unwrap();
    for len in [1 << 20, 4096, 1] {
        let full = std::iter::repeat_with(|| file.write_all(&vec![1; len])).find_map(Result::err).unwrap();
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }
    // Not before it is on the device is it known what it takes.
    file.sync_all().unwrap();
}

/// What moves the pin of an archive, or a replica, and back.
fn change_all(pins: &PinDirectory) {
    let only = || pins.list().unwrap().remove(0);
    for round in 0..3 {
        pins.advance("a", Lsn(9)).unwrap();
        pins.assign("a", &format!("in round {round}")).unwrap();
        pins.limit("a", Some(1 << 40)).unwrap();
        let pin = only();
        assert_eq!((pin.lsn, pin.owner, pin.limit_bytes), (Lsn(9), format!("in round {round}"), Some(1 << 40)));
        pins.rewind("a", Lsn(1)).unwrap();
        assert_eq!(only().lsn, Lsn(1));
        pins.replace("a", "anew", Lsn(1), None).unwrap();
        assert_eq!((only().owner.as_str(), only().state), ("anew", PinState::Reserved));
    }
}

/// A log whose disk is full waits for a pin to be moved: with a new file for each change it waited for ever.
#[test]
fn a_pin_is_changed_on_a_full_disk() {
    for kind in [Kind::Tmpfs, Kind::Ext4, Kind::Ext4WithoutJournal, Kind::Xfs] {
        println!("{kind:?}");
        let Some(disk) = FileSystem::mount(kind, 8) else { continue };
        check_full(&disk.path());
    }
}

fn check_full(disk: &Path) {
    let dir = disk.join("log");
    fs::create_dir(&dir).unwrap();
    let log = pinned(&dir);
    fill(&log, 4);
    fill_up(&disk.join("ballast"));
    assert!(matches!(log.create_pin("b", "", Lsn(1), None), Err(Error::NoSpace { .. })));
    change_all(&beside(&dir));
    log.close().unwrap();
    let log = open_small(&dir);
    change_all(&beside(&dir));
    for lsn in [9, 10, log.next_lsn().0] {
        log.advance_pin("a", Lsn(lsn)).unwrap();
    }
    assert!(log.trim_before(log.next_lsn()).unwrap() > 0, "there is room again");
    log.drop_pin("a").unwrap();
    assert!(names(&dir.join("pins")).is_empty());
}

/// Each is made by other hands, or left by a crash.
#[test]
fn whatever_is_in_the_place_of_the_spare_the_pin_is_changed_and_nothing_else() {
    type Make = fn(spare: &Path, pin: &Path, other: &Path);
    let made: [(&str, Make); 10] = [
        ("none", |spare, _, _| fs::remove_file(spare).unwrap()),
        ("empty", |spare, _, _| fs::write(spare, "").unwrap()),
        ("shorter", |spare, _, _| fs::write(spare, [7; LEN - 1]).unwrap()),
        ("longer", |spare, _, _| fs::write(spare, [7; LEN + 1]).unwrap()),
        ("garbage", |spare, _, _| fs::write(spare, [7; LEN]).unwrap()),
        ("a backup", |spare, _, other| {
            fs::write(spare, [7; LEN]).unwrap();
            fs::hard_link(spare, other).unwrap();
        }),
        ("somebody else's", |spare, _, other| {
            fs::write(spare, [7; LEN]).unwrap();
            fs::hard_link(spare, other).unwrap();
            fs::set_permissions(other, fs::Permissions::from_mode(0o640)).unwrap();
        }),
        ("the pin", |spare, pin, _| {
            fs::remove_file(spare).unwrap();
            fs::hard_link(pin, spare).unwrap();
        }),
        ("a link", |spare, _, other| {
            fs::write(other, [7; LEN]).unwrap();
            fs::remove_file(spare).unwrap();
            symlink(other, spare).unwrap();
        }),
        ("for others as well", |spare, _, _| {
            fs::set_permissions(spare, fs::Permissions::from_mode(0o644)).unwrap();
        }),
    ];
    for (what, make) in made {
        let dir = scratch();
        let log = pinned(dir.path());
        let pins = dir.path().join("pins");
        let (pin, spare, other) = (pins.join("a"), pins.join("a.tmp"), dir.path().join("other"));
        let mode = pin.metadata().unwrap().mode();
        make(&spare, &pin, &other);
        let others = other.metadata().ok().map(|found| found.mode());
        let before = fs::read(&pin).unwrap();
        let kept = fs::File::open(&pin).unwrap();
        log.advance_pin("a", Lsn(5)).unwrap();
        let mut bytes = [0; LEN];
        std::os::unix::fs::FileExt::read_exact_at(&kept, &mut bytes, 0).unwrap();
        assert_eq!(bytes[..], before, "{what}: the pin was not written over");
        for lsn in [6, 7] {
            log.advance_pin("a", Lsn(lsn)).unwrap();
            assert_eq!((log.pins()[0].lsn, log.pins()[0].state), (Lsn(lsn), PinState::Reserved), "{what}");
            for file in [&pin, &spare] {
                let found = fs::symlink_metadata(file).unwrap();
                assert_eq!((found.len(), found.nlink(), found.mode()), (LEN as u64, 1, mode), "{what}");
            }
        }
        if other.exists() {
            assert_eq!(fs::read(&other).unwrap(), [7; LEN], "{what}");
            assert_eq!(Some(other.metadata().unwrap().mode()), others, "{what}");
        }
        drop(log);
        assert_eq!(open_small(dir.path()).pins()[0].lsn, Lsn(7), "{what}");
    }
}

#[test]
fn a_directory_in_the_place_of_a_pin_or_its_spare_stays_where_it_is() {
    let dir = scratch();
    let log = pinned(dir.path());
    let spare = dir.path().join("pins/a.tmp");
    fs::remove_file(&spare).unwrap();
    fs::create_dir(&spare).unwrap();
    assert!(matches!(log.advance_pin("a", Lsn(5)), Err(Error::Io { .. })));
    assert_eq!(log.pins()[0].lsn, Lsn(1));
    fs::remove_dir(&spare).unwrap();
    log.advance_pin("a", Lsn(5)).unwrap();
    let pin = dir.path().join("pins/b");
    fs::create_dir(&pin).unwrap();
    assert!(matches!(log.create_pin("b", "", Lsn(1), None), Err(Error::Io { .. })));
    assert!(pin.is_dir() && log.pins().len() == 1);
}

/// A reader opens a pin, and reads it while it is changed twice.
#[test]
fn what_a_reader_has_open_is_not_written_over() {
    let dir = scratch();
    let log = pinned(dir.path());
    let pins = Disk::open(&dir.path().join("pins")).unwrap();
    for lsn in [10, 20] {
        let before = fs::read(dir.path().join("pins/a")).unwrap();
        let open = pins.open("a", Access::Read).unwrap();
        for later in 1..4 {
            log.advance_pin("a", Lsn(lsn + later)).unwrap();
        }
        let mut bytes = [0; LEN + 1];
        assert_eq!(open.read_at(&mut bytes, 0).unwrap(), LEN);
        assert_eq!(bytes[..LEN], before);
        assert_eq!(log.pins()[0].lsn, Lsn(lsn + 3));
    }
}

/// After a power cut a name may lead where it led before an exchange that was not durable.
#[test]
fn names_are_durable_before_and_after_a_spare_is_written_over() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    fill(&log, 1);
    log.create_pin("a", "", Lsn(1), None).unwrap();
    crate::support::scratch::await_spare(&log);
    let calls = storage.calls().len();
    log.advance_pin("a", Lsn(5)).unwrap();
    let calls: Vec<_> = storage.calls().split_off(calls);
    let changing = |call: &Call| matches!(call, Call::SyncDirectory | Call::Write | Call::Sync | Call::Rename);
    let changes: Vec<_> = calls.into_iter().filter(changing).collect();
    assert_eq!(changes, [Call::SyncDirectory, Call::Write, Call::Sync, Call::Rename, Call::SyncDirectory]);
    // What is free may be taken by another program as soon as a file is removed.
    storage.fail(Call::Create, Errno::NOSPC);
    log.advance_pin("a", Lsn(6)).unwrap();
}

#[test]
fn a_file_system_that_exchanges_no_names_gives_the_pin_another_file() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    fill(&log, 1);
    log.create_pin("a", "", Lsn(1), None).unwrap();
    for lsn in [5, 6, 7] {
        storage.fail_once_on("a.tmp", Call::Rename, Errno::OPNOTSUPP);
        log.advance_pin("a", Lsn(lsn)).unwrap();
        assert_eq!(log.pins()[0].lsn, Lsn(lsn));
        assert_eq!(names(&dir.path().join("pins")), ["a", "a.tmp"]);
    }
}

#[test]
fn a_spare_is_there_as_long_as_its_pin_also_after_a_restart() {
    let dir = scratch();
    let log = pinned(dir.path());
    let pins = dir.path().join("pins");
    log.create_pin("b", "", Lsn(1), Some(2 * SMALL)).unwrap();
    assert_eq!(names(&pins), ["a", "a.tmp", "b", "b.tmp"]);
    log.drop_pin("b").unwrap();
    assert_eq!(names(&pins), ["a", "a.tmp"]);
    fs::write(pins.join("c.tmp"), "left over").unwrap();
    drop(log);
    let log = open_small(dir.path());
    assert_eq!(names(&pins), ["a", "a.tmp"], "that of a pin that is not there goes");
    drop(log);
    fs::write(pins.join("a"), "garbage").unwrap();
    let log = open_small(dir.path());
    assert_eq!((log.pins()[0].state, names(&pins).len()), (PinState::Damaged, 2));
    log.drop_pin("a").unwrap();
    assert!(names(&pins).is_empty());
}
