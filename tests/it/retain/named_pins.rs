//! Named pins: what they keep, and for how long.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use mapwal::error::{Damage, PinFault};
use mapwal::inspect::{Inspection, VerifyOptions};
use mapwal::{Error, Log, Lsn, PinDirectory, PinState};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::format::spec::crc32;
use crate::support::faulty::{Call, Faulty};
use crate::support::rights::without_rights;
use crate::support::scratch::{open_small, scratch};
use crate::support::wait::{LONG, until};
use crate::support::{SMALL, append, assert_records, open_on, pin_fault};

/// Appends `segments` segments full of records, and makes them durable.
pub(super) fn fill(log: &Log, segments: u64) {
    let end = log.stats().bytes_appended + segments * SMALL;
    while log.stats().bytes_appended < end {
        let next = log.next_lsn().0;
        append(log, next..=next);
    }
    log.sync().unwrap();
}

fn state(log: &Log, name: &str) -> PinState {
    log.pins().iter().find(|pin| pin.name == name).unwrap().state
}

#[test]
fn a_pin_survives_a_restart_and_trim_never_passes_it() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log, 6);
    log.create_pin("replica", "of the test", Lsn(700), None).unwrap();
    assert_eq!(pin_fault(log.create_pin("replica", "again", Lsn(700), None)), Some(PinFault::Exists));
    drop(log);
    let log = open_small(dir.path());
    let pin = &log.pins()[0];
    assert_eq!((pin.name.as_str(), pin.owner.as_str(), pin.lsn), ("replica", "of the test", Lsn(700)));
    assert_eq!(pin.state, PinState::Reserved);
    let last = log.next_lsn().0 - 1;
    log.trim_before(log.next_lsn()).unwrap();
    let first = log.first_lsn();
    assert!(first > Lsn(1) && first <= Lsn(700), "{first}");
    assert_records(&log.snapshot().unwrap(), first.0, last);
    log.advance_pin("replica", Lsn(600)).unwrap();
    assert_eq!(log.pins()[0].lsn, Lsn(700), "that is no way back");
    log.advance_pin("replica", log.next_lsn()).unwrap();
    assert!(log.trim_before(log.next_lsn()).unwrap() > 0);
    log.drop_pin("replica").unwrap();
    assert_eq!(pin_fault(log.drop_pin("replica")), Some(PinFault::Missing));
    drop(log);
    assert!(open_small(dir.path()).pins().is_empty());
}

#[test]
fn a_pin_beyond_its_limit_is_extended_and_then_lost_for_good() {
    let dir = scratch();
    let log = open_small(dir.path());
    log.create_pin("slow", "", Lsn(1), Some(3 * SMALL)).unwrap();
    log.create_pin("quick", "", Lsn(1), None).unwrap();
    assert_eq!(state(&log, "slow"), PinState::Reserved);
    fill(&log, 5);
    assert_eq!(state(&log, "slow"), PinState::Extended);
    assert_eq!(log.trim_before(log.next_lsn()).unwrap(), 0, "the other pin keeps everything");
    assert_eq!(state(&log, "slow"), PinState::Extended);
    log.advance_pin("quick", log.next_lsn()).unwrap();
    assert!(log.trim_before(log.next_lsn()).unwrap() > 0);
    let lost = |log: &Log| {
        assert_eq!(state(log, "slow"), PinState::Lost);
        let advanced = log.advance_pin("slow", log.next_lsn());
        assert_eq!(pin_fault(advanced), Some(PinFault::Lost { lsn: Lsn(1), first: log.first_lsn() }));
    };
    lost(&log);
    drop(log);
    lost(&open_small(dir.path()));
}

#[test]
fn a_reset_loses_all_pins_also_for_the_next_run() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log, 1);
    log.create_pin("replica", "", Lsn(50), None).unwrap();
    log.reset_to(Lsn(10)).unwrap();
    assert_eq!(state(&log, "replica"), PinState::Lost);
    drop(log);
    assert_eq!(state(&open_small(dir.path()), "replica"), PinState::Lost);
}

