//! A log read without its lock, while another writes it or nobody does.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mapwal::{Error, Follower, LogReader, Lsn, Visibility};

use crate::crash::killed;
use crate::support::child::Child;
use crate::support::files::{edit, names, segment};
use crate::support::rights::without_rights;
use crate::support::scratch::{open_small, scratch};
use crate::support::{append, assert_record, assert_records, closed_log, corruption, payload, read_only};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_reader_is_never_told_of_damage_by_a_writer_that_rotates_and_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_small(dir.path());
    append(&log, 1..=1);
    log.sync().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 2..=500 {
                append(&log, number..=number);
                log.sync().unwrap();
                log.rotate().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        let reader = read_only(dir.path()).unwrap();
        let mut follower = reader.follow(Lsn(1), Visibility::Published).unwrap();
        while !done.load(Ordering::Relaxed) {
            let durable = reader.durable_lsn();
            assert!(reader.published_lsn().expect("nothing is damaged") >= durable);
            while let Some(record) = follower.next().expect("nothing is damaged") {
                assert_record(&record, record.lsn().0);
            }
        }
    });
}

#[test]
fn a_durable_follower_that_comes_before_the_page_of_watermarks_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    open_small(dir.path()).close().unwrap();
    fs::remove_file(dir.path().join("control")).unwrap();
    let mut follower = read_only(dir.path()).unwrap().follow(Lsn(1), Visibility::Durable).unwrap();
    assert!(follower.next().unwrap().is_none());
    let log = open_small(dir.path());
    append(&log, 1..=1);
    log.sync().unwrap();
    let record = follower.next_timeout(PATIENCE).unwrap().expect("the record is durable");
    assert_record(&record, 1);
}

#[test]
fn a_follower_that_comes_before_the_first_link_waits() {
    let dir = tempfile::tempdir().unwrap();
    open_small(dir.path()).close().unwrap();
    // As a log is for a moment while it is created: a segment with a header and nothing else.
    edit(&segment(dir.path(), 1), |bytes| bytes[4096..].fill(0));
    fs::remove_file(dir.path().join("control")).unwrap();
    let mut follower = read_only(dir.path()).unwrap().follow(Lsn(1), Visibility::Published).unwrap();
    assert!(follower.next().unwrap().is_none());
}

/// Reads a log of which no control page says what is durable, in both ways; the record that is found damaged.
fn found_damaged(directory: &std::path::Path) -> Option<Lsn> {
    let reader = read_only(directory).unwrap();
    let followed = reader.follow(Lsn(1), Visibility::Published).and_then(|mut follower| {
        while follower.next()?.is_some() {}
        Ok(())
    });
    let seen = reader.snapshot().and_then(|snapshot| snapshot.iter().try_for_each(|record| record.map(drop)));
    let (followed, seen) = (corruption(followed), corruption(seen));
    assert_eq!((&followed.path, followed.offset, followed.lsn), (&seen.path, seen.offset, seen.lsn));
    seen.lsn
}

#[test]
fn a_damaged_record_is_no_end_of_the_log_without_a_control_page() {
    for (name, damaged) in [("first", 5), ("last", 15)] {
        let dir = closed_log();
        fs::remove_file(dir.path().join("control")).unwrap();
        let number = if damaged < 11 { 1 } else { 2 };
        edit(&segment(dir.path(), number), |bytes| {
            let text = payload(damaged);
            let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
            bytes[at] ^= 1;
        });
        assert_eq!(found_damaged(dir.path()), Some(Lsn(damaged)), "in the {name} segment");
    }
}

#[test]
fn the_first_look_up_in_a_damaged_segment_names_the_place_of_the_damage() {
    let dir = closed_log();
    let mut offset = 0;
    edit(&segment(dir.path(), 1), |bytes| {
        let text = payload(5);
        let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
        bytes[at] ^= 1;
        offset = at as u64 - 24;
    });
    for wanted in 5..=10 {
        let found = corruption(read_only(dir.path()).unwrap().get(Lsn(wanted)));
        assert_eq!((found.offset, found.lsn), (offset, Some(Lsn(5))), "record {wanted}: {found}");
    }
}

#[test]
fn a_control_page_that_says_nothing_of_what_is_durable_hides_no_damage() {
    let dir = closed_log();
    edit(&dir.path().join("control"), |bytes| bytes[80 * 8..96 * 8].fill(0));
    edit(&segment(dir.path(), 2), |bytes| bytes[4096 + 24] ^= 1);
    let found = corruption(read_only(dir.path()).and_then(|reader| reader.snapshot()));
    assert_eq!(found.path, segment(dir.path(), 2));
}

