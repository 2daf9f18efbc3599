//! Named pins that are made in the place of others.

use std::fs;
use std::sync::Arc;

use mapwal::error::PinFault;
use mapwal::{Error, Log, Lsn, PinState, PinStatus};
use rustix::io::Errno;
use tempfile::TempDir;

use super::named_pins::{beside, fill};
use crate::support::faulty::Faulty;
use crate::support::scratch::{await_spare, open_small, scratch};
use crate::support::{SMALL, open_on, pin_fault};

/// A log with the pin `a`, which is in this state.
fn pinned(state: PinState) -> (TempDir, Log, Arc<Faulty>) {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    log.create_pin("a", "old", Lsn(1), (state == PinState::Lost).then_some(2 * SMALL)).unwrap();
    fill(&log, 4);
    match state {
        PinState::Lost => assert!(log.trim_before(log.next_lsn()).unwrap() > 0),
        PinState::Damaged => fs::write(dir.path().join("pins/a"), "garbage").unwrap(),
        _ => {}
    }
    assert_eq!(log.pins()[0].state, state);
    await_spare(&log);
    (dir, log, storage)
}

const STATES: [PinState; 3] = [PinState::Reserved, PinState::Lost, PinState::Damaged];

#[test]
fn a_pin_is_made_in_the_place_of_another_one_whatever_that_is_worth() {
    for (state, is_beside) in STATES.into_iter().flat_map(|state| [(state, false), (state, true)]) {
        let (dir, log, _) = pinned(state);
        let replace = |name: &str, lsn| match is_beside {
            true => beside(dir.path()).replace(name, "new", lsn, Some(1 << 40)),
            false => log.replace_pin(name, "new", lsn, Some(1 << 40)),
        };
        let (first, next) = (log.first_lsn(), log.next_lsn());
        let before = log.pins();
        assert_eq!(pin_fault(replace("a b", first)), Some(PinFault::InvalidName));
        assert!(matches!(replace("a", first.previous()), Err(Error::Trimmed { .. })));
        assert!(matches!(replace("a", next.next()), Err(Error::NotAppended { .. })));
        assert_eq!(log.pins(), before);
        for lsn in [first, next, first] {
            replace("a", lsn).unwrap();
            let pin = log.pins().remove(0);
            assert_eq!((pin.lsn, &*pin.owner, pin.limit_bytes), (lsn, "new", Some(1 << 40)), "{state:?}");
            assert_eq!(pin.state, PinState::Reserved);
        }
        assert_eq!(log.trim_before(next).unwrap(), 0, "it is heeded");
        replace("other", next).unwrap();
        assert_eq!(log.pins().len(), 2, "where there was none");
        drop(log);
        let pins = open_small(dir.path()).pins();
        assert_eq!(pins.iter().map(|pin| pin.lsn).collect::<Vec<_>>(), [first, next], "also after a restart");
    }
}

/// With a pin that is dropped, and made again, this failed: an archive, or a replica, would begin anew.
#[test]
fn a_process_that_ends_while_it_replaces_a_pin_leaves_the_old_or_the_new_one() {
    for state in STATES {
        let mut seen = Vec::new();
        for number in 0.. {
            let (dir, log, storage) = pinned(state);
            let (before, first) = (log.pins().remove(0), log.first_lsn());
            storage.fail_from(number, Errno::IO);
            let replaced = log.replace_pin("a", "new", first, None);
            storage.heal();
            let found = beside(dir.path()).list().unwrap().pop().expect("the one or the other");
            if found != before {
                assert_eq!((found.lsn, &*found.owner, found.state), (first, "new", PinState::Reserved), "{number}");
            }
            drop(log);
            let told = |pin: &PinStatus| (pin.name.clone(), pin.owner.clone(), pin.lsn, pin.state);
            let opened: Vec<_> = open_small(dir.path()).pins().iter().map(told).collect();
            assert_eq!(opened, [told(&found)], "nothing else is taken for a pin");
            seen.push(found.owner);
            if replaced.is_ok() {
                break;
            }
        }
        assert!(seen.len() > 4 && seen[0] != "new" && seen[seen.len() - 1] == "new", "{seen:?}");
    }
}

#[test]
fn a_pin_that_cannot_be_replaced_is_as_it_was() {
    for state in STATES {
        let (_dir, log, storage) = pinned(state);
        let calls = storage.calls().len();
        log.replace_pin("a", "new", log.first_lsn(), None).unwrap();
        let calls = storage.calls().len() - calls;
        let mut refused = 0;
        for number in 0..calls {
            let (dir, log, storage) = pinned(state);
            let before = log.pins();
            storage.fail_number(number, Errno::IO);
            let replaced = log.replace_pin("a", "new", log.first_lsn(), None);
            storage.heal();
            if replaced.is_ok() {
                assert_eq!(beside(dir.path()).list().unwrap()[0].owner, "new");
                continue;
            }
            refused += 1;
            let now = beside(dir.path()).list().unwrap();
            assert_eq!(now, log.pins());
            // What is damaged cannot be written again: there is a sound one then.
            assert!(now == before || state == PinState::Damaged && now[0].owner == "new", "{number}: {now:?}");
            log.replace_pin("a", "new", log.first_lsn(), None).unwrap();
        }
        assert!(refused > 0, "{calls} calls");
    }
}
