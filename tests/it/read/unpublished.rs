//! Records after one that is still being written, in its segment and in later ones: no reader has them until it is done.
//!
//! With *a record that has been walked is published* in `get`, or in a follower that begins, or once a record beside it has been
//! looked up, a test here failed.

use mapwal::{Error, Log, Lsn, Visibility};

use crate::support::scratch::{open_small, scratch};
use crate::support::{append, assert_record, payload, read_only};

/// What comes after the open one takes about three segments.
const LAST: u64 = 200;

/// Appends records 1 and 2, and then, while record 3 is being written, those up to [`LAST`]; calls `look` before 3 is written.
fn beside_an_open_closure(log: &Log, look: impl FnOnce()) {
    for number in [1, 2] {
        long(log, number);
    }
    std::thread::scope(|scope| {
        let lsn = log.append_with(0, 8, |bytes| {
            bytes.copy_from_slice(&3_u64.to_le_bytes());
            scope.spawn(|| (4..=LAST).for_each(|number| long(log, number))).join().unwrap();
            assert!(log.stats().sealed_segments >= 3, "there is a sealed segment after the one with the open record");
            look();
        });
        assert_eq!(lsn.unwrap(), Lsn(3));
    });
    assert_eq!(log.published_lsn().unwrap(), Lsn(LAST));
}

fn long(log: &Log, number: u64) {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(1000, 7);
    assert_eq!(log.append(0, &bytes).unwrap(), Lsn(number));
}

fn number(payload: &[u8]) -> u64 {
    u64::from_le_bytes(*payload.first_chunk().unwrap())
}

#[test]
fn no_read_returns_what_comes_after_a_record_that_is_being_written() {
    let dir = scratch();
    let log = open_small(dir.path());
    let check = || {
        let reader = read_only(dir.path()).unwrap();
        assert_eq!((log.published_lsn().unwrap(), reader.published_lsn().unwrap()), (Lsn(2), Lsn(2)));
        let views = [log.snapshot().unwrap(), reader.snapshot().unwrap()];
        for lsn in (3..=LAST).map(Lsn) {
            assert!(matches!(log.get(lsn), Err(Error::NotAppended { next: Lsn(3), .. })), "{lsn}");
            assert!(matches!(log.get_many(&[Lsn(1), lsn]), Err(Error::NotAppended { next: Lsn(3), .. })), "{lsn}");
            assert!(matches!(reader.get(lsn), Err(Error::NotAppended { next: Lsn(3), .. })), "{lsn}");
            for view in &views {
                assert!(matches!(view.get(lsn), Err(Error::NotAppended { .. })), "{lsn}");
            }
        }
        assert!(views.iter().all(|view| view.iter().count() == 2));
        assert_eq!(number(log.get(Lsn(2)).unwrap().unwrap().payload()), 2);
    };
    beside_an_open_closure(&log, || {
        check();
        // A look at what is there has changed nothing.
        check();
    });
    let lsns: Vec<_> = (1..=LAST).map(Lsn).collect();
    let many = log.get_many(&lsns).unwrap();
    for (&lsn, record) in lsns.iter().zip(many) {
        let found = [log.get(lsn).unwrap(), log.get(lsn).unwrap(), record];
        assert!(found.into_iter().all(|record| number(record.unwrap().payload()) == lsn.0));
    }
}

