//! What is missing before segments that follow: a torn end, unless something says that it was durable.

use std::fs;

use mapwal::{Lsn, Visibility};

use crate::support::files::{self, edit, segment};
use crate::support::scratch::{open_small, scratch};
use crate::support::{append, assert_records, corruption, drain_from, read_only, stored};

#[test]
fn a_torn_segment_before_another_ends_the_log_for_readers_as_for_an_open() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=10);
    log.rotate().unwrap();
    append(&log, 11..=16);
    drop(log);
    fs::remove_file(dir.path().join("control")).unwrap();
    let hit = stored::frame_of(dir.path(), 5);
    // A length that no frame has, another checksum, nothing at all.
    let changes: [fn(&mut [u8]); 3] = [|frame| frame[..4].fill(0xff), |frame| frame[30] ^= 1, |frame| frame.fill(0)];
    for change in changes {
        let torn = scratch();
        files::copy(dir.path(), torn.path());
        edit(&segment(torn.path(), 1), |bytes| change(&mut bytes[hit.offset..hit.end]));
        let reader = read_only(torn.path()).unwrap();
        for _ in 0..3 {
            assert_records(&reader.snapshot().unwrap(), 1, 4);
        }
        let mut follower = reader.follow(Lsn(1), Visibility::Published).unwrap();
        assert_eq!(drain_from(&mut follower, 1), 5);
        assert!(follower.next().unwrap().is_none());
        assert_eq!(open_small(torn.path()).next_lsn(), Lsn(5));
    }
}

#[test]
fn an_older_copy_of_a_segment_and_of_the_page_is_missed_by_later_records() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=10);
    log.sync().unwrap();
    let older = scratch();
    files::copy(dir.path(), older.path());
    append(&log, 11..=16);
    log.rotate().unwrap();
    append(&log, 17..=18);
    log.sync().unwrap();
    append(&log, 19..=20);
    log.sync().unwrap();
    drop(log);
    let end = stored::frame_of(dir.path(), 10).end as u64;
    for name in ["00000000000000000001.seg", "control"] {
        fs::copy(older.path().join(name), dir.path().join(name)).unwrap();
    }
    let reader = read_only(dir.path()).unwrap();
    for _ in 0..2 {
        let found = corruption(reader.snapshot());
        assert_eq!((found.path, found.offset, found.lsn), (segment(dir.path(), 1), end, Some(Lsn(11))));
    }
    assert_eq!(corruption(reader.published_lsn()).offset, end);
}
