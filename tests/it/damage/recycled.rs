//! Segments whose files were others before: whatever stands after their last frame proves nothing, and is no torn end.

use std::fs;
use std::path::Path;

use mapwal::error::{Damage, Evidence};
use mapwal::inspect::{Inspection, SegmentState, VerifyOptions, VerifyReport, verify_segment};
use mapwal::{Error, Lsn};
use tempfile::TempDir;

use crate::format::spec::{DATA, Segment, SegmentHeader};
use crate::support::damaged::Specimen;
use crate::support::files::{self, edit, segment};
use crate::support::scratch::{open_small, scratch};
use crate::support::stored::{self, HEADER_LEN};
use crate::support::{append, assert_records, corruption, read_only, small, try_open};

const LEN: usize = 64 << 10;

/// What a file may hold from its earlier lives.
#[derive(Debug, Clone, Copy)]
enum Stale {
    /// Frames of another segment of the log, where this one's would follow, that claim what is next to them.
    Frames,
    /// What looks like the start of a frame with a claim at every step, and is none.
    Lookalikes,
    Noise,
}

const ALL: [Stale; 3] = [Stale::Frames, Stale::Lookalikes, Stale::Noise];

impl Stale {
    /// Fills `bytes`, a segment of the log, from `from` on, and makes it one that is recycled.
    fn fill(self, bytes: &mut [u8], from: usize) {
        stored::recycle(bytes);
        let log_id = u128::from_le_bytes(bytes[stored::LOG_ID].try_into().unwrap());
        let number = u64::from_le_bytes(bytes[stored::NUMBER].try_into().unwrap());
        match self {
            Self::Frames => {
                let mut old = Segment::new(SegmentHeader::new(log_id, number + 1000, LEN as u64));
                for lsn in 1.. {
                    let len = if lsn % 5 == 0 { 3000 } else { 40 };
                    if old.end() + len + 24 > LEN as u64 {
                        break;
                    }
                    let durable = (number + 1000) << 32 | old.end();
                    old.push(lsn, DATA, 0, 1, durable, &vec![0xee; usize::try_from(len).unwrap()]);
                }
                let old = old.encode();
                bytes[from..].copy_from_slice(&old[from..]);
            }
            Self::Lookalikes => {
                for word in bytes[from..].chunks_exact_mut(8) {
                    word.copy_from_slice(&[0x00, 0x08, 0, 0, 0x01, 0, 0, 0]);
                }
            }
            Self::Noise => {
                let mut random = fastrand::Rng::with_seed(7);
                bytes[from..].iter_mut().for_each(|byte| *byte = random.u8(..));
            }
        }
    }
}

/// Fills what follows the frames of each segment in `directory`: at once, or from the next page on.
fn fill_all(directory: &Path, stale: Stale, from_next_page: bool) {
    for number in files::segment_numbers(directory) {
        let end = stored::frames(directory, number).last().map_or(HEADER_LEN, |frame| frame.end);
        let from = if from_next_page { end.next_multiple_of(4096) } else { end };
        edit(&segment(directory, number), |bytes| stale.fill(bytes, from));
    }
}

/// A log of two segments that was closed, or that was dropped after a sync of its first six records.
fn log(is_closed: bool, stale: Stale, from_next_page: bool) -> TempDir {
    let dir = scratch();
    if is_closed { Specimen::closed() } else { Specimen::dropped() }.lay_out(dir.path());
    fill_all(dir.path(), stale, from_next_page);
    dir
}

fn verified(directory: &Path) -> VerifyReport {
    Inspection::open(directory).unwrap().verify(VerifyOptions::default(), &mut |_| {}).unwrap()
}

#[test]
fn what_follows_the_last_frame_is_no_torn_end() {
    for (stale, is_closed) in ALL.into_iter().flat_map(|stale| [(stale, true), (stale, false)]) {
        let dir = log(is_closed, stale, false);
        let report = verified(dir.path());
        assert!(report.damage.is_empty() && report.torn_bytes() == 0, "{stale:?}: {report:?}");
        assert_eq!((report.records(), report.closed), (16, is_closed), "{stale:?}");
        assert_eq!(report.segments.last().unwrap().state, SegmentState::Active);
        assert_records(&read_only(dir.path()).unwrap().snapshot().unwrap(), 1, 16);
        for number in [1, 2] {
            let summary = verify_segment(&fs::read(segment(dir.path(), number)).unwrap()).unwrap();
            assert_eq!((summary.number, summary.sealed), (number, number == 1));
        }
        fs::remove_file(dir.path().join("control")).unwrap();
        let log = open_small(dir.path());
        assert_eq!((log.recovery().clean, log.recovery().torn_bytes), (is_closed, 0), "{stale:?}");
        assert_records(&log.snapshot().unwrap(), 1, 16);
    }
}

