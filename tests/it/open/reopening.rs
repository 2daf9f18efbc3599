//! What was appended is there when the log is opened again, however it ended.

use std::fs;

use mapwal::{Lsn, Options, Visibility};
use rustix::io::Errno;

use crate::support::faulty::{Call, Faulty};
use crate::support::files::{names, segment, segment_numbers};
use crate::support::scratch::{open_small, scratch};
use crate::support::stored;
use crate::support::{
    append, assert_record, assert_records, open, open_on, payload, small, tag, try_open, try_open_on,
};

#[test]
fn every_record_is_back_after_a_clean_close() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_small(dir.path());
    append(&log, 1..=2000);
    log.close().unwrap();
    let log = open_small(dir.path());
    assert!(log.recovery().clean, "{:?}", log.recovery());
    assert_eq!((log.recovery().records(), log.recovery().torn_bytes), (2000, 0));
    assert_records(&log.snapshot().unwrap(), 1, 2000);
}

#[test]
fn every_record_is_back_after_a_drop() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_small(dir.path());
    append(&log, 1..=2000);
    drop(log);
    let log = open_small(dir.path());
    assert!(!log.recovery().clean, "{:?}", log.recovery());
    assert_eq!((log.recovery().records(), log.recovery().torn_bytes), (2000, 0));
    assert_records(&log.snapshot().unwrap(), 1, 2000);
}

#[test]
fn a_closed_log_goes_on_in_its_last_segment() {
    let dir = tempfile::tempdir().unwrap();
    for life in 0..5 {
        let log = open_small(dir.path());
        append(&log, life * 10 + 1..=life * 10 + 10);
        log.close().unwrap();
    }
    assert_eq!(segment_numbers(dir.path()), [1]);
    assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, 50);
}

#[test]
fn nothing_is_written_again_to_a_segment_that_was_not_closed() {
    let dir = tempfile::tempdir().unwrap();
    append(&open_small(dir.path()), 1..=10);
    let crashed = fs::read(segment(dir.path(), 1)).unwrap();
    append(&open_small(dir.path()), 11..=20);
    assert!(fs::read(segment(dir.path(), 1)).unwrap() == crashed);
    assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, 20);
}

#[test]
fn opening_again_and_again_does_not_fill_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    append(&open_small(dir.path()), 1..=10);
    for _ in 0..10 {
        drop(open_small(dir.path()));
    }
    // The one with the records, the one opened last, and a spare.
    assert!(segment_numbers(dir.path()).len() <= 3, "{:?}", names(dir.path()));
}

#[test]
fn a_log_is_opened_again_while_views_of_its_last_life_are_held() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_small(dir.path());
    append(&log, 1..=1000);
    let snapshot = log.snapshot().unwrap();
    let record = log.get(Lsn(500)).unwrap().unwrap();
    let mut follower = log.follow(Lsn(1), Visibility::Published).unwrap();
    drop(log);
    let log = open_small(dir.path());
    append(&log, 1001..=2000);
    assert_records(&snapshot, 1, 1000);
    assert_record(&record.record(), 500);
    for number in 1..=1000 {
        assert_record(&follower.next().unwrap().unwrap(), number);
    }
    assert_records(&log.snapshot().unwrap(), 1, 2000);
}

#[test]
fn segments_of_several_sizes_make_one_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for size in [64 << 10, 256 << 10, 128 << 10, 64 << 10] {
        let log = try_open(dir.path(), &small().segment_size_bytes(size)).unwrap();
        append(&log, last + 1..=last + 2000);
        last += 2000;
    }
    assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, last);
}

#[test]
fn a_log_closed_at_any_distance_from_its_segments_end_goes_on() {
    // With this many bytes after it the close comes before, in or at the end of the seal's room.
    for left in (0..=96).step_by(8) {
        let dir = scratch();
        let log = open_small(dir.path());
        let link = &stored::all_frames(dir.path())[0];
        let room = 65536 - link.end - stored::FRAME_HEADER_LEN - left;
        let half = room / 2 / 8 * 8;
        log.append(1, &vec![1; half]).unwrap();
        // What does not fit any more goes to the next segment, which is as good.
        log.append(2, &vec![2; room - half - stored::FRAME_HEADER_LEN]).unwrap();
        log.close().unwrap();
        for lsn in [3, 4] {
            let log = open_small(dir.path());
            assert!(log.recovery().clean || lsn > 3, "{left}: {:?}", log.recovery());
            assert_eq!(log.append(3, &payload(lsn)).unwrap(), Lsn(lsn), "{left}");
        }
        let log = open_small(dir.path());
        let tags: Vec<u16> = log.snapshot().unwrap().iter().map(|record| record.unwrap().tag()).collect();
        assert_eq!(tags, [1, 2, 3, 3], "{left}");
    }
}

