//! What is no log, or is damaged at its edges, is refused by name, and nothing on disk changes.

use std::fs;
use std::path::Path;

use mapwal::error::FormatFault;
use mapwal::error::{Damage, FileKind};
use mapwal::inspect::Inspection;
use mapwal::{Error, Lsn, Options};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::support::files::{copy, edit, segment, segment_numbers, unchanged};
use crate::support::mounted::Mounted;
use crate::support::stored::{frame_of, seal_frame, seal_header};
use crate::support::{append, assert_records, corruption, open, small, try_open};

/// A closed log of at least three segments.
fn closed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &small());
    append(&log, 1..=900);
    log.close().unwrap();
    assert!(segment_numbers(dir.path()).len() >= 3);
    dir
}

/// Refuses to open, and says that of `file`.
fn refused(dir: &Path, file: &Path) -> Damage {
    let corruption = unchanged(dir, || corruption(try_open(dir, &small())));
    assert_eq!(corruption.path, file);
    corruption.damage
}

#[test]
fn a_header_with_another_identity_is_named() {
    let dir = closed();
    let (second, third) = (segment(dir.path(), 2), segment(dir.path(), 3));
    let original = fs::read(&second).unwrap();
    edit(&second, |bytes| bytes[0] ^= 1);
    assert_eq!(refused(dir.path(), &second), Damage::Magic);
    fs::write(&second, &original).unwrap();
    // Its number.
    fs::copy(&third, &second).unwrap();
    assert_eq!(refused(dir.path(), &second), Damage::SegmentNumber { expected: 2, found: 3 });
    fs::write(&second, &original).unwrap();
    // Its version.
    edit(&second, |bytes| {
        bytes[8] = 9;
        seal_header(bytes);
    });
    let version = unchanged(dir.path(), || try_open(dir.path(), &small()).unwrap_err());
    assert!(
        matches!(version, Error::Format { path, fault: FormatFault::Version { found: 9, supported: 3 } } if path == second)
    );
    fs::write(&second, &original).unwrap();
    // Its log.
    edit(&second, |bytes| {
        bytes[32] ^= 1;
        seal_header(bytes);
    });
    assert!(matches!(refused(dir.path(), &second), Damage::ForeignSegment { .. }));
    fs::write(&second, &original).unwrap();
    assert_records(&open(dir.path(), &small()).snapshot().unwrap(), 1, 900);
}

#[test]
fn a_missing_or_a_doubled_segment_is_named() {
    let dir = closed();
    let last = *segment_numbers(dir.path()).last().unwrap();
    for number in [1, 2, last] {
        let copied = tempfile::tempdir().unwrap();
        copy(dir.path(), copied.path());
        let gone = segment(copied.path(), number);
        fs::remove_file(&gone).unwrap();
        assert!(matches!(refused(copied.path(), &gone), Damage::MissingSegment { .. }), "segment {number}");
    }
    let doubled = segment(dir.path(), last + 1);
    fs::copy(segment(dir.path(), 2), &doubled).unwrap();
    assert!(matches!(refused(dir.path(), &doubled), Damage::SegmentNumber { found: 2, .. }));
}