#[test]
fn a_truncation_takes_pins_back_to_the_records_that_their_owners_will_want() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log, 3);
    log.create_pin("replica", "", Lsn(500), None).unwrap();
    log.create_pin("later", "", Lsn(30), None).unwrap();
    log.truncate_after(Lsn(99)).unwrap();
    drop(log);
    let log = open_small(dir.path());
    assert_eq!(log.pins().iter().map(|pin| pin.lsn).collect::<Vec<_>>(), [Lsn(30), Lsn(100)]);
    log.drop_pin("later").unwrap();
    fill(&log, 4);
    log.trim_before(log.next_lsn()).unwrap();
    assert!(log.first_lsn() <= Lsn(100), "{}", log.first_lsn());
}

#[test]
fn a_name_that_leads_elsewhere_is_refused() {
    let dir = scratch();
    let log = open_small(&dir.path().join("log"));
    for name in ["", ".", "..", "../pin", "a/b", "/tmp/pin", "a.tmp", "ü", &"x".repeat(65)] {
        assert_eq!(pin_fault(log.create_pin(name, "", Lsn(1), None)), Some(PinFault::InvalidName), "{name:?}");
    }
    assert!(log.pins().is_empty());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// A log of several segments with the pin `replica` at record 1, and the pin's file.
fn pinned() -> (TempDir, PathBuf) {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log, 3);
    log.create_pin("replica", "", Lsn(1), None).unwrap();
    let file = dir.path().join("pins/replica");
    (dir, file)
}

#[test]
fn a_damaged_pin_keeps_all_records_and_no_log_from_opening_until_it_is_dropped() {
    let (dir, file) = pinned();
    let good = fs::read(&file).unwrap();
    let mut flipped = good.clone();
    flipped[8] ^= 1;
    for bytes in [&flipped[..], &later(&good), &good[1..], &[&good[..], b"more"].concat(), b""] {
        fs::write(&file, bytes).unwrap();
        let log = open_small(dir.path());
        let pin = &log.pins()[0];
        assert_eq!((pin.name.as_str(), pin.lsn, pin.state), ("replica", Lsn(1), PinState::Damaged));
        assert_eq!(log.stats().pins, 1);
        assert_eq!(log.trim_before(log.next_lsn()).unwrap(), 0, "nobody knows what it keeps");
        assert_eq!(pin_fault(log.advance_pin("replica", Lsn(9))), Some(PinFault::Damaged));
        assert_eq!(pin_fault(log.create_pin("replica", "", Lsn(9), None)), Some(PinFault::Exists));
    }
    let log = open_small(dir.path());
    log.drop_pin("replica").unwrap();
    assert!(log.pins().is_empty() && !file.exists());
    assert!(log.trim_before(log.next_lsn()).unwrap() > 0);
}

