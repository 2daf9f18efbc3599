//! A pin that is lost to its limit, or dropped: the archive is still the one that it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mapwal::{Log, Lsn, PinState};
use mapwal_archive::{Archive, Archiver, ArchiverOptions, Error};
use object_store::memory::InMemory;

use crate::held::{keeps, take_away};
use crate::rolled_back::{archived_by, put_back, told};
use crate::support::{PIN, fill_and_seal, keys, options, reader, scratch};

/// Room for four segments.
fn limit(is_limited: bool) -> ArchiverOptions {
    options().pin_limit_bytes(is_limited.then_some(4 * (64 << 10))).check_interval(Some(Duration::ZERO))
}

fn by(log: &Arc<Log>, store: &Arc<InMemory>, options: ArchiverOptions) -> Archiver {
    Archiver::of_log(Arc::clone(log), Archive::new(Arc::clone(store) as _, "a"), options).unwrap()
}

/// The log grows beyond the limit of its pin, to record 1500, and has those from 1401 on.
#[track_caller]
fn lose_pin(log: &Log) {
    for last in 10..=14 {
        fill_and_seal(log, 1, last * 100);
    }
    log.trim_before(Lsn(1401)).unwrap();
    assert_eq!((log.pins()[0].state, log.first_lsn()), (PinState::Lost, Lsn(1401)));
    fill_and_seal(log, 1, 1500);
}

/// A mount point whose disk is not mounted any more.
#[tokio::test]
async fn a_store_that_goes_at_work_is_no_place_for_a_new_archive_though_the_pin_is_lost_or_dropped() {
    for (is_limited, is_tried) in [(true, false), (true, true), (false, false), (false, true)] {
        let dir = scratch();
        let (store, log) = archived_by(dir.path(), 901, limit(is_limited)).await;
        let running = by(&log, &store, limit(is_limited));
        running.catch_up().await.unwrap();
        let removed = take_away(&store, "a/").await;
        if is_tried {
            told(&running).await;
        }
        if is_limited {
            lose_pin(&log);
        } else {
            log.drop_pin(PIN).unwrap();
            fill_and_seal(&log, 1, 1500);
        }
        for _ in 0..2 {
            let error = told(&running).await;
            assert!(error.contains("the archive that was here is gone"), "{error}");
            assert!(keys(&*store).await.is_empty(), "nothing is begun there");
        }
        keeps(&log, if is_limited { 1401 } else { 901 }, "what it has");
        assert_eq!(Archiver::epoch_of(&reader(dir.path()), PIN).unwrap(), Some(1), "for the next one as well");
        put_back(&store, removed).await;
        let status = running.catch_up().await.unwrap();
        let lost = is_limited.then_some(Lsn(921)..Lsn(1401));
        assert_eq!((status.epoch, status.lost), (Some(if is_limited { 2 } else { 1 }), lost));
        assert_eq!((status.archived_lsn, status.missing.len()), (Lsn(1501), 0));
    }
}

/// A process that is killed meanwhile would leave no pin, and the next archiver begin as if there had never been an archive.
#[tokio::test]
async fn a_lost_pin_is_there_all_the_time_while_it_is_made_anew() {
    let dir = scratch();
    let (_store, log) = archived_by(dir.path(), 901, limit(true)).await;
    let file = dir.path().join("pins").join(PIN);
    let is_over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&is_over);
    let watching = std::thread::spawn(move || {
        let (mut looks, mut absent) = (0, 0);
        while !ended.load(Ordering::Relaxed) {
            (looks, absent) = (looks + 1, absent + u64::from(!file.exists()));
        }
        (looks, absent)
    });
    for last in (1000..2000).step_by(100) {
        fill_and_seal(&log, 9, last);
        log.limit_pin(PIN, Some(1)).unwrap();
        log.trim_before(Lsn(last + 1)).unwrap();
        assert_eq!(log.pins()[0].state, PinState::Lost);
        Archiver::keep_all(&reader(dir.path()), &limit(true)).unwrap();
        assert_eq!(log.pins()[0].state, PinState::Reserved);
    }
    is_over.store(true, Ordering::Relaxed);
    let (looks, absent) = watching.join().unwrap();
    assert!(looks > 100 && absent == 0, "{absent} of {looks}");
}

/// As while its directory is not there, or empty.
#[tokio::test]
async fn a_pin_that_is_lost_is_made_anew_while_the_archive_is_waited_for() {
    for (is_limited, first) in [(false, 1401), (true, 1401)] {
        let dir = scratch();
        let (store, log) = archived_by(dir.path(), 901, limit(true)).await;
        lose_pin(&log);
        for _ in 0..2 {
            Archiver::keep_all(&reader(dir.path()), &limit(is_limited)).unwrap();
            keeps(&log, first, "what it has");
        }
        fill_and_seal(&log, 1, 1600);
        fill_and_seal(&log, 1, 1700);
        Archiver::keep_all(&reader(dir.path()), &limit(is_limited)).unwrap();
        keeps(&log, first, "what it gets");
        // What was confirmed is still known.
        let removed = take_away(&store, "a/").await;
        let refused = by(&log, &store, limit(is_limited)).catch_up().await.unwrap_err();
        assert!(matches!(refused, Error::OtherArchive { epoch: 1, next: Lsn(901), .. }), "{refused}");
        put_back(&store, removed).await;
        let status = by(&log, &store, limit(is_limited)).catch_up().await.unwrap();
        assert_eq!((status.epoch, status.lost), (Some(2), Some(Lsn(921)..Lsn(1401))));
    }
}

/// Not one that is begun under the same number.
#[tokio::test]
async fn an_epoch_that_a_lost_pin_names_is_the_one_that_is_gone_on_with_or_asked_for() {
    for taken in ["a/0000000001/", "a/0000000001/epoch.json", "damaged"] {
        let dir = scratch();
        let (store, log) = archived_by(dir.path(), 901, limit(true)).await;
        lose_pin(&log);
        let removed = if taken == "damaged" {
            let removed = take_away(&store, "a/0000000001/epoch.json").await;
            put_back(&store, vec![(removed[0].0.clone(), b"{".to_vec())]).await;
            let error = told(&by(&log, &store, limit(true))).await;
            assert!(error.contains("epoch.json"), "{error}");
            removed
        } else {
            let removed = take_away(&store, taken).await;
            let refused = by(&log, &store, limit(true)).catch_up().await.unwrap_err();
            assert!(matches!(refused, Error::OtherArchive { epoch: 1, next: Lsn(901), .. }), "{refused}");
            removed
        };
        assert!(keys(&*store).await.iter().all(|key| !key.as_ref().contains("/0000000002/")), "{taken}");
        keeps(&log, 1401, taken);
        put_back(&store, removed).await;
        let status = by(&log, &store, limit(true)).catch_up().await.unwrap();
        assert_eq!((status.epoch, status.lost, status.missing.len()), (Some(2), Some(Lsn(921)..Lsn(1401)), 0));
    }
}