#[test]
fn no_follower_begins_after_a_record_that_is_being_written() {
    let dir = scratch();
    let log = open_small(dir.path());
    let mut followers = Vec::new();
    beside_an_open_closure(&log, || {
        for visibility in [Visibility::Published, Visibility::Durable] {
            for lsn in (3..=LAST + 1).map(Lsn) {
                let mut follower = log.follow(lsn, visibility).unwrap();
                assert!(follower.next().unwrap().is_none(), "{lsn}");
                assert!(follower.next_batch(1 << 20).unwrap().is_none(), "{lsn}");
                followers.push(follower);
            }
        }
        let reader = read_only(dir.path()).unwrap();
        assert!(matches!(reader.follow(Lsn(4), Visibility::Published), Err(Error::NotAppended { next: Lsn(3), .. })));
        let mut follower = reader.follow(Lsn(3), Visibility::Published).unwrap();
        assert!(follower.next().unwrap().is_none());
        followers.push(follower);
    });
    log.sync().unwrap();
    for follower in &mut followers {
        let first = follower.next_lsn().0;
        for expected in first..=LAST {
            assert_eq!(number(follower.next().unwrap().unwrap().payload()), expected);
        }
        assert!(follower.next().unwrap().is_none());
    }
}

#[cfg(feature = "async")]
#[test]
fn no_stream_begins_after_a_record_that_is_being_written() {
    use std::task::Poll;

    use futures_executor::block_on;
    use futures_util::{StreamExt, poll};

    let dir = scratch();
    let log = open_small(dir.path());
    let mut streams = Vec::new();
    beside_an_open_closure(&log, || {
        for lsn in [3, 4, 100, 150, LAST].map(Lsn) {
            let mut stream = log.follow(lsn, Visibility::Published).unwrap().into_stream();
            let refused = block_on(async { poll!(stream.next()) });
            assert!(matches!(refused, Poll::Ready(Some(Err(Error::InsideAppend)))), "{lsn}");
            // On a thread that is in no closure it waits.
            let mut is_pending = || block_on(async { poll!(stream.next()) }).is_pending();
            assert!(std::thread::scope(|scope| scope.spawn(&mut is_pending).join().unwrap()), "{lsn}");
            let refused = block_on(async { poll!(stream.next()) });
            assert!(matches!(refused, Poll::Ready(Some(Err(Error::InsideAppend)))), "{lsn}, which has waited");
            streams.push((stream, lsn));
        }
    });
    for (stream, lsn) in &mut streams {
        assert_eq!(block_on(stream.next()).unwrap().unwrap().lsn(), *lsn);
    }
}

/// A follower that waits for a record in a later segment is woken by the record that it waits for in truth.
#[test]
fn a_follower_that_begins_after_a_record_that_is_being_written_is_woken_by_it() {
    let dir = scratch();
    let log = open_small(dir.path());
    std::thread::scope(|scope| {
        let mut waiting = None;
        beside_an_open_closure(&log, || {
            let mut follower = log.follow(Lsn(LAST), Visibility::Published).unwrap();
            waiting = Some(scope.spawn(move || number(follower.next_blocking().unwrap().payload())));
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(waiting.as_ref().is_some_and(|waiting| !waiting.is_finished()));
        });
        assert_eq!(waiting.unwrap().join().unwrap(), LAST);
    });
}

/// A truncation looks records up that are not published, and may be refused after that.
#[test]
fn what_a_truncation_has_looked_up_is_not_published_by_that() {
    let dir = scratch();
    let log = open_small(dir.path());
    beside_an_open_closure(&log, || {
        std::thread::scope(|scope| {
            let refused = || log.truncate_after_with(Lsn(100), &[(99, &[1])]);
            assert!(matches!(scope.spawn(refused).join().unwrap(), Err(Error::Meta { slot: 99, .. })));
        });
        for lsn in (3..=LAST).map(Lsn) {
            assert!(matches!(log.get(lsn), Err(Error::NotAppended { next: Lsn(3), .. })), "{lsn}");
        }
    });
}

#[test]
fn records_of_an_earlier_run_are_looked_up_in_any_order() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=1000);
    drop(log);
    let log = open_small(dir.path());
    for lsn in (1..=1000).rev() {
        assert_record(&log.get(Lsn(lsn)).unwrap().unwrap().record(), lsn);
    }
    assert_eq!(log.append(0, &payload(1001)).unwrap(), Lsn(1001));
    assert!(log.get(Lsn(1001)).unwrap().is_some());
}
