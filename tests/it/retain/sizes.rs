//! How much disk a log takes: in proportion to what it holds, whatever has become of it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mapwal::{Error, Log, LogReader, Lsn, Options};
use tempfile::TempDir;

use crate::support::child::Child;
use crate::support::files::{names, segment, segment_numbers};
use crate::support::scratch::{append_stamped, await_spare, contents, scratch, segment_names, stamped};
use crate::support::wait::until;
use crate::support::{open, read_only};

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
/// The header and the last page of each segment, which the bound leaves out.
pub(super) const EACH_SEGMENT: u64 = 8 * KIB;

/// What the file system has given to all files below `path`.
pub(super) fn taken(path: &Path) -> u64 {
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        // One that is gone by now takes nothing.
        let Ok(metadata) = entry.metadata() else { return 0 };
        let below = if metadata.is_dir() { taken(&entry.path()) } else { 0 };
        below + metadata.blocks() * 512
    };
    std::fs::read_dir(path).unwrap().map(entry).sum()
}

/// What the file system has given to segment `number`.
pub(super) fn taken_by(path: &Path, number: u64) -> u64 {
    std::fs::metadata(segment(path, number)).unwrap().blocks() * 512
}

pub(super) fn size_of(path: &Path, number: u64) -> u64 {
    std::fs::metadata(segment(path, number)).unwrap().len()
}

pub(super) fn is_there(path: &Path, number: u64) -> bool {
    segment(path, number).exists()
}

/// Returns once no more than `bytes` are taken.
fn until_no_more_than(dir: &TempDir, bytes: u64) {
    until("the bound", || {
        let taken = taken(dir.path());
        if taken > bytes {
            eprintln!("{taken} bytes taken, {bytes} allowed");
        }
        taken <= bytes
    });
}

/// As [`until_no_more_than`], for what goes on in the background as well: it is looked at while that would come.
fn stays_within(dir: &TempDir, bytes: u64) {
    until_no_more_than(dir, bytes);
    std::thread::sleep(std::time::Duration::from_millis(300));
    until_no_more_than(dir, bytes);
}

#[test]
fn a_log_of_one_record_takes_less_than_a_mebibyte() {
    let dir = scratch();
    let log = open(dir.path(), &Options::new());
    stays_within(&dir, MIB);
    log.append(1, b"the only one").unwrap();
    log.sync().unwrap();
    stays_within(&dir, MIB);
    log.close().unwrap();
    until_no_more_than(&dir, MIB);
}

#[test]
fn a_hundred_logs_take_less_than_a_mebibyte_each() {
    let dirs: Vec<TempDir> = (0..100).map(|_| scratch()).collect();
    let logs: Vec<Log> = dirs.iter().map(|dir| open(dir.path(), &Options::new())).collect();
    for log in &logs {
        append_stamped(log, 1, 100, 100);
    }
    for (dir, log) in dirs.iter().zip(logs) {
        until_no_more_than(dir, MIB);
        log.close().unwrap();
    }
}

#[test]
fn twenty_truncations_over_200_kilobytes_leave_less_than_a_mebibyte() {
    let dir = scratch();
    let log = open(dir.path(), &Options::new());
    append_stamped(&log, 1, 1000, 200);
    for round in 1..=20 {
        let last = log.next_lsn().0 - 1;
        log.truncate_after(Lsn(last - 10)).unwrap();
        append_stamped(&log, 1000 * round, 1000, 10);
    }
    // Of each truncation ten records stay in the segment that it has cut.
    stays_within(&dir, MIB + 20 * EACH_SEGMENT);
    let before = contents(&log);
    drop(log);
    assert_eq!(contents(&open(dir.path(), &Options::new())), before);
}

#[test]
fn eight_crashes_with_one_record_each_leave_less_than_a_mebibyte() {
    let dir = scratch();
    for number in 1..=8 {
        let mut child = Child::serving(dir.path());
        child.ask("open-default");
        assert_eq!(child.ask("append 1"), (number + 1).to_string());
        child.kill();
        until_no_more_than(&dir, MIB);
    }
    let log = open(dir.path(), &Options::new());
    assert_eq!(contents(&log).len(), 8);
    stays_within(&dir, MIB);
}

#[test]
fn thirty_rotations_leave_less_than_a_mebibyte() {
    let dir = scratch();
    let log = open(dir.path(), &Options::new());
    for number in 1..=30 {
        log.append(1, b"of this minute").unwrap();
        log.rotate().unwrap();
        if number % 2 == 0 {
            log.sync().unwrap();
        }
    }
    stays_within(&dir, MIB);
    assert_eq!(contents(&log).len(), 30);
}

