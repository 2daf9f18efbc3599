//! Logs of an older version are read as they are, and go on in segments of the version that is written.

use std::fs;
use std::path::Path;

use mapwal::inspect::{Inspection, SegmentScan, SegmentState, VerifyOptions, verify_segment};
use mapwal::{LogReader, Lsn, Visibility};
use tempfile::TempDir;

use crate::format::golden;
use crate::format::page;
use crate::format::spec::{self, CLOSE, Segment};
use crate::support::files::{edit, segment, segment_numbers, unchanged};
use crate::support::scratch::scratch;
use crate::support::{open, read_only, small};

const OLD: &str = "v2";
const OLD_VERSION: u32 = 2;

/// The old log: closed, or as a crash leaves it.
pub(crate) fn old(is_closed: bool) -> TempDir {
    let dir = scratch();
    golden::unpack(OLD, dir.path());
    if !is_closed {
        let last = *segment_numbers(dir.path()).last().unwrap();
        let close = Segment::parse(&fs::read(segment(dir.path(), last)).unwrap()).frames.pop().unwrap();
        assert_eq!(close.kind, CLOSE);
        edit(&segment(dir.path(), last), |bytes| {
            bytes[usize::try_from(close.offset).unwrap()..usize::try_from(close.end()).unwrap()].fill(0);
        });
    }
    dir
}

fn versions(directory: &Path) -> Vec<u32> {
    let version = |number| Segment::parse(&fs::read(segment(directory, number)).unwrap()).header.version;
    segment_numbers(directory).into_iter().map(version).collect()
}

fn verified(directory: &Path) -> mapwal::inspect::VerifyReport {
    Inspection::open(directory).unwrap().verify(VerifyOptions::default(), &mut |_| {}).unwrap()
}

fn read_all(reader: &LogReader) -> Vec<Lsn> {
    reader.snapshot().unwrap().iter().map(|record| record.unwrap().lsn()).collect()
}

#[test]
fn a_log_goes_on_in_segments_of_the_version_that_is_written() {
    for is_closed in [true, false] {
        let dir = old(is_closed);
        let files = golden::files(OLD);
        let log = open(dir.path(), &small());
        assert_eq!(log.recovery().clean, is_closed);
        golden::assert_contents(&log);
        let next = log.next_lsn();
        assert_eq!(log.append(1, b"appended").unwrap(), next);
        log.close().unwrap();
        for opened in 0..3 {
            let log = open(dir.path(), &small());
            assert!(log.recovery().clean, "open {opened}: {:?}", log.recovery());
            golden::assert_contents(&log);
            assert_eq!(log.get(next).unwrap().unwrap().payload(), b"appended");
            log.close().unwrap();
        }
        for (name, bytes) in &files {
            let after = fs::read(dir.path().join(name)).unwrap();
            assert!(is_closed && after == *bytes || !is_closed && after.len() == bytes.len(), "{name} is as it was");
        }
        assert_eq!(versions(dir.path()), [OLD_VERSION, OLD_VERSION, OLD_VERSION, spec::VERSION]);
        let report = verified(dir.path());
        assert!(report.damage.is_empty() && report.closed, "{report:?}");
    }
}

#[test]
fn a_log_that_was_shut_down_is_believed_and_goes_on_after_its_close() {
    let dir = old(true);
    // Closed by this library, with what the older one left.
    open(dir.path(), &small()).close().unwrap();
    fs::remove_file(segment(dir.path(), 4)).unwrap();
    fs::remove_file(dir.path().join("control")).unwrap();
    let log = open(dir.path(), &small());
    assert!(log.recovery().clean);
    golden::assert_contents(&log);
    drop(log);
    assert_eq!(versions(dir.path())[..4], [OLD_VERSION, OLD_VERSION, OLD_VERSION, spec::VERSION]);
}

