//! What a reader is told of records that are gone.
//!
//! With the end of the segment that is missing for the first record that is there, the test here failed.

use mapwal::{Error, Lsn, Visibility};

use crate::support::files::segment;
use crate::support::scratch::{open_small, scratch};
use crate::support::wait::until;
use crate::support::{append, read_only};

#[test]
fn the_first_record_that_is_said_to_be_there_is_there() {
    let dir = scratch();
    let log = open_small(dir.path());
    for first in (1..=91).step_by(10) {
        append(&log, first..=first + 9);
        log.rotate().unwrap();
    }
    log.sync().unwrap();
    let reader = read_only(dir.path()).unwrap();
    let view = reader.snapshot().unwrap();
    let mut follower = reader.follow(Lsn(1), Visibility::Published).unwrap();
    log.trim_before(Lsn(75)).unwrap();
    let first = log.first_lsn();
    assert_eq!(first, Lsn(71));
    until("the first file is gone", || !segment(dir.path(), 1).exists());
    // Others may be there for a moment longer, with no record that counts.
    assert!(matches!(view.get(Lsn(5)), Err(Error::Trimmed { first: told, .. }) if told == first));
    for lsn in [5, 15, 35, 65].map(Lsn) {
        match view.get(lsn) {
            Err(Error::Trimmed { first: told, .. }) => assert_eq!(told, first),
            other => assert!(other.is_ok(), "{other:?}"),
        }
        assert!(matches!(reader.get(lsn), Err(Error::Trimmed { first: told, .. }) if told == first));
    }
    assert!(view.iter().any(|record| matches!(record, Err(Error::Trimmed { first: told, .. }) if told == first)));
    assert!(matches!(follower.next(), Err(Error::Trimmed { first: told, .. }) if told == first));
    assert_eq!(view.get(first).unwrap().unwrap().lsn(), first);
}
