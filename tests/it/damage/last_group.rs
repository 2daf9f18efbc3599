//! What was synced last, with nothing after it: its one witness is the control page.

use std::fs;
use std::path::Path;

use mapwal::error::{Corruption, Evidence};
use mapwal::inspect::{Inspection, VerifyOptions};
use mapwal::{Log, Lsn};
use tempfile::TempDir;

use crate::format::page;
use crate::support::files::{self, edit, segment, unchanged};
use crate::support::scratch::{open_small, scratch};
use crate::support::stored::{self, StoredFrame};
use crate::support::{append, assert_records, corruption, read_only, small, try_open};

/// A log that was synced after record 10 and after record 16, and then left without a close.
fn log() -> TempDir {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=10);
    log.sync().unwrap();
    append(&log, 11..=16);
    log.sync().unwrap();
    drop(log);
    let _ = fs::remove_file(segment(dir.path(), 2));
    dir
}

fn copied(from: &Path) -> TempDir {
    let dir = scratch();
    files::copy(from, dir.path());
    dir
}

/// The one damage that an inspection finds.
fn inspected(directory: &Path) -> Corruption {
    let found = Inspection::open(directory).unwrap();
    let mut report = found.verify(VerifyOptions::new(), &mut |_| {}).unwrap();
    assert_eq!(report.damage.len(), 1, "{report:?}");
    report.damage.remove(0)
}

/// Changes a byte of record 13.
fn damage(directory: &Path) -> StoredFrame {
    let hit = stored::frame_of(directory, 13);
    edit(&segment(directory, 1), |bytes| bytes[hit.offset + 30] ^= 1);
    hit
}

/// That the log opens, and ends with record `last`.
fn assert_torn(directory: &Path, last: u64) {
    let log = open_small(directory);
    assert_eq!((log.next_lsn(), log.recovery().clean), (Lsn(last + 1), false));
    assert_records(&log.snapshot().unwrap(), 1, last);
}

#[test]
fn each_byte_of_it_that_changes_is_damage_by_the_control_page_and_nothing_is_lost_by_an_open() {
    let dir = log();
    let path = segment(dir.path(), 1);
    let end = stored::frame_of(dir.path(), 16).end as u64;
    let page = Some(Evidence::ControlPage { segment: 1, offset: end, lsn: Lsn(16) });
    for lsn in 11..=16 {
        let frame = stored::frame_of(dir.path(), lsn);
        for at in frame.offset..frame.end {
            edit(&path, |bytes| bytes[at] ^= 1);
            unchanged(dir.path(), || {
                let control = fs::read(dir.path().join("control")).unwrap();
                let by_open = corruption(try_open(dir.path(), &small()));
                let place = (by_open.path.clone(), by_open.offset, by_open.lsn);
                assert_eq!(place, (path.clone(), frame.offset as u64, Some(Lsn(lsn))), "byte {at}");
                assert_eq!(by_open.evidence, page, "byte {at}");
                let told = inspected(dir.path());
                assert_eq!((told.path, told.offset, told.lsn), place, "byte {at}");
                assert_eq!(told.evidence, page, "byte {at}");
                let by_reader = corruption(read_only(dir.path()).unwrap().snapshot());
                assert_eq!((by_reader.offset, by_reader.lsn), (frame.offset as u64, Some(Lsn(lsn))), "byte {at}");
                assert_eq!(fs::read(dir.path().join("control")).unwrap(), control);
            });
            edit(&path, |bytes| bytes[at] ^= 1);
        }
    }
    let log = open_small(dir.path());
    assert_records(&log.snapshot().unwrap(), 1, 16);
}

#[test]
fn what_came_after_it_is_a_torn_end() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=10);
    log.sync().unwrap();
    append(&log, 11..=16);
    drop(log);
    let _ = fs::remove_file(segment(dir.path(), 2));
    damage(dir.path());
    assert_torn(dir.path(), 12);
}

