//! Frames that say what no writer would say, under a checksum that is right. They are damage, named with file and
//! offset, where they come before what was durable; and nothing they say is believed before it is checked.

use std::fs;
use std::path::Path;

use mapwal::error::NumberSpace;
use mapwal::error::{Corruption, Damage};
use mapwal::inspect::{Inspection, VerifyOptions, verify_segment};
use mapwal::{Error, Lsn, Visibility};
use tempfile::TempDir;

use crate::format::spec::{self, CLOSE, LINK, Link, META, SEAL, TRUNCATE, encode_meta};
use crate::support::files::{edit, segment};
use crate::support::scratch::{append_stamped, open_small, scratch};
use crate::support::stored::{self, FLAGS, FRAME_HEADER_LEN, KIND, LEN, LSN, StoredFrame, TAG};
use crate::support::{append, closed_log, read_only, small, try_open};

/// Changes the bytes of a segment from a frame's start on, and makes the frame's checksum right again.
fn forge(directory: &Path, frame: &StoredFrame, change: impl FnOnce(&mut [u8])) {
    edit(&segment(directory, frame.segment), |bytes| {
        change(&mut bytes[frame.offset..]);
        stored::seal_frame(bytes, frame.offset);
    });
}

/// What reading everything comes to, with the log opened for writing, and without.
fn read_all(directory: &Path) -> [Result<(), Error>; 2] {
    let by_reader = read_only(directory).and_then(|log| log.snapshot()?.iter().try_for_each(|record| record.map(drop)));
    let by_log =
        try_open(directory, &small()).and_then(|log| log.snapshot()?.iter().try_for_each(|record| record.map(drop)));
    [by_log, by_reader]
}

/// Checks that the log is damaged at `frame`; returns what is wrong, as found for the open log.
fn damage_at(directory: &Path, frame: &StoredFrame) -> Damage {
    let [by_log, by_reader] = read_all(directory).map(|read| match read {
        Err(Error::Corrupt(corruption)) => *corruption,
        other => panic!("expected damage, got {other:?}"),
    });
    for Corruption { path, offset, .. } in [&by_log, &by_reader] {
        assert_eq!((path, *offset), (&segment(directory, frame.segment), frame.offset as u64), "{by_log} {by_reader}");
    }
    by_log.damage
}

/// What the log is damaged by when a record is changed, in a segment that was sealed and in the last one.
fn damages_of_records(change: impl Fn(&mut [u8])) -> [Damage; 2] {
    [5, 15].map(|lsn| {
        let dir = closed_log();
        let frame = stored::frame_of(dir.path(), lsn);
        forge(dir.path(), &frame, &change);
        damage_at(dir.path(), &frame)
    })
}

#[test]
fn a_kind_of_frame_that_is_not_known_is_damage() {
    for kind in [0, 8, 77, 255] {
        assert_eq!(damages_of_records(|frame| frame[KIND] = kind), [Damage::FrameKind(kind), Damage::FrameKind(kind)]);
    }
}

#[test]
fn reserved_flags_are_damage() {
    for flag in 1..8 {
        assert_eq!(damages_of_records(|frame| frame[FLAGS] |= 1 << flag), [Damage::Reserved, Damage::Reserved]);
    }
}

