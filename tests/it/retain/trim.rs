//! Dropping segments from the front.

use std::fs;
use std::path::Path;

use mapwal::error::Damage;
use mapwal::inspect::{Inspection, VerifyOptions};
use mapwal::{Error, Lsn, PinState};
use rustix::io::Errno;

use crate::format::page;
use crate::support::faulty::Call;
use crate::support::files::{self, segment_numbers};
use crate::support::scratch::{append_stamped, await_spare, contents, open_small, scratch, segment_names, stamped};
use crate::support::wait::until;
use crate::support::{corruption, open_faulty, read_only, small, try_open};

/// Five segments of ten records each: 1, 11, 21, 31 and 41 are their first.
pub(super) fn fill(log: &mapwal::Log) {
    for segment in 0..5 {
        append_stamped(log, segment * 10 + 1, 100, 10);
        if segment < 4 {
            log.rotate().unwrap();
        }
    }
}

pub(super) fn records(range: std::ops::RangeInclusive<u64>) -> Vec<(u64, Vec<u8>)> {
    range.map(|number| (number, stamped(number, 100))).collect()
}

/// Returns once the files of the segments below `number` are gone.
pub(super) fn await_first(dir: &Path, number: u64) {
    until("the files below go", || segment_numbers(dir)[0] >= number);
    assert_eq!(segment_numbers(dir)[0], number);
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
fn a_bound_above_all_segments_leaves_the_newest() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log);
    log.close().unwrap();
    files::edit(&dir.path().join("control"), |page| {
        page::put_signed(page, 9, 9);
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

#[test]
fn a_trim_that_fails_has_done_nothing_for_readers_elsewhere_neither() {
    // The page, under the name by which it was made and under its own, can be asked for, read, written and removed.
    let faults: [&[(&str, Call, Errno)]; 5] = [
        &[("control", Call::Open, Errno::MFILE)],
        &[("control", Call::ReadDevice, Errno::IO)],
        &[("control", Call::ReadDevice, Errno::IO), ("control", Call::Remove, Errno::IO)],
        &[("control.tmp", Call::SyncMapping, Errno::IO), ("control", Call::Remove, Errno::IO)],
        &[("control.tmp", Call::SyncMapping, Errno::IO)],
    ];
    for (number, faults) in faults.into_iter().enumerate() {
        let dir = scratch();
        let (log, storage) = open_faulty(dir.path());
        fill(&log);
        let reader = read_only(dir.path()).unwrap();
        for &(file, call, error) in faults {
            storage.fail_on(file, call, error);
        }
        let trimmed = log.trim_before(Lsn(31));
        let first = if trimmed.is_ok() { Lsn(31) } else { Lsn(1) };
        assert_eq!(log.first_lsn(), first, "{number}: {trimmed:?}");
        assert_eq!(reader.first_lsn().unwrap(), first, "{number}: {trimmed:?}");
        let trimmed_more = log.trim_before(Lsn(21)).map(|count| count > 0);
        assert_eq!(trimmed_more.is_ok(), trimmed.is_ok(), "{number}: {trimmed_more:?}");
        log.create_pin("pin", "", first, None).unwrap();
        storage.heal();
        drop(log);
        let log = open_small(dir.path());
        assert_eq!(contents(&log), records(first.0..=50), "{number}");
        assert_eq!(log.pins()[0].state, PinState::Reserved, "{number}");
    }
}