#[test]
fn any_series_of_closes_and_drops_keeps_every_record() {
    for seed in 0..10 {
        let mut random = fastrand::Rng::with_seed(seed);
        let dir = scratch();
        let mut last = 0;
        for life in 0..20 {
            let log = open_small(dir.path());
            assert_eq!(log.next_lsn(), Lsn(last + 1), "seed {seed}, life {life}");
            let count = random.u64(0..400);
            append(&log, last + 1..=last + count);
            last += count;
            if random.bool() {
                log.sync().unwrap();
            }
            if random.bool() { log.close().unwrap() } else { drop(log) }
        }
        if last > 0 {
            assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, last);
        }
    }
}

#[test]
fn what_a_crash_left_unfinished_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    append(&open_small(dir.path()), 1..=10);
    for name in ["00000000000000000009.tmp", "control.tmp"] {
        fs::write(dir.path().join(name), "half").unwrap();
    }
    let log = open_small(dir.path());
    log.close().unwrap();
    assert!(names(dir.path()).iter().all(|name| !name.ends_with(".tmp")), "{:?}", names(dir.path()));
}

#[test]
fn files_that_are_not_the_logs_stay_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    append(&open_small(dir.path()), 1..=10);
    for name in ["README", "notes.tmp", "00000000000000000001.seg.bak"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    open_small(dir.path()).close().unwrap();
    for name in ["README", "notes.tmp", "00000000000000000001.seg.bak"] {
        assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), name);
    }
}

#[test]
fn the_page_of_watermarks_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for fill in [0x00, 0xff, 0x5a] {
        let log = open_small(dir.path());
        append(&log, last + 1..=last + 500);
        last += 500;
        log.sync().unwrap();
        drop(log);
        fs::write(dir.path().join("control"), [fill; 4096]).unwrap();
        assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, last);
    }
    fs::write(dir.path().join("control"), "short").unwrap();
    assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, last);
}

#[test]
fn what_is_found_is_made_durable_before_it_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    append(&open_small(dir.path()), 1..=10);
    let storage = Faulty::new(dir.path());
    storage.fail_on("00000000000000000001.seg", Call::Sync, Errno::IO);
    let error = try_open_on(&storage).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot sync {}", segment(dir.path(), 1).display()));
    storage.heal();
    assert_records(&open_on(&storage).snapshot().unwrap(), 1, 10);
}

#[test]
fn what_the_device_does_not_hold_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    append(&open_small(dir.path()), 1..=10);
    let lost = stored::frame_of(dir.path(), 6);
    let storage = Faulty::new(dir.path());
    storage.let_device_differ("00000000000000000001.seg", lost.offset as u64 + 30);
    let log = open_on(&storage);
    assert_records(&log.snapshot().unwrap(), 1, 5);
    assert!(log.recovery().torn_bytes > 0);
    assert_eq!(log.append(tag(6), &payload(6)).unwrap(), Lsn(6));
}

#[test]
fn a_new_segment_has_a_durable_name_before_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Faulty::new(dir.path());
    drop(open_on(&storage));
    let calls = storage.calls();
    let at = |wanted| calls.iter().position(|&call| call == wanted).unwrap();
    let (created, synced, named) = (at(Call::Create), at(Call::Sync), at(Call::Rename));
    assert!(created < synced && synced < named, "its bytes are durable before it has its name: {calls:?}");
    assert!(named < at(Call::SyncDirectory) && at(Call::SyncDirectory) < at(Call::SyncMapping), "{calls:?}");
}

#[test]
fn a_record_is_read_from_the_device_to_its_end_before_it_is_looked_at() {
    // Longer than what is read ahead at a time, and where that ends is in the middle of it.
    let payload = vec![7; 3 << 19];
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &Options::new().segment_size_bytes(4 << 20));
    log.append(1, &payload).unwrap();
    log.rotate().unwrap();
    log.close().unwrap();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    let before = storage.count(Call::Load);
    assert_eq!(log.get(Lsn(1)).unwrap().unwrap().payload(), payload);
    assert_eq!(storage.count(Call::Load) - before, 2);
}
