//! When the unused end of a segment goes back to the file system, and what happens where it cannot.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::process::Command;

use mapwal::{Error, Lsn, Options};
use rustix::io::Errno;

use super::sizes::{EACH_SEGMENT, KIB, MIB, is_there, size_of, taken_by};
use crate::support::child::{Child, run};
use crate::support::faulty::{Call, Faulty};
use crate::support::file_system::{FileSystem, Kind};
use crate::support::files::segment;
use crate::support::mounted::Mounted;
use crate::support::scratch::{append_stamped, await_spare, contents, scratch, segment_names, stamped};
use crate::support::wait::until;
use crate::support::{open, open_faulty, try_open, try_open_on_with};

#[test]
fn an_end_stays_until_the_link_of_the_next_segment_is_durable() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    log.append(1, b"the only one").unwrap();
    log.rotate().unwrap();
    log.append(1, b"in the next").unwrap();
    assert_eq!(faults.count(Call::GiveBack), 0);
    log.sync().unwrap();
    assert_eq!(faults.count(Call::GiveBack), 1);
    assert!(taken_by(dir.path(), 1) <= EACH_SEGMENT);
    log.rotate().unwrap();
    faults.fail(Call::SyncMapping, Errno::IO);
    log.sync().unwrap_err();
    assert_eq!(faults.count(Call::GiveBack), 1, "nothing says that the second has ended");
}

#[test]
fn a_close_gives_back_what_no_sync_has() {
    let dir = scratch();
    let log = open(dir.path(), &Options::new());
    for _ in 0..3 {
        log.append(1, b"of this segment").unwrap();
        log.rotate().unwrap();
    }
    assert!(taken_by(dir.path(), 2) > EACH_SEGMENT);
    log.close().unwrap();
    (1..=3).for_each(|number| assert!(taken_by(dir.path(), number) <= EACH_SEGMENT, "{number}"));
    assert_eq!(contents(&open(dir.path(), &Options::new())).len(), 3);
}

#[test]
fn what_a_process_has_left_that_died_is_given_back_by_the_next_open() {
    let dir = scratch();
    let mut child = Child::serving(dir.path());
    child.ask("open-default");
    for _ in 0..3 {
        child.ask("append 1");
        child.ask("rotate");
    }
    child.ask("append 1");
    child.kill();
    assert!(taken_by(dir.path(), 2) > EACH_SEGMENT, "no sync has come");
    let log = open(dir.path(), &Options::new());
    (1..=4).for_each(|number| assert!(taken_by(dir.path(), number) <= EACH_SEGMENT, "{number}"));
    assert_eq!(contents(&log).len(), 4);
}

/// What a truncation has cut off of a sealed segment may be in a view of another process, and stays over any number of opens.
#[test]
fn what_a_truncation_has_cut_off_is_not_given_back_by_the_next_open() {
    let dir = scratch();
    let options = Options::new().segment_size_bytes(MIB).first_segment_size_bytes(MIB);
    let log = open(dir.path(), &options);
    append_stamped(&log, 1, 1000, 600);
    log.truncate_after(Lsn(1)).unwrap();
    let before = taken_by(dir.path(), 1);
    assert!(before > 600_000, "{before}");
    drop(log);
    for _ in 0..2 {
        drop(open(dir.path(), &options));
        // Blocks that say where the others are may have come since.
        assert!(taken_by(dir.path(), 1) >= before);
    }
}

/// Recovery drops them, but a reader of another process may still show them.
#[test]
fn records_after_a_torn_one_are_not_given_back_by_the_next_open() {
    let dir = scratch();
    let options = Options::new().segment_size_bytes(MIB).first_segment_size_bytes(MIB);
    let log = open(dir.path(), &options);
    append_stamped(&log, 1, 1000, 600);
    drop(log);
    let file = OpenOptions::new().write(true).open(segment(dir.path(), 1)).unwrap();
    file.write_all_at(&[0xff], 100_000).unwrap();
    let kept = contents(&open(dir.path(), &options)).len();
    assert!((50..150).contains(&kept), "{kept}");
    let taken = taken_by(dir.path(), 1);
    assert!((600_000..700_000).contains(&taken), "{taken}");
}

