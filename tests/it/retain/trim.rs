//! Dropping segments from the front.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use mapwal::error::Damage;
use mapwal::inspect::{Inspection, VerifyOptions};
use mapwal::{Error, Lsn};
use rustix::io::Errno;

use crate::format::spec::crc32;
use crate::support::faulty::{Call, Faulty};
use crate::support::files::{self, segment_numbers};
use crate::support::scratch::{append_stamped, await_spare, contents, open_small, scratch, segment_names, stamped};
use crate::support::{corruption, open_faulty, open_on, read_only, small, try_open, try_open_on};

/// Five segments of ten records each: 1, 11, 21, 31 and 41 are their first.
fn fill(log: &mapwal::Log) {
    for segment in 0..5 {
        append_stamped(log, segment * 10 + 1, 100, 10);
        if segment < 4 {
            log.rotate().unwrap();
        }
    }
}

fn records(range: std::ops::RangeInclusive<u64>) -> Vec<(u64, Vec<u8>)> {
    range.map(|number| (number, stamped(number, 100))).collect()
}

#[test]
fn whole_segments_below_the_record_go_and_the_active_one_never() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log);
    assert_eq!(log.trim_before(Lsn(1)).unwrap(), 0);
    assert_eq!(log.trim_before(Lsn(20)).unwrap(), 1, "record 20 is in the second segment");
    assert_eq!(contents(&log), records(11..=50));
    assert_eq!(log.trim_before(Lsn(51)).unwrap(), 3);
    assert_eq!((log.first_lsn(), contents(&log)), (Lsn(41), records(41..=50)));
    assert!(matches!(log.trim_before(Lsn(52)), Err(Error::NotAppended { lsn: Lsn(52), next: Lsn(51) })));
    await_first(dir.path(), 5);
    drop(log);
    let log = open_small(dir.path());
    assert_eq!((log.first_lsn(), contents(&log)), (Lsn(41), records(41..=50)));
}

#[test]
fn a_trim_to_the_active_segment_is_remembered_over_any_number_of_openings() {
    for close in [true, false] {
        let dir = scratch();
        let mut log = open_small(dir.path());
        append_stamped(&log, 1, 100, 10);
        log.rotate().unwrap();
        assert_eq!(log.trim_before(Lsn(11)).unwrap(), 1);
        for _ in 0..4 {
            if close {
                log.close().unwrap();
            } else {
                drop(log);
            }
            log = open_small(dir.path());
            assert_eq!((log.first_lsn(), log.next_lsn()), (Lsn(11), Lsn(11)));
        }
    }
}

#[test]
fn nothing_goes_that_a_pin_keeps() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log);
    let mut early = log.pin(Lsn(15)).unwrap();
    let late = log.pin(Lsn(51)).unwrap();
    assert_eq!(log.trim_before(Lsn(51)).unwrap(), 1);
    assert_eq!(log.first_lsn(), Lsn(11));
    early.advance(Lsn(31));
    assert_eq!(log.trim_before(Lsn(51)).unwrap(), 2);
    drop(early);
    assert_eq!(log.trim_before(Lsn(51)).unwrap(), 1);
    drop(late);
    assert!(matches!(log.pin(Lsn(40)), Err(Error::Trimmed { lsn: Lsn(40), first: Lsn(41) })));
    assert!(matches!(log.pin(Lsn(52)), Err(Error::NotAppended { .. })));
}

#[test]
fn views_outlive_the_files() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log);
    let snapshot = log.snapshot().unwrap();
    let record = log.get(Lsn(5)).unwrap().unwrap();
    let mut follower = log.follow(Lsn(1), mapwal::Visibility::Published).unwrap();
    follower.next().unwrap();
    let sealed = log.sealed(0);
    assert_eq!(log.trim_before(Lsn(51)).unwrap(), 4);
    drop(log);
    let seen: Vec<_> = snapshot.iter().map(|record| record.unwrap().payload().to_vec()).collect();
    assert_eq!(seen, records(1..=50).into_iter().map(|(_, payload)| payload).collect::<Vec<_>>());
    assert_eq!(record.payload(), stamped(5, 100));
    // Its segment is still mapped; the next one it never saw.
    for number in 2..=10 {
        assert_eq!(follower.next().unwrap().unwrap().payload(), stamped(number, 100));
    }
    assert!(matches!(follower.next(), Err(Error::Trimmed { lsn: Lsn(11), first: Lsn(41) })));
    for segment in sealed.unwrap() {
        mapwal::inspect::verify_segment(segment.bytes()).unwrap();
    }
}

