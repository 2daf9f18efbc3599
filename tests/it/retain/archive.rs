//! Sealed segments: listed, copied away, checked, and opened again elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use mapwal::error::{Corruption, Damage};
use mapwal::inspect::{Inspection, VerifyOptions, verify_segment};
use mapwal::{Error, Log, Lsn, Options, Result, SealedSegment};
use tempfile::TempDir;

use crate::support::scratch::{append_stamped, contents, open_small, scratch, stamped};
use crate::support::stored;
use crate::support::{corruption, open, read_archive, read_only, small, try_open};

/// Copies of the sealed segments of a log of `count` full ones with ten records each, under their names.
fn archive(count: u64) -> TempDir {
    let (dir, copy) = (scratch(), scratch());
    let log = open_small(dir.path());
    for segment in 0..count {
        append_stamped(&log, segment * 10 + 1, 100, 10);
        log.put_meta(0, &segment.to_le_bytes()).unwrap();
        log.rotate().unwrap();
    }
    append_stamped(&log, 5_000, 100, 1);
    log.sync().unwrap();
    for segment in log.sealed(0).unwrap() {
        fs::copy(segment.path(), copy.path().join(segment.path().file_name().unwrap())).unwrap();
    }
    copy
}

fn archived() -> Options {
    small().archive(true)
}

fn segment(dir: &TempDir, number: u64) -> PathBuf {
    dir.path().join(format!("{number:020}.seg"))
}

fn records(count: u64) -> Vec<(u64, Vec<u8>)> {
    (1..=count).map(|number| (number, stamped(number, 100))).collect()
}

/// That a writer and a reader both refuse the directory, with the same words.
fn refused(path: &Path) -> Corruption {
    let damage = |error| match error {
        Error::Corrupt(corruption) => *corruption,
        error => panic!("{error:?}"),
    };
    let by_writer = damage(try_open(path, &archived()).map(|_: Log| ()).unwrap_err());
    let by_reader: Result<_> = read_archive(path).map(|_| ());
    if let Err(error) = by_reader {
        assert_eq!(damage(error).path, by_writer.path);
    }
    by_writer
}

#[test]
fn segments_are_listed_from_any_number_as_far_as_they_are_durable() {
    let dir = scratch();
    let log = open_small(dir.path());
    append_stamped(&log, 1, 100, 10);
    log.rotate().unwrap();
    append_stamped(&log, 11, 100, 10);
    assert!(log.sealed(0).unwrap().is_empty(), "sealed, and not yet durable");
    log.sync().unwrap();
    log.rotate().unwrap();
    let numbers = |after| log.sealed(after).unwrap().iter().map(SealedSegment::number).collect::<Vec<_>>();
    assert_eq!((numbers(0), numbers(1)), (vec![1], vec![]));
    log.sync().unwrap();
    append_stamped(&log, 21, 100, 1);
    log.sync().unwrap();
    assert_eq!((numbers(0), numbers(1), numbers(2)), (vec![1, 2], vec![2], vec![]));
    let sealed = log.sealed(1).unwrap();
    assert_eq!((sealed[0].first_lsn(), sealed[0].next_lsn(), sealed[0].file_len_bytes()), (Lsn(11), Lsn(21), 64 << 10));
    let on_disk = fs::read(sealed[0].path()).unwrap();
    assert_eq!(sealed[0].bytes(), &on_disk[..sealed[0].bytes().len()]);
    assert_eq!(sealed[0].checksum(), crc32fast::hash(sealed[0].bytes()));
    assert_eq!(sealed[0].file().unwrap().metadata().unwrap().len(), 64 << 10);
}

#[test]
fn a_restored_copy_holds_the_same_records_and_metadata() {
    let copy = archive(4);
    let reader = read_archive(copy.path()).unwrap();
    let seen: Vec<_> = reader
        .snapshot()
        .unwrap()
        .iter()
        .map(|r| (r.as_ref().unwrap().lsn().0, r.unwrap().payload().to_vec()))
        .collect();
    assert_eq!(seen, records(40));
    drop(reader);
    let log = open(copy.path(), &archived());
    assert_eq!(contents(&log), records(40));
    assert_eq!(log.meta(0).unwrap(), 3_u64.to_le_bytes());
    assert_eq!(append_stamped(&log, 41, 100, 1), Lsn(41));
    drop(log);
    assert_eq!(contents(&open_small(copy.path())), records(41));
}

