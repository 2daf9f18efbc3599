//! Files of trimmed segments become later ones, and no view of one of them sees that.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use mapwal::{Log, Lsn, Options};

use crate::support::child::{self, Child};
use crate::support::faulty::{Call, Faulty};
use crate::support::files::segment_numbers;
use crate::support::scratch::{append_stamped, contents, open_small, owned, scratch, segment_names, stamped};
use crate::support::wait::until;
use crate::support::{SMALL, read_only, small, try_open, try_open_on_with};

const LEN: usize = 1000;
/// Some records of each segment.
const PER_SEGMENT: u64 = 20;

/// Fills `count` segments.
fn fill(log: &Log, count: u64) {
    for _ in 0..count {
        let next = log.next_lsn().0;
        append_stamped(log, next, LEN, PER_SEGMENT);
        log.rotate().unwrap();
    }
}

/// Drops all segments but the last.
fn trim(log: &Log) {
    log.sync().unwrap();
    log.trim_before(log.next_lsn()).unwrap();
}

/// Fills segments and trims them, until `count` more were made of the files of others.
fn recycle(log: &Log, count: u64) {
    let wanted = log.stats().recycled_segments + count;
    until("files are used again", || {
        fill(log, 2);
        trim(log);
        log.stats().recycled_segments >= wanted
    });
}

/// The inode numbers of the files in `directory` with a segment's name.
fn inodes(directory: &Path) -> BTreeSet<u64> {
    let path = |number| directory.join(format!("{number:020}.seg"));
    segment_numbers(directory).into_iter().filter_map(|number| Some(fs::metadata(path(number)).ok()?.ino())).collect()
}

#[test]
fn files_of_trimmed_segments_become_later_ones() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log, 4);
    let before = inodes(dir.path());
    recycle(&log, 10);
    assert!(!before.is_disjoint(&inodes(dir.path())) || log.stats().recycled_segments > 4, "none has come back");
    fill(&log, 1);
    append_stamped(&log, log.next_lsn().0, LEN, 5);
    log.sync().unwrap();
    let expected = contents(&log);
    assert!(expected.iter().all(|(lsn, payload)| *payload == stamped(*lsn, LEN)));
    drop(log);
    // Recovery finds frames of earlier lives after the end, and takes none for this one's.
    let log = open_small(dir.path());
    assert_eq!((contents(&log), log.recovery().torn_bytes), (expected, 0));
}

#[test]
fn a_file_that_is_taken_away_late_becomes_the_spare_without_an_append() {
    const SIZE: u64 = 1 << 20;
    let record = vec![0xcd; 100_000];
    let dir = scratch();
    let faults = Faulty::new(dir.path());
    let log = try_open_on_with(&faults, &Options::new().segment_size_bytes(SIZE)).unwrap();
    for _ in 0..80 {
        log.append(0, &record).unwrap();
    }
    log.sync().unwrap();
    let has_spare = || segment_numbers(dir.path()).len() > segment_names(dir.path()).len();
    until("a spare", has_spare);
    faults.hold(Call::Rename);
    trim(&log);
    faults.wait_until_held();
    // Into the spare; after it a log that holds so little has room for no other one than a file that was trimmed.
    while has_spare() {
        log.append(0, &record).unwrap();
        log.sync().unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    assert!(!has_spare());
    faults.release();
    until("a spare that was a segment before", || has_spare() && log.stats().recycled_segments > 0);
}

#[test]
fn nothing_is_recycled_that_an_earlier_run_has_made() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log, 8);
    drop(log);
    let log = open_small(dir.path());
    trim(&log);
    until("they are gone", || segment_numbers(dir.path()).len() <= 3);
    fill(&log, 1);
    assert_eq!(log.stats().recycled_segments, 0, "what failed to be written then is not known");
    recycle(&log, 3);
}

#[test]
fn a_spare_that_an_earlier_run_has_made_is_used_once() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log, 1);
    crate::support::scratch::await_spare(&log);
    let spare = *segment_numbers(dir.path()).last().unwrap();
    drop(log);
    let log = open_small(dir.path());
    // What an earlier run has filled, and what it has made and left.
    fill(&log, 1);
    log.sync().unwrap();
    assert_eq!(log.sealed(0).unwrap().last().unwrap().number(), spare, "it was taken over");
    trim(&log);
    until("they are gone", || segment_numbers(dir.path()).len() <= 2);
    fill(&log, 3);
    assert_eq!(log.stats().recycled_segments, 0);
}

#[test]
fn a_log_that_is_closed_leaves_no_files_that_it_does_not_need() {
    /// A close that takes longer leaves the rest to the next open.
    const PATIENCE: Duration = Duration::from_millis(900);
    until("a close in time", || {
        let dir = scratch();
        let log = open_small(dir.path());
        fill(&log, 8);
        trim(&log);
        until("files are kept", || log.stats().spare_segments > 3);
        let began = Instant::now();
        log.close().unwrap();
        let is_in_time = began.elapsed() < PATIENCE;
        let names = crate::support::files::names(dir.path());
        assert!(!is_in_time || names.iter().all(|name| !name.ends_with(".tmp")), "{names:?}");
        is_in_time
    });
}

