//! Disks that are full where allocated is not reserved: a file system that writes each change to new blocks, copies that
//! share blocks with the original, and copies that left out zeros. Each in a process of its own, which a signal would end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use mapwal::Lsn;
use rustix::fs::FallocateFlags;

use crate::support::child::{Child, run};
use crate::support::file_system::{FileSystem, Kind};
use crate::support::{append, read_only, small, try_open};

const RECORDS: u64 = 400;

/// Takes all room that there is.
fn fill_up(disk: &FileSystem) {
    let ballast = File::create(disk.path().join("ballast")).unwrap();
    let (mut end, mut len) = (0, 1_u64 << 30);
    while len >= 4096 {
        match rustix::fs::fallocate(&ballast, FallocateFlags::empty(), end, len) {
            Ok(()) => end += len,
            Err(_) => len /= 2,
        }
    }
    disk.sync();
}

/// Copies the log in `from` as `cp` does with `how`.
fn copy(from: &Path, how: &str) -> PathBuf {
    let to = from.with_file_name("copy");
    let copied = run(Command::new("cp").arg("--recursive").arg(how).arg(from).arg(&to)).unwrap();
    assert!(copied.status.success(), "{copied:?}");
    to
}

/// A log with records up to [`RECORDS`], closed or not.
fn write_log(disk: &FileSystem, is_closed: bool) -> PathBuf {
    let directory = disk.path().join("log");
    let log = try_open(&directory, &small()).unwrap();
    append(&log, 1..=RECORDS);
    log.sync().unwrap();
    if is_closed {
        log.close().unwrap()
    } else {
        drop(log)
    }
    directory
}

/// On a disk that is full, the log in `directory` opens, is filled, and is trimmed, all without a signal.
fn check_full(directory: &Path) {
    let mut child = Child::serving(directory);
    assert_eq!(child.ask("open"), (RECORDS + 1).to_string());
    let error = child.ask("fill");
    assert!(error.starts_with("no space for "), "{error}");
    let records = child.ask("sync");
    assert_ne!(child.ask("trim").parse::<u64>().unwrap_or(0), 0, "there is something to trim");
    drop(child);
    let reader = read_only(directory).unwrap();
    assert_eq!(reader.published_lsn().unwrap(), Lsn(records.parse().unwrap()));
    assert!(reader.snapshot().unwrap().iter().all(|record| record.is_ok()));
}

#[test]
fn a_log_fills_a_btrfs_alone_and_gets_an_error_and_no_signal() {
    for kind in [Kind::Btrfs, Kind::BtrfsNocow, Kind::BtrfsCompressed] {
        let Some(disk) = FileSystem::mount(kind, 128) else { continue };
        let directory = disk.path().join("log");
        let mut child = Child::serving(&directory);
        assert_eq!(child.ask("open"), "1");
        let error = child.ask("fill");
        assert!(error.starts_with("no space for "), "{kind:?}: {error}");
        child.ask("sync").parse::<u64>().unwrap();
        let error = child.ask("fill");
        assert!(error.starts_with("no space for "), "{kind:?}: {error}");
    }
}

#[test]
fn a_copy_that_shares_its_blocks_opens_on_a_full_disk_and_gets_an_error_and_no_signal() {
    for kind in [Kind::Xfs, Kind::Btrfs, Kind::BtrfsNocow] {
        for is_closed in [true, false] {
            let Some(disk) = FileSystem::mount(kind, 64) else { continue };
            // Without it btrfs shares nothing with a file that is written over in place.
            let how = if kind == Kind::Btrfs { "--reflink=auto" } else { "--reflink=always" };
            let copied = copy(&write_log(&disk, is_closed), how);
            fill_up(&disk);
            check_full(&copied);
        }
    }
}

#[test]
fn a_log_whose_blocks_a_snapshot_shares_opens_on_a_full_btrfs_and_gets_an_error_and_no_signal() {
    for is_closed in [true, false] {
        let Some(disk) = FileSystem::mount(Kind::Btrfs, 64) else { return };
        let directory = write_log(&disk, is_closed);
        let snapshot = disk.path().join("snapshot");
        let made = run(Command::new("btrfs").args(["subvolume", "snapshot"]).arg(disk.path()).arg(&snapshot)).unwrap();
        assert!(made.status.success(), "{made:?}");
        fill_up(&disk);
        check_full(&directory);
        check_full(&snapshot.join("log"));
    }
}

#[test]
fn a_copy_without_its_zeros_opens_on_a_full_disk_and_gets_an_error_and_no_signal() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        for is_closed in [true, false] {
            let Some(disk) = FileSystem::mount(kind, 16) else { continue };
            let copied = copy(&write_log(&disk, is_closed), "--sparse=always");
            fill_up(&disk);
            check_full(&copied);
        }
    }
}

#[test]
fn a_log_goes_on_in_its_segment_where_that_has_room_of_its_own() {
    for kind in Kind::ON_DEVICES.into_iter().chain([Kind::Tmpfs]) {
        let Some(disk) = FileSystem::mount(kind, 32) else { continue };
        let directory = write_log(&disk, true);
        let segments = || {
            fs::read_dir(&directory)
                .unwrap()
                .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "seg"))
        };
        let before = segments().count();
        for _ in 0..3 {
            try_open(&directory, &small()).unwrap().close().unwrap();
        }
        assert_eq!(segments().count(), before, "{kind:?}");
    }
}
