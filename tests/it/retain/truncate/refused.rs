//! What a truncation or a reset leaves that is refused: everything as it was, also for other processes.
//!
//! With the durable number lowered before there was a segment, with a spare that is not given back, and with pins that stay changed, a
//! test here failed.

use mapwal::{Error, Log, LogReader, Lsn, PinState, Visibility};
use rustix::io::Errno;

use super::fill;
use crate::support::faulty::{Call, Faulty};
use crate::support::scratch::{await_spare, contents, scratch};
use crate::support::{open_faulty, read_only};

const LAST: Lsn = Lsn(30);

/// What a log shows, here and elsewhere.
fn shown(log: &Log, reader: &LogReader) -> impl PartialEq + std::fmt::Debug + use<> {
    let mut follower = reader.follow(Lsn(1), Visibility::Durable).unwrap();
    let followed = std::iter::from_fn(|| follower.next().unwrap().map(|record| record.lsn())).count();
    let pins: Vec<_> = log.pins().into_iter().map(|pin| (pin.name, pin.lsn, pin.state)).collect();
    (
        contents(log),
        log.next_lsn(),
        log.durable_lsn(),
        reader.durable_lsn(),
        reader.published_lsn().unwrap(),
        followed,
        pins,
    )
}

/// A log with thirty durable records, two pins beyond record 5, and no room for anything but the spare that is there.
fn full() -> (tempfile::TempDir, Log, std::sync::Arc<Faulty>, LogReader) {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    fill(&log);
    log.create_pin("first", "test", Lsn(8), None).unwrap();
    log.create_pin("second", "test", Lsn(9), None).unwrap();
    assert_eq!(log.sync().unwrap(), LAST);
    await_spare(&log);
    faults.fail(Call::Allocate, Errno::NOSPC);
    let reader = read_only(dir.path()).unwrap();
    (dir, log, faults, reader)
}

/// What is tried, each of which would move or lose the pins.
const REFUSED: [fn(&Log) -> mapwal::Result<()>; 2] = [|log| log.truncate_after(Lsn(5)), |log| log.reset_to(Lsn(5))];

#[test]
fn without_a_segment_nothing_has_changed() {
    for refused in REFUSED {
        let (_dir, log, faults, reader) = full();
        log.rotate().unwrap();
        log.sync().unwrap();
        let before = shown(&log, &reader);
        assert!(matches!(refused(&log), Err(Error::NoSpace { .. })));
        assert_eq!(shown(&log, &reader), before);
        faults.heal();
        refused(&log).unwrap();
        assert!(log.next_lsn() <= Lsn(6) && reader.durable_lsn() <= Lsn(5));
    }
}

#[test]
fn without_room_for_a_pin_nothing_has_changed_and_the_spare_is_there() {
    for refused in REFUSED {
        let (_dir, log, faults, reader) = full();
        let before = shown(&log, &reader);
        faults.fail_on("second.tmp", Call::Write, Errno::NOSPC);
        for _ in 0..3 {
            assert!(matches!(refused(&log), Err(Error::NoSpace { .. })));
            assert_eq!(shown(&log, &reader), before);
        }
        log.rotate().unwrap();
        log.append(1, b"in the spare").unwrap();
        assert!(matches!(log.rotate(), Err(Error::NoSpace { .. })), "there was one");
        log.truncate_after(LAST).unwrap_err();
        faults.heal();
        refused(&log).unwrap();
        assert!(log.pins().iter().all(|pin| pin.state == PinState::Lost || pin.lsn == Lsn(6)));
    }
}

#[test]
fn without_a_write_to_the_control_page_nothing_has_changed() {
    for refused in REFUSED {
        let (_dir, log, faults, reader) = full();
        let before = shown(&log, &reader);
        // The name under which it was created.
        faults.fail_once_on("control.tmp", Call::Write, Errno::IO);
        assert!(matches!(refused(&log), Err(Error::Io { .. })));
        assert_eq!(shown(&log, &reader), before);
        log.rotate().unwrap();
    }
}

#[test]
fn a_pin_that_cannot_be_made_what_it_was_is_told_as_it_is() {
    let (dir, log, faults, _reader) = full();
    faults.fail_on("second.tmp", Call::Write, Errno::NOSPC);
    // The first pin is moved, and cannot be moved back.
    faults.fail_on_after(1, "first.tmp", Call::Rename, Errno::IO);
    assert!(log.truncate_after(Lsn(5)).is_err());
    let elsewhere = mapwal::PinDirectory::open(dir.path()).unwrap().list().unwrap();
    for told in [elsewhere, log.pins()] {
        let told: Vec<_> = told.iter().map(|pin| (&*pin.name, pin.lsn)).collect();
        assert_eq!(told, [("first", Lsn(6)), ("second", Lsn(9))]);
    }
    faults.heal();
    log.advance_pin("first", Lsn(7)).unwrap();
    assert_eq!(log.pins()[0].lsn, Lsn(7));
}

#[test]
fn the_spare_that_was_not_used_is_the_spare_again() {
    for refused in REFUSED {
        let (dir, log, faults, _reader) = full();
        faults.heal();
        faults.fail_on("second.tmp", Call::Write, Errno::NOSPC);
        for _ in 0..50 {
            assert!(matches!(refused(&log), Err(Error::NoSpace { .. })));
        }
        // Another one would be made by then.
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(log.stats().spare_segments, 1);
        let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let segments = files.filter(|path| path.extension() == Some("seg".as_ref())).count();
        assert_eq!(segments, log.stats().sealed_segments + 2);
        faults.heal();
        refused(&log).unwrap();
        await_spare(&log);
    }
}

#[test]
fn a_pin_that_cannot_be_changed_durably_is_as_it_was() {
    type Change = fn(&Log) -> mapwal::Result<()>;
    let changes: [(&str, Change); 7] = [
        ("create_pin", |log| log.create_pin("new", "", Lsn(5), None)),
        ("replace_pin", |log| log.replace_pin("first", "new", Lsn(5), None)),
        ("advance_pin", |log| log.advance_pin("first", Lsn(20))),
        ("assign_pin", |log| log.assign_pin("first", "another")),
        ("limit_pin", |log| log.limit_pin("first", Some(1 << 40))),
        ("truncate_after", REFUSED[0]),
        ("reset_to", REFUSED[1]),
    ];
    for (what, change) in changes {
        let (_dir, log, faults, reader) = full();
        let before = (shown(&log, &reader), log.pins());
        // After the file has taken the place of the old one. Before it is written over, the directory is synced as well.
        let is_new = what == "create_pin";
        faults.fail_after(if is_new { 0 } else { 1 }, Call::SyncDirectory, Errno::IO);
        assert!(matches!(change(&log), Err(Error::Io { .. })), "{what}");
        assert_eq!((shown(&log, &reader), log.pins()), before, "{what}");
        change(&log).unwrap_or_else(|error| panic!("{what}, once more: {error}"));
    }
}