#[test]
fn segments_grow_with_the_log_up_to_the_size_asked_for() {
    let dir = scratch();
    let log = open(dir.path(), &Options::new().segment_size_bytes(2 * MIB));
    append_stamped(&log, 1, 10_000, 2000);
    let last = 40;
    let sizes: Vec<u64> =
        (1..=last).take_while(|&n| segment(dir.path(), n).exists()).map(|n| size_of(dir.path(), n)).collect();
    assert!(sizes.is_sorted(), "{sizes:?}");
    let before = |at: usize| sizes[..at].iter().sum::<u64>();
    assert!((1..sizes.len()).all(|at| sizes[at] <= before(at)), "as long as all before, or shorter: {sizes:?}");
    assert_eq!((sizes[0], sizes.last()), (256 * KIB, Some(&(2 * MIB))), "{sizes:?}");
    assert!(sizes.len() < 25, "20 megabytes are in few segments: {sizes:?}");
}

#[test]
fn all_segments_have_the_size_that_the_options_ask_for_from_the_start() {
    let dir = scratch();
    let log = open(dir.path(), &Options::new().segment_size_bytes(MIB).first_segment_size_bytes(MIB));
    log.append(1, b"in the first").unwrap();
    log.rotate().unwrap();
    assert_eq!((size_of(dir.path(), 1), size_of(dir.path(), 2)), (MIB, MIB));
    drop(log);
    // A spare that is too short for what the options ask now is not taken over.
    let log = open(dir.path(), &Options::new().segment_size_bytes(4 * MIB).first_segment_size_bytes(4 * MIB));
    log.append(1, b"in a larger one").unwrap();
    let newest = (1..10).rev().find(|&n| segment(dir.path(), n).exists()).unwrap();
    assert_eq!(size_of(dir.path(), newest), 4 * MIB);
}

#[test]
fn a_record_that_is_longer_than_the_first_segments_gets_a_segment_of_its_size() {
    let dir = scratch();
    let options = Options::new().segment_size_bytes(8 * MIB);
    let log = open(dir.path(), &options);
    let len_max = usize::try_from(log.payload_len_max()).unwrap();
    log.append(1, b"a short one").unwrap();
    // Too short for the next record.
    await_spare(&log);
    for len in [300 << 10, 3 << 20, len_max] {
        log.append(1, &stamped(1, len)).unwrap();
    }
    let batch = stamped(2, 3 << 20);
    log.append_batch(&[(1, batch.as_slice()), (2, &batch)]).unwrap();
    log.append_with(1, 5 << 20, |bytes| bytes.copy_from_slice(&stamped(3, 5 << 20))).unwrap();
    assert!(matches!(log.append(1, &stamped(4, len_max + 1)), Err(Error::RecordTooLarge { .. })));
    assert_eq!(log.next_lsn(), Lsn(8));
    until("spares that were too short to go", || {
        let stats = log.stats();
        segment_numbers(dir.path()).len() == stats.sealed_segments + 1 + stats.spare_segments
    });
    let before = contents(&log);
    log.close().unwrap();
    assert_eq!(contents(&open(dir.path(), &options)), before);
}

#[test]
fn metadata_that_is_too_long_for_the_first_segments_gets_a_longer_one() {
    let dir = scratch();
    let log = open(dir.path(), &Options::new().segment_size_bytes(8 * MIB));
    let long = stamped(1, 1 << 20);
    log.put_meta(3, &long).unwrap();
    for _ in 0..3 {
        log.append(1, b"a record").unwrap();
        log.rotate().unwrap();
    }
    log.sync().unwrap();
    drop(log);
    let log = open(dir.path(), &Options::new().segment_size_bytes(8 * MIB));
    assert_eq!(log.meta(3), Some(long.clone()));
    log.truncate_after(Lsn(1)).unwrap();
    log.reset_to(Lsn(7)).unwrap();
    assert_eq!(log.meta(3), Some(long));
}

/// Views are of bytes before the end, and stay as they are.
#[test]
fn what_views_and_readers_elsewhere_have_stays_when_the_end_of_a_segment_is_given_back() {
    let dir = scratch();
    let log = open(dir.path(), &Options::new().segment_size_bytes(MIB).first_segment_size_bytes(MIB));
    append_stamped(&log, 1, 100, 1000);
    let reader: LogReader = read_only(dir.path()).unwrap();
    let (inside, outside) = (log.snapshot().unwrap(), reader.snapshot().unwrap());
    let expected = contents(&log);
    let before = taken_by(dir.path(), 1);
    log.truncate_after(Lsn(500)).unwrap();
    until("the end to be given back", || taken_by(dir.path(), 1) <= 200 * KIB);
    assert!(before > 200 * KIB, "{before}");
    assert_eq!(size_of(dir.path(), 1), MIB, "the length stays");
    for view in [&inside, &outside] {
        let seen: Vec<_> = view.iter().map(|record| record.unwrap().payload().to_vec()).collect();
        assert_eq!(seen.len(), 1000);
        assert!(seen.iter().zip(&expected).all(|(seen, (_, payload))| seen == payload));
    }
    assert_eq!(contents(&log), expected[..500]);
}

