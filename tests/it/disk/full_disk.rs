//! A full disk: appends fail, what was acknowledged stays, reading goes on, and appends work again once there is room.

use std::fs;
use std::path::Path;
use std::time::Duration;

use mapwal::internals::Preparation;
use mapwal::{Error, Log, Lsn};
use rustix::io::Errno;

use crate::support::faulty::{Call, Faulty};
use crate::support::files::names;
use crate::support::mounted::Mounted;
use crate::support::scratch::{await_spare, open_small, scratch};
use crate::support::wait::until;
use crate::support::{
    SMALL, append, assert_records, drain_from, followers, open_on, payload, read_only, small, try_open,
};

/// Appends until the disk is full; returns the last record's number.
fn fill(log: &Log) -> u64 {
    let mut last = log.next_lsn().previous().0;
    let error = loop {
        match log.append(0, &payload(last + 1)) {
            Ok(lsn) => assert_eq!(lsn, Lsn(last + 1)),
            Err(error) => break error,
        }
        last += 1;
    };
    match error {
        Error::NoSpace { path, needed_bytes: SMALL, .. } => assert_eq!(path, log.directory()),
        other => panic!("{other}"),
    }
    last
}

/// What must hold of a log that has filled its disk with records up to `last`.
fn check_full(log: &Log, last: u64) {
    assert_eq!(log.next_lsn(), Lsn(last + 1), "a failed append uses no number");
    assert!(matches!(log.append(0, &[0; 400]), Err(Error::NoSpace { .. })), "and the next one fails as well");
    assert_eq!(log.sync().unwrap(), Lsn(last), "what was appended can be made durable");
    assert_records(&log.snapshot().unwrap(), 1, last);
    // The log may be about to prepare a segment once more.
    until("nothing half made is left", || !names(log.directory()).iter().any(|name| name.ends_with(".tmp")));
}

/// A file system that a log fills soon, with the log in a directory of its own beside a file that takes up room.
fn small_disk() -> Option<Mounted> {
    let disk = Mounted::of_size(1 << 20)?;
    fs::create_dir(disk.path().join("log")).unwrap();
    fs::write(disk.path().join("ballast"), vec![1; 300 << 10]).unwrap();
    Some(disk)
}

fn make_room(disk: &Mounted) {
    fs::remove_file(disk.path().join("ballast")).unwrap();
}

#[test]
fn a_log_on_a_full_disk_goes_on_once_there_is_room() {
    let Some(disk) = small_disk() else { return };
    let log = open_small(&disk.path().join("log"));
    let last = fill(&log);
    check_full(&log, last);
    make_room(&disk);
    append(&log, last + 1..=last + 400);
    let last = fill(&log);
    check_full(&log, last);
}

/// What must hold of a log with records up to `last` that found no room when it was opened.
fn check_pending(log: &Log, last: u64) {
    assert_eq!(
        (log.next_lsn(), log.durable_lsn(), log.published_lsn().unwrap()),
        (Lsn(last + 1), Lsn(last), Lsn(last))
    );
    assert_records(&log.snapshot().unwrap(), 1, last);
    let refused = |result: mapwal::Result<()>| assert!(matches!(result, Err(Error::NoSpace { .. })), "{result:?}");
    refused(log.append(0, b"refused").map(drop));
    refused(log.append_batch(&[(0, b"refused")]).map(drop));
    refused(log.append_with(0, 10, |_| unreachable!("there is no room")).map(drop));
    refused(log.put_meta(0, b"refused").map(|_| ()));
    refused(log.truncate_after(Lsn(last - 1)));
    refused(log.reset_to(Lsn(5)));
    log.rotate().unwrap();
    assert_eq!(log.sync().unwrap(), Lsn(last));
    assert_eq!((log.next_lsn(), log.meta(0)), (Lsn(last + 1), None), "nothing was used up");
}