/// The same pin in a later version of the format.
fn later(good: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    bytes[7] = b'2';
    let crc = crc32(0, &bytes[..92]);
    bytes[92..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn a_damaged_pin_is_reported_by_its_path() {
    let (dir, file) = pinned();
    let later = later(&fs::read(&file).unwrap());
    let length = Damage::FileLength { expected: 96, found: 0 };
    for (bytes, damage) in [(vec![], length), (later, Damage::UnknownVersion(b'2'.into()))] {
        fs::write(&file, bytes).unwrap();
        let inspection = Inspection::open(dir.path()).unwrap();
        assert_eq!(inspection.pins().unwrap()[0].state, PinState::Damaged);
        let report = inspection.verify(VerifyOptions::default(), &mut |_| ()).unwrap();
        let [found] = &report.damage[..] else { panic!("{:?}", report.damage) };
        assert_eq!((&found.path, &found.evidence), (&file, &None));
        assert_eq!(found.damage, damage);
    }
}

#[test]
fn a_pin_that_may_not_be_read_is_damaged_for_the_writer_and_an_error_for_others() {
    let (dir, file) = pinned();
    for directory in [dir.path(), &dir.path().join("pins")] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
        for entry in fs::read_dir(directory).unwrap() {
            fs::set_permissions(entry.unwrap().path(), fs::Permissions::from_mode(0o777)).unwrap();
        }
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    let look = || (Inspection::open(dir.path()).unwrap().pins(), open_small(dir.path()).pins()[0].state);
    let Some((listed, state)) = without_rights(look) else { return };
    assert!(matches!(listed, Err(Error::Io { path, .. }) if path == file));
    assert_eq!(state, PinState::Damaged);
}

#[test]
fn what_is_no_pin_is_left_alone_in_the_directory_of_pins() {
    let (dir, _) = pinned();
    let pins = dir.path().join("pins");
    let strangers = [".DS_Store", "replica~", "replica.bak", "#replica#", "notes.tmp.txt", "\u{fc}"];
    for name in strangers {
        fs::write(pins.join(name), "mine").unwrap();
    }
    fs::create_dir(pins.join("backup")).unwrap();
    symlink("nowhere", pins.join("link")).unwrap();
    fs::write(pins.join("other.tmp"), "unfinished").unwrap();
    let log = open_small(dir.path());
    assert_eq!(log.pins().iter().map(|pin| pin.name.as_str()).collect::<Vec<_>>(), ["replica"]);
    log.drop_pin("replica").unwrap();
    assert!(log.trim_before(log.next_lsn()).unwrap() > 0, "strangers keep nothing");
    let report = Inspection::open(dir.path()).unwrap().verify(VerifyOptions::default(), &mut |_| ()).unwrap();
    assert_eq!(report.damage, []);
    assert!(!pins.join("other.tmp").exists());
    assert!(strangers.iter().all(|name| pins.join(name).exists()));
}

#[test]
fn a_pin_on_a_full_disk_is_as_it_was_and_a_lost_one_does_not_keep_the_disk_full() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    log.create_pin("replica", "", Lsn(1), Some(2 * SMALL)).unwrap();
    fill(&log, 4);
    storage.fail(Call::Create, Errno::NOSPC);
    storage.fail(Call::Write, Errno::NOSPC);
    assert!(matches!(log.create_pin("other", "", Lsn(1), None), Err(Error::NoSpace { .. })));
    assert!(matches!(log.advance_pin("replica", Lsn(9)), Err(Error::NoSpace { .. })));
    let pins = log.pins();
    assert_eq!((pins.len(), pins[0].lsn, pins[0].state), (1, Lsn(1), PinState::Extended));
    storage.heal();
    storage.fail(Call::Create, Errno::NOSPC);
    assert!(log.trim_before(log.next_lsn()).unwrap() > 0);
    assert_eq!(state(&log, "replica"), PinState::Lost);
    drop(log);
    assert_eq!(state(&open_small(dir.path()), "replica"), PinState::Lost);
}

/// Ends the other threads of a test, also when it fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Of the library for those who do not have the log open.
pub(super) fn beside(dir: &std::path::Path) -> PinDirectory {
    PinDirectory::open(dir).unwrap()
}

#[test]
fn pins_are_made_moved_and_dropped_beside_the_writer_who_heeds_them_at_once() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log, 6);
    let pins = beside(dir.path());
    pins.create("replica", "of somebody", Lsn(500), Some(100 * SMALL)).unwrap();
    assert_eq!(pin_fault(pins.create("replica", "", Lsn(500), None)), Some(PinFault::Exists));
    assert_eq!(pin_fault(log.create_pin("replica", "", Lsn(500), None)), Some(PinFault::Exists));
    assert_eq!(log.pins(), pins.list().unwrap());
    assert_eq!((log.pins()[0].lsn, log.pins()[0].limit_bytes), (Lsn(500), Some(100 * SMALL)));
    assert!(log.trim_before(log.next_lsn()).unwrap() > 0);
    let first = log.first_lsn();
    assert!(first <= Lsn(500), "{first}");
    pins.advance("replica", Lsn(900)).unwrap();
    pins.advance("replica", Lsn(700)).unwrap();
    assert_eq!(log.pins()[0].lsn, Lsn(900), "that is no way back");
    log.advance_pin("replica", Lsn(901)).unwrap();
    assert_eq!(pins.list().unwrap()[0].lsn, Lsn(901));
    assert!(log.trim_before(log.next_lsn()).unwrap() > 0);
    assert!(log.first_lsn() <= Lsn(901));
    pins.remove("replica").unwrap();
    assert_eq!(pin_fault(log.advance_pin("replica", log.next_lsn())), Some(PinFault::Missing), "it does not come back");
    assert!(log.trim_before(log.next_lsn()).unwrap() > 0);
    assert!(log.first_lsn() > Lsn(901));
    let next = log.next_lsn();
    assert!(matches!(pins.create("late", "", Lsn(901), None), Err(Error::Trimmed { lsn: Lsn(901), .. })));
    let refused = pins.create("early", "", next.next(), None);
    assert!(matches!(refused, Err(Error::NotAppended { next: found, .. }) if found == next), "{refused:?}");
    pins.create("next", "", next, None).unwrap();
    assert!(matches!(pins.advance("next", next.next()), Err(Error::NotAppended { .. })));
    assert_eq!(pin_fault(pins.remove("other")), Some(PinFault::Missing));
}