#[test]
fn a_copy_of_the_last_segments_only_begins_with_the_first_of_them() {
    let copy = archive(4);
    fs::remove_file(segment(&copy, 1)).unwrap();
    fs::remove_file(segment(&copy, 2)).unwrap();
    let log = open(copy.path(), &archived());
    assert_eq!((log.first_lsn(), contents(&log)), (Lsn(21), records(40)[20..].to_vec()));
}

#[test]
fn one_missing_in_the_middle_is_named() {
    for missing in 2..=4 {
        let copy = archive(5);
        fs::remove_file(segment(&copy, missing)).unwrap();
        let found = refused(copy.path());
        assert_eq!(
            (found.path, found.damage),
            (segment(&copy, missing), Damage::MissingSegment { referrer: missing + 1 })
        );
    }
}

#[test]
fn a_duplicate_under_another_number_is_named() {
    for number in [3, 9] {
        let copy = archive(4);
        fs::copy(segment(&copy, 2), segment(&copy, number)).unwrap();
        let found = refused(copy.path());
        assert_eq!(
            (found.path, found.damage),
            (segment(&copy, number), Damage::SegmentNumber { expected: number, found: 2 })
        );
    }
}

#[test]
fn a_segment_of_another_log_is_named() {
    for number in [1, 2, 4, 5] {
        let (copy, other) = (archive(4), archive(5));
        fs::copy(segment(&other, number), segment(&copy, number)).unwrap();
        let found = refused(copy.path());
        assert_eq!(found.path, segment(&copy, number));
        assert!(matches!(found.damage, Damage::ForeignSegment { .. }), "{}", found.damage);
    }
}

#[test]
fn one_cut_short_is_named() {
    let copy = archive(3);
    fs::File::options().write(true).open(segment(&copy, 2)).unwrap().set_len(60_000).unwrap();
    let found = refused(copy.path());
    assert_eq!(
        (found.path, found.damage),
        (segment(&copy, 2), Damage::FileLength { expected: 64 << 10, found: 60_000 })
    );
}

#[test]
fn a_segment_is_verified_from_its_file_and_from_its_bytes() {
    let dir = scratch();
    let log = open_small(dir.path());
    append_stamped(&log, 1, 100, 10);
    log.append_batch(&[(1, b"a"), (2, b"b")]).unwrap();
    log.rotate().unwrap();
    append_stamped(&log, 13, 100, 3);
    log.sync().unwrap();
    let sealed = log.sealed(0).unwrap().remove(0);
    let from_bytes = verify_segment(sealed.bytes()).unwrap();
    assert_eq!(verify_segment(&fs::read(sealed.path()).unwrap()).unwrap(), from_bytes);
    assert_eq!((from_bytes.number, from_bytes.records, from_bytes.sealed), (1, 12, true));
    assert_eq!((from_bytes.first_lsn, from_bytes.next_lsn), (sealed.first_lsn(), sealed.next_lsn()));
    assert_eq!(
        (from_bytes.len_bytes, from_bytes.file_len_bytes),
        (sealed.bytes().len() as u64, sealed.file_len_bytes())
    );
    // The one that takes appends is no sealed one, and as good.
    let active = verify_segment(&fs::read(dir.path().join("00000000000000000002.seg")).unwrap()).unwrap();
    assert_eq!((active.log_id, active.records, active.sealed), (from_bytes.log_id, 3, false));
}

#[test]
fn every_changed_byte_of_a_segment_is_refused() {
    let dir = scratch();
    let log = open_small(dir.path());
    append_stamped(&log, 1, 21, 2);
    log.append_batch(&[(1, b"a"), (2, b"b")]).unwrap();
    log.put_meta(5, b"meta").unwrap();
    log.rotate().unwrap();
    log.sync().unwrap();
    append_stamped(&log, 5, 21, 1);
    log.sync().unwrap();
    let good = log.sealed(0).unwrap()[0].bytes().to_vec();
    verify_segment(&good).unwrap();
    let mut bytes = good.clone();
    for at in 0..bytes.len() {
        for change in [1, 0x80, 0xff] {
            bytes[at] ^= change;
            let refused = verify_segment(&bytes);
            assert!(matches!(refused, Err(Error::Corrupt(_) | Error::Format { .. })), "byte {at}: {refused:?}");
            bytes[at] = good[at];
        }
    }
    // Neither may a part of a frame, or anything after the last one, be taken for its end.
    for len in 0..good.len() {
        let cut = verify_segment(&good[..len]);
        assert!(!cut.is_ok_and(|summary| summary.sealed), "{len} bytes");
    }
    let mut whole = good.clone();
    whole.resize(64 << 10, 0);
    verify_segment(&whole).unwrap();
    for at in [good.len(), good.len() + 7, whole.len() - 1] {
        whole[at] = 1;
        assert!(verify_segment(&whole).is_err(), "byte {at} after the end");
        whole[at] = 0;
    }
}