#[test]
fn notes_of_the_log_have_no_tag_and_belong_to_no_batch() {
    let dir = closed_log();
    let files =
        [1, 2].map(|number| (stored::frames(dir.path(), number), fs::read(segment(dir.path(), number)).unwrap()));
    let mut kinds = Vec::new();
    for (frames, bytes) in files {
        for note in frames.into_iter().filter(|frame| !frame.is_record()) {
            for field in [FLAGS, TAG.start, TAG.start + 1] {
                let mut forged = bytes.clone();
                forged[note.offset + field] = 1;
                stored::seal_frame(&mut forged, note.offset);
                let Err(Error::Corrupt(found)) = verify_segment(&forged) else { panic!("byte {field} of {note:?}") };
                // A segment without a link that is right has none.
                let damage = if note.kind == LINK { Damage::MissingFrame } else { Damage::Reserved };
                assert_eq!((found.offset, found.damage), (note.offset as u64, damage), "byte {field}");
            }
            kinds.push(note.kind);
        }
    }
    assert!([LINK, SEAL, CLOSE].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
}

#[test]
fn padding_that_is_not_zero_is_damage() {
    let dir = closed_log();
    // One of the records has a length that is no multiple of 8.
    let frame = (1..=10).map(|lsn| stored::frame_of(dir.path(), lsn)).find(|frame| frame.len % 8 != 0).unwrap();
    edit(&segment(dir.path(), 1), |bytes| bytes[frame.end - 1] = 1);
    assert_eq!(damage_at(dir.path(), &frame), Damage::Reserved);
}

#[test]
fn a_record_with_another_number_is_damage() {
    for wrong in [0, 1, 16, u64::MAX] {
        let [in_first, in_last] = damages_of_records(|frame| frame[LSN].copy_from_slice(&wrong.to_le_bytes()));
        assert_eq!(in_first, Damage::FrameLsn { expected: Lsn(5), found: Lsn(wrong) });
        assert_eq!(in_last, Damage::FrameLsn { expected: Lsn(15), found: Lsn(wrong) });
    }
}

#[test]
fn a_length_beyond_the_segment_or_below_a_header_is_damage() {
    for len in [1_u32, 8, 23, 62_000, 65_536, 1 << 30, u32::MAX] {
        for lsn in [5, 15] {
            let dir = closed_log();
            let frame = stored::frame_of(dir.path(), lsn);
            edit(&segment(dir.path(), frame.segment), |bytes| {
                bytes[frame.offset..][LEN].copy_from_slice(&len.to_le_bytes());
            });
            assert_eq!(damage_at(dir.path(), &frame), Damage::FrameLength(len), "record {lsn}");
        }
    }
}

#[test]
fn a_length_that_reaches_over_the_next_frames_is_damage() {
    let dir = closed_log();
    let (frame, later) = (stored::frame_of(dir.path(), 5), stored::frame_of(dir.path(), 8));
    let len = u32::try_from(later.end - frame.offset).unwrap();
    forge(dir.path(), &frame, |bytes| bytes[LEN].copy_from_slice(&len.to_le_bytes()));
    let [by_log, by_reader] = read_all(dir.path());
    assert!(matches!(by_log, Err(Error::Corrupt(_))) && matches!(by_reader, Err(Error::Corrupt(_))));
}

/// Puts other contents into the link of segment 2, of the same length, and reads the log.
fn read_with_link(change: impl FnOnce(&mut Link)) -> (TempDir, [Result<(), Error>; 2]) {
    let dir = closed_log();
    let frame = stored::frames(dir.path(), 2).remove(0);
    forge(dir.path(), &frame, |bytes| {
        let payload = &mut bytes[FRAME_HEADER_LEN..frame.len];
        let mut link = Link::parse(payload, spec::VERSION);
        change(&mut link);
        payload.copy_from_slice(&link.encode());
    });
    let read = read_all(dir.path());
    (dir, read)
}

#[test]
fn a_link_that_contradicts_its_predecessor_is_damage() {
    let lies: [fn(&mut Link); 9] = [
        |link| link.previous.0 = 2,
        |link| link.previous.0 = 3,
        |link| link.previous.0 = u64::MAX,
        |link| link.previous.1 = 0,
        |link| link.previous.1 = 4096,
        |link| link.previous.1 += 8,
        |link| link.previous.1 -= 8,
        |link| link.previous.1 = u64::MAX,
        |link| link.previous.2 ^= 1,
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let (_dir, read) = read_with_link(lie);
        for read in read {
            assert!(matches!(read, Err(Error::Corrupt(_))), "lie {number}: {read:?}");
        }
    }
}

/// Where nothing tells that it was durable, it is torn: a writer goes on after what is sound before it, and readers show all of that.
#[test]
fn what_comes_before_a_torn_link_is_shown_to_readers_as_it_is_kept_by_a_writer() {
    let lies: [fn(&mut [u8]); 2] = [
        |bytes| bytes[LSN.start] += 1,
        |bytes| bytes[FRAME_HEADER_LEN + 16] ^= 1, /* the checksum of the end before */
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let dir = scratch();
        let log = open_small(dir.path());
        append_stamped(&log, 1, 9000, 14);
        drop(log);
        fs::remove_file(dir.path().join("control")).unwrap();
        forge(dir.path(), &stored::frames(dir.path(), 3)[0], lie);
        let reader = read_only(dir.path()).unwrap();
        let snapshot = reader.snapshot().unwrap();
        let shown: Vec<u64> = snapshot.iter().map(|record| record.unwrap().lsn().0).collect();
        let mut follower = reader.follow(Lsn(1), Visibility::Published).unwrap();
        let mut followed = Vec::new();
        while let Some(record) = follower.next().unwrap() {
            followed.push(record.lsn().0);
        }
        let report = Inspection::open(dir.path()).unwrap().verify(VerifyOptions::default(), &mut |_| {}).unwrap();
        assert_eq!((report.damage.len(), report.records()), (0, 12), "lie {number}");
        assert_eq!(shown, (1..=12).collect::<Vec<u64>>(), "lie {number}");
        assert_eq!(reader.get(Lsn(12)).unwrap().unwrap().lsn(), Lsn(12), "lie {number}");
        assert_eq!(followed, shown, "lie {number}");
        assert_eq!(open_small(dir.path()).next_lsn(), Lsn(13), "lie {number}");
    }
}

#[test]
fn a_link_that_says_what_cannot_be_of_a_trimmed_segment_is_damage_for_all_that_read_it() {
    for end in [0, 8, 4096] {
        let dir = scratch();
        let log = open_small(dir.path());
        append(&log, 1..=10);
        log.rotate().unwrap();
        append(&log, 11..=20);
        assert_eq!(log.trim_before(Lsn(11)).unwrap(), 1);
        log.close().unwrap();
        let frame = stored::frames(dir.path(), 2).remove(0);
        forge(dir.path(), &frame, |bytes| bytes[FRAME_HEADER_LEN + 8..][..8].copy_from_slice(&u64::to_le_bytes(end)));
        let inspection = Inspection::open(dir.path()).unwrap();
        let faults: Vec<_> = inspection.faults().map(|fault| (fault.offset, fault.damage.clone())).collect();
        assert_eq!(faults, [(frame.offset as u64, Damage::FrameContents)], "{end}");
        assert_eq!(damage_at(dir.path(), &frame), Damage::FrameContents, "{end}");
    }
}

#[test]
fn metadata_that_is_not_in_the_order_of_its_slots_is_damage() {
    for (order, is_good) in [([3, 5], true), ([5, 3], false), ([5, 5], false)] {
        let dir = scratch();
        let log = open_small(dir.path());
        log.put_meta(3, b"vote").unwrap();
        log.put_meta(5, b"vote").unwrap();
        log.rotate().unwrap();
        append(&log, 1..=3);
        log.close().unwrap();
        let frame = stored::frames(dir.path(), 2).remove(0);
        forge(dir.path(), &frame, |bytes| {
            let payload = &mut bytes[FRAME_HEADER_LEN..frame.len];
            let meta = order.map(|slot| (slot, b"vote".to_vec())).to_vec();
            let link = Link { meta, ..Link::parse(payload, spec::VERSION) };
            payload.copy_from_slice(&link.encode());
        });
        for read in read_all(dir.path()) {
            assert_eq!(read.is_ok(), is_good, "{order:?}: {read:?}");
        }
    }
}

#[test]
fn a_link_to_a_later_segment_is_damage_also_where_nothing_tells_what_was_trimmed() {
    for number in [2, 3, 6400, u64::MAX] {
        let dir = closed_log();
        fs::remove_file(dir.path().join("control")).unwrap();
        let frame = stored::frames(dir.path(), 2).remove(0);
        forge(dir.path(), &frame, |bytes| {
            bytes[FRAME_HEADER_LEN..][..8].copy_from_slice(&number.to_le_bytes());
        });
        assert_eq!(damage_at(dir.path(), &frame), Damage::FrameContents, "{number}");
    }
}

#[test]
fn a_link_at_the_end_of_all_numbers_does_no_harm() {
    for lsn in [u64::MAX, u64::MAX - 5] {
        let dir = scratch();
        drop(open_small(dir.path()));
        let frame = stored::frames(dir.path(), 1).remove(0);
        forge(dir.path(), &frame, |bytes| bytes[LSN].copy_from_slice(&lsn.to_le_bytes()));
        let [by_log, by_reader] = read_all(dir.path());
        assert!(matches!(by_log, Err(Error::Exhausted(NumberSpace::Records))), "{by_log:?}");
        assert!(by_reader.is_ok(), "{by_reader:?}");
    }
}

#[test]
fn notes_of_the_log_in_the_place_of_a_record_are_damage() {
    for kind in [SEAL, TRUNCATE, CLOSE, META] {
        let dir = closed_log();
        let frame = stored::frame_of(dir.path(), 15);
        forge(dir.path(), &frame, |bytes| bytes[KIND] = kind);
        for read in read_all(dir.path()) {
            let Err(Error::Corrupt(corruption)) = read else { panic!("kind {kind}: {read:?}") };
            // What it says is wrong for its kind; or the record after it has not the number that is due.
            assert_eq!(corruption.path, segment(dir.path(), 2));
            assert!([frame.offset as u64, frame.end as u64].contains(&corruption.offset), "kind {kind}: {corruption}");
        }
    }
}

#[test]
fn metadata_for_a_slot_that_there_is_not_is_damage() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=3);
    log.put_meta(0, b"12345678").unwrap();
    append(&log, 4..=6);
    log.close().unwrap();
    let frame = stored::frames(dir.path(), 1).into_iter().find(|frame| frame.kind == META).unwrap();
    forge(dir.path(), &frame, |bytes| {
        bytes[FRAME_HEADER_LEN..frame.len].copy_from_slice(&encode_meta(99, b"12345678"));
    });
    // Without the page, which says where the log was closed, all of its last segment is walked.
    fs::remove_file(dir.path().join("control")).unwrap();
    assert!(matches!(try_open(dir.path(), &small()), Err(Error::Corrupt(_))));
}

