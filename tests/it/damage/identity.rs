//! Segments that are not what their header, their name or their place among the others says.

use std::fs;
use std::path::{Path, PathBuf};

use mapwal::error::{Corruption, Damage, FormatFault};
use mapwal::inspect::Inspection;
use mapwal::{Error, Lsn, PinDirectory};
use tempfile::TempDir;

use crate::format::page;
use crate::support::files::{self, edit, segment, unchanged};
use crate::support::scratch::{await_spare, open_small, scratch};
use crate::support::stored::{self, COMPATIBLE, INCOMPATIBLE, LOG_ID, NUMBER, READ_ONLY, SEGMENT_SIZE, VERSION};
use crate::support::{append, assert_records, corruption, read_only, small, try_open};

/// A closed log with ten records in each of four segments.
fn log() -> TempDir {
    let dir = scratch();
    let log = open_small(dir.path());
    for first in [1, 11, 21, 31] {
        append(&log, first..=first + 9);
        if first < 31 {
            log.rotate().unwrap();
        }
    }
    log.close().unwrap();
    dir
}

/// The damage by which both kinds of open refuse the log, which they leave as it is.
fn refusal(directory: &Path) -> Corruption {
    unchanged(directory, || {
        let by_log = corruption(try_open(directory, &small()));
        assert_eq!(corruption(read_only(directory)), by_log);
        by_log
    })
}

/// Changes the header of segment 2, makes its checksum right again, and returns what the log is refused for.
fn refusal_of_header(change: impl FnOnce(&mut [u8])) -> (TempDir, Corruption) {
    let dir = log();
    edit(&segment(dir.path(), 2), |bytes| {
        change(bytes);
        stored::seal_header(bytes);
    });
    let corruption = refusal(dir.path());
    assert_eq!(corruption.path, segment(dir.path(), 2));
    (dir, corruption)
}