#[test]
fn files_go_oldest_first_each_durably() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    fill(&log);
    log.sync().unwrap();
    let before = faults.lost_names().len();
    assert_eq!(log.trim_before(Lsn(51)).unwrap(), 4);
    drop(log);
    let trimmed: Vec<_> = (1..=4).map(|number| format!("{number:020}.seg")).collect();
    let lost = faults.lost_names()[before..].to_vec();
    assert_eq!(lost.into_iter().filter(|name| name.ends_with(".seg")).collect::<Vec<_>>(), trimmed);
}

#[test]
fn a_trim_is_durable_however_far_the_removing_of_its_files_has_come() {
    for removed in 0..=4 {
        let dir = scratch();
        let log = open_small(dir.path());
        fill(&log);
        log.sync().unwrap();
        let files: Vec<_> = segment_names(dir.path()).into_iter().map(|name| dir.path().join(name)).collect();
        let kept: Vec<_> = files.iter().map(|path| fs::read(path).unwrap()).collect();
        log.trim_before(Lsn(51)).unwrap();
        drop(log);
        // What the trim had not come to yet is there again.
        for at in removed..4 {
            fs::write(&files[at], &kept[at]).unwrap();
        }
        // Without the page nothing says that it was trimmed.
        let copy = scratch();
        files::copy(dir.path(), copy.path());
        fs::remove_file(copy.path().join("control")).unwrap();
        assert_eq!(contents(&open_small(copy.path())), records(removed as u64 * 10 + 1..=50), "{removed} removed");
        assert_eq!(Inspection::open(dir.path()).unwrap().segments().iter().filter(|file| file.counts).count(), 1);
        assert_eq!(contents(&open_small(dir.path())), records(41..=50), "{removed} removed");
        assert_eq!(segment_numbers(dir.path()).first(), Some(&5), "what was left is gone");
    }
}

#[test]
fn what_the_newest_link_calls_trimmed_counts_for_nobody() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log);
    log.sync().unwrap();
    let kept = files::contents(dir.path());
    log.trim_before(Lsn(31)).unwrap();
    log.rotate().unwrap();
    drop(log);
    for name in [1, 3].map(|number| format!("{number:020}.seg")) {
        fs::write(dir.path().join(&name), &kept[&name]).unwrap();
    }
    fs::remove_file(dir.path().join("control")).unwrap();
    let reader = read_only(dir.path()).unwrap();
    assert_eq!(reader.first_lsn().unwrap(), Lsn(31));
    assert_eq!(reader.snapshot().unwrap().iter().count(), 20);
    let inspection = Inspection::open(dir.path()).unwrap();
    assert_eq!(inspection.segments().iter().filter(|file| file.counts).map(|file| file.number).min(), Some(4));
    assert_eq!(contents(&open_small(dir.path())), records(31..=50));
}

#[test]
fn a_bound_above_all_segments_leaves_the_newest_for_everybody() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log);
    log.close().unwrap();
    files::edit(&dir.path().join("control"), |page| {
        let oldest = 9_u64.to_le_bytes();
        let checksum = crc32(crc32(0, &page[8..24]), &oldest);
        page[72..76].copy_from_slice(&oldest[..4]);
        page[76..80].copy_from_slice(&checksum.to_le_bytes());
    });
    let report = Inspection::open(dir.path()).unwrap().verify(VerifyOptions::default(), &mut |_| {}).unwrap();
    assert_eq!((report.damage.len(), report.records()), (0, 10));
    assert_eq!(read_only(dir.path()).unwrap().first_lsn().unwrap(), Lsn(41));
    assert_eq!(contents(&open_small(dir.path())), records(41..=50));
}

