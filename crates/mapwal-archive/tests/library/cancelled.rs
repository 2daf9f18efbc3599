//! Futures that are dropped at each place where they wait.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mapwal_archive::{Error, RestoreOptions, RestoreTo};

use crate::support::{archiver, expected, fill, fill_and_seal, memory, open, records, restored, scratch};

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
        fill_and_seal(&log, 1, 20);
        fill_and_seal(&log, 1, 40);
        fill(&log, 1, 50);
        log.sync().unwrap();
        let is_done = {
            let archiver = archiver(&log, &archive);
            let is_done = drop_after(polls, archiver.catch_up()).await.is_some();
            let status = archiver.catch_up().await.unwrap();
            assert_eq!(status.lag_records, 0, "{polls}");
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