#[test]
fn a_control_page_that_says_nothing_leaves_a_torn_end() {
    let dir = log();
    damage(dir.path());
    let page = fs::read(dir.path().join("control")).unwrap();
    let without = |what: &dyn Fn(&mut Vec<u8>)| {
        let copy = copied(dir.path());
        edit(&copy.path().join("control"), what);
        assert_torn(copy.path(), 12);
    };
    // Both watermarks half written by a power cut.
    without(&|page| {
        for at in page::DURABLE {
            let old = page::group(page, at, &[0, 0, 0]);
            page::put(page, at, &old[..3]);
        }
    });
    // Of another version.
    for version in [1, 3, 9] {
        without(&|page| page::put_signed(page, 5, version));
    }
    let copy = copied(dir.path());
    fs::remove_file(copy.path().join("control")).unwrap();
    assert_torn(copy.path(), 12);
    // One that has come to the device earlier.
    let newest = page::DURABLE.into_iter().max_by_key(|&at| page::values(&page, at, page::DURABLE_WORDS).unwrap()[0]);
    let newest = newest.unwrap();
    without(&|page| page::put_group(page, newest, &[0, 0, 0]));
    // And with the page as it was.
    corruption(try_open(dir.path(), &small()));
}

#[test]
fn what_a_truncation_has_dropped_is_not_missed_by_an_older_control_page() {
    let in_segment: fn(&Log) = |log| log.truncate_after(Lsn(4)).unwrap();
    let whole: fn(&Log) = |log| log.truncate_after(Lsn(10)).unwrap();
    let all: fn(&Log) = |log| log.reset_to(Lsn(7)).unwrap();
    for (what, cut, last) in [("inside of a segment", in_segment, 4), ("a whole segment", whole, 10), ("all", all, 6)] {
        for with_more in [false, true] {
            let dir = scratch();
            let log = open_small(dir.path());
            append(&log, 1..=10);
            log.rotate().unwrap();
            append(&log, 11..=16);
            log.sync().unwrap();
            let page = fs::read(dir.path().join("control")).unwrap();
            cut(&log);
            if with_more {
                append(&log, last + 1..=last + 2);
            }
            drop(log);
            fs::write(dir.path().join("control"), page).unwrap();
            let log = open_small(dir.path());
            assert_eq!(log.next_lsn(), Lsn(last + 1 + if with_more { 2 } else { 0 }), "{what}");
        }
    }
}

#[test]
fn an_older_copy_of_the_segments_is_missed_by_its_page_and_opens_without_it() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=10);
    log.sync().unwrap();
    let older = copied(dir.path());
    append(&log, 11..=16);
    log.sync().unwrap();
    fs::copy(dir.path().join("control"), older.path().join("control")).unwrap();
    let (end, last) = (stored::frame_of(dir.path(), 10).end as u64, stored::frame_of(dir.path(), 16).end as u64);
    unchanged(older.path(), || {
        let found = corruption(try_open(older.path(), &small()));
        assert_eq!((found.offset, found.lsn), (end, Some(Lsn(11))));
        assert_eq!(found.evidence, Some(Evidence::ControlPage { segment: 1, offset: last, lsn: Lsn(16) }));
    });
    fs::remove_file(older.path().join("control")).unwrap();
    assert_torn(older.path(), 10);
}

#[test]
fn a_last_segment_that_is_damaged_at_its_start_or_gone_is_named() {
    let dir = log();
    // This run goes on in another segment.
    drop(open_small(dir.path()));
    let number = stored::all_frames(dir.path()).last().unwrap().segment;
    assert_ne!(number, 1);
    for spare in files::segment_numbers(dir.path()).into_iter().filter(|&spare| spare > number) {
        fs::remove_file(segment(dir.path(), spare)).unwrap();
    }
    let damaged = copied(dir.path());
    edit(&segment(damaged.path(), number), |bytes| bytes[stored::HEADER_LEN + 30] ^= 1);
    let found = corruption(try_open(damaged.path(), &small()));
    assert_eq!((found.path, found.offset), (segment(damaged.path(), number), stored::HEADER_LEN as u64));
    fs::remove_file(segment(dir.path(), number)).unwrap();
    let found = corruption(try_open(dir.path(), &small()));
    assert_eq!(found.path, segment(dir.path(), number));
    assert!(matches!(found.evidence, Some(Evidence::ControlPage { lsn: Lsn(16), .. })), "{found:?}");
}
