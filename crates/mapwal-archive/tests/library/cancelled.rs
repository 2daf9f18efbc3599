//! Futures that are dropped at each place where they wait.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mapwal::Lsn;
use mapwal_archive::{Error, RestoreOptions, RestoreTo};

use crate::support::{archiver, expected, fill, fill_and_seal, memory, open, records, restored, scratch, with_suffix};

const PAUSE: Duration = Duration::from_millis(1);

/// Polls `future` up to `polls` times, with pauses for the threads that it waits for, and drops it.
async fn drop_after<T>(polls: u32, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(done);
        }
        tokio::time::sleep(PAUSE).await;
    }
    None
}

#[tokio::test]
async fn an_archiver_that_is_dropped_anywhere_loses_and_doubles_nothing() {
    for polls in 0.. {
        let archive = memory();
        let dir = scratch();
        let log = open(dir.path());
        fill(&log, 1, 10);
        log.sync().unwrap();
        archiver(&log, &archive).catch_up().await.unwrap(); // a part
        fill_and_seal(&log, 1, 20);
        fill_and_seal(&log, 1, 40);
        fill(&log, 1, 50);
        log.sync().unwrap();
        let is_done = {
            let archiver = archiver(&log, &archive);
            let is_done = drop_after(polls, archiver.catch_up()).await.is_some();
            let status = archiver.catch_up().await.unwrap();
            assert_eq!((status.lag_records, status.sealed_lsn), (0, Lsn(41)), "{polls}");
            assert_eq!(log.pins()[0].lsn, Lsn(41), "{polls}: what is archived may be trimmed");
            let parts = with_suffix(&**archive.store(), ".part").await;
            assert_eq!(parts.len(), 1, "{polls}: that of the first segment is superseded");
            is_done
        };
        archiver(&log, &archive).catch_up().await.unwrap();
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=50), "{polls}");
        assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound(), "{polls}");
        if is_done {
            assert!(polls > 5, "it was dropped in between");
            break;
        }
    }
}

/// One thread works for all futures, and is kept from what a future that is dropped has left to it until all is gone.
#[test]
fn what_was_begun_for_a_future_that_is_dropped_changes_no_pin_later() {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        for polls in 0.. {
            let archive = memory();
            let dir = scratch();
            let log = open(dir.path());
            fill_and_seal(&log, 1, 20);
            let archiver = archiver(&log, &archive);
            let mut catching_up = Box::pin(archiver.catch_up());
            let mut is_done = false;
            let (release, released) = std::sync::mpsc::channel::<()>();
            for poll in 0..=polls {
                if poll == polls {
                    let (begun, has_begun) = tokio::sync::oneshot::channel();
                    tokio::task::spawn_blocking(move || {
                        begun.send(()).expect("it is waited for");
                        released.recv()
                    });
                    has_begun.await.unwrap();
                    is_done = catching_up.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
                    break;
                }
                is_done = catching_up.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
                if is_done {
                    break;
                }
                tokio::task::spawn_blocking(|| ()).await.unwrap();
            }
            drop(catching_up);
            drop(archiver);
            let pins = log.pins();
            drop(release);
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            assert_eq!(log.pins(), pins, "{polls}");
            if is_done {
                assert!(polls > 5, "it was dropped in between");
                break;
            }
        }
    });
}

#[tokio::test]
async fn a_restore_that_is_dropped_anywhere_can_be_gone_on_with() {
    let archive = memory();
    let dir = scratch();
    let log = open(dir.path());
    for segment in 1..=4 {
        fill_and_seal(&log, 1, segment * 20);
    }
    archiver(&log, &archive).catch_up().await.unwrap();
    for polls in 0.. {
        let dir = scratch();
        let options = RestoreOptions::new().parallel(2);
        let mut ignore = |_| {};
        let is_done = drop_after(polls, archive.restore(dir.path(), RestoreTo::Latest, &options, &mut ignore)).await;
        if is_done.is_none() {
            // What works for the one that was dropped may take a moment to end, and may even have done all.
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                match archive.restore(dir.path(), RestoreTo::Latest, &options, &mut |_| {}).await {
                    Ok(_) | Err(Error::NotEmpty { .. }) => break,
                    Err(Error::Busy { .. }) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
                    Err(error) => panic!("{polls}: {error}"),
                }
            }
        }
        assert_eq!(records(&open(dir.path())), expected(1, 1..=80), "{polls}");
        if is_done.is_some() {
            break;
        }
    }
}
