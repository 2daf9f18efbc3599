//! What a callback, or a waker, of a log may call of that log, and wait for: each of the rows in `docs/design/concurrency.md`.
//!
//! | planted | noticed by |
//! |---|---|
//! | a future that is polled inside of a callback waits for its waker | `a_callback_may_wait_for_all_that_the_log_does` |

use std::future::Future;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_executor::block_on;
use mapwal::{Error, Log, Lsn, Result, Visibility};

use crate::support::append;
use crate::support::scratch::{open_small, scratch};
use crate::support::wait::LONG;

/// Has `act` run inside of a callback of `log`, which has the records 1 to 10; what it returns.
fn inside<T: Send + 'static>(log: &Log, act: impl FnOnce(&Log) -> T + Send + 'static) -> Receiver<T> {
    let (tell, told) = channel();
    let there = log.clone();
    log.on_durable(Lsn(10), move |outcome| {
        outcome.unwrap();
        let done = act(&there);
        drop(there);
        let _ = tell.send(done);
    })
    .unwrap();
    told
}

#[test]
fn a_callback_may_wait_for_all_that_the_log_does() {
    type Act = fn(&Log) -> Result<()>;
    let table: [(&str, Act); 19] = [
        ("append", |log| log.append(1, b"more").map(drop)),
        ("sync", |log| log.append(1, b"more").and_then(|_| log.sync()).map(|durable| assert_eq!(durable, Lsn(11)))),
        ("wait_durable", |log| log.append(1, b"more").and_then(|lsn| log.wait_durable(lsn))),
        ("durable", |log| block_on(log.durable(log.append(1, b"more")?))),
        ("durable, of what is durable", |log| block_on(log.durable(Lsn(1)))),
        ("durable, of a mark", |log| block_on(log.durable(log.put_meta(0, b"a vote")?))),
        ("durable, several at once", |log| {
            let futures = (0..3).map(|_| log.append(1, b"more").map(|lsn| log.durable(lsn)));
            futures.collect::<Result<Vec<_>>>()?.into_iter().rev().try_for_each(block_on)
        }),
        ("on_durable", |log| log.append(1, b"more").and_then(|lsn| log.on_durable(lsn, |_| ()))),
        ("rotate", |log| log.rotate().map(drop)),
        ("put_meta", |log| log.put_meta(1, b"value").map(drop)),
        ("trim_before", |log| log.rotate().and_then(|_| log.trim_before(Lsn(11))).map(|count| assert_eq!(count, 1))),
        ("trim_before_with", |log| log.trim_before_with(Lsn(5), &[(1, b"value")]).map(drop)),
        ("truncate_after", |log| log.truncate_after(Lsn(5))),
        ("reset_to", |log| log.reset_to(Lsn(100))),
        ("a pin", |log| log.create_pin("pin", "", Lsn(5), None).and_then(|()| log.drop_pin("pin"))),
        ("a follower", |log| {
            let there = log.clone();
            let appender = std::thread::spawn(move || there.append(1, b"more").and_then(|_| there.sync()));
            let found = log.follow(Lsn(11), Visibility::Durable)?.next_blocking().map(|record| record.lsn());
            appender.join().unwrap()?;
            found.map(|lsn| assert_eq!(lsn, Lsn(11)))
        }),
        ("a callback of another log", |_| {
            let dir = scratch();
            let other = open_small(dir.path());
            append(&other, 1..=10);
            inside(&other, |_| ()).recv_timeout(LONG).expect("it does not wait for this one");
            block_on(other.durable(other.append(1, b"more")?))
        }),
        ("close", Log::close),
        ("drop", |log| {
            drop(log.clone());
            Ok(())
        }),
    ];
    for (what, act) in table {
        let dir = scratch();
        let log = open_small(dir.path());
        append(&log, 1..=10);
        let done = inside(&log, act).recv_timeout(LONG).unwrap_or_else(|_| panic!("{what} hangs"));
        done.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

#[test]
fn a_callback_may_be_asked_for_in_another_and_comes_after_it() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=10);
    let order = Arc::new(Mutex::new(Vec::new()));
    let (tell, told) = channel();
    let there = Arc::clone(&order);
    let first = inside(&log, move |log| {
        let inner = Arc::clone(&there);
        log.on_durable(Lsn(10), move |_| {
            inner.lock().unwrap().push("second");
            tell.send(()).unwrap();
        })
        .unwrap();
        log.sync().unwrap();
        there.lock().unwrap().push("first");
    });
    first.recv_timeout(LONG).expect("it returns");
    told.recv_timeout(LONG).expect("it is called");
    assert_eq!(*order.lock().unwrap(), ["first", "second"]);
}