#[test]
fn a_file_that_does_not_begin_like_a_segment_is_refused() {
    let (_, corruption) = refusal_of_header(|bytes| bytes[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0"));
    assert_eq!((corruption.offset, corruption.damage), (0, Damage::Magic));
}

#[test]
fn a_header_with_a_wrong_checksum_is_refused() {
    let dir = log();
    edit(&segment(dir.path(), 3), |bytes| bytes[50] ^= 1);
    let corruption = refusal(dir.path());
    assert_eq!((&corruption.path, corruption.offset), (&segment(dir.path(), 3), 4092));
    assert!(matches!(corruption.damage, Damage::Checksum { .. }));
}

#[test]
fn a_flipped_bit_of_the_version_is_damage_and_no_other_version() {
    for bit in 0..32 {
        let dir = log();
        edit(&segment(dir.path(), 2), |bytes| bytes[VERSION.start + bit / 8] ^= 1 << (bit % 8));
        let corruption = refusal(dir.path());
        let found = 3 ^ 1 << bit;
        assert_eq!((corruption.offset, corruption.damage), (8, Damage::HeaderVersion(found)));
    }
}

#[test]
fn reserved_bytes_of_a_header_are_under_its_checksum_and_mean_nothing_else() {
    let dir = log();
    edit(&segment(dir.path(), 2), |bytes| bytes[4000] = 1);
    let corruption = refusal(dir.path());
    assert_eq!((&corruption.path, corruption.offset), (&segment(dir.path(), 2), 4092));
    // A later version may use them for what nobody has to know.
    edit(&segment(dir.path(), 2), |bytes| stored::seal_header(bytes));
    assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, 40);
}

#[test]
fn features_that_are_not_known_are_refused_by_versions_that_must_know_them() {
    let with_feature = |field: std::ops::Range<usize>| {
        let dir = log();
        edit(&segment(dir.path(), 2), |bytes| {
            bytes[field].copy_from_slice(&0x100_u32.to_le_bytes());
            stored::seal_header(bytes);
        });
        unchanged(dir.path(), || {
            let refuses = |result: mapwal::Result<()>| match result {
                Ok(()) => false,
                Err(Error::Format { path, fault: FormatFault::Features { unknown: 0x100 } }) => {
                    path == segment(dir.path(), 2)
                }
                Err(other) => panic!("{other}"),
            };
            [refuses(try_open(dir.path(), &small()).map(drop)), refuses(read_only(dir.path()).map(drop))]
        })
    };
    assert_eq!(with_feature(INCOMPATIBLE), [true, true]);
    assert_eq!(with_feature(READ_ONLY), [true, false], "it may be read");
    assert_eq!(with_feature(COMPATIBLE), [false, false], "it may be written");
}

#[test]
fn a_version_of_the_format_that_is_not_known_is_refused() {
    let dir = log();
    edit(&segment(dir.path(), 2), |bytes| {
        bytes[VERSION].copy_from_slice(&7_u32.to_le_bytes());
        stored::seal_header(bytes);
    });
    unchanged(dir.path(), || {
        for error in [try_open(dir.path(), &small()).map(drop), read_only(dir.path()).map(drop)] {
            match error.unwrap_err() {
                Error::Format { path, fault: FormatFault::Version { found: 7, supported: 3 } } => {
                    assert_eq!(path, segment(dir.path(), 2))
                }
                other => panic!("{other}"),
            }
        }
    });
}

#[test]
fn a_segment_size_out_of_range_is_refused() {
    for size in [0, 4096, 65535, 65536 * 3, 8 << 30, u64::MAX] {
        let (_, corruption) = refusal_of_header(|bytes| bytes[SEGMENT_SIZE].copy_from_slice(&size.to_le_bytes()));
        assert_eq!((corruption.offset, corruption.damage), (16, Damage::SegmentSize(size)));
    }
}

#[test]
fn a_segment_size_that_is_not_the_files_is_refused() {
    let (_, corruption) =
        refusal_of_header(|bytes| bytes[SEGMENT_SIZE].copy_from_slice(&(128_u64 << 10).to_le_bytes()));
    assert_eq!(corruption.damage, Damage::FileLength { expected: 128 << 10, found: 64 << 10 });
}

#[test]
fn a_number_that_is_not_the_names_is_refused() {
    let (_, corruption) = refusal_of_header(|bytes| bytes[NUMBER].copy_from_slice(&9_u64.to_le_bytes()));
    assert_eq!(corruption.damage, Damage::SegmentNumber { expected: 2, found: 9 });
}

#[test]
fn a_segment_of_another_log_is_refused() {
    for number in [1, 2, 4] {
        let (dir, other) = (log(), log());
        fs::copy(segment(other.path(), number), segment(dir.path(), number)).unwrap();
        let corruption = refusal(dir.path());
        assert_eq!(corruption.path, segment(dir.path(), number));
        let id = |path| u128::from_le_bytes(fs::read(path).unwrap()[LOG_ID].try_into().unwrap());
        let (expected, found) = (id(segment(dir.path(), 3)), id(segment(other.path(), number)));
        assert_eq!(corruption.damage, Damage::ForeignSegment { expected, found });
    }
}

#[test]
fn segments_that_have_changed_places_are_refused() {
    let dir = log();
    let aside = dir.path().join("aside");
    fs::rename(segment(dir.path(), 2), &aside).unwrap();
    fs::rename(segment(dir.path(), 3), segment(dir.path(), 2)).unwrap();
    fs::rename(aside, segment(dir.path(), 3)).unwrap();
    let corruption = refusal(dir.path());
    assert_eq!(corruption.path, segment(dir.path(), 2));
    assert_eq!(corruption.damage, Damage::SegmentNumber { expected: 2, found: 3 });
}

#[test]
fn a_second_copy_of_a_segment_is_refused() {
    for copy in [5, 9] {
        let dir = log();
        fs::copy(segment(dir.path(), 2), segment(dir.path(), copy)).unwrap();
        let corruption = refusal(dir.path());
        assert_eq!(corruption.path, segment(dir.path(), copy));
        assert_eq!(corruption.damage, Damage::SegmentNumber { expected: copy, found: 2 });
    }
}

#[test]
fn a_second_name_of_a_segments_file_is_refused_by_its_number() {
    for link in [5, 9] {
        let dir = log();
        fs::hard_link(segment(dir.path(), 2), segment(dir.path(), link)).unwrap();
        let corruption = refusal(dir.path());
        assert_eq!(corruption.path, segment(dir.path(), link));
        assert_eq!(corruption.damage, Damage::SegmentNumber { expected: link, found: 2 });
    }
}

#[test]
fn a_segments_file_in_the_place_of_another_is_refused_by_its_number() {
    let dir = log();
    fs::remove_file(segment(dir.path(), 3)).unwrap();
    fs::hard_link(segment(dir.path(), 2), segment(dir.path(), 3)).unwrap();
    let corruption = refusal(dir.path());
    assert_eq!(corruption.path, segment(dir.path(), 3));
    assert_eq!(corruption.damage, Damage::SegmentNumber { expected: 3, found: 2 });
}

#[test]
fn a_name_that_is_not_the_logs_keeps_a_trimmed_segments_file() {
    let dir = log();
    let (kept, before) = (dir.path().join("kept"), fs::read(segment(dir.path(), 1)).unwrap());
    fs::hard_link(segment(dir.path(), 1), &kept).unwrap();
    let log = open_small(dir.path());
    assert_records(&log.snapshot().unwrap(), 1, 40);
    assert_eq!(log.trim_before(Lsn(11)).unwrap(), 1);
    log.close().unwrap();
    assert!(!segment(dir.path(), 1).exists());
    assert_eq!(fs::read(kept).unwrap(), before);
    assert_records(&open_small(dir.path()).snapshot().unwrap(), 11, 40);
}

#[test]
fn an_older_state_of_a_segment_is_damage() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=10);
    log.sync().unwrap();
    let older = fs::read(segment(dir.path(), 1)).unwrap();
    append(&log, 11..=20);
    log.rotate().unwrap();
    append(&log, 21..=30);
    log.close().unwrap();
    fs::write(segment(dir.path(), 1), older).unwrap();
    let by_log = try_open(dir.path(), &small()).and_then(|log| log.snapshot()?.iter().try_for_each(|r| r.map(drop)));
    let by_reader = read_only(dir.path()).and_then(|log| log.snapshot()?.iter().try_for_each(|r| r.map(drop)));
    for read in [by_log, by_reader] {
        let corruption = corruption(read);
        assert_eq!((corruption.path, corruption.damage), (segment(dir.path(), 1), Damage::MissingFrame));
    }
}

