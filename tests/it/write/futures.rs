//! Durability as a future.
//!
//! | planted | noticed by |
//! |---|---|
//! | a future is ready at once | `a_future_is_ready_once_the_device_has_it` |
//! | the first waker is kept | `the_waker_of_the_last_poll_is_called` |
//! | a future that is dropped keeps its waker | `dropping_a_future_ends_the_waiting_and_nothing_else` |
//! | wakers are called with the future's state locked | `a_waker_may_use_the_log_and_poll_and_drop_the_future` |

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};

use futures_executor::block_on;
use mapwal::{Durable, Error, Log, Lsn, Result};
use rustix::io::Errno;

use crate::support::faulty::Call;
use crate::support::open_faulty;
use crate::support::scratch::{append_stamped, open_small, scratch};
use crate::support::wait::{LONG, until};

/// How often it was called.
#[derive(Default)]
struct Calls(AtomicUsize);

impl Calls {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Calls a closure.
struct Act<F: Fn() + Send + Sync>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for Act<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

fn poll(future: &mut Durable, waker: &Waker) -> Poll<Result<()>> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

#[test]
fn a_future_is_ready_once_the_device_has_it() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    append_stamped(&log, 1, 100, 3);
    faults.hold(Call::SyncMapping);
    let mut futures = [log.durable(Lsn(3)), log.durable(log.mark()), log.durable(Lsn(1)..Lsn(3))];
    faults.wait_until_held();
    let calls = Arc::new(Calls::default());
    for future in &mut futures {
        assert!(poll(future, &Arc::clone(&calls).into()).is_pending());
    }
    assert_eq!(calls.count(), 0);
    faults.release();
    futures.into_iter().for_each(|future| block_on(future).unwrap());
    assert_eq!(log.durable_lsn(), Lsn(3));
    until("every waker of the last poll is called or not needed", || calls.count() <= 3);
    // What is durable is ready at the first look.
    assert!(poll(&mut log.durable(Lsn(3)), Waker::noop()).is_ready());
    let mut too_early = log.durable(Lsn(4));
    assert!(matches!(poll(&mut too_early, Waker::noop()), Poll::Ready(Err(Error::NotAppended { lsn: Lsn(4), .. }))));
}

#[test]
fn the_waker_of_the_last_poll_is_called() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    append_stamped(&log, 1, 100, 1);
    faults.hold(Call::SyncMapping);
    let mut future = log.durable(Lsn(1));
    let (first, last) = (Arc::new(Calls::default()), Arc::new(Calls::default()));
    assert!(poll(&mut future, &Arc::clone(&first).into()).is_pending());
    assert!(poll(&mut future, &Arc::clone(&last).into()).is_pending());
    assert_eq!(Arc::strong_count(&first), 1, "it is not needed any more");
    faults.wait_until_held();
    faults.release();
    until("the last one is called", || last.count() == 1);
    assert_eq!(first.count(), 0);
    assert!(matches!(poll(&mut future, Waker::noop()), Poll::Ready(Ok(()))));
}

#[test]
fn dropping_a_future_ends_the_waiting_and_nothing_else() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    append_stamped(&log, 1, 100, 2);
    faults.hold(Call::SyncMapping);
    let calls = Arc::new(Calls::default());
    let mut dropped = log.durable(Lsn(2));
    assert!(poll(&mut dropped, &Arc::clone(&calls).into()).is_pending());
    faults.wait_until_held();
    drop(dropped);
    assert_eq!(Arc::strong_count(&calls), 1, "the task is not kept");
    drop(log.durable(Lsn(2))); // never polled
    faults.release();
    until("it becomes durable all the same", || log.durable_lsn() == Lsn(2));
    append_stamped(&log, 3, 100, 1);
    block_on(log.durable(Lsn(3))).unwrap();
    assert_eq!(calls.count(), 0);
}

#[test]
fn a_waker_that_panics_harms_no_other() {
    let dir = scratch();
    let log = open_small(dir.path());
    for round in 1..=20 {
        append_stamped(&log, round, 100, 1);
        let mut futures: Vec<_> = (0..3).map(|_| log.durable(Lsn(round))).collect();
        let waker = Arc::new(Act(|| std::panic::resume_unwind(Box::new("a waker's")))).into();
        // It may have become durable already.
        if poll(&mut futures[0], &waker).is_ready() {
            drop(futures.remove(0));
        }
        futures.into_iter().for_each(|future| block_on(future).unwrap());
    }
}

#[test]
fn a_waker_may_use_the_log_and_poll_and_drop_the_future() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    append_stamped(&log, 1, 100, 1);
    faults.hold(Call::SyncMapping);
    let log = Arc::new(Mutex::new(Some(log)));
    let future = Arc::new(Mutex::new(None));
    let (tell, told) = mpsc::channel();
    let waker = {
        let (log, future) = (Arc::clone(&log), Arc::clone(&future));
        Arc::new(Act(move || {
            let log: Log = log.lock().unwrap().take().expect("called once");
            log.rotate().unwrap();
            log.append(1, b"from a waker").unwrap();
            log.sync().unwrap();
            log.truncate_after(Lsn(1)).unwrap();
            let mut future: Durable = future.lock().unwrap().take().expect("called once");
            let polled = poll(&mut future, Waker::noop());
            drop(future);
            drop(log); // the last one
            tell.send(polled).unwrap();
        }))
    };
    let mut pending = log.lock().unwrap().as_ref().unwrap().durable(Lsn(1));
    assert!(poll(&mut pending, &waker.into()).is_pending());
    *future.lock().unwrap() = Some(pending);
    faults.wait_until_held();
    faults.release();
    assert!(matches!(told.recv_timeout(LONG).expect("it ends"), Poll::Ready(Ok(()))));
}

#[test]
fn what_keeps_a_record_from_being_durable_is_the_outcome() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    append_stamped(&log, 1, 100, 3);
    faults.hold(Call::SyncMapping);
    let kept = log.durable(Lsn(3));
    faults.wait_until_held();
    append_stamped(&log, 4, 100, 2);
    let cut = log.durable(Lsn(5));
    std::thread::scope(|scope| {
        // It waits for the sync, which covers three records; the thread may sync the others before the truncation comes.
        let truncation = scope.spawn(|| log.truncate_after(Lsn(3)));
        faults.release();
        truncation.join().unwrap().unwrap();
    });
    block_on(kept).unwrap();
    assert!(matches!(block_on(cut), Ok(()) | Err(Error::Truncated { lsn: Lsn(5) })));
    append_stamped(&log, 4, 100, 1);
    faults.fail(Call::SyncMapping, Errno::IO);
    assert!(matches!(block_on(log.durable(Lsn(4))), Err(Error::Poisoned { durable: Lsn(3), .. })));
    let outlives = log.durable(Lsn(4));
    drop(log);
    assert!(matches!(block_on(outlives), Err(Error::Poisoned { .. })));
}

#[test]
fn no_future_is_forgotten() {
    const THREADS: u64 = 3;
    let dir = scratch();
    let log = open_small(dir.path());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || {
                for round in 0..300 {
                    let lsn = log.append(1, &[7; 40]).unwrap();
                    let future = log.durable(lsn);
                    if round % 4 == thread {
                        log.sync().unwrap();
                    }
                    let vote = (round % 8 == 0).then(|| log.durable(log.put_meta(thread as usize, b"a vote").unwrap()));
                    block_on(future).unwrap();
                    assert!(log.durable_lsn() >= lsn);
                    vote.into_iter().for_each(|vote| block_on(vote).unwrap());
                }
            });
        }
    });
}