/// What an inspection finds to be damaged first: where, and how.
fn inspected(directory: &Path) -> Option<(u64, Damage)> {
    let report = Inspection::open(directory).unwrap().verify(VerifyOptions::default(), &mut |_| {}).unwrap();
    report.damage.first().map(|found| (found.offset, found.damage.clone()))
}

#[test]
fn a_truncation_stands_after_the_link_only_and_says_which_record_was_the_last() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=6);
    log.truncate_after(Lsn(4)).unwrap();
    append(&log, 5..=5);
    log.close().unwrap();
    fs::remove_file(dir.path().join("control")).unwrap();
    let frames = stored::frames(dir.path(), 2);
    let (truncation, close) = (&frames[1], frames.last().unwrap());
    assert_eq!((truncation.kind, inspected(dir.path())), (TRUNCATE, None));
    let good = fs::read(segment(dir.path(), 2)).unwrap();
    for last_kept in [0, 3, 5, u64::MAX] {
        forge(dir.path(), truncation, |bytes| bytes[FRAME_HEADER_LEN..][..8].copy_from_slice(&last_kept.to_le_bytes()));
        let Err(Error::Corrupt(found)) = try_open(dir.path(), &small()) else { panic!("{last_kept}") };
        assert_eq!((found.offset, found.damage), (truncation.offset as u64, Damage::FrameContents), "{last_kept}");
        assert_eq!(inspected(dir.path()), Some((truncation.offset as u64, Damage::FrameContents)), "{last_kept}");
        fs::write(segment(dir.path(), 2), &good).unwrap();
    }
    // A close turned into one.
    let last_kept = close.lsn - 1;
    edit(&segment(dir.path(), 2), |bytes| {
        bytes[close.offset..][LEN].copy_from_slice(&32_u32.to_le_bytes());
        bytes[close.offset + KIND] = TRUNCATE;
        bytes[close.offset + FRAME_HEADER_LEN..close.end].fill(0);
        bytes[close.offset + FRAME_HEADER_LEN..][..8].copy_from_slice(&last_kept.to_le_bytes());
        stored::seal_frame(bytes, close.offset);
    });
    let error = verify_segment(&fs::read(segment(dir.path(), 2)).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Corrupt(found) if found.damage == Damage::FrameKind(TRUNCATE)));
    assert_ne!(open_small(dir.path()).recovery().torn_bytes, 0, "it is the last, so nothing shows that it was durable");
}