/// How many places of the log in `path` are damaged.
fn damaged_places(path: &Path, archive: bool) -> usize {
    let options = VerifyOptions::new().archive(archive);
    Inspection::open(path).unwrap().verify(options, &mut |_| {}).unwrap().damage.len()
}

#[test]
fn newest_segments_that_are_gone_are_missed_without_a_control_page() {
    let copy = archive(4);
    for last in [4, 3, 2] {
        let missing = segment(&copy, last + 1);
        let found = corruption(try_open(copy.path(), &small()));
        assert_eq!((found.path, found.damage), (missing, Damage::MissingSegment { referrer: last }));
        assert_eq!((damaged_places(copy.path(), false), damaged_places(copy.path(), true)), (1, 0));
        fs::remove_file(segment(&copy, last)).unwrap();
    }
    assert_eq!(contents(&open(copy.path(), &archived())), records(10));
    assert_eq!(damaged_places(copy.path(), false), 0, "it goes on in another segment");
}

#[test]
fn the_number_of_a_segment_that_was_not_copied_does_not_come_back() {
    let copy = archive(2);
    drop(open(copy.path(), &archived()));
    assert!(!segment(&copy, 3).exists() && segment(&copy, 4).exists());
}

#[test]
fn a_sealed_copy_proves_itself_without_the_next_one() {
    let copy = archive(1);
    let good = fs::read(segment(&copy, 1)).unwrap();
    assert_eq!(verify_segment(&good).unwrap().records, 10);
    // A good frame in the place of another one: what two copies of a log leave that went on apart, and were mixed.
    let frame = stored::frame_of(copy.path(), 5);
    let mut mixed = good.clone();
    mixed[frame.offset + stored::FRAME_HEADER_LEN] ^= 1;
    stored::seal_frame(&mut mixed, frame.offset);
    let Err(Error::Corrupt(found)) = verify_segment(&mixed) else { panic!("not noticed") };
    let seal = stored::frames(copy.path(), 1).pop().unwrap();
    assert_eq!((found.offset, &found.damage), (seal.offset as u64, &Damage::SegmentSum));
    fs::write(segment(&copy, 1), &mixed).unwrap();
    let by_writer = corruption(try_open(copy.path(), &archived()));
    assert_eq!((by_writer.offset, by_writer.damage), (found.offset, Damage::SegmentSum));
    assert_eq!(damaged_places(copy.path(), true), 1);
}

/// The sealed segments one after the other, as an archiver takes them: numbers, and that each names the one before.
fn taken(next: impl Fn(u64) -> Result<Option<SealedSegment>>) -> Vec<u64> {
    let (mut numbers, mut tip) = (Vec::new(), None);
    while let Some(segment) = next(numbers.last().copied().unwrap_or(0)).unwrap() {
        assert_eq!(segment.predecessor(), tip);
        let summary = verify_segment(segment.bytes()).unwrap();
        assert_eq!((summary.tip, summary.predecessor), (segment.tip(), segment.predecessor()));
        tip = Some(segment.tip());
        numbers.push(segment.number());
    }
    numbers
}

#[test]
fn an_archiver_takes_segments_one_by_one_in_the_process_of_the_writer_and_in_another() {
    let dir = scratch();
    let log = open_small(dir.path());
    let other = read_only(dir.path()).unwrap();
    for segment in 0..3 {
        append_stamped(&log, segment * 10 + 1, 100, 10);
        log.rotate().unwrap();
        assert_eq!(taken(|after| log.next_sealed(after)).len() as u64, segment, "what is not durable is not taken");
        assert_eq!(taken(|after| other.next_sealed(after)).len() as u64, segment);
        log.sync().unwrap();
        assert_eq!(taken(|after| log.next_sealed(after)).len() as u64, segment + 1);
        assert_eq!(taken(|after| other.next_sealed(after)).len() as u64, segment + 1);
    }
    append_stamped(&log, 31, 100, 1);
    drop(log);
    let again = open_small(dir.path());
    assert_eq!(taken(|after| again.next_sealed(after)), [1, 2, 3, 4]);
    assert_eq!(taken(|after| other.next_sealed(after)), [1, 2, 3, 4]);
}