#[test]
fn a_pin_made_beside_a_trim_is_never_trimmed_past() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log, 2);
    let pins = beside(dir.path());
    let (made, trimmed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                append(&log, log.next_lsn().0..=log.next_lsn().0 + 19);
                log.rotate().unwrap();
                log.sync().unwrap();
                match log.trim_before(log.next_lsn()) {
                    Ok(count) => drop(trimmed.fetch_add(count, Ordering::Relaxed)),
                    // The other one has had no processor for a second while it changed the pins.
                    Err(Error::Io { operation: "lock", .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let _ends = Ends(&is_over);
        until("pins are made, and segments trimmed", || {
            let first = log.first_lsn();
            match pins.create("mine", "", first, None) {
                Ok(()) => {}
                // Trimmed between the two looks.
                Err(Error::Trimmed { .. }) => return false,
                Err(error) => panic!("{error}"),
            }
            made.fetch_add(1, Ordering::Relaxed);
            for _ in 0..3 {
                let pin = &pins.list().unwrap()[0];
                assert_eq!((pin.lsn, pin.state), (first, PinState::Reserved));
            }
            pins.remove("mine").unwrap();
            let before = trimmed.load(Ordering::Relaxed);
            until("a trim", || trimmed.load(Ordering::Relaxed) > before);
            made.load(Ordering::Relaxed) > 100 && before > 100
        });
    });
}

#[test]
fn nobody_waits_without_end_for_a_process_that_changes_pins() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log, 3);
    log.create_pin("replica", "", Lsn(1), None).unwrap();
    // As a process does that was stopped in the middle.
    let held = fs::File::open(dir.path().join("pins")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let began = Instant::now();
    let next = log.next_lsn();
    for refused in [
        log.trim_before(next).map(drop),
        log.drop_pin("replica"),
        log.truncate_after(Lsn(5)),
        log.create_pin("other", "", next, None),
    ] {
        assert!(matches!(&refused, Err(Error::Io { operation: "lock", .. })), "{refused:?}");
    }
    assert!(began.elapsed() < LONG);
    assert_eq!((log.first_lsn(), log.next_lsn(), log.pins().len()), (Lsn(1), next, 1), "nothing was done");
    append(&log, next.0..=next.0);
    log.sync().unwrap();
    drop(log);
    let log = open_small(dir.path());
    assert_eq!(log.pins().len(), 1, "it opens, and has its pins");
    drop(held);
    log.drop_pin("replica").unwrap();
    assert!(log.trim_before(next).unwrap() > 0);
}

#[test]
fn what_a_process_left_unfinished_that_died_is_in_nobodys_way() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log, 3);
    fs::create_dir(dir.path().join("pins")).unwrap();
    fs::write(dir.path().join("pins/replica.tmp"), "unfinished").unwrap();
    assert!(log.trim_before(log.next_lsn()).unwrap() > 0);
    beside(dir.path()).create("replica", "", log.next_lsn(), None).unwrap();
    assert_eq!(crate::support::files::names(&dir.path().join("pins")), ["replica", "replica.tmp"]);
}

#[test]
fn a_pin_takes_no_segment_and_needs_no_writer() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=100);
    log.close().unwrap();
    let before = crate::support::files::contents(dir.path());
    let pins = beside(dir.path());
    pins.create("replica", "", Lsn(50), Some(1 << 30)).unwrap();
    pins.advance("replica", Lsn(101)).unwrap();
    assert!(matches!(pins.advance("replica", Lsn(102)), Err(Error::NotAppended { next: Lsn(101), .. })));
    let mut after = crate::support::files::contents(dir.path());
    after.remove("pins");
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert!(open_small(dir.path()).recovery().clean);
    assert!(matches!(PinDirectory::open(dir.path().join("none")), Err(Error::NoLog { .. })));
}