#[test]
fn a_log_is_read_followed_verified_and_scanned_as_it_is() {
    let dir = old(true);
    unchanged(dir.path(), || {
        let reader = read_only(dir.path()).unwrap();
        let read = read_all(&reader);
        assert_eq!((read.first(), read.last(), read.len()), (Some(&Lsn(1)), Some(&Lsn(40)), 39));
        let mut follower = reader.follow(Lsn(1), Visibility::Published).unwrap();
        let mut followed = Vec::new();
        while let Some(record) = follower.next().unwrap() {
            followed.push(record.lsn());
        }
        assert_eq!(followed, read);
        let report = verified(dir.path());
        assert!(report.damage.is_empty() && report.closed, "{report:?}");
        assert_eq!(report.records(), 39);
        for number in segment_numbers(dir.path()) {
            let path = segment(dir.path(), number);
            assert_eq!(SegmentScan::open(&path).unwrap().number(), number);
            assert_eq!(verify_segment(&fs::read(&path).unwrap()).unwrap().number, number);
        }
    });
}

#[test]
fn a_reader_of_an_old_log_follows_it_into_new_segments() {
    let dir = old(true);
    let reader = read_only(dir.path()).unwrap();
    let mut follower = reader.follow(Lsn(40), Visibility::Published).unwrap();
    assert_eq!(follower.next().unwrap().map(|record| record.lsn()), Some(Lsn(40)));
    let log = open(dir.path(), &small());
    log.append(5, b"new").unwrap();
    log.sync().unwrap();
    let record = follower.next_timeout(crate::support::wait::LONG).unwrap().expect("it is there");
    assert_eq!((record.lsn(), record.payload()), (Lsn(41), &b"new"[..]));
}

#[test]
fn a_spare_of_an_old_log_is_not_written_to() {
    let dir = old(false);
    // What an older writer that died has prepared: a header, and nothing else.
    let mut spare = fs::read(segment(dir.path(), 3)).unwrap();
    spare[4096..].fill(0);
    spare[24..32].copy_from_slice(&9_u64.to_le_bytes());
    let crc = spec::crc32(0, &spare[..56]);
    spare[56..60].copy_from_slice(&crc.to_le_bytes());
    fs::write(segment(dir.path(), 9), &spare).unwrap();
    assert_eq!(verified(dir.path()).segments.last().unwrap().state, SegmentState::Spare);
    let log = open(dir.path(), &small());
    golden::assert_contents(&log);
    drop(log);
    let numbers = segment_numbers(dir.path());
    assert_eq!(numbers[..4], [1, 2, 3, 10]);
    assert_eq!(versions(dir.path())[3], spec::VERSION);
}

#[test]
fn a_number_that_only_the_control_page_knows_does_not_come_back() {
    let dir = scratch();
    let log = open(dir.path(), &small());
    for _ in 0..6 {
        log.append(1, b"one").unwrap();
        log.rotate().unwrap();
    }
    log.sync().unwrap();
    log.reset_to(Lsn(100)).unwrap();
    drop(log);
    let page = fs::read(dir.path().join("control")).unwrap();
    let active = u64::from(u32::from_le_bytes(page[56..60].try_into().unwrap()));
    assert!(active > 6 && segment(dir.path(), active).exists());
    // The files went, and what said so did not.
    for number in segment_numbers(dir.path()) {
        if number != active {
            fs::remove_file(segment(dir.path(), number)).unwrap();
        }
    }
    let spare = Segment::new(spec::SegmentHeader::new(
        Segment::parse(&fs::read(segment(dir.path(), active)).unwrap()).header.log_id,
        2,
        64 << 10,
    ));
    fs::remove_file(segment(dir.path(), active)).unwrap();
    fs::write(segment(dir.path(), 2), spare.encode()).unwrap();
    // Nothing that was durable is known of: the page lacks its watermarks.
    edit(&dir.path().join("control"), |page| page::forget_durable(page));
    let log = open(dir.path(), &small().first_lsn(Lsn(7)));
    assert_eq!(log.append(1, b"new").unwrap(), Lsn(7));
    log.rotate().unwrap();
    log.append(1, b"new").unwrap();
    log.sync().unwrap();
    drop(log);
    let numbers = segment_numbers(dir.path());
    assert!(numbers.iter().filter(|&&number| number != 2).all(|&number| number > active), "{numbers:?}, {active}");
}