#[test]
fn what_is_durable_of_the_active_segment_ends_with_the_last_durable_record() {
    let dir = scratch();
    let log = open_small(dir.path());
    let other = read_only(dir.path()).unwrap();
    let mut before = Vec::new();
    for count in [1, 7, 30] {
        append_stamped(&log, log.next_lsn().0, 100, count);
        log.sync().unwrap();
        let durable = log.next_lsn();
        append_stamped(&log, durable.0, 100, 3); // not durable
        for prefix in [log.durable_prefix(), other.durable_prefix()] {
            let prefix = prefix.unwrap().unwrap();
            assert_eq!((prefix.number(), prefix.first_lsn(), prefix.next_lsn()), (1, Lsn(1), durable));
            assert!(prefix.bytes().starts_with(&before), "it only grows");
            let summary = verify_segment(prefix.bytes()).unwrap();
            assert_eq!((summary.next_lsn, summary.len_bytes), (durable, prefix.bytes().len() as u64));
        }
        before = log.durable_prefix().unwrap().unwrap().bytes().to_vec();
        log.sync().unwrap();
    }
    log.rotate().unwrap();
    log.sync().unwrap();
    let prefix = log.durable_prefix().unwrap().unwrap();
    assert_eq!((prefix.number(), prefix.next_lsn()), (2, log.next_lsn()));
    assert_eq!(prefix.predecessor(), Some(log.sealed(0).unwrap()[0].tip()));
    assert!(prefix.is_bare(), "it has no record");
    log.put_meta(1, b"and no other contents").unwrap();
    log.sync().unwrap();
    for prefix in [log.durable_prefix(), other.durable_prefix()] {
        assert!(!prefix.unwrap().unwrap().is_bare());
    }
}

#[test]
fn damage_of_what_was_durable_is_not_archived() {
    let dir = scratch();
    let log = open_small(dir.path());
    append_stamped(&log, 1, 100, 10);
    log.rotate().unwrap();
    log.sync().unwrap();
    append_stamped(&log, 11, 100, 10); // which say that the others were durable
    log.sync().unwrap();
    drop(log);
    let path = segment(&dir, 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 + 600] ^= 1;
    fs::write(&path, bytes).unwrap();
    let log = open_small(dir.path());
    match log.next_sealed(0) {
        Err(Error::Corrupt(corruption)) => assert_eq!(corruption.path, path),
        taken => panic!("it is checked before it is handed out: {taken:?}"),
    }
    let other = read_only(dir.path()).unwrap();
    assert!(matches!(other.next_sealed(0), Err(Error::Corrupt(_))));
}

#[test]
fn copies_of_segments_that_the_log_has_trimmed_since_count_in_an_archive() {
    let (dir, copy) = (scratch(), scratch());
    let log = open_small(dir.path());
    for segment in 0..4 {
        append_stamped(&log, segment * 10 + 1, 100, 10);
        log.rotate().unwrap();
        log.sync().unwrap();
        let sealed = log.sealed(segment).unwrap().remove(0);
        fs::copy(sealed.path(), copy.path().join(sealed.path().file_name().unwrap())).unwrap();
        log.trim_before(sealed.next_lsn()).unwrap();
    }
    assert_eq!(read_archive(copy.path()).unwrap().first_lsn().unwrap(), Lsn(1));
    let restored = open(copy.path(), &archived());
    assert_eq!(contents(&restored), records(40));
    drop(restored);
    assert_eq!(contents(&open_small(copy.path())), records(40), "its new segment says so from then on");
}

#[test]
fn a_pin_can_be_handed_to_another_owner() {
    let dir = scratch();
    let log = open_small(dir.path());
    log.create_pin("a", "one", Lsn(1), Some(1 << 20)).unwrap();
    log.assign_pin("a", "two").unwrap();
    let pins = mapwal::PinDirectory::open(dir.path()).unwrap();
    assert_eq!(pins.list().unwrap()[0].owner, "two");
    pins.assign("a", "three").unwrap();
    let pin = log.pins().remove(0);
    assert_eq!((pin.owner.as_str(), pin.lsn, pin.limit_bytes), ("three", Lsn(1), Some(1 << 20)));
    append_stamped(&log, 1, 100, 1);
    log.advance_pin("a", Lsn(2)).unwrap();
    assert_eq!(log.pins()[0].owner, "three", "moving it keeps the owner");
    assert!(matches!(log.assign_pin("b", "one"), Err(Error::Pin { .. })));
}