#[test]
fn a_log_that_was_dropped_on_a_full_disk_opens_there_and_goes_on_once_there_is_room() {
    let Some(disk) = small_disk() else { return };
    let path = disk.path().join("log");
    let log = open_small(&path);
    let last = fill(&log);
    drop(log);
    // However often, and however it ends.
    for is_closed in [false, true, false] {
        let log = unchanged_segments(&path, || {
            let log = open_small(&path);
            check_pending(&log, last);
            log
        });
        let mut follower = log.follow(Lsn(1), mapwal::Visibility::Durable).unwrap();
        assert_eq!(drain_from(&mut follower, 1), last + 1);
        assert!(follower.next_timeout(Duration::from_millis(5)).unwrap().is_none());
        assert_records(&read_only(&path).unwrap().snapshot().unwrap(), 1, last);
        if is_closed { log.close().unwrap() } else { drop(log) }
    }
    let log = open_small(&path);
    let mut followers: Vec<_> = followers(&log, 1, mapwal::Visibility::Published).collect();
    followers.iter_mut().for_each(|follower| assert_eq!(drain_from(follower, 1), last + 1));
    make_room(&disk);
    append(&log, last + 1..=last + 400);
    log.sync().unwrap();
    followers.iter_mut().for_each(|follower| assert_eq!(drain_from(follower, last + 1), last + 401));
    assert_records(&log.snapshot().unwrap(), 1, last + 400);
    drop(log);
    assert_records(&open_small(&path).snapshot().unwrap(), 1, last + 400);
}

/// Runs `act`, which must leave the files of segments as they are.
fn unchanged_segments<T>(directory: &Path, act: impl FnOnce() -> T) -> T {
    let segments = || {
        let names = names(directory).into_iter().filter(|name| name.ends_with(".seg"));
        names.map(|name| (fs::read(directory.join(&name)).unwrap(), name)).collect::<Vec<_>>()
    };
    let before = segments();
    let done = act();
    assert!(segments() == before, "a segment has changed");
    done
}

#[test]
fn a_log_that_crashed_on_a_full_disk_is_trimmed_there_and_then_has_room() {
    let Some(disk) = small_disk() else { return };
    let path = disk.path().join("log");
    let log = open_small(&path);
    log.create_pin("replica", "test", Lsn(1), None).unwrap();
    let last = fill(&log);
    drop(log);
    let log = open_small(&path);
    check_pending(&log, last);
    assert_eq!(log.trim_before(Lsn(last + 1)).unwrap(), 0, "a pin keeps all");
    log.drop_pin("replica").unwrap();
    let segments = log.stats().sealed_segments;
    let pin = log.pin(Lsn(last)).unwrap();
    assert_eq!(log.trim_before(Lsn(last + 1)).unwrap(), segments, "all but the one that holds the last record");
    drop(pin);
    let first = log.first_lsn().0;
    assert!(first > 1);
    assert_records(&log.snapshot().unwrap(), first, last);
    // Also after another crash.
    drop(log);
    let log = open_small(&path);
    assert_records(&log.snapshot().unwrap(), first, last);
    append(&log, last + 1..=last + 300);
    log.sync().unwrap();
    drop(log);
    assert_records(&open_small(&path).snapshot().unwrap(), first, last + 300);
}

#[test]
fn what_a_crash_has_left_stays_until_the_log_has_room_and_goes_then() {
    let Some(disk) = small_disk() else { return };
    let path = disk.path().join("log");
    let log = open_small(&path);
    let last = fill(&log);
    drop(log);
    // The link of the newest segment is damaged, so that it does not count, and its records are a torn end.
    let newest = names(&path).into_iter().filter(|name| name.ends_with(".seg")).max().unwrap();
    let cut = open_and_cut(&path, &newest);
    assert!(cut < last);
    for _ in 0..2 {
        let log = open_small(&path);
        check_pending(&log, cut);
        assert!(path.join(&newest).exists());
    }
    let log = open_small(&path);
    make_room(&disk);
    append(&log, cut + 1..=cut + 10);
    assert!(!path.join(&newest).exists(), "what does not count is gone");
    assert_records(&log.snapshot().unwrap(), 1, cut + 10);
}

