//! A store that comes back in an older state, as from a snapshot: what was confirmed since then is not there any more. Whatever the log has of it is
//! kept until it is archived again.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use mapwal::{Log, Lsn};
use mapwal_archive::{Archive, Archiver, ArchiverOptions, Error, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;

use crate::hooked::{Call, Hooked};
use crate::support::{
    PIN, archiver, bytes_of, catch_up, expected, fill, fill_and_seal, keys, open, options, restore, restored, scratch,
};

/// Nine segments of a hundred records, and twenty records in a part, all archived. The log begins with record `first`.
pub(super) async fn archived(directory: &std::path::Path, first: u64) -> (Arc<InMemory>, Arc<Log>) {
    archived_by(directory, first, options()).await
}

pub(super) async fn archived_by(
    directory: &std::path::Path,
    first: u64,
    options: ArchiverOptions,
) -> (Arc<InMemory>, Arc<Log>) {
    let store = Arc::new(InMemory::new());
    let log = open(directory);
    for segment in 1..=9 {
        fill_and_seal(&log, 1, segment * 100);
    }
    fill(&log, 1, 920);
    log.sync().unwrap();
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    Archiver::of_log(Arc::clone(&log), archive, options).unwrap().catch_up().await.unwrap();
    log.trim_before(Lsn(first)).unwrap();
    assert_eq!((log.first_lsn(), log.pins()[0].lsn), (Lsn(first), Lsn(901)));
    (store, log)
}

/// The records that are in an object.
pub(super) fn lsns(key: &Key) -> Option<(u64, u64)> {
    let mut numbers = key.filename()?.split('-').map(|number| number.parse().ok());
    key.filename().filter(|name| name.ends_with(".seg") || name.ends_with(".part"))?;
    Some((numbers.next()??, numbers.next()??))
}

pub(super) type Removed = Vec<(Key, Vec<u8>)>;

/// Removes the objects that have any of these records.
pub(super) async fn lose(store: &InMemory, records: &RangeInclusive<u64>) -> Removed {
    let mut removed = Vec::new();
    for key in keys(store).await {
        if lsns(&key).is_some_and(|(first, next)| first <= *records.end() && *records.start() < next) {
            removed.push((key.clone(), bytes_of(store, &key).await));
            store.delete(&key).await.unwrap();
        }
    }
    assert!(!removed.is_empty());
    removed
}

pub(super) async fn put_back(store: &InMemory, removed: Removed) {
    for (key, bytes) in removed {
        store.put(&key, bytes.into()).await.unwrap();
    }
}

/// The archive, in which everything is trimmed that pins let go before each upload: nothing may go that was `removed`, and is not there again.
fn trimming(store: &Arc<InMemory>, log: &Arc<Log>, removed: &Removed) -> Archive {
    let first = log.first_lsn().0;
    let removed: Vec<_> = removed.iter().filter_map(|(key, _)| Some((key.clone(), lsns(key)?.0))).collect();
    let removed: Vec<_> = removed.into_iter().filter(|&(_, lsn)| lsn >= first).collect();
    let log = Arc::clone(log);
    let hooked = Hooked::new(store, move |call, store| {
        let Call::Put(key) = call else { return };
        if lsns(key).is_none() {
            return;
        }
        log.trim_before(log.next_lsn()).unwrap();
        for (lost, lsn) in &removed {
            // Again, or in the epoch that is begun in the place of that one.
            let is_there = ["a/0000000001", "a/0000000002"].into_iter().any(|epoch| {
                let key = Key::from(format!("{epoch}/{}", lost.filename().unwrap()));
                futures_util::FutureExt::now_or_never(store.head(&key)).is_some_and(|head| head.is_ok())
            });
            assert!(is_there || log.first_lsn() <= Lsn(*lsn), "{lost} is nowhere: {:?}", log.pins());
        }
    });
    Archive::new(Arc::new(hooked), "a")
}

/// Until it says what keeps it from archiving.
pub(super) async fn told(archiver: &Archiver) -> String {
    let tried = tokio::time::timeout(Duration::from_millis(300), archiver.catch_up()).await;
    assert!(tried.is_err(), "it waits: {tried:?}");
    archiver.last_error().expect("an error")
}

pub(super) fn checking(log: &Arc<Log>, archive: &Archive) -> Archiver {
    let often = options().check_interval(Some(Duration::ZERO));
    Archiver::of_log(Arc::clone(log), archive.clone(), often).unwrap()
}

#[tokio::test]
async fn what_a_store_that_was_rolled_back_lacks_is_kept_until_it_is_archived_again() {
    let lost = [301..=920, 801..=920, 901..=920, 201..=600, 1..=920, 1..=100, 1..=300];
    for (lost, first, is_running) in
        lost.iter().flat_map(|lost| [(lost, 1, false), (lost, 1, true), (lost, 401, false), (lost, 401, true)])
    {
        let name = format!("{lost:?} of a log from {first} on, running: {is_running}");
        let dir = scratch();
        let (store, log) = archived(dir.path(), first).await;
        let plain = Archive::new(Arc::clone(&store) as _, "a");
        let before = keys(&*store).await;
        let (running, removed) = if is_running {
            // The objects are known only once they are gone.
            let removed = lose(&store, lost).await;
            put_back(&store, removed.clone()).await;
            let running = checking(&log, &trimming(&store, &log, &removed));
            running.catch_up().await.unwrap();
            (running, lose(&store, lost).await)
        } else {
            let removed = lose(&store, lost).await;
            (checking(&log, &trimming(&store, &log, &removed)), removed)
        };
        let gone = (*lost.start(), (*lost.end() + 1).min(first));
        let is_gone = gone.0 < gone.1;
        if is_gone && *lost.end() > 900 && lost.start() <= &900 && !is_running {
            // No object says how the log goes on.
            let error = told(&running).await;
            let (from, status) = (gone.0, running.status());
            let says = format!("epoch 1 ends before record {from}, and all before record 901 was confirmed: ");
            assert!(error.starts_with(&says), "{name}: {error}");
            assert!(
                error.ends_with(
                    "and the log has records from 401 on, which it keeps as far as the pin may, and none before"
                ),
                "{error}"
            );
            let missing: Vec<_> = status.missing.iter().map(|missing| missing.lsns.clone()).collect();
            assert_eq!(missing, [Lsn(from)..Lsn(401)], "{name}");
            assert_eq!((status.archived_lsn, status.sealed_lsn), (Lsn(from), Lsn(from)), "{name}");
            assert_eq!((status.lag_records, status.next_lsn), (520, Lsn(921)), "{name}: of the log");
            assert!(status.lag_bytes > 520 * 200, "{status:?}");
            log.trim_before(log.next_lsn()).unwrap();
            assert_eq!((log.first_lsn(), log.pins()[0].lsn), (Lsn(401), Lsn(401)), "{name}: nothing is trimmed");
            drop(running);
            let again = checking(&log, &plain);
            assert_eq!(told(&again).await, error, "the next one says the same");
            put_back(&store, removed).await;
            let status = again.catch_up().await.unwrap();
            assert_eq!((status.epoch, status.lag_records, status.missing.len()), (Some(1), 0, 0), "{name}");
        } else {
            let caught_up = tokio::time::timeout(Duration::from_secs(20), running.catch_up()).await;
            let status = caught_up.unwrap_or_else(|_| panic!("{name}: {:?}", running.last_error())).unwrap();
            assert_eq!((status.epoch, status.archived_lsn, status.lag_records), (Some(1), Lsn(921), 0), "{name}");
            let missing: Vec<_> = status.missing.iter().map(|missing| missing.lsns.clone()).collect();
            let named: Vec<_> = is_gone.then_some(Lsn(gone.0)..Lsn(gone.1)).into_iter().collect();
            assert_eq!(missing, named, "{name}");
            if is_gone {
                put_back(&store, removed).await;
            }
        }
        assert_eq!(log.pins()[0].lsn, Lsn(901), "{name}: all that is archived may be trimmed");
        assert_eq!(keys(&*store).await, before, "{name}");
        assert!(plain.verify(None, &mut |_| {}).await.unwrap().is_sound(), "{name}");
        assert_eq!(restored(&plain, RestoreTo::Latest).await, expected(1, 1..=920), "{name}");
    }
}

/// Without waiting for the next check, which is an hour away, or never comes.
#[tokio::test]
async fn what_goes_at_work_is_kept_at_once_and_what_comes_back_older_is_looked_at_first() {
    for is_checked in [true, false] {
        let dir = scratch();
        let (store, log) = archived(dir.path(), 1).await;
        let plain = Archive::new(Arc::clone(&store) as _, "a");
        let options = if is_checked { options() } else { options().check_interval(None) };
        let running = Archiver::of_log(Arc::clone(&log), plain.clone(), options).unwrap();
        running.catch_up().await.unwrap();
        let mut all = Vec::new();
        for key in keys(&*store).await {
            all.push((key.clone(), bytes_of(&store, &key).await));
            store.delete(&key).await.unwrap();
        }
        fill_and_seal(&log, 1, 1000);
        told(&running).await;
        log.trim_before(log.next_lsn()).unwrap();
        assert_eq!((log.first_lsn(), log.pins()[0].lsn), (Lsn(1), Lsn(1)), "nothing is trimmed");
        assert_eq!(running.status().archived_lsn, Lsn(1));
        all.retain(|(key, _)| lsns(key).is_none_or(|(first, _)| first < 601));
        put_back(&store, all).await;
        let caught_up = tokio::time::timeout(Duration::from_secs(20), running.catch_up()).await;
        let status = caught_up.unwrap_or_else(|_| panic!("{:?}", running.last_error())).unwrap();
        assert_eq!((status.epoch, status.archived_lsn, status.lag_records), (Some(1), Lsn(1001), 0));
        assert_eq!(restored(&plain, RestoreTo::Latest).await, expected(1, 1..=1000));
    }
}

/// The way out of the same state.
#[tokio::test]
async fn an_epoch_that_is_begun_after_a_roll_back_has_all_that_the_log_has() {
    for (lost, first, is_dropped) in [
        (301..=920, 401, false),
        (301..=920, 1, false),
        (201..=600, 1, true),
        (301..=920, 401, true),
        (1..=920, 1, true),
    ] {
        let dir = scratch();
        let (store, log) = archived(dir.path(), first).await;
        let removed = lose(&store, &lost).await;
        if is_dropped {
            log.drop_pin(PIN).unwrap();
        }
        let archive = trimming(&store, &log, &removed);
        let options = options().abandon_epoch(Some(1));
        let status = Archiver::of_log(Arc::clone(&log), archive, options).unwrap().catch_up().await.unwrap();
        assert_eq!((status.epoch, status.lag_records), (Some(2), 0), "{lost:?}");
        assert_eq!(status.lost, (first > 1).then_some(Lsn(301)..Lsn(401)), "{lost:?}");
        let plain = Archive::new(Arc::clone(&store) as _, "a");
        assert_eq!(restored(&plain, RestoreTo::Latest).await, expected(1, first..=920), "{lost:?}");
    }
}

/// The epoch's note as well: nothing is left of it, or what was there before it.
#[tokio::test]
async fn a_log_keeps_everything_whose_epoch_is_not_in_the_archive() {
    for (is_running, is_second) in [(false, false), (true, false), (false, true), (true, true)] {
        let dir = scratch();
        let (store, log) = archived(dir.path(), 1).await;
        let plain = Archive::new(Arc::clone(&store) as _, "a");
        let mut last = 920;
        if is_second {
            // As after a truncation.
            log.truncate_after(Lsn(850)).unwrap();
            for end in [950, 1000] {
                fill_and_seal(&log, 1, end);
            }
            catch_up(&log, &plain).await;
            last = 1000;
        }
        let epoch = if is_second { 2 } else { 1 };
        let running = checking(&log, &plain);
        assert_eq!(running.catch_up().await.unwrap().epoch, Some(epoch));
        let mut running = Some(running).filter(|_| is_running);
        for key in keys(&*store).await.iter().filter(|key| key.as_ref().starts_with(&format!("a/000000000{epoch}/"))) {
            store.delete(key).await.unwrap();
        }
        let pinned = log.pins()[0].lsn;
        match &running {
            Some(running) if !is_second => {
                let error = told(running).await;
                assert!(error.contains("the archive that was here is gone"), "{error}");
                let status = running.status();
                assert_eq!((status.archived_lsn, status.sealed_lsn, status.lag_records), (Lsn(1), Lsn(1), last));
            }
            _ => {
                let running = running.take().unwrap_or_else(|| checking(&log, &plain));
                let refused = running.catch_up().await.unwrap_err();
                let Error::OtherArchive { next, epoch: named, .. } = refused else { panic!("{refused}") };
                assert_eq!((next, named), (pinned, epoch), "what was confirmed");
            }
        }
        drop(running);
        log.trim_before(log.next_lsn()).unwrap();
        assert_eq!((log.first_lsn(), log.pins()[0].lsn), (Lsn(1), Lsn(1)), "nothing is trimmed");
        let again = Archiver::of_log(Arc::clone(&log), plain.clone(), options().abandon_epoch(Some(epoch))).unwrap();
        let status = again.catch_up().await.unwrap();
        assert_eq!((status.epoch, status.lost, status.lag_records), (Some(epoch + 1), None, 0));
        assert_eq!(restored(&plain, RestoreTo::Latest).await, expected(1, 1..=last));
    }
}

/// An object of an epoch before is uploaded by no archiver, and one that is damaged in the log by none either.
#[tokio::test]
async fn what_is_missing_and_cannot_be_uploaded_is_kept_while_the_log_has_it() {
    use std::os::unix::fs::FileExt;
    for is_parents in [true, false] {
        let dir = scratch();
        let (store, log) = archived(dir.path(), 1).await;
        let plain = Archive::new(Arc::clone(&store) as _, "a");
        let (directory, log, last) = if is_parents {
            drop(log);
            let (directory, _) = restore(&plain, RestoreTo::Lsn(Lsn(700))).await.unwrap();
            let log = open(directory.path());
            fill_and_seal(&log, 1, 800);
            (directory, log, 800)
        } else {
            (dir, log, 920)
        };
        let running = checking(&log, &plain);
        running.catch_up().await.unwrap();
        let removed = lose(&store, &(301..=400)).await;
        let flip = || {
            let path = directory.path().join("00000000000000000004.seg");
            let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, 9000).unwrap();
            file.write_all_at(&[byte[0] ^ 64], 9000).unwrap();
        };
        if !is_parents {
            flip();
        }
        fill_and_seal(&log, 1, last + 100);
        for attempt in 0..2 {
            let running = if attempt == 0 { &running } else { &checking(&log, &plain) };
            let status = running.catch_up().await.unwrap();
            assert_eq!(status.missing.len(), 1, "{status:?}");
            assert_eq!((status.missing[0].lsns.clone(), status.lag_records), (Lsn(301)..Lsn(401), 0));
            assert_eq!((status.sealed_lsn, log.pins()[0].lsn), (Lsn(301), Lsn(301)), "{is_parents}");
            log.trim_before(log.next_lsn()).unwrap();
            assert_eq!(log.first_lsn(), Lsn(301));
            if attempt == 0 {
                break;
            }
        }
        put_back(&store, removed).await;
        running.catch_up().await.unwrap();
        assert_eq!(log.pins()[0].lsn, Lsn(last + 101));
    }
}

/// The note of the session is an older one: as if another archiver had taken the epoch. The next one goes on.
#[tokio::test]
async fn an_archiver_that_begins_after_a_roll_back_with_an_older_session_goes_on() {
    let dir = scratch();
    let (store, log) = archived(dir.path(), 1).await;
    let session = Key::from("a/0000000001/session.json");
    let older = bytes_of(&*store, &session).await;
    let running = checking(&log, &Archive::new(Arc::clone(&store) as _, "a"));
    running.catch_up().await.unwrap();
    let removed = lose(&store, &(301..=920)).await;
    store.put(&session, older.into()).await.unwrap();
    let refused = running.catch_up().await.unwrap_err();
    assert!(matches!(refused, Error::Superseded { epoch: 1, .. }), "{refused}");
    assert_eq!(log.pins()[0].lsn, Lsn(301), "it had found out what is missing");
    drop(running);
    let status = archiver(&log, &trimming(&store, &log, &removed)).catch_up().await.unwrap();
    assert_eq!((status.epoch, status.archived_lsn, status.missing.len()), (Some(1), Lsn(921), 0));
}
