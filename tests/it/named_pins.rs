//! Named pins: what they keep, and for how long.

use std::fs;

use mapwal::{Damage, Error, Log, Lsn, PinState};
use rustix::io::Errno;

use crate::scratch::{open_small, scratch};
use crate::support::faulty::{Call, Faulty};
use crate::support::{SMALL, append, assert_records, corruption, open_on, small, try_open};

/// Appends `segments` segments full of records, and makes them durable.
fn fill(log: &Log, segments: u64) {
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
    assert!(matches!(log.create_pin("replica", "again", Lsn(700), None), Err(Error::PinExists { .. })));
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
    assert_eq!(log.pins()[0].lsn, Lsn(700), "a pin does not go back");
    log.advance_pin("replica", log.next_lsn()).unwrap();
    assert!(log.trim_before(log.next_lsn()).unwrap() > 0);
    log.drop_pin("replica").unwrap();
    assert!(matches!(log.drop_pin("replica"), Err(Error::NoPin { .. })));
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
        assert!(matches!(advanced, Err(Error::PinLost { lsn: Lsn(1), first, .. }) if first == log.first_lsn()));
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
    log.create_pin("behind", "", Lsn(30), None).unwrap();
    log.truncate_after(Lsn(99)).unwrap();
    drop(log);
    let log = open_small(dir.path());
    assert_eq!(log.pins().iter().map(|pin| pin.lsn).collect::<Vec<_>>(), [Lsn(30), Lsn(100)]);
    log.drop_pin("behind").unwrap();
    fill(&log, 4);
    log.trim_before(log.next_lsn()).unwrap();
    assert!(log.first_lsn() <= Lsn(100), "{}", log.first_lsn());
}

#[test]
fn a_name_that_leads_elsewhere_is_refused() {
    let dir = scratch();
    let log = open_small(&dir.path().join("log"));
    for name in ["", ".", "..", "../pin", "a/b", "/tmp/pin", "a.tmp", "ü", &"x".repeat(65)] {
        assert!(matches!(log.create_pin(name, "", Lsn(1), None), Err(Error::InvalidPinName { .. })), "{name:?}");
    }
    assert!(log.pins().is_empty());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_damaged_pin_is_refused_by_its_path() {
    let dir = scratch();
    let log = open_small(dir.path());
    log.create_pin("replica", "", Lsn(1), None).unwrap();
    drop(log);
    let file = dir.path().join("pins/replica");
    let good = fs::read(&file).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let corruption = corruption(try_open(dir.path(), &small()));
        assert_eq!(corruption.path, file);
        corruption.damage
    };
    let mut flipped = good.clone();
    flipped[8] ^= 1;
    assert!(matches!(refused(&flipped), Damage::Checksum { .. }));
    assert!(matches!(refused(&good[1..]), Damage::FileLength { expected: 96, found: 95 }));
    assert!(matches!(refused(&[&good[..], b"more"].concat()), Damage::FileLength { .. }));
    fs::write(&file, good).unwrap();
    fs::write(dir.path().join("pins/other.tmp"), "unfinished").unwrap();
    assert_eq!(open_small(dir.path()).pins().len(), 1);
    assert!(!dir.path().join("pins/other.tmp").exists());
}

#[test]
fn a_pin_on_a_full_disk_is_as_it_was_and_a_lost_one_does_not_keep_the_disk_full() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    log.create_pin("replica", "", Lsn(1), Some(2 * SMALL)).unwrap();
    fill(&log, 4);
    storage.fail(Call::Create, Errno::NOSPC);
    assert!(matches!(log.create_pin("other", "", Lsn(1), None), Err(Error::NoSpace { .. })));
    assert!(matches!(log.advance_pin("replica", Lsn(9)), Err(Error::NoSpace { .. })));
    let pins = log.pins();
    assert_eq!((pins.len(), pins[0].lsn, pins[0].state), (1, Lsn(1), PinState::Extended));
    assert!(log.trim_before(log.next_lsn()).unwrap() > 0);
    assert_eq!(state(&log, "replica"), PinState::Lost);
    drop(log);
    assert_eq!(state(&open_small(dir.path()), "replica"), PinState::Lost);
}

#[test]
fn a_truncation_of_everything_is_no_reset_for_pins() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=100);
    log.create_pin("replica", "", Lsn(50), None).unwrap();
    log.truncate_after(Lsn(0)).unwrap();
    let pin = &log.pins()[0];
    assert_eq!((pin.lsn, pin.state), (Lsn(1), PinState::Reserved));
}
