//! The promises on each kind of file system: see `docs/design/file-systems.md`.

use mapwal::Lsn;

use crate::support::file_system::{FileSystem, Kind};
use crate::support::{append, assert_records, read_only, small, try_open};

/// What was acknowledged is there after a cut, also of a log that goes on in a segment of before.
fn check_cuts(kind: Kind) {
    let Some(disk) = FileSystem::mount(kind, 32) else { return };
    let log = try_open(&disk.path().join("log"), &small()).unwrap();
    append(&log, 1..=300);
    assert_eq!(log.sync().unwrap(), Lsn(300));
    append(&log, 301..=310);
    assert_eq!(log.sync().unwrap(), Lsn(310));
    let cut = disk.after_a_cut();
    let reopened = try_open(&cut.path().join("log"), &small()).unwrap();
    assert_records(&reopened.snapshot().unwrap(), 1, 310);
    append(&reopened, 311..=400);
    reopened.close().unwrap();
    let cut = cut.after_a_cut();
    assert_records(&read_only(&cut.path().join("log")).unwrap().snapshot().unwrap(), 1, 400);
    let reopened = try_open(&cut.path().join("log"), &small()).unwrap();
    assert_records(&reopened.snapshot().unwrap(), 1, 400);
}

#[test]
fn what_was_acknowledged_on_a_device_is_there_after_a_cut() {
    Kind::ON_DEVICES.into_iter().for_each(check_cuts);
}

#[test]
fn a_log_in_memory_or_on_an_overlay_is_there_when_it_is_opened_again() {
    for kind in [Kind::Tmpfs, Kind::Overlayfs] {
        let Some(disk) = FileSystem::mount(kind, 32) else { continue };
        let directory = disk.path().join("log");
        let log = try_open(&directory, &small()).unwrap();
        append(&log, 1..=300);
        assert_eq!(log.sync().unwrap(), Lsn(300));
        drop(log);
        let log = try_open(&directory, &small()).unwrap();
        assert_records(&log.snapshot().unwrap(), 1, 300);
    }
}
