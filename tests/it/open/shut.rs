//! A log that was closed opens without a look at its records, by what the control page says; and never by what it says when
//! something has come after the close.

use std::fs;
use std::path::Path;

use mapwal::inspect::{Inspection, VerifyOptions};
use mapwal::{Error, Lsn};

use crate::format::page;
use crate::format::spec::CLOSE;
use crate::support::files::{self, edit, segment, segment_numbers};
use crate::support::scratch::{contents, open_small, scratch};
use crate::support::stored::{self, StoredFrame};
use crate::support::{append, assert_records, corruption, payload, small, try_open};

fn closed_at(directory: &Path) -> u64 {
    let page = fs::read(directory.join("control")).unwrap();
    page::values(&page, page::CLOSED, page::CLOSED_WORDS).expect("its checksum")[0]
}

/// A log of `last` records that was closed.
fn closed(last: u64) -> tempfile::TempDir {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=last);
    log.put_meta(2, b"value").unwrap();
    log.close().unwrap();
    dir
}

/// Lets the control page say that the log was closed at `position`.
fn say_closed(directory: &Path, position: u64) {
    edit(&directory.join("control"), |page| {
        page::put_group(page, page::CLOSED, &[position]);
    });
}

/// The last frame of the log in `directory`.
fn last_frame(directory: &Path) -> StoredFrame {
    let number = *segment_numbers(directory).last().unwrap();
    stored::frames(directory, number).pop().unwrap()
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = scratch();
    files::copy(from, to.path());
    to
}

#[test]
fn the_page_tells_of_a_close_only_until_the_next_open() {
    let dir = closed(300);
    let close = last_frame(dir.path());
    assert_eq!((close.kind, closed_at(dir.path())), (CLOSE, stored::position(close.segment, close.offset)));
    let log = open_small(dir.path());
    assert_eq!(closed_at(dir.path()), 0, "something may follow from now on");
    assert!(log.recovery().clean && log.recovery().bytes_scanned < 16 << 10, "{:?}", log.recovery());
    assert_eq!((log.next_lsn(), log.durable_lsn()), (Lsn(301), Lsn(300)));
    assert_eq!(log.meta(2).unwrap(), b"value");
    assert_records(&log.snapshot().unwrap(), 1, 300);
}

#[test]
fn records_of_both_runs_are_found_in_whatever_order_they_are_looked_at() {
    let dir = closed(300);
    let log = open_small(dir.path());
    append(&log, 301..=320);
    // Newest first, so that the frames of this run are walked before those of the other.
    for lsn in (290..=320).rev() {
        assert_eq!(log.get(Lsn(lsn)).unwrap().unwrap().payload(), payload(lsn));
    }
    assert_eq!(log.sync().unwrap(), Lsn(320));
    let mut follower = log.follow(Lsn(299), mapwal::Visibility::Durable).unwrap();
    for lsn in 299..=320 {
        assert_eq!(follower.next().unwrap().unwrap().payload(), payload(lsn));
    }
    assert_records(&log.snapshot().unwrap(), 1, 320);
    for (kept, lsn) in [(310, 311), (300, 301), (295, 296)] {
        log.truncate_after(Lsn(kept)).unwrap();
        assert_eq!(log.append(7, &payload(lsn)).unwrap(), Lsn(lsn));
        assert_records(&log.snapshot().unwrap(), 1, lsn);
    }
    log.close().unwrap();
    assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, 296);
}

#[test]
fn damage_before_the_close_is_found_when_it_is_read() {
    let dir = closed(300);
    let frame = stored::frame_of(dir.path(), 299);
    edit(&segment(dir.path(), frame.segment), |bytes| bytes[frame.offset + 30] ^= 1);
    let log = open_small(dir.path());
    append(&log, 301..=302);
    assert_eq!(log.get(Lsn(302)).unwrap().unwrap().payload(), payload(302));
    assert!(matches!(log.get(Lsn(299)), Err(Error::Corrupt(corruption)) if corruption.lsn == Some(Lsn(299))));
    let read: Vec<_> = log.snapshot().unwrap().iter().map(|record| record.map(|record| record.lsn())).collect();
    assert_eq!(read.len(), 299, "those in front, and the damage");
    assert!(matches!(read.last(), Some(Err(Error::Corrupt(_)))));
}

#[test]
fn an_old_page_does_not_make_newer_records_go() {
    let dir = closed(100);
    let page = fs::read(dir.path().join("control")).unwrap();
    let log = open_small(dir.path());
    append(&log, 101..=110);
    log.close().unwrap();
    let last = last_frame(dir.path());
    // The page of the first close, and the segment as the second left it, or as a crash may leave it.
    for cut in [last.end, last.offset, last.offset - 1] {
        let old = copy(dir.path());
        fs::write(old.path().join("control"), &page).unwrap();
        edit(&segment(old.path(), last.segment), |bytes| bytes[cut..].fill(0));
        let log = open_small(old.path());
        let next = log.next_lsn().0;
        assert!(next >= 110, "{next}");
        assert_records(&log.snapshot().unwrap(), 1, next - 1);
    }
}

#[test]
fn what_is_not_zero_after_the_close_is_looked_at() {
    let dir = closed(100);
    let close = last_frame(dir.path());
    for at in [close.end, close.end + 8, close.end.next_multiple_of(4096) - 1] {
        let odd = copy(dir.path());
        edit(&segment(odd.path(), close.segment), |bytes| bytes[at] = 1);
        let log = open_small(odd.path());
        assert!(log.recovery().torn_bytes > 0, "{:?}", log.recovery());
        append(&log, 101..=200);
        assert_records(&log.snapshot().unwrap(), 1, 200);
    }
}