/// A log whose blocks a copy shares goes on in a segment of its own after each close.
#[test]
fn a_segment_that_is_left_after_a_close_is_given_back_too() {
    let Some(disk) = FileSystem::mount(Kind::Xfs, 64) else { return };
    let directory = disk.path().join("log");
    let log = try_open(&directory, &Options::new()).unwrap();
    append_stamped(&log, 1, 100, 10);
    log.close().unwrap();
    let shared = run(Command::new("cp").args(["-r", "--reflink=always"]).arg(&directory).arg(disk.path().join("copy")));
    assert!(shared.unwrap().status.success());
    let log = try_open(&directory, &Options::new()).unwrap();
    assert_eq!(segment_names(&directory).len(), 2, "it has been left");
    let taken = taken_by(&directory, 1);
    assert!(taken <= EACH_SEGMENT, "{taken}");
    assert_eq!(contents(&log).len(), 10);
    drop(log);
    assert_eq!(contents(&try_open(&disk.path().join("copy"), &Options::new()).unwrap()).len(), 10);
}

/// More of a segment is just being made ready when it is left: what that writes goes back as well, and nothing that is before the end.
#[test]
fn what_is_written_beyond_the_end_meanwhile_is_given_back_too() {
    const SIZE: u64 = 64 * MIB;
    for is_cut in [false, true] {
        let dir = scratch();
        let faults = Faulty::new(dir.path());
        let options = Options::new().segment_size_bytes(SIZE).first_segment_size_bytes(SIZE);
        let log = try_open_on_with(&faults, &options).unwrap();
        log.append(1, b"in the first").unwrap();
        await_spare(&log);
        log.rotate().unwrap();
        log.append(1, b"in the second").unwrap();
        await_spare(&log);
        // Page by page, so that much more is ready than the record needs when the next step begins.
        until("steps", || faults.count(Call::Write) > 3000);
        faults.hold_on("00000000000000000002.seg", Call::Write);
        faults.wait_until_held();
        append_stamped(&log, 1, 100_000, 40);
        let mut expected = contents(&log);
        if is_cut {
            log.truncate_after(Lsn(20)).unwrap();
            expected.truncate(20);
        } else {
            log.rotate().unwrap();
            log.sync().unwrap();
        }
        let given = faults.count(Call::GiveBack);
        assert!(given > 0, "{is_cut}");
        faults.release();
        until("what was written to be given back", || faults.count(Call::GiveBack) > given);
        until("the end to be given back", || taken_by(dir.path(), 2) <= 4_100_000);
        assert_eq!(contents(&log), expected, "{is_cut}");
    }
}

/// As on file systems that have no holes.
#[test]
fn a_log_goes_on_where_files_have_no_holes() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    faults.fail(Call::GiveBack, Errno::OPNOTSUPP);
    for number in 1..=3 {
        log.append(1, b"of this segment").unwrap();
        log.rotate().unwrap();
        log.sync().unwrap();
        assert_eq!(faults.count(Call::GiveBack), number);
    }
    assert_eq!(log.stats().disk_bytes, 4 * 64 * KIB);
    assert!(taken_by(dir.path(), 2) > EACH_SEGMENT);
    assert_eq!(contents(&log).len(), 3);
    log.close().unwrap();
    let faults = Faulty::new(dir.path());
    faults.fail(Call::GiveBack, Errno::OPNOTSUPP);
    let log = try_open_on_with(&faults, &Options::new().segment_size_bytes(64 * KIB)).unwrap();
    log.truncate_after(Lsn(1)).unwrap();
    assert_eq!(contents(&log).len(), 1);
}