#[test]
fn a_closed_one_goes_on_in_place_only_where_zeros_follow() {
    for (from_next_page, with_control, segments) in
        [(true, true, 2), (true, false, 2), (false, true, 3), (false, false, 3)]
    {
        let dir = log(true, Stale::Frames, from_next_page);
        if !with_control {
            fs::remove_file(dir.path().join("control")).unwrap();
        }
        let log = open_small(dir.path());
        assert!(log.recovery().clean);
        append(&log, 17..=17);
        log.sync().unwrap();
        assert_eq!(log.recovery().segments, segments);
        drop(log);
        assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, 17);
    }
}

#[test]
fn a_claim_is_found_among_what_is_stale() {
    for stale in ALL {
        let dir = scratch();
        let log = open_small(dir.path());
        append(&log, 1..=6);
        log.sync().unwrap();
        append(&log, 7..=10);
        drop(log);
        let _ = fs::remove_file(segment(dir.path(), 2));
        fill_all(dir.path(), stale, false);
        // Record 3 was durable when record 7 was appended.
        let (hit, end) = (stored::frame_of(dir.path(), 3), stored::frame_of(dir.path(), 6).end);
        edit(&segment(dir.path(), 1), |bytes| bytes[hit.offset + 30] ^= 1);
        fs::remove_file(dir.path().join("control")).unwrap();
        let found = corruption(try_open(dir.path(), &small()));
        assert_eq!((found.offset, found.lsn), (hit.offset as u64, Some(Lsn(3))), "{stale:?}");
        assert!(matches!(found.evidence, Some(Evidence::Frame { offset, .. }) if offset == end as u64));
        let report = verified(dir.path());
        assert_eq!(report.damage.len(), 1, "{stale:?}: {report:?}");
        assert_eq!(report.damage[0].offset, hit.offset as u64);
    }
}

#[test]
fn frames_after_a_torn_one_are_counted_and_dropped() {
    for stale in ALL {
        let dir = log(false, stale, false);
        let (hit, last) = (stored::frame_of(dir.path(), 12), stored::frame_of(dir.path(), 16));
        edit(&segment(dir.path(), 2), |bytes| bytes[hit.offset + 30] ^= 1);
        fs::remove_file(dir.path().join("control")).unwrap();
        let torn = (last.end - hit.offset) as u64;
        let report = verified(dir.path());
        assert!(report.damage.is_empty(), "{report:?}");
        assert_eq!((report.records(), report.torn_bytes()), (11, torn), "{stale:?}");
        let error = verify_segment(&fs::read(segment(dir.path(), 2)).unwrap()).unwrap_err();
        assert!(matches!(error, Error::Corrupt(found) if found.offset == hit.offset as u64));
        let log = open_small(dir.path());
        assert_eq!((log.recovery().clean, log.recovery().torn_bytes), (false, torn), "{stale:?}");
        assert_records(&log.snapshot().unwrap(), 1, 11);
    }
}

#[test]
fn a_spare_that_was_another_segment_before_is_not_taken_over() {
    // One that has been another segment may hold zeros, too, as far as anybody can see.
    for stale in ALL.map(Some).into_iter().chain([None]) {
        let dir = log(false, stale.unwrap_or(Stale::Noise), false);
        let log_id = Segment::parse(&fs::read(segment(dir.path(), 1)).unwrap()).header.log_id;
        let mut spare = Segment::new(SegmentHeader::new(log_id, 3, LEN as u64)).encode();
        match stale {
            Some(stale) => stale.fill(&mut spare, HEADER_LEN),
            None => stored::recycle(&mut spare),
        }
        fs::write(segment(dir.path(), 3), spare).unwrap();
        let report = verified(dir.path());
        assert!(report.damage.is_empty() && report.torn_bytes() == 0, "{stale:?}: {report:?}");
        assert_eq!(report.segments[2].state, SegmentState::Spare);
        let log = open_small(dir.path());
        assert_records(&log.snapshot().unwrap(), 1, 16);
        drop(log);
        let numbers = files::segment_numbers(dir.path());
        assert_eq!(numbers[..3], [1, 2, 4], "{stale:?}");
    }
}

/// What the bytes mean shows by the header alone.
#[test]
fn in_one_that_was_no_other_before_they_are_a_torn_end() {
    let dir = scratch();
    Specimen::closed().lay_out(dir.path());
    fs::remove_file(dir.path().join("control")).unwrap();
    let end = stored::frames(dir.path(), 2).last().unwrap().end;
    edit(&segment(dir.path(), 2), |bytes| bytes[end + 9] = 1);
    assert_eq!(verified(dir.path()).torn_bytes(), 10);
    let error = verify_segment(&fs::read(segment(dir.path(), 2)).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Corrupt(found) if found.damage == Damage::MissingFrame));
    assert!(!open_small(dir.path()).recovery().clean);
}