/// The file of a segment that was given back in part has all its blocks once it is another one.
#[test]
fn a_file_that_was_given_back_in_part_becomes_a_whole_segment() {
    let dir = scratch();
    let log = open(dir.path(), &Options::new().segment_size_bytes(MIB).first_segment_size_bytes(MIB));
    let mut count = 0;
    until("a file is used again", || {
        count += 1;
        log.append(1, b"early").unwrap();
        log.rotate().unwrap();
        log.trim_before(log.next_lsn()).unwrap();
        log.stats().recycled_segments > 3
    });
    // Once the others have gone, the log goes on in one of these.
    let blocks_of = |number| std::fs::metadata(segment(dir.path(), number)).map(|metadata| metadata.blocks() * 512);
    until("all blocks", || (1..1000).find_map(|number| blocks_of(number).ok()).unwrap() >= MIB);
    append_stamped(&log, 1, 10_000, 80);
    assert_eq!(contents(&log).len() as u64, log.next_lsn().0 - log.first_lsn().0);
    log.close().unwrap();
    assert_eq!(open(dir.path(), &Options::new()).next_lsn(), Lsn(count + 81));
}

/// A backup by hard link has the same inode: nothing is taken out of it.
#[test]
fn a_file_with_a_second_name_is_not_given_back() {
    let dir = scratch();
    let log = open(dir.path(), &Options::new().segment_size_bytes(MIB).first_segment_size_bytes(MIB));
    log.append(1, b"one").unwrap();
    std::fs::hard_link(segment(dir.path(), 1), dir.path().join("backup")).unwrap();
    let before = taken_by(dir.path(), 1);
    log.rotate().unwrap();
    log.sync().unwrap();
    assert!(taken_by(dir.path(), 1) >= before);
    log.append(1, b"two").unwrap();
    log.rotate().unwrap();
    log.sync().unwrap();
    assert!(taken_by(dir.path(), 2) <= EACH_SEGMENT);
}

/// The spare is the largest part of a small log: it comes once there is more in the segment, and would come at once without the bound.
#[test]
fn an_idle_log_with_little_in_its_last_segment_has_no_spare() {
    let dir = scratch();
    let log = open(dir.path(), &Options::new().segment_size_bytes(8 * MIB));
    log.append(1, &stamped(1, 3 << 20)).unwrap();
    log.rotate().unwrap();
    log.append(1, b"little").unwrap();
    log.sync().unwrap();
    stays_within(&dir, 9 * MIB / 2 + 4 * MIB + 4 * EACH_SEGMENT);
    assert_eq!(log.stats().spare_segments, 0);
    append_stamped(&log, 1, 100_000, 38);
    await_spare(&log);
}

/// The spare of a log that is trimmed is a file of a dropped segment, which costs no room. While a view holds these a new one would.
#[test]
fn no_new_file_is_made_beyond_the_bound_while_views_hold_those_that_are_kept() {
    let dir = scratch();
    let log = open(dir.path(), &Options::new().segment_size_bytes(4 * MIB));
    // Each fills a segment so far that its end stays.
    for _ in 0..2 {
        log.append(1, &stamped(1, (7 << 20) / 2)).unwrap();
    }
    log.rotate().unwrap();
    let kept = log.append(1, b"little").unwrap();
    log.sync().unwrap();
    let active = segment_names(dir.path()).pop();
    let spares = || {
        segment_numbers(dir.path())
            .into_iter()
            .filter(|&number| segment(dir.path(), number).file_name() > active.as_ref().map(AsRef::as_ref))
            .count()
    };
    assert_eq!(spares(), 0, "there is no room for one yet");
    let view = log.snapshot().unwrap();
    log.trim_before(kept).unwrap();
    let is_kept = |name: &String| {
        name.ends_with(".tmp") && dir.path().join(name).metadata().is_ok_and(|found| found.len() == 4 * MIB)
    };
    until("the files to be kept", || names(dir.path()).iter().filter(|name| is_kept(name)).count() == 2);
    // Each time that appenders ask for room is a look.
    append_stamped(&log, 1, 10_000, 100);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(spares(), 0);
    drop(view);
    append_stamped(&log, 1, 10_000, 240);
    until("a spare of one of them", || spares() == 1 && log.stats().recycled_segments == 1);
}
