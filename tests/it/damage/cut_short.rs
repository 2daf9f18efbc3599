//! Files that are shorter or longer than they were, and bytes that never reached the disk.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mapwal::error::Damage;

use crate::support::damaged::{Bench, Change, Specimen};
use crate::support::files::{self, segment, unchanged};
use crate::support::scratch::{open_small, scratch};
use crate::support::{corruption, read_only, small, stored, try_open};

/// Bytes that a disk writes as one.
const SECTOR: usize = 512;

/// Lengths of segment `number`: all around frames and header, and some between.
fn lengths(specimen: &Specimen, number: u64) -> BTreeSet<usize> {
    let len = specimen.segment(number).len();
    let frames = specimen.frames_of(number).flat_map(|frame| [frame.offset, frame.end]);
    let edges = frames.chain([0, 60, stored::HEADER_LEN, len - 8]).flat_map(|edge| edge.saturating_sub(1)..=edge + 1);
    edges.chain((0..len).step_by(509)).chain([len - 1, len + 1, len + 4096]).collect()
}

/// Checks that the log is refused for the length of segment `number`, and left as it is.
fn assert_length_is_refused(directory: &Path, number: u64, len: usize) {
    let expected = if len < stored::HEADER_LEN { stored::HEADER_LEN as u64 } else { 64 << 10 };
    unchanged(directory, || {
        let by_log = corruption(try_open(directory, &small()));
        let by_reader = corruption(read_only(directory));
        assert_eq!(by_log, by_reader);
        assert_eq!(by_log.path, segment(directory, number));
        assert_eq!(by_log.damage, Damage::FileLength { expected, found: len as u64 });
    });
}

#[test]
fn a_segment_of_another_length_is_refused() {
    for specimen in [Specimen::closed(), Specimen::dropped()] {
        let dir = scratch();
        specimen.lay_out(dir.path());
        for number in [1, 2] {
            let path = segment(dir.path(), number);
            for len in lengths(&specimen, number) {
                fs::File::options().write(true).open(&path).unwrap().set_len(len as u64).unwrap();
                assert_length_is_refused(dir.path(), number, len);
                fs::write(&path, specimen.segment(number)).unwrap();
            }
        }
    }
}

/// Runs both checks on `range` of segment `number` filled with zeros.
fn check_zeros(bench: &Bench<'_>, number: u64, range: std::ops::Range<usize>) {
    let change = Change { segment: number, bytes: vec![0; range.len()], range };
    bench.check_log(&change);
    bench.check_reader(&change);
    bench.check_inspection(&change);
}

#[test]
fn a_segment_whose_tail_was_never_written_is_torn_or_damaged() {
    for specimen in [Specimen::closed(), Specimen::dropped()] {
        let bench = Bench::new(&specimen);
        for number in [1, 2] {
            for start in (stored::HEADER_LEN..=specimen.end_of(number)).step_by(8) {
                check_zeros(&bench, number, start..specimen.segment(number).len());
            }
        }
    }
}

#[test]
fn a_sector_that_was_never_written_is_torn_or_damaged() {
    for specimen in [Specimen::closed(), Specimen::dropped()] {
        let bench = Bench::new(&specimen);
        for number in [1, 2] {
            for start in (0..specimen.end_of(number)).step_by(SECTOR) {
                check_zeros(&bench, number, start..start + SECTOR);
            }
        }
    }
}

#[test]
fn a_batch_that_has_lost_its_end_is_damage_and_no_other_file() {
    let (dir, left) = (scratch(), scratch());
    let log = open_small(dir.path());
    log.append_batch(&[(1, b"a"), (1, b"b"), (1, b"c")]).unwrap();
    log.sync().unwrap();
    files::copy(dir.path(), left.path());
    drop(log);
    let last = stored::frames(left.path(), 1).pop().unwrap();
    files::edit(&segment(left.path(), 1), |bytes| bytes[last.offset..last.end].fill(0));
    // The control page says that all of it was durable.
    let found = corruption(read_only(left.path()).and_then(|reader| reader.snapshot()));
    assert_eq!((found.path, found.damage), (segment(left.path(), 1), Damage::MissingFrame));
}