#[test]
fn a_log_that_has_come_to_no_link_yet_begins_with_record_1() {
    let dir = tempfile::tempdir().unwrap();
    open_small(dir.path()).close().unwrap();
    fs::remove_file(dir.path().join("control")).unwrap();
    edit(&segment(dir.path(), 1), |bytes| bytes[4096..].fill(0));
    let reader = read_only(dir.path()).unwrap();
    let snapshot = reader.snapshot().unwrap();
    assert_eq!((reader.first_lsn().unwrap(), reader.published_lsn().unwrap()), (Lsn(1), Lsn(0)));
    assert_eq!((snapshot.first_lsn(), snapshot.iter().count()), (Lsn(1), 0));
    assert!(reader.follow(Lsn(1), Visibility::Published).unwrap().next().unwrap().is_none());
}

/// Follows records `first..=last`.
fn expect_records(follower: &mut Follower, first: u64, last: u64) {
    for number in first..=last {
        let record =
            follower.next_timeout(PATIENCE).unwrap().unwrap_or_else(|| panic!("record {number} does not come"));
        assert_record(&record, number);
    }
}

#[test]
fn a_follower_of_another_process_sees_every_record_over_rotations() {
    let dir = scratch();
    let mut child = Child::serving(dir.path());
    child.ask("open");
    let reader = read_only(dir.path()).unwrap();
    let mut follower = reader.follow(Lsn(1), Visibility::Published).unwrap();
    for round in 0..10 {
        child.ask("append 1000");
        expect_records(&mut follower, round * 1000 + 1, round * 1000 + 1000);
        assert!(follower.next().unwrap().is_none());
    }
    assert_eq!((reader.first_lsn().unwrap(), reader.published_lsn().unwrap()), (Lsn(1), Lsn(10_000)));
    assert_record(&reader.get(Lsn(4321)).unwrap().unwrap().record(), 4321);
    assert!(matches!(reader.get(Lsn(10_001)), Err(Error::NotAppended { .. })));
}

#[test]
fn a_follower_outlives_the_deaths_of_the_writer() {
    let dir = scratch();
    let mut child = Child::serving(dir.path());
    child.ask("open");
    let mut follower = read_only(dir.path()).unwrap().follow(Lsn(1), Visibility::Published).unwrap();
    for life in 0..5 {
        child.ask("append 700");
        child.kill();
        // What it had published is there after its death, too.
        let last = life * 700 + 700;
        expect_records(&mut follower, life * 700 + 1, last);
        assert_records(&read_only(dir.path()).unwrap().snapshot().unwrap(), 1, last);
        child = Child::serving(dir.path());
        assert_eq!(child.ask("open"), (last + 1).to_string());
        assert!(follower.next().unwrap().is_none());
    }
}

#[test]
fn a_follower_goes_on_after_the_log_was_closed_and_opened_again() {
    let dir = scratch();
    let mut child = Child::serving(dir.path());
    child.ask("open");
    let mut follower = read_only(dir.path()).unwrap().follow(Lsn(1), Visibility::Published).unwrap();
    for life in 0..5 {
        child.ask("append 100");
        child.ask("close");
        expect_records(&mut follower, life * 100 + 1, life * 100 + 100);
        assert!(follower.next().unwrap().is_none());
        child.ask("open");
    }
}

#[test]
fn a_follower_of_another_process_that_is_killed_in_the_middle_sees_what_the_log_keeps() {
    const LIVES: u64 = 5;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut followed = Vec::new();
    drop(open_small(&path));
    let mut follower = read_only(&path).unwrap().follow(Lsn(1), Visibility::Published).unwrap();
    for life in 0..LIVES {
        let wanted = followed.len() + 2000;
        let child = killed::spawn(dir.path(), life);
        while followed.len() < wanted {
            let record = follower.next_timeout(PATIENCE).unwrap().expect("the writer is at it");
            assert_eq!(record.lsn(), Lsn(followed.len() as u64 + 1));
            followed.push(record.payload().to_vec());
        }
        child.kill();
    }
    let log = open_small(&path);
    for (record, followed) in log.snapshot().unwrap().iter().zip(&followed) {
        let record = record.unwrap();
        assert!(record.payload() == followed, "record {} was another when it was followed", record.lsn());
    }
    assert!(log.next_lsn().0 > followed.len() as u64);
}