#[test]
fn no_view_of_this_process_sees_a_file_recycled() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log, 4);
    let expected = contents(&log);
    let (snapshot, record, sealed) =
        (log.snapshot().unwrap(), log.get(Lsn(30)).unwrap().unwrap(), log.sealed(0).unwrap());
    let checksums: Vec<u32> = sealed.iter().map(mapwal::SealedSegment::checksum).collect();
    trim(&log);
    recycle(&log, 6);
    let seen: Vec<_> = snapshot.iter().map(|record| owned(&record.unwrap())).collect();
    assert_eq!(seen, expected);
    assert_eq!(sealed.iter().map(mapwal::SealedSegment::checksum).collect::<Vec<_>>(), checksums);
    drop((snapshot, sealed));
    recycle(&log, 6);
    assert_eq!(record.payload(), stamped(30, LEN));
}

#[test]
fn no_reader_elsewhere_sees_a_file_recycled() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log, 4);
    log.sync().unwrap();
    // By a handle of its own of the directory, as another process has it.
    let reader = read_only(dir.path()).unwrap();
    let (snapshot, expected) = (reader.snapshot().unwrap(), contents(&log));
    let seen = || snapshot.iter().map(|record| owned(&record.unwrap())).collect::<Vec<_>>();
    assert_eq!(seen(), expected);
    trim(&log);
    recycle(&log, 6);
    assert_eq!(seen(), expected);
    drop((snapshot, reader));
    recycle(&log, 6);
}

#[test]
fn a_backup_by_hard_link_keeps_its_bytes() {
    let (dir, backup) = (scratch(), scratch());
    let log = open_small(dir.path());
    fill(&log, 4);
    log.sync().unwrap();
    let mut bytes = Vec::new();
    for number in 1..=4 {
        let name = format!("{number:020}.seg");
        fs::hard_link(dir.path().join(&name), backup.path().join(&name)).unwrap();
        bytes.push(fs::read(backup.path().join(&name)).unwrap());
    }
    trim(&log);
    recycle(&log, 6);
    for (number, bytes) in (1..).zip(bytes) {
        assert!(fs::read(backup.path().join(format!("{number:020}.seg"))).unwrap() == bytes, "segment {number}");
    }
}

#[test]
fn as_many_files_are_kept_as_the_log_uses_and_a_log_that_shrinks_gives_them_back() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log, 20);
    trim(&log);
    until("what was used is kept", || log.stats().spare_segments >= 18);
    let spares = log.stats().spare_segments;
    for _ in 0..40 {
        fill(&log, 1);
        trim(&log);
    }
    until("fewer are used, so fewer are kept", || log.stats().spare_segments <= 4);
    let removed_and_kept = || log.stats().removed_segments as usize + log.stats().spare_segments;
    until("those are removed", || removed_and_kept() >= spares);
}

#[test]
fn files_are_there_from_the_start_if_the_options_say_so() {
    let dir = scratch();
    let options = small().spare_segments(3);
    let log = try_open(dir.path(), &options).unwrap();
    until("they are there", || log.stats().spare_segments == 3);
    let written: u64 = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().blocks()).sum();
    assert!(written * 512 >= 3 * SMALL, "with blocks");
    fill(&log, 3);
    assert!(log.stats().recycled_segments >= 2, "{:?}", log.stats());
    let expected = contents(&log);
    drop(log);
    assert_eq!(contents(&try_open(dir.path(), &options).unwrap()), expected);
}

#[test]
fn with_files_from_the_start_the_first_segment_is_written_as_well() {
    const SIZE: u64 = 4 << 20;
    let is_written = |count: usize| {
        // Not in memory, where all of a segment takes room at once.
        let dir = tempfile::tempdir().unwrap();
        let log = try_open(dir.path(), &Options::new().segment_size_bytes(SIZE).spare_segments(count)).unwrap();
        let first = fs::metadata(dir.path().join("00000000000000000001.seg")).unwrap();
        log.append(1, b"record").unwrap();
        assert_eq!(contents(&log), [(1, b"record".to_vec())]);
        first.blocks() * 512 >= SIZE
    };
    assert!(is_written(1));
}

/// What it has seen first stays as it is.
#[test]
#[ignore = "other tests run it as a process of its own"]
fn looks_on() {
    let Some(directory) = child::directory() else { return };
    let reader = read_only(&directory).unwrap();
    let snapshot = reader.snapshot().unwrap();
    let look = || snapshot.iter().map(|record| owned(&record.unwrap())).collect::<Vec<_>>();
    let seen = look();
    for _ in std::io::stdin().lines() {
        child::answer(&format!("{} {}", seen.len(), look() == seen));
    }
}

#[test]
fn no_other_process_sees_a_file_recycled() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log, 4);
    log.sync().unwrap();
    let mut others = [(); 2].map(|()| Child::spawn("retain::recycling::looks_on", dir.path()));
    let seen = format!("{} true", 4 * PER_SEGMENT);
    others.iter_mut().for_each(|other| assert_eq!(other.ask("look"), seen));
    for _ in 0..4 {
        trim(&log);
        recycle(&log, 5);
        others.iter_mut().for_each(|other| assert_eq!(other.ask("look"), seen));
    }
    // The files of one that was killed come back.
    let [first, second] = others;
    drop(first);
    recycle(&log, 5);
    drop(second);
    recycle(&log, 5);
}