#[test]
fn futures_made_before_may_be_waited_for_in_a_callback() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=20);
    let futures = [log.durable(Lsn(20)), log.durable(Lsn(5)), log.durable(log.mark())];
    let done = inside(&log, move |_| futures.into_iter().try_for_each(block_on));
    done.recv_timeout(LONG).expect("none waits for ever").unwrap();
}

/// A waker that waits for a future of the same log.
struct Waits(Mutex<Option<(Log, Sender<Result<()>>)>>);

impl Wake for Waits {
    fn wake(self: Arc<Self>) {
        if let Some((log, tell)) = self.0.lock().unwrap().take() {
            let lsn = log.append(1, b"by a waker").unwrap();
            tell.send(block_on(log.durable(lsn))).unwrap();
        }
    }
}

#[test]
fn a_waker_may_wait_for_another_future() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=10);
    let (tell, told) = channel();
    let waker = Waker::from(Arc::new(Waits(Mutex::new(Some((log.clone(), tell))))));
    // Until one is not ready at once.
    let pending = std::iter::repeat_with(|| Box::pin(log.durable(log.append(1, b"more").unwrap())))
        .find_map(|mut future| future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending().then_some(future));
    told.recv_timeout(LONG).expect("it does not wait for ever").unwrap();
    block_on(pending.expect("found")).unwrap();
}

#[test]
fn a_future_of_a_truncated_record_is_told_so_inside() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=10);
    let done = inside(&log, |log| {
        // Again and again: the task that syncs may have it durable before.
        for _ in 0..50 {
            let lsn = log.append(1, b"gone").unwrap();
            let future = log.durable(lsn);
            log.truncate_after(lsn.previous()).unwrap();
            assert_eq!(log.append(1, b"another").unwrap(), lsn);
            match block_on(future) {
                Err(Error::Truncated { lsn: gone }) => return assert_eq!(gone, lsn),
                outcome => outcome.unwrap(),
            }
            log.truncate_after(lsn.previous()).unwrap();
        }
        panic!("never before it was durable");
    });
    done.recv_timeout(LONG).expect("it returns");
}

#[test]
fn futures_that_are_waited_for_inside_are_over_once_the_log_is() {
    for round in 0..100 {
        let dir = scratch();
        let log = open_small(dir.path());
        append(&log, 1..=10);
        let done = inside(&log, move |log| {
            let mut outcomes = Vec::new();
            while let Ok(lsn) = log.append(1, b"until the end") {
                outcomes.push(block_on(log.durable(lsn)));
            }
            outcomes
        });
        std::thread::sleep(Duration::from_micros(50 * round));
        log.close().unwrap();
        for outcome in done.recv_timeout(LONG).expect("it does not wait for ever") {
            assert!(matches!(outcome, Ok(()) | Err(Error::Closed)), "{outcome:?}");
        }
    }
}

#[test]
fn a_future_does_not_wait_for_the_closure_that_polls_it() {
    let dir = scratch();
    // Where it waits, so do the callback and the close.
    let log = std::mem::ManuallyDrop::new(open_small(dir.path()));
    append(&log, 1..=10);
    let poll = |log: &Log| {
        let mut future = Box::pin(log.durable(log.append(1, b"more").unwrap()));
        let mut polled = None;
        let lsn =
            log.append_with(1, 4, |_| polled = Some(future.as_mut().poll(&mut Context::from_waker(Waker::noop()))));
        log.wait_durable(lsn.unwrap()).unwrap();
        polled.unwrap()
    };
    let outside = poll(&log);
    assert!(matches!(outside, Poll::Ready(Err(Error::InsideAppend) | Ok(()))), "{outside:?}");
    let inside = inside(&log, move |log| poll(log)).recv_timeout(LONG).expect("it hangs");
    assert!(matches!(inside, Poll::Ready(Err(Error::InsideAppend))), "{inside:?}");
    std::mem::ManuallyDrop::into_inner(log).close().unwrap();
}