#[test]
fn a_durable_follower_of_another_process_waits_for_its_sync() {
    let dir = scratch();
    let mut child = Child::serving(dir.path());
    child.ask("open");
    let reader = read_only(dir.path()).unwrap();
    let mut follower = reader.follow(Lsn(1), Visibility::Durable).unwrap();
    for round in 0..5 {
        let (first, last) = (round * 500 + 1, round * 500 + 500);
        child.ask("append 500");
        assert_eq!(reader.published_lsn().unwrap(), Lsn(last));
        assert!(follower.next_timeout(Duration::from_millis(20)).unwrap().is_none());
        assert_eq!(reader.durable_lsn(), Lsn(first - 1));
        child.ask("sync");
        assert_eq!(reader.durable_lsn(), Lsn(last));
        expect_records(&mut follower, first, last);
    }
}

#[test]
fn a_reader_leaves_the_directory_as_it_is() {
    let dir = scratch();
    let mut child = Child::serving(dir.path());
    child.ask("open");
    child.ask("append 1000");
    child.kill();
    let bytes =
        || names(dir.path()).into_iter().map(|name| fs::read(dir.path().join(name)).unwrap()).collect::<Vec<_>>();
    let before = (names(dir.path()), bytes());
    let reader = read_only(dir.path()).unwrap();
    assert_records(&reader.snapshot().unwrap(), 1, 1000);
    expect_records(&mut reader.follow(Lsn(1), Visibility::Published).unwrap(), 1, 1000);
    assert!((names(dir.path()), bytes()) == before);
}

#[test]
fn a_snapshot_of_a_reader_stays_as_it_is() {
    let dir = scratch();
    let mut child = Child::serving(dir.path());
    child.ask("open");
    child.ask("append 100");
    let reader = read_only(dir.path()).unwrap();
    let snapshot = reader.snapshot().unwrap();
    let record = reader.get(Lsn(50)).unwrap().unwrap();
    child.ask("append 1000");
    assert_records(&snapshot, 1, 100);
    assert_records(&reader.snapshot().unwrap(), 1, 1100);
    child.ask("close");
    drop((child, reader, dir));
    assert_records(&snapshot, 1, 100);
    assert_record(&record.record(), 50);
}

#[test]
fn a_follower_can_wait_for_a_log_that_is_not_there_yet() {
    let dir = scratch();
    let path = dir.path().join("log");
    assert!(matches!(read_only(&path), Err(Error::NoLog { .. })));
    // SAFETY: only this test touches the directory.
    let open_timeout = |timeout| unsafe { LogReader::open_timeout(&path, timeout) };
    assert!(matches!(open_timeout(Duration::from_millis(20)), Err(Error::NoLog { .. })));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| open_timeout(PATIENCE).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        append(&open_small(&path), 1..=3);
        let mut follower = waiting.join().unwrap().follow(Lsn(1), Visibility::Published).unwrap();
        for number in 1..=3 {
            let record = follower.next_timeout(PATIENCE).unwrap().map(|record| record.lsn());
            assert_eq!(record, Some(Lsn(number)));
        }
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_reader_that_may_not_look_is_told_so() {
    use std::os::unix::fs::PermissionsExt;
    let dir = scratch();
    let path = dir.path().join("log");
    open_small(&path).close().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let refused = |mode: u32| {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        without_rights(|| read_only(&path).map(drop))
    };
    for mode in [0o000, 0o300, 0o311] {
        match refused(mode) {
            Some(Err(Error::Io { path: told, source, .. })) => {
                assert_eq!((told, source.kind()), (path.clone(), std::io::ErrorKind::PermissionDenied));
            }
            Some(other) => panic!("{mode:o}: {other:?}"),
            None => return,
        }
    }
}

#[test]
fn a_log_whose_writer_died_before_its_first_link_is_empty() {
    let dir = scratch();
    drop(open_small(dir.path()));
    edit(&segment(dir.path(), 1), |bytes| bytes[4096..].fill(0));
    let _ = fs::remove_file(segment(dir.path(), 2));
    fs::remove_file(dir.path().join("control")).unwrap();
    let reader = read_only(dir.path()).unwrap();
    assert_eq!((reader.first_lsn().unwrap(), reader.published_lsn().unwrap()), (Lsn(1), Lsn(0)));
    assert_eq!(reader.snapshot().unwrap().iter().count(), 0);
    assert!(reader.follow(reader.first_lsn().unwrap(), Visibility::Published).unwrap().next().unwrap().is_none());
}