#[test]
fn a_first_segment_that_was_not_trimmed_is_missed() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log);
    log.trim_before(Lsn(11)).unwrap();
    log.close().unwrap();
    let lost = dir.path().join("00000000000000000002.seg");
    let bytes = fs::read(&lost).unwrap();
    fs::remove_file(&lost).unwrap();
    let by_log = corruption(try_open(dir.path(), &small()));
    assert_eq!((&by_log.path, &by_log.damage), (&lost, &Damage::MissingSegment { referrer: 3 }));
    assert_eq!(corruption(read_only(dir.path())), by_log);
    // Refused, and nothing changed: with the file back, everything is.
    fs::write(&lost, bytes).unwrap();
    assert_eq!(contents(&open_small(dir.path())), records(11..=50));
}

/// Returns once the files of the segments below `number` are gone.
fn await_first(dir: &Path, number: u64) {
    let until = Instant::now() + Duration::from_secs(30);
    while segment_numbers(dir)[0] < number && Instant::now() < until {
        std::thread::yield_now();
    }
    assert_eq!(segment_numbers(dir)[0], number);
}

/// Trims until the failure of the removing that a trim began has been told by a later one.
fn await_failure(log: &mapwal::Log, lsn: Lsn, operation: &str) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match log.trim_before(lsn) {
            Ok(_) => assert!(Instant::now() < until, "no failure is told"),
            Err(Error::Io { operation: failed, .. }) => break assert_eq!(failed, operation),
            Err(error) => panic!("{error:?}"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_file_that_cannot_be_removed_does_not_make_a_hole() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    fill(&log);
    log.sync().unwrap();
    await_spare(&log);
    let before = segment_numbers(dir.path());
    faults.fail(Call::Rename, Errno::IO);
    assert_eq!(log.trim_before(Lsn(31)).unwrap(), 3, "nobody waits for files to go");
    await_failure(&log, Lsn(31), "remove");
    assert_eq!(log.first_lsn(), Lsn(31));
    await_failure(&log, Lsn(41), "remove");
    assert_eq!(log.first_lsn(), Lsn(41), "they are out of the log all the same");
    assert_eq!(segment_numbers(dir.path()), before, "no later one before an earlier one");
    faults.heal();
    let _ = log.trim_before(Lsn(41));
    await_first(dir.path(), 5);
    drop(log);
    // By what the control page says nothing is missing, and by what the segments say neither.
    let copy = scratch();
    files::copy(dir.path(), copy.path());
    fs::remove_file(copy.path().join("control")).unwrap();
    for path in [dir.path(), copy.path()] {
        assert_eq!(contents(&open_small(path)), records(41..=50));
    }
}

#[test]
fn files_go_also_where_a_full_disk_lets_no_name_be_changed() {
    let dir = scratch();
    let faults = Faulty::new(dir.path());
    let log = open_on(&faults);
    fill(&log);
    log.sync().unwrap();
    await_spare(&log);
    // As btrfs has it, of which a name is a part that is copied when it changes.
    faults.fail(Call::Rename, Errno::NOSPC);
    assert_eq!(log.trim_before(Lsn(21)).unwrap(), 2);
    await_first(dir.path(), 3);
    faults.heal();
    faults.fail_once(Call::SyncDirectory, Errno::NOSPC);
    assert_eq!(log.trim_before(Lsn(31)).unwrap(), 1);
    await_first(dir.path(), 4);
    assert_eq!(log.trim_before(Lsn(31)).unwrap(), 0, "nothing has failed");
    assert!(!files::names(dir.path()).iter().any(|name| name.ends_with(".tmp")));
    drop(log);
    assert_eq!(contents(&open_small(dir.path())), records(31..=50));
}

#[test]
fn a_file_that_is_gone_already_does_not_stop_the_next_trim() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    fill(&log);
    log.sync().unwrap();
    await_spare(&log);
    faults.fail(Call::SyncDirectory, Errno::IO);
    assert_eq!(log.trim_before(Lsn(31)).unwrap(), 3);
    await_failure(&log, Lsn(31), "remove");
    assert_eq!(segment_numbers(dir.path())[0], 2, "the first is removed, and nobody knows for how long");
    faults.heal();
    let _ = log.trim_before(Lsn(31));
    await_first(dir.path(), 4);
}