#[test]
fn each_kind_of_file_system_takes_ends_back_and_knows_the_rest_after_a_cut() {
    for kind in Kind::ON_DEVICES.into_iter().chain([Kind::Tmpfs]) {
        let Some(disk) = FileSystem::mount(kind, 32) else { continue };
        let log = try_open(&disk.path().join("log"), &Options::new()).unwrap();
        for _ in 0..3 {
            append_stamped(&log, log.next_lsn().0, 100, 10);
            log.rotate().unwrap();
            log.sync().unwrap();
        }
        for number in 1..=3 {
            let taken = taken_by(&disk.path().join("log"), number);
            assert!(taken <= 2 * EACH_SEGMENT, "{kind:?}: {taken} bytes of segment {number}");
        }
        let before = contents(&log);
        if kind == Kind::Tmpfs {
            continue;
        }
        let cut = disk.after_a_cut();
        let log = try_open(&cut.path().join("log"), &Options::new()).unwrap();
        assert_eq!(contents(&log), before, "{kind:?}");
    }
}

#[test]
fn a_log_that_cannot_grow_stays_as_it_is() {
    let dir = scratch();
    let faults = Faulty::new(dir.path());
    let log = try_open_on_with(&faults, &Options::new().segment_size_bytes(4 * MIB)).unwrap();
    log.append(1, b"before").unwrap();
    until("a spare", || log.stats().spare_segments > 0);
    faults.fail(Call::Allocate, Errno::NOSPC);
    let long = stamped(1, 2 << 20);
    for _ in 0..2 {
        assert!(matches!(log.append(1, &long), Err(Error::NoSpace { .. })));
    }
    // The spare that is too short for it is still there.
    append_stamped(&log, 1, 1000, 300);
    faults.heal();
    log.append(1, &long).unwrap();
    append_stamped(&log, 1, 1000, 10);
    assert_eq!(contents(&log).len(), 312);
    let before = contents(&log);
    log.close().unwrap();
    assert_eq!(contents(&open(dir.path(), &Options::new())), before);
}

/// On a disk that is smaller than the segments that the options ask for, a log takes what there is and no store meets a page without a
/// block.
#[test]
fn a_small_disk_is_filled_and_used_again() {
    let Some(disk) = Mounted::of_size(3 * MIB) else { return };
    let log = try_open(disk.path(), &Options::new()).unwrap();
    for _ in 0..3 {
        let error = (0..).find_map(|_| log.append(1, &stamped(1, 10_000)).err()).unwrap();
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
        log.sync().unwrap();
        log.trim_before(log.next_lsn()).unwrap();
        until("room", || log.append(1, b"after the trim").is_ok());
    }
    let held = contents(&log);
    log.close().unwrap();
    assert_eq!(contents(&try_open(disk.path(), &Options::new()).unwrap()), held);
}

/// Small files of dropped segments do not keep a log at their size.
#[test]
fn a_log_that_was_trimmed_as_it_grew_still_grows() {
    let dir = scratch();
    let options = Options::new().segment_size_bytes(2 * MIB);
    let log = open(dir.path(), &options);
    until("a file is used again", || {
        append_stamped(&log, 1, 10_000, 30);
        log.trim_before(log.next_lsn()).unwrap();
        log.stats().recycled_segments > 0
    });
    append_stamped(&log, 1, 10_000, 1000);
    let newest = (1..1000).rev().find(|&number| is_there(dir.path(), number)).unwrap();
    assert_eq!(size_of(dir.path(), newest), 2 * MIB);
    log.close().unwrap();
    // Also with options that ask for less, and for more.
    for size in [256 * KIB, 8 * MIB] {
        let log = open(dir.path(), &Options::new().segment_size_bytes(size));
        let before = log.next_lsn();
        append_stamped(&log, 1, 10_000, 1000);
        let begun = log.stats().disk_bytes;
        assert!(begun > 10_000_000, "{begun}");
        let newest = (1..1000).rev().find(|&number| is_there(dir.path(), number)).unwrap();
        assert_eq!(size_of(dir.path(), newest), size);
        assert_eq!(contents(&log).len() as u64, log.next_lsn().0 - log.first_lsn().0);
        assert_eq!(log.next_lsn(), Lsn(before.0 + 1000));
        log.close().unwrap();
    }
}