#[test]
fn something_else_in_the_place_of_a_segment_is_named() {
    let dir = closed();
    let second = segment(dir.path(), 2);
    let aside = dir.path().join("aside");
    fs::rename(&second, &aside).unwrap();
    let kind = || match try_open(dir.path(), &small()).unwrap_err() {
        Error::NotARegularFile { path, found } if path == second => found,
        other => panic!("{other}"),
    };
    std::os::unix::fs::symlink(&aside, &second).unwrap();
    assert_eq!(kind(), FileKind::Symlink);
    fs::remove_file(&second).unwrap();
    fs::create_dir(&second).unwrap();
    assert_eq!(kind(), FileKind::Directory);
    fs::remove_dir(&second).unwrap();
    mknodat(CWD, &second, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_eq!(kind(), FileKind::Other);
    fs::remove_file(&second).unwrap();
    fs::write(&second, b"").unwrap();
    assert!(matches!(refused(dir.path(), &second), Damage::FileLength { found: 0, .. }));
    fs::rename(&aside, &second).unwrap();
    assert_records(&open(dir.path(), &small()).snapshot().unwrap(), 1, 900);
}

/// As `e2fsck` leaves them of ext4 without a journal, after the loss of the power.
#[test]
fn an_unfinished_file_that_has_become_a_directory_is_removed_or_passed_over() {
    let dir = closed();
    let last = *segment_numbers(dir.path()).last().unwrap();
    let of = |number: u64| segment(dir.path(), number).with_extension("tmp");
    let (empty, full, page) = (of(last + 1), of(last + 2), dir.path().join("control.tmp"));
    for path in [&empty, &full, &page] {
        fs::create_dir(path).unwrap();
    }
    fs::write(full.join("mine"), "").unwrap();
    Inspection::open(dir.path()).unwrap();
    let log = open(dir.path(), &small());
    assert_records(&log.snapshot().unwrap(), 1, 900);
    log.rotate().unwrap();
    log.append(1, b"more").unwrap();
    log.close().unwrap();
    assert_eq!((empty.exists(), page.exists(), full.join("mine").exists()), (false, false, true));
    assert!(*segment_numbers(dir.path()).last().unwrap() > last + 2, "that number is not used");
}

#[test]
fn a_frame_that_lies_is_damage_although_its_checksum_is_right() {
    let dir = closed();
    // Without the page, which says where the log was closed, all of its last segment is walked.
    fs::remove_file(dir.path().join("control")).unwrap();
    let last = *segment_numbers(dir.path()).last().unwrap();
    let frame = (1..=900).rev().map(|lsn| frame_of(dir.path(), lsn)).find(|frame| frame.segment == last).unwrap();
    let path = segment(dir.path(), last);
    let original = fs::read(&path).unwrap();
    let kind = |bytes: &mut [u8]| bytes[frame.offset + 20] = 99;
    let flags = |bytes: &mut [u8]| bytes[frame.offset + 21] |= 0x80;
    for (lie, expected) in [(&kind as &dyn Fn(&mut [u8]), Damage::FrameKind(99)), (&flags, Damage::Reserved)] {
        edit(&path, |bytes| {
            lie(bytes);
            seal_frame(bytes, frame.offset);
        });
        assert_eq!(refused(dir.path(), &path), expected);
        fs::write(&path, &original).unwrap();
    }
    edit(&path, |bytes| bytes[frame.offset..][..4].copy_from_slice(&u32::MAX.to_le_bytes()));
    assert_eq!(refused(dir.path(), &path), Damage::FrameLength(u32::MAX));
}

#[test]
fn a_directory_of_somebody_elses_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("thesis.txt");
    fs::write(&file, b"chapter 1").unwrap();
    let error = unchanged(dir.path(), || try_open(dir.path(), &small()).unwrap_err());
    assert!(matches!(error, Error::NotALog { path } if path == file));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(matches!(try_open(dir.path(), &small().create(false)), Err(Error::NoLog { .. } | Error::NotALog { .. })));
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error_that_names_it() {
    let dir = closed();
    let Some(read_only) = Mounted::read_only(dir.path()) else { return };
    let error = try_open(read_only.path(), &small()).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path.starts_with(read_only.path())), "{error}");
    let reader = crate::support::read_only(read_only.path()).unwrap();
    assert_records(&reader.snapshot().unwrap(), 1, 900);
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_room() {
    let Some(disk) = Mounted::of_size(600 << 10) else { return };
    let path = disk.path().join("log");
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 256 << 10]).unwrap();
    let log = open(&path, &small());
    let mut appended = 0;
    let refusal = loop {
        match log.append(0, &[7; 1000]) {
            Ok(lsn) => appended = lsn.0,
            Err(error) => break error,
        }
    };
    assert!(matches!(refusal, Error::NoSpace { .. }), "{refusal}");
    assert_eq!(log.sync().unwrap(), Lsn(appended));
    assert_eq!(log.snapshot().unwrap().iter().count() as u64, appended);
    assert!(matches!(log.append(0, &[7; 1000]), Err(Error::NoSpace { .. })));
    fs::remove_file(ballast).unwrap();
    assert_eq!(log.append(0, &[7; 1000]).unwrap(), Lsn(appended + 1));
}

#[test]
fn what_is_too_large_or_out_of_range_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    for size in [0, 1, 32 << 10, (64 << 10) + 1, 8 << 30] {
        let options = Options::new().segment_size_bytes(size);
        assert!(matches!(try_open(dir.path(), &options), Err(Error::InvalidArgument { value, .. }) if value == size));
    }
    assert!(matches!(try_open(dir.path(), &small().first_lsn(Lsn(0))), Err(Error::InvalidArgument { .. })));
    let log = open(dir.path(), &small());
    let max = log.payload_len_max();
    let large = vec![1; usize::try_from(max).unwrap() + 1];
    assert!(matches!(log.append(0, &large), Err(Error::RecordTooLarge { len, max: m }) if len == max + 1 && m == max));
    let refused = log.append_batch(&[(0, &large[1..]), (0, b"one more")]).unwrap_err();
    assert!(refused.to_string().starts_with("a record or batch of "), "{refused}");
    assert_eq!(log.next_lsn(), Lsn(1));
    assert_eq!(log.append(0, &large[1..]).unwrap(), Lsn(1));
}

#[test]
fn a_mode_that_is_refused_is_told_in_octal() {
    let dir = tempfile::tempdir().unwrap();
    for (mode, said) in [(0o755, "file_mode = 0o755 is not "), (0o60, "file_mode = 0o60 is not ")] {
        let refused = try_open(dir.path(), &small().file_mode(mode)).unwrap_err().to_string();
        assert!(refused.starts_with(said) && refused.ends_with("execute bits are not allowed"), "{refused}");
    }
    let refused = try_open(dir.path(), &small().sync_bytes(Some(493))).unwrap_err().to_string();
    assert!(refused.starts_with("sync_bytes = 493 is not "), "{refused}");
}

#[test]
fn a_second_open_says_that_this_process_has_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let _log = open(dir.path(), &small());
    let error = try_open(dir.path(), &small()).unwrap_err();
    assert!(matches!(error, Error::Locked { pid: Some(pid), .. } if pid == std::process::id()));
    assert!(error.to_string().contains("by this process"), "{error}");
}
