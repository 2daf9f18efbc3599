//! What would wait for the log, inside of a closure that writes a record.
//!
//! | planted | noticed by |
//! |---|---|
//! | a future, or a follower, does not ask whether it is inside of a closure | `a_future_and_a_follower_do_not_wait_inside_of_a_closure` |

use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mapwal::{Durable, Error, Log, Lsn, Visibility};

use crate::support::append;
use crate::support::scratch::{open_small, scratch};

/// Waits for `durable` as an executor does: of which a poll that is pending is the one that waits.
fn poll(mut durable: Durable) -> Option<mapwal::Result<()>> {
    match Pin::new(&mut durable).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

/// Inside of a closure, where nothing has asked for a sync since record `before` was appended.
fn assert_refuses_to_wait(log: &Log, durable: Lsn, before: Lsn) {
    assert!(matches!(poll(log.durable(durable)), Some(Ok(()))), "there is nothing to wait for");
    let short = Duration::from_millis(1);
    let mut follower = log.follow(durable, Visibility::Durable).unwrap();
    assert_eq!(follower.next_timeout(short).unwrap().unwrap().lsn(), durable, "it is there");
    let refused = follower.next_timeout(short).map(|record| record.is_some());
    assert!(matches!(refused, Err(Error::InsideAppend)), "{refused:?}");
    let refused = follower.next_batch_timeout(1, short).map(|frames| frames.is_some());
    assert!(matches!(refused, Err(Error::InsideAppend)), "{refused:?}");
    assert!(follower.next().unwrap().is_none(), "a look is no wait");
    // The last, since it asks for a sync, which may be over at once.
    let refused = poll(log.durable(before));
    assert!(matches!(refused, Some(Err(Error::InsideAppend) | Ok(()))), "{refused:?}");
}

#[test]
fn a_future_and_a_follower_do_not_wait_inside_of_a_closure() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=1);
    for len in [8, 512, 513, 4000] {
        let synced_before = || (log.sync().unwrap(), log.append(0, b"before").unwrap());
        let (durable, before) = synced_before();
        log.append_with(0, len, |_| assert_refuses_to_wait(&log, durable, before)).unwrap();
        let (durable, before) = synced_before();
        let written = log.append_with_writer(0, len, |writer| {
            assert_refuses_to_wait(&log, durable, before);
            writer.write_all(&vec![1; len])
        });
        written.unwrap();
        assert!(matches!(poll(log.durable(before)), None | Some(Ok(()))), "and allowed again after it");
    }
}