#[test]
fn without_a_control_page_a_trim_waits_until_the_files_are_gone() {
    let dir = scratch();
    let disk = Faulty::new(dir.path());
    let log = open_on(&disk);
    fill(&log);
    log.sync().unwrap();
    await_spare(&log);
    // The name under which it was made.
    disk.fail_on("control.tmp", Call::SyncMapping, Errno::IO);
    assert_eq!(log.trim_before(Lsn(31)).unwrap(), 3);
    assert!(!dir.path().join("control").exists());
    assert_eq!(segment_numbers(dir.path())[0], 4);
    assert_eq!(log.trim_before(Lsn(41)).unwrap(), 1, "also the next time");
    assert_eq!(segment_numbers(dir.path())[0], 5);
    disk.heal();
    drop(log);
    assert_eq!(contents(&open_small(dir.path())), records(41..=50));
}

#[test]
fn without_a_control_page_the_next_trim_waits_for_what_one_could_not_remove() {
    let dir = scratch();
    let disk = Faulty::new(dir.path());
    let log = open_on(&disk);
    fill(&log);
    log.sync().unwrap();
    await_spare(&log);
    // The name under which it was made.
    disk.fail_on("control.tmp", Call::SyncMapping, Errno::IO);
    disk.fail(Call::Rename, Errno::IO);
    assert!(matches!(log.trim_before(Lsn(31)), Err(Error::Io { operation: "remove", .. })));
    assert_eq!(log.first_lsn(), Lsn(31));
    disk.heal();
    assert_eq!(log.trim_before(Lsn(31)).unwrap(), 0);
    assert_eq!(segment_numbers(dir.path())[0], 4, "nothing else says that they were trimmed");
}

#[test]
fn before_the_page_is_given_up_what_was_trimmed_is_gone() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    fill(&log);
    log.sync().unwrap();
    await_spare(&log);
    faults.fail(Call::Rename, Errno::IO);
    assert_eq!(log.trim_before(Lsn(21)).unwrap(), 2);
    faults.fail(Call::SyncMapping, Errno::IO);
    assert!(matches!(log.trim_before(Lsn(41)), Err(Error::Io { operation: "remove", .. })));
    assert_eq!(log.first_lsn(), Lsn(21), "nothing but the page says what was trimmed, so it stays");
    assert!(dir.path().join("control").exists());
    faults.heal();
    faults.fail(Call::SyncMapping, Errno::IO);
    let before = faults.lost_names().len();
    assert_eq!(log.trim_before(Lsn(41)).unwrap(), 2);
    let lost = faults.lost_names().split_off(before);
    let lost: Vec<_> = lost.iter().filter(|name| !name.ends_with(".tmp")).map(String::as_str).collect();
    let segment = |number| format!("{number:020}.seg");
    assert_eq!(lost, [&segment(1), &segment(2), "control", &segment(3), &segment(4)]);
}

#[test]
fn what_was_trimmed_does_not_come_back_where_the_page_cannot_be_looked_at() {
    for call in [Call::Len, Call::Map] {
        let dir = scratch();
        let (log, faults) = open_faulty(dir.path());
        fill(&log);
        log.sync().unwrap();
        await_spare(&log);
        faults.fail(Call::Rename, Errno::IO);
        assert_eq!(log.trim_before(Lsn(21)).unwrap(), 2);
        drop(log);
        assert!(segment_numbers(dir.path()).contains(&1), "nothing but the page says what was trimmed");
        let storage = Faulty::new(dir.path());
        storage.fail_once_on("control", call, Errno::IO);
        let refused = try_open_on(&storage).unwrap_err();
        assert!(
            matches!(&refused, Error::Io { operation: "read", path, .. } if path.ends_with("control")),
            "{refused:?}"
        );
        assert_eq!(open_on(&storage).first_lsn(), Lsn(21), "after {call:?}");
    }
}

#[test]
fn a_trim_needs_no_room_and_makes_some() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    fill(&log);
    await_spare(&log);
    faults.fail(Call::Allocate, Errno::NOSPC);
    let full = loop {
        if let Err(error) = log.append(1, &vec![1; 30_000]) {
            break error;
        }
    };
    assert!(matches!(full, Error::NoSpace { .. }), "{full:?}");
    let next = log.next_lsn();
    assert_eq!(log.trim_before(next).unwrap(), 5, "while the disk is full");
    faults.heal();
    assert_eq!(log.append(1, b"room").unwrap(), next);
}