#[test]
fn a_segment_of_the_middle_that_is_missing_is_refused() {
    for number in [2, 3] {
        let dir = log();
        fs::remove_file(segment(dir.path(), number)).unwrap();
        let corruption = refusal(dir.path());
        assert_eq!(corruption.path, segment(dir.path(), number));
        assert_eq!(corruption.damage, Damage::MissingSegment { referrer: number + 1 });
    }
}

#[test]
fn a_first_segment_that_is_missing_is_refused() {
    let dir = log();
    fs::remove_file(segment(dir.path(), 1)).unwrap();
    let corruption = refusal(dir.path());
    assert_eq!(corruption.path, segment(dir.path(), 1));
    assert_eq!(corruption.damage, Damage::MissingSegment { referrer: 2 });
}

#[test]
fn a_last_segment_that_is_missing_is_refused() {
    let dir = log();
    fs::remove_file(segment(dir.path(), 4)).unwrap();
    let by_log = corruption(try_open(dir.path(), &small()));
    let by_reader = corruption(read_only(dir.path()).and_then(|reader| reader.snapshot()));
    assert_eq!((&by_log.path, &by_reader.path), (&segment(dir.path(), 4), &segment(dir.path(), 4)));
    assert_eq!(by_log.damage, Damage::MissingSegment { referrer: 3 }, "says its seal");
    assert_eq!(by_reader.damage, Damage::MissingEnd { after: 3 }, "says the control page");
}

/// The files of `log` without its segments, and without those of `left_out`.
fn without_segments(log: &Path, left_out: &[&str]) -> TempDir {
    let dir = scratch();
    files::copy(log, dir.path());
    (1..=4).for_each(|number| fs::remove_file(segment(dir.path(), number)).unwrap());
    left_out.iter().for_each(|name| fs::remove_file(dir.path().join(name)).unwrap());
    dir
}

#[test]
fn a_log_of_which_a_spare_alone_is_left_is_missed_by_its_control_page() {
    let (dir, left) = (scratch(), scratch());
    let log = open_small(dir.path());
    append(&log, 1..=10);
    log.sync().unwrap();
    await_spare(&log);
    files::copy(dir.path(), left.path());
    drop(log);
    fs::remove_file(segment(left.path(), 1)).unwrap();
    assert_eq!(files::segment_numbers(left.path()), [2]);
    let missing = refusal(left.path());
    assert_eq!((missing.path, missing.damage), (segment(left.path(), 1), Damage::MissingEnd { after: 0 }));
    // Nothing tells of it then, unless a pin does.
    fs::remove_file(left.path().join("control")).unwrap();
    let pinned = scratch();
    files::copy(left.path(), pinned.path());
    assert_eq!(open_small(left.path()).next_lsn(), Lsn(1));
    fs::create_dir(pinned.path().join("pins")).unwrap();
    PinDirectory::open(dir.path()).unwrap().create("replica", "me", Lsn(9), None).unwrap();
    fs::copy(dir.path().join("pins/replica"), pinned.path().join("pins/replica")).unwrap();
    let missing = refusal(pinned.path());
    assert_eq!(missing.damage, Damage::AllSegmentsMissing { witness: "pins/replica".to_owned() });
    assert_eq!(missing.lsn, Some(Lsn(8)));
}