#[test]
fn what_a_crash_has_left_stays_if_the_link_that_replaces_it_is_not_durable() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=1500);
    drop(log);
    let is_begun = |name: &String| {
        let inspection = mapwal::inspect::Inspection::open(dir.path()).unwrap();
        inspection.segments().iter().any(|file| file.path.ends_with(name) && file.first_lsn.is_some())
    };
    let segments: Vec<String> = names(dir.path()).into_iter().filter(|name| name.ends_with(".seg")).collect();
    segments.iter().filter(|name| !is_begun(name)).for_each(|spare| fs::remove_file(dir.path().join(spare)).unwrap());
    let newest = segments.into_iter().filter(|name| dir.path().join(name).exists()).max().unwrap();
    let cut = open_and_cut(dir.path(), &newest);
    let storage = Faulty::new(dir.path());
    storage.fail(Call::Allocate, Errno::NOSPC);
    let log = open_on(&storage);
    check_pending(&log, cut);
    storage.heal();
    storage.fail(Call::SyncMapping, Errno::IO);
    let refused = log.append(0, &payload(cut + 1));
    assert!(matches!(refused, Err(Error::Poisoned { .. })), "{refused:?}");
    assert!(dir.path().join(&newest).exists());
    drop(log);
    storage.heal();
    assert_records(&open_on(&storage).snapshot().unwrap(), 1, cut);
    assert!(!dir.path().join(&newest).exists());
}

/// Spoils the first frame of the file `name`; returns the last record before it.
fn open_and_cut(directory: &Path, name: &str) -> u64 {
    use std::os::unix::fs::FileExt;
    const LINK: u64 = 4096;
    let inspection = mapwal::inspect::Inspection::open(directory).unwrap();
    let first = inspection.segments().iter().find(|file| file.path.ends_with(name)).and_then(|file| file.first_lsn);
    let file = fs::File::options().write(true).open(directory.join(name)).unwrap();
    file.write_all_at(&[0xff; 8], LINK).unwrap();
    first.unwrap().0 - 1
}

#[test]
fn a_log_that_was_closed_on_a_full_disk_opens_there() {
    let Some(disk) = small_disk() else { return };
    let path = disk.path().join("log");
    let log = open_small(&path);
    let last = fill(&log);
    log.close().unwrap();
    let log = open_small(&path);
    assert_records(&log.snapshot().unwrap(), 1, last);
    let last = fill(&log);
    check_full(&log, last);
}

#[test]
fn no_log_is_made_on_a_full_disk() {
    let Some(disk) = Mounted::of_size(32 << 10) else { return };
    let opened = try_open(disk.path(), &small());
    assert!(matches!(opened, Err(Error::NoSpace { .. })), "{opened:?}");
    assert_eq!(names(disk.path()), ["LOCK"]);
}

#[test]
fn a_disk_without_inodes_says_that_it_is_those_which_are_missing() {
    // The root, the directory of the log, its lock and control page, and two segments; and none for a lock.
    for (inodes, has_log) in [(6, true), (2, false)] {
        let Some(disk) = Mounted::of_inodes(16 << 20, inodes) else { return };
        let directory = disk.path().join("log");
        fs::create_dir(&directory).unwrap();
        let error = if has_log {
            let log = open_small(&directory);
            (1..).find_map(|number| log.append(0, &payload(number)).err()).unwrap()
        } else {
            try_open(&directory, &small()).unwrap_err()
        };
        let Error::NoSpace { left: Some(left), .. } = &error else { panic!("{error:?}") };
        assert_eq!(left.inodes, Some(0));
        assert!(left.bytes > 2 * SMALL, "there is room for bytes");
        assert!(error.to_string().ends_with(": no inodes left"), "{error}");
    }
}

#[test]
fn a_full_disk_says_how_little_is_left() {
    let Some(disk) = small_disk() else { return };
    let log = open_small(&disk.path().join("log"));
    let error = (1..).find_map(|number| log.append(0, &payload(number)).err()).unwrap();
    let Error::NoSpace { left: Some(left), .. } = &error else { panic!("{error:?}") };
    assert!(left.bytes < SMALL && left.inodes != Some(0), "{left:?}");
    assert!(error.to_string().ends_with(&format!(": {} bytes left", left.bytes)), "{error}");
}

#[test]
fn threads_on_a_full_disk_lose_no_number() {
    let Some(disk) = small_disk() else { return };
    let log = open_small(&disk.path().join("log"));
    let append_until_full = || (1_u64..).find(|_| log.append(0, &[5; 100]).is_err()).unwrap() - 1;
    let appended: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(append_until_full)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(log.published_lsn().unwrap(), Lsn(appended));
    assert_eq!(log.snapshot().unwrap().iter().filter(|record| record.is_ok()).count() as u64, appended);
}