#[test]
fn a_page_that_lies_about_the_close_is_not_believed() {
    let dir = closed(100);
    let frames = stored::frames(dir.path(), 1);
    let expected = contents(&open_small(copy(dir.path()).path()));
    // At every frame, and where there is none; in a segment that there is, or not.
    let places = frames.iter().map(|frame| frame.offset).chain([0, 4096, 4104, 60_000, 65_528, 65_536, 1 << 31]);
    for (place, number) in places.flat_map(|place| [1, 2, 7, u64::from(u32::MAX)].map(|number| (place, number))) {
        let lying = copy(dir.path());
        say_closed(lying.path(), stored::position(number, place));
        let log = open_small(lying.path());
        assert_eq!(contents(&log), expected, "segment {number}, offset {place}");
        assert_eq!(log.meta(2).unwrap(), b"value");
    }
}

#[test]
fn a_close_that_says_nothing_of_the_metadata_is_not_believed() {
    let dir = closed(100);
    let close = last_frame(dir.path());
    edit(&segment(dir.path(), close.segment), |bytes| {
        bytes[close.offset..][..4].copy_from_slice(&24_u32.to_le_bytes());
        bytes[close.offset + 24..close.end].fill(0);
        stored::seal_frame(bytes, close.offset);
    });
    assert_eq!(closed_at(dir.path()), stored::position(close.segment, close.offset));
    // It is shorter than what the page says was durable.
    assert_eq!(corruption(try_open(dir.path(), &small())).offset, close.offset as u64);
    // One that says nothing of that.
    edit(&dir.path().join("control"), |page| page::forget_durable(page));
    let log = open_small(dir.path());
    assert_eq!((log.next_lsn(), log.meta(2).unwrap()), (Lsn(101), b"value".to_vec()));
}

#[test]
fn a_record_that_looks_like_a_close_is_a_record() {
    let closed = closed(10);
    let close = last_frame(closed.path());
    let segment = fs::read(segment(closed.path(), close.segment)).unwrap();
    let payload = &segment[close.offset..][24..close.len];
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=1);
    log.sync().unwrap();
    // Says, as a close does, that all before it is durable.
    assert_eq!(log.append(9, payload).unwrap(), Lsn(2));
    log.sync().unwrap();
    drop(log);
    let record = last_frame(dir.path());
    say_closed(dir.path(), stored::position(record.segment, record.offset));
    let log = open_small(dir.path());
    assert_eq!(log.next_lsn(), Lsn(3));
    assert_eq!(log.get(Lsn(2)).unwrap().unwrap().payload(), payload);
}

#[test]
fn a_segment_without_room_for_all_that_a_close_says_is_walked() {
    let dir = scratch();
    let log = open_small(dir.path());
    log.put_meta(2, b"value").unwrap();
    let mut last = 0;
    // Up to a segment with room for a seal, and for nothing else.
    while log.stats().sealed_segments == 0 {
        let left = (64 << 10) - 4096 - 56 - log.stats().bytes_appended as usize - 56;
        let len = if left >= 4096 + 64 { 4096 - 24 } else { left - 24 };
        last += 1;
        assert_eq!(log.append(0, &vec![7; len]).unwrap(), Lsn(last));
        if left < 4096 + 64 {
            break;
        }
    }
    log.close().unwrap();
    assert_eq!(closed_at(dir.path()), 0);
    let log = open_small(dir.path());
    assert!(log.recovery().clean);
    assert_eq!((log.next_lsn(), log.meta(2).unwrap()), (Lsn(last + 1), b"value".to_vec()));
    append(&log, last + 1..=last + 10);
}

#[test]
fn bytes_after_the_close_of_a_log_that_was_shut_down_are_a_torn_end() {
    for (distance, has_page) in [(0, true), (5000, true), (0, false), (5000, false)] {
        let dir = scratch();
        let log = open_small(dir.path());
        append(&log, 1..=10);
        log.close().unwrap();
        if !has_page {
            fs::remove_file(dir.path().join("control")).unwrap();
        }
        let end = stored::frames(dir.path(), 1).pop().unwrap().end + distance;
        files::edit(&files::segment(dir.path(), 1), |bytes| bytes[end] = 1);
        let report = || Inspection::open(dir.path()).unwrap().verify(VerifyOptions::default(), &mut |_| {}).unwrap();
        let torn = report();
        assert!(torn.damage.is_empty() && torn.torn_bytes() > 0 && torn.records() == 10, "{torn:?}");
        // Nothing that was durable is missing: a writer drops them.
        let log = open_small(dir.path());
        assert_eq!(log.append(0, b"more").unwrap(), Lsn(11));
        log.close().unwrap();
        let sound = report();
        assert!(sound.damage.is_empty() && sound.torn_bytes() == 0 && sound.records() == 11, "{sound:?}");
    }
}

#[test]
fn bytes_in_a_segment_that_was_prepared_before_the_log_was_shut_down_are_a_torn_end() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=10);
    log.close().unwrap();
    let mut spare = fs::read(files::segment(dir.path(), 1)).unwrap();
    spare[4096..].fill(0);
    spare[stored::NUMBER].copy_from_slice(&7_u64.to_le_bytes());
    stored::seal_header(&mut spare);
    let report = || Inspection::open(dir.path()).unwrap().verify(VerifyOptions::default(), &mut |_| {}).unwrap();
    fs::write(files::segment(dir.path(), 7), &spare).unwrap();
    let sound = report();
    assert!(sound.damage.is_empty() && sound.torn_bytes() == 0, "{sound:?}");
    files::edit(&files::segment(dir.path(), 7), |bytes| bytes[9000] = 1);
    let torn = report();
    assert!(torn.damage.is_empty() && torn.torn_bytes() > 0 && torn.records() == 10, "{torn:?}");
}