#[test]
fn a_log_without_a_segment_is_missed_by_what_tells_of_it() {
    let original = log();
    let by_page = without_segments(original.path(), &[]);
    let by_page_alone = without_segments(original.path(), &["LOCK"]);
    PinDirectory::open(original.path()).unwrap().create("replica", "me", Lsn(31), None).unwrap();
    let by_pin = without_segments(original.path(), &["control", "LOCK"]);
    let pins = by_pin.path().join("pins");
    fs::create_dir(&pins).unwrap();
    fs::copy(original.path().join("pins/replica"), pins.join("replica")).unwrap();
    let page_says = (segment(Path::new(""), 4), Some(Lsn(40)), "control");
    let pin_says = (PathBuf::new(), Some(Lsn(30)), "pins/replica");
    for (dir, (file, lsn, witness)) in [(&by_page, &page_says), (&by_page_alone, &page_says), (&by_pin, &pin_says)] {
        let found = refusal(dir.path());
        assert_eq!((found.path, found.lsn), (dir.path().join(file), *lsn));
        assert_eq!(found.damage, Damage::AllSegmentsMissing { witness: (*witness).to_owned() });
        let by_others = [
            Inspection::open(dir.path()).map(drop),
            PinDirectory::open(dir.path()).and_then(|pins| pins.create("other", "me", Lsn(1), None)),
            try_open(dir.path(), &small().create(false)).map(drop),
            try_open(dir.path(), &small().archive(true)).map(drop),
        ];
        by_others.into_iter().for_each(|refused| assert_eq!(corruption(refused).lsn, *lsn));
    }
    let text = try_open(by_page.path(), &small()).unwrap_err().to_string();
    let says = "00000000000000000004.seg is damaged at offset 0 (record 40): all segments are missing; control says that there were some";
    assert!(text.ends_with(says), "{text}");
}

#[test]
fn what_a_writer_leaves_that_died_before_its_first_sync_is_no_log_that_was_lost() {
    let original = log();
    let has_said = |what: fn(&mut Vec<u8>)| {
        let dir = without_segments(original.path(), &[]);
        edit(&dir.path().join("control"), what);
        dir
    };
    let begun = [
        without_segments(original.path(), &["control"]),
        has_said(|page| page::forget_durable(page)),
        has_said(|page| page.fill(0)),
        has_said(|page| page[8] ^= 1),
        has_said(|page| page.truncate(100)),
    ];
    for dir in begun {
        // A damaged pin tells of nothing, nor does a stranger.
        fs::create_dir(dir.path().join("pins")).unwrap();
        fs::write(dir.path().join("pins/damaged"), [7; 96]).unwrap();
        fs::write(dir.path().join("pins/.hidden"), "").unwrap();
        fs::write(dir.path().join("00000000000000000001.tmp"), "").unwrap();
        assert!(matches!(read_only(dir.path()), Err(Error::NoLog { .. })));
        append(&open_small(dir.path()), 1..=9);
        assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, 9);
    }
}

#[test]
fn a_last_segment_that_a_seal_names_is_missed_without_a_control_page() {
    let dir = log();
    fs::remove_file(segment(dir.path(), 4)).unwrap();
    fs::remove_file(dir.path().join("control")).unwrap();
    let by_log = corruption(try_open(dir.path(), &small()));
    let by_reader = corruption(read_only(dir.path()).and_then(|reader| reader.snapshot()));
    assert_eq!(by_reader.damage, Damage::MissingSegment { referrer: 3 });
    assert_eq!(by_reader, by_log);
}

#[test]
fn a_reader_misses_a_last_segment_after_one_that_was_not_sealed() {
    let dir = scratch();
    append(&open_small(dir.path()), 1..=10);
    let log = open_small(dir.path());
    append(&log, 11..=20);
    log.sync().unwrap();
    drop(log);
    let number = stored::frame_of(dir.path(), 11).segment;
    fs::remove_file(segment(dir.path(), number)).unwrap();
    let corruption = corruption(read_only(dir.path()).and_then(|reader| reader.snapshot()));
    assert_eq!(corruption.path, segment(dir.path(), number));
    assert_eq!(corruption.damage, Damage::MissingEnd { after: 1 });
}

#[test]
fn a_copy_without_the_page_of_watermarks_is_the_log() {
    let (dir, copy) = (log(), scratch());
    for number in 1..=4 {
        fs::copy(segment(dir.path(), number), segment(copy.path(), number)).unwrap();
    }
    assert_records(&read_only(copy.path()).unwrap().snapshot().unwrap(), 1, 40);
    assert_records(&open_small(copy.path()).snapshot().unwrap(), 1, 40);
}