/// Fills a log whose storage has no more room, gives it room, and goes on.
fn fill_and_go_on(storage: &Faulty, log: &Log, call: Call) {
    append(log, 1..=10);
    storage.fail(call, Errno::NOSPC);
    let last = fill(log);
    check_full(log, last);
    storage.heal();
    append(log, last + 1..=last + 1000);
}

#[test]
fn every_way_to_run_out_of_room_is_a_full_disk() {
    for call in [Call::Create, Call::Allocate, Call::Write, Call::Sync, Call::Rename] {
        let dir = scratch();
        let storage = Faulty::new(dir.path());
        fill_and_go_on(&storage, &open_on(&storage), call);
    }
}

#[test]
fn an_append_does_not_hear_of_an_attempt_that_began_before_it() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    append(&log, 1..=1);
    await_spare(&log);
    storage.hold(Call::Allocate);
    storage.fail_once(Call::Allocate, Errno::NOSPC);
    // Takes the spare, so that another one is wanted.
    log.rotate().unwrap();
    storage.wait_until_held();
    let most = vec![0; 50_000];
    assert_eq!(log.append(0, &most).unwrap(), Lsn(2));
    let stalls = log.stats().stalls;
    std::thread::scope(|scope| {
        let appending = scope.spawn(|| log.append(0, &most));
        until("it waits for a segment", || log.stats().stalls > stalls);
        storage.release();
        assert_eq!(appending.join().unwrap().unwrap(), Lsn(3), "there has been room since");
    });
}

/// Whether a thread makes the segments, or the caller that has taken the one before, or the one that needs it.
#[test]
fn a_spare_that_could_not_be_made_is_not_told_to_a_caller_that_finds_room() {
    for preparation in [Preparation::Background, Preparation::Ahead, Preparation::OnDemand] {
        for call in [Call::Create, Call::Allocate, Call::Sync, Call::Rename, Call::SyncDirectory] {
            let dir = scratch();
            let storage = Faulty::new(dir.path());
            storage.prepare(preparation);
            let log = open_on(&storage);
            append(&log, 1..=1);
            let is_ahead = preparation != Preparation::OnDemand;
            if is_ahead {
                await_spare(&log);
                let before = storage.count(call);
                storage.fail_once(call, Errno::NOSPC);
                // Takes the spare, and the next one fails.
                log.rotate().unwrap();
                until("an attempt", || storage.count(call) > before);
            } else {
                storage.fail_once(call, Errno::NOSPC);
                assert!(matches!(log.rotate(), Err(Error::NoSpace { .. })), "{call:?}");
            }
            // Needs a segment at once, and so makes one if there is none.
            log.reset_to(Lsn(2)).unwrap_or_else(|error| panic!("{preparation:?}, {call:?}: {error}"));
            for _ in 0..2 {
                append(&log, log.next_lsn().0..=log.next_lsn().0);
                log.rotate().unwrap_or_else(|error| panic!("{preparation:?}, {call:?}: {error}"));
            }
        }
    }
}

#[test]
fn a_quota_that_is_used_up_is_a_full_disk() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    storage.fail(Call::Allocate, Errno::DQUOT);
    let last = fill(&log);
    check_full(&log, last);
}

#[test]
fn a_segment_that_cannot_be_prepared_is_an_error_of_the_append_that_needs_it() {
    let names_segment = |error: &Error, directory: &Path| {
        error.to_string().starts_with(&format!("cannot prepare {}", directory.join("0000000000000000000").display()))
    };
    for call in [Call::Create, Call::Allocate, Call::Sync, Call::Rename, Call::SyncDirectory, Call::Map] {
        let dir = scratch();
        let storage = Faulty::new(dir.path());
        let log = open_on(&storage);
        storage.fail(call, Errno::IO);
        let error = (1..).find_map(|number| log.append(0, &payload(number)).err()).unwrap();
        assert!(matches!(error, Error::Io { .. }) && names_segment(&error, dir.path()), "{call:?}: {error}");
        let last = log.next_lsn().previous().0;
        storage.heal();
        append(&log, last + 1..=last + 1000);
        drop(log);
        assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, last + 1000);
    }
}
