//! Named pins that are taken back.

use mapwal::error::PinFault;
use mapwal::{Lsn, PinState};

use super::named_pins::{beside, fill};
use crate::support::scratch::{open_small, scratch};
use crate::support::{SMALL, append, pin_fault};

/// As where what a replica or an archive had is lost, and the log still has it.
#[test]
fn a_pin_is_taken_back_to_what_is_there_and_within_half_of_its_limit() {
    for is_beside in [false, true] {
        let dir = scratch();
        let log = open_small(dir.path());
        fill(&log, 12);
        let rewind = |name: &str, lsn| {
            if is_beside { beside(dir.path()).rewind(name, lsn) } else { log.rewind_pin(name, lsn) }
        };
        let last = log.next_lsn();
        let lsn_of = |name: &str| log.pins().iter().find(|pin| pin.name == name).unwrap().lsn;
        log.create_pin("early", "", Lsn(700), None).unwrap();
        log.trim_before(last).unwrap();
        let first = log.first_lsn();
        let back = Lsn(first.0 + 500);
        for name in ["back", "far"] {
            log.create_pin(name, "of the test", last, None).unwrap();
        }
        log.create_pin("limited", "", last, Some(8 * SMALL)).unwrap();
        rewind("back", last.next()).unwrap();
        assert_eq!(lsn_of("back"), last, "that is no way forward");
        rewind("back", back).unwrap();
        rewind("far", Lsn(1)).unwrap();
        rewind("limited", Lsn(1)).unwrap();
        assert_eq!((lsn_of("back"), lsn_of("far")), (back, first));
        let limited = log.pins().into_iter().find(|pin| pin.name == "limited").unwrap();
        assert!(limited.lsn < last && limited.retained_bytes <= 4 * SMALL, "{limited:?}");
        assert!(limited.retained_bytes + SMALL > 4 * SMALL && limited.state == PinState::Reserved, "{limited:?}");
        // Each is heeded by the next trim, also after a restart.
        log.drop_pin("early").unwrap();
        drop(log);
        let log = open_small(dir.path());
        for (dropped, kept) in [("far", back), ("back", limited.lsn)] {
            log.drop_pin(dropped).unwrap();
            log.trim_before(last).unwrap();
            assert!(log.first_lsn() <= kept && log.first_lsn() > first, "{dropped}: {}", log.first_lsn());
            assert!(log.pins().iter().all(|pin| pin.state == PinState::Reserved));
        }
        assert_eq!(pin_fault(log.rewind_pin("far", first)), Some(PinFault::Missing));
        fill(&log, 6);
        log.trim_before(log.next_lsn()).unwrap();
        let lost = PinFault::Lost { lsn: limited.lsn, first: log.first_lsn() };
        assert_eq!(pin_fault(log.rewind_pin("limited", last)), Some(lost));
    }
}

#[test]
fn a_pin_that_gets_another_limit_is_heeded_by_it_from_the_next_trim_on() {
    for is_beside in [false, true] {
        let dir = scratch();
        let log = open_small(dir.path());
        let limit = |bytes| {
            if is_beside { beside(dir.path()).limit("a", bytes) } else { log.limit_pin("a", bytes) }
        };
        assert_eq!(pin_fault(limit(None)), Some(PinFault::Missing));
        log.create_pin("a", "of the test", Lsn(1), Some(4 * SMALL)).unwrap();
        fill(&log, 8);
        let pin = || log.pins().remove(0);
        assert_eq!(pin().state, PinState::Extended);
        for (bytes, kept) in [(Some(40 * SMALL), true), (None, true), (Some(4 * SMALL), false)] {
            limit(bytes).unwrap();
            assert_eq!((pin().limit_bytes, &*pin().owner, pin().lsn), (bytes, "of the test", Lsn(1)));
            assert_eq!(pin().state == PinState::Reserved, kept, "{bytes:?}");
            log.trim_before(log.next_lsn()).unwrap();
            assert_eq!(log.first_lsn() == Lsn(1), kept, "{bytes:?}");
        }
        let lost = PinFault::Lost { lsn: Lsn(1), first: log.first_lsn() };
        assert_eq!(pin_fault(limit(None)), Some(lost), "without a limit it would say that the log was damaged");
        drop(log);
        assert_eq!(open_small(dir.path()).pins()[0].limit_bytes, Some(4 * SMALL), "also after a restart");
    }
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
