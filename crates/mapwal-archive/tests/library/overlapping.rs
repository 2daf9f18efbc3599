//! Parts that have bytes of one segment twice: the same, or those of two logs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mapwal::{Log, Lsn};
use mapwal_archive::{Archive, Archiver, EpochFault, Error, PruneGaps, RestoreOptions, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use tempfile::TempDir;

use crate::hooked::{Call, Hooked};
use crate::other_archivers::copy_all;
use crate::support::{
    archiver, bytes_of, catch_up, expected, fill, fill_and_seal, keys, memory, open, options, reader, records, restore,
    restored, scratch, with_suffix,
};

/// Two logs with records 1 to 50 in common, archived up to there: the first, and a copy that has gone on with others up to 100 and was
/// archived as well. `stray` has what the first one would upload of its records up to `last`.
struct TwoLogs {
    _dirs: [TempDir; 2],
    log: Arc<Log>,
    first: Archiver,
    other: Arc<Log>,
    archive: Archive,
    stray: Archive,
}

impl TwoLogs {
    async fn new(is_closed: bool, is_sealed: bool, last: u64) -> Self {
        let (dir, copy, archive, stray) = (scratch(), scratch(), memory(), memory());
        let mut log = open(dir.path());
        fill(&log, 1, 50);
        log.sync().unwrap();
        let first = Archiver::of_reader(reader(dir.path()), archive.clone(), options()).unwrap();
        first.catch_up().await.unwrap();
        let of_stray = options().pin("stray");
        let shadow = Archiver::of_reader(reader(dir.path()), stray.clone(), of_stray).unwrap();
        shadow.catch_up().await.unwrap();
        if is_closed {
            log.close().unwrap();
        }
        copy_all(dir.path(), copy.path());
        if is_closed {
            log = open(dir.path());
        }
        let other = open(copy.path());
        fill(&other, 2, 100);
        if is_sealed {
            other.rotate().unwrap();
        }
        other.sync().unwrap();
        fill(&log, 1, last);
        log.sync().unwrap();
        shadow.catch_up().await.unwrap();
        Self { _dirs: [dir, copy], log, first, other, archive, stray }
    }

    async fn keys(&self) -> Vec<Key> {
        keys(&**self.archive.store()).await
    }

    /// Uploads what the first one was about to upload.
    async fn upload_stray(&self) -> Key {
        let stray = &with_suffix(&**self.stray.store(), ".part").await.pop().expect("a part");
        let bytes = bytes_of(&**self.stray.store(), stray).await;
        self.archive.store().put(stray, bytes.into()).await.unwrap();
        stray.clone()
    }

    fn other_records() -> Vec<(u64, Vec<u8>)> {
        [expected(1, 1..=50), expected(2, 51..=100)].concat()
    }
}

/// What an epoch has, by its number.
async fn records_of(archive: &Archive, epoch: u64) -> Vec<(u64, Vec<u8>)> {
    let (dir, of_it) = (scratch(), RestoreOptions::new().epoch(Some(epoch)));
    archive.restore(dir.path(), RestoreTo::Latest, &of_it, &mut |_| {}).await.unwrap();
    records(&open(dir.path()))
}

// A copy of a log that is not closed goes on in another segment.
fn cases() -> impl Iterator<Item = (bool, bool, u64)> {
    let cases = [(false, 80), (false, 120), (true, 80), (true, 120)];
    cases.into_iter().flat_map(|(is_sealed, last)| [(true, is_sealed, last), (false, is_sealed, last)])
}

/// Killed after it had uploaded a part, and before it found out that the epoch was taken over: then the epoch has records of both logs.
#[tokio::test]
async fn parts_of_two_logs_in_one_epoch_are_a_conflict_until_one_is_removed() {
    for (is_closed, is_sealed, last) in cases() {
        let logs = TwoLogs::new(is_closed, is_sealed, last).await;
        let archive = &logs.archive;
        catch_up(&logs.other, archive).await;
        assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
        let stray = logs.upload_stray().await;
        let refused = restore(archive, RestoreTo::Latest).await.unwrap_err();
        let Error::Conflict { key, other: named, lsn, .. } = &refused else { panic!("{refused}") };
        assert!([key, named].iter().any(|key| **key == stray.as_ref()) && key != named, "{refused}");
        assert_eq!(*lsn, Lsn(51));
        assert_eq!(restored(archive, RestoreTo::Lsn(Lsn(50))).await, expected(1, 1..=50), "what is before it");
        let report = archive.verify(None, &mut |_| {}).await.unwrap();
        for report in [archive.verify(Some(&report), &mut |_| {}).await.unwrap(), report] {
            let [fault @ EpochFault::Conflict { epoch: 1, .. }] = &report.faults[..] else { panic!("{report:?}") };
            assert_eq!(fault.to_string(), format!("epoch 1: {refused}"));
        }
        // The way out.
        drop(logs.first);
        catch_up(&logs.log, archive).await;
        assert_eq!(restored(archive, RestoreTo::Latest).await, expected(1, 1..=last), "in an epoch of its own");
        archive.store().delete(&stray).await.unwrap();
        assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
        assert_eq!(records_of(archive, 1).await, TwoLogs::other_records());
    }
}

#[tokio::test]
async fn an_archiver_that_has_lost_its_epoch_uploads_nothing_more() {
    for (is_closed, is_sealed, last) in cases() {
        let logs = TwoLogs::new(is_closed, is_sealed, last).await;
        catch_up(&logs.other, &logs.archive).await;
        let before = logs.keys().await;
        let stopped = logs.first.catch_up().await.unwrap_err();
        assert!(matches!(stopped, Error::Superseded { epoch: 1, .. }), "{stopped}");
        assert_eq!(logs.keys().await, before);
        assert!(logs.archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
    }
}

/// The other one takes the epoch, and has uploaded something, while the upload is under way.
#[tokio::test]
async fn a_part_that_was_under_way_while_the_epoch_was_lost_is_taken_back() {
    for (is_closed, is_sealed, last) in cases() {
        let TwoLogs { _dirs, log, first, other, archive, .. } = TwoLogs::new(is_closed, is_sealed, last).await;
        drop(first);
        let (inner, parts) = (copy_of(&archive).await, AtomicUsize::new(0));
        let archive = Archive::new(Arc::clone(&inner) as _, archive.prefix().clone());
        let taken = archive.clone();
        let hooked = Hooked::new(&inner, move |call, _| {
            let is_part = matches!(call, Call::Put(key) if key.as_ref().ends_with(".part"));
            if is_part && parts.fetch_add(1, Ordering::SeqCst) == 0 {
                in_the_meantime(async { catch_up(&other, &taken).await });
            }
        });
        let hooked = Archive::new(Arc::new(hooked), archive.prefix().clone());
        let stopped = archiver(&log, &hooked).catch_up().await.unwrap_err();
        assert!(matches!(stopped, Error::Superseded { epoch: 1, .. }), "{stopped}");
        let report = archive.verify(None, &mut |_| {}).await.unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!(restored(&archive, RestoreTo::Latest).await, TwoLogs::other_records());
        catch_up(&log, &archive).await;
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=last), "in an epoch of its own");
    }
}

async fn copy_of(archive: &Archive) -> Arc<InMemory> {
    let copy = Arc::new(InMemory::new());
    for key in keys(&**archive.store()).await {
        copy.put(&key, bytes_of(&**archive.store(), &key).await.into()).await.unwrap();
    }
    copy
}

/// Does something of another process, while a call of this one is under way.
fn in_the_meantime(work: impl Future<Output = ()> + Send) {
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work);
        });
        work.join().expect("done");
    });
}

/// What was confirmed up to then is the first one's: the other does not go on after it as if it had not been there.
#[tokio::test]
async fn what_is_confirmed_while_the_epoch_is_being_taken_over_is_seen_by_the_other_archiver() {
    for (is_closed, is_sealed, last) in cases() {
        let TwoLogs { _dirs, log, first, other, archive, .. } = TwoLogs::new(is_closed, is_sealed, last).await;
        drop(first);
        let (inner, sessions) = (copy_of(&archive).await, AtomicUsize::new(0));
        let archive = Archive::new(Arc::clone(&inner) as _, archive.prefix().clone());
        let confirmed = archive.clone();
        let hooked = Hooked::new(&inner, move |call, _| {
            let is_session = matches!(call, Call::Put(key) if key.as_ref().ends_with("session.json"));
            if is_session && sessions.fetch_add(1, Ordering::SeqCst) == 0 {
                in_the_meantime(async { catch_up(&log, &confirmed).await });
            }
        });
        let status = archiver(&other, &Archive::new(Arc::new(hooked), archive.prefix().clone())).catch_up().await;
        assert_eq!(status.unwrap().epoch, Some(2));
        assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
        assert_eq!(restored(&archive, RestoreTo::Latest).await, TwoLogs::other_records());
        assert_eq!(records_of(&archive, 1).await, expected(1, 1..=last));
    }
}

/// At each check, and when it begins.
#[tokio::test]
async fn an_archiver_whose_epoch_has_got_objects_of_another_log_begins_one_of_its_own() {
    for (is_running, (is_closed, is_sealed, last)) in cases().flat_map(|case| [(true, case), (false, case)]) {
        let logs = TwoLogs::new(is_closed, is_sealed, last).await;
        let often = options().check_interval(Some(Duration::ZERO));
        let mut running = Archiver::of_log(Arc::clone(&logs.other), logs.archive.clone(), often).unwrap();
        assert_eq!(running.catch_up().await.unwrap().epoch, Some(1));
        logs.upload_stray().await;
        if !is_running {
            drop(running);
            running = archiver(&logs.other, &logs.archive);
        }
        // A part of a segment that is sealed in the epoch changes nothing for what is archived after it, and is named.
        let told = if is_sealed || !is_closed { (Some(1), 1) } else { (Some(2), 0) };
        let status = running.catch_up().await.unwrap();
        assert_eq!((status.epoch, status.damaged.len()), told, "{is_closed} {last} {:?}", status.damaged);
        fill(&logs.other, 2, 130);
        logs.other.sync().unwrap();
        running.catch_up().await.unwrap();
        if told.1 == 0 {
            let both = [TwoLogs::other_records(), expected(2, 101..=130)].concat();
            assert_eq!(restored(&logs.archive, RestoreTo::Latest).await, both);
        }
    }
}

/// A killed archiver leaves parts that are superseded: those that the segment has the bytes of are of no use any more. What the epoch
/// has of another log is.
#[tokio::test]
async fn no_part_is_deleted_that_the_sealed_segment_does_not_have_the_bytes_of() {
    let logs = TwoLogs::new(true, false, 80).await;
    let archive = &logs.archive;
    catch_up(&logs.other, archive).await;
    let superseded = with_suffix(&**archive.store(), ".part").await;
    let mut left = Vec::new();
    for key in &superseded {
        left.push((key.clone(), bytes_of(&**archive.store(), key).await));
    }
    logs.other.rotate().unwrap();
    logs.other.sync().unwrap();
    catch_up(&logs.other, archive).await;
    assert!(with_suffix(&**archive.store(), ".part").await.is_empty());
    let stray = logs.upload_stray().await;
    for is_pruned in [false, true] {
        for (key, bytes) in &left {
            archive.store().put(key, bytes.clone().into()).await.unwrap();
        }
        let named = if is_pruned {
            let report = archive.prune(Lsn(1), PruneGaps::Refuse).await.unwrap();
            assert_eq!(report.parts, left.len() as u64);
            report.faults.iter().map(ToString::to_string).collect()
        } else {
            let damaged = archiver(&logs.other, archive).catch_up().await.unwrap().damaged;
            damaged.into_iter().map(|(key, damage)| format!("{key} {damage}")).collect::<Vec<_>>()
        };
        assert!(named.len() == 1 && named[0].contains(stray.as_ref()) && named[0].contains(".seg"), "{named:?}");
        assert_eq!(with_suffix(&**archive.store(), ".part").await, std::slice::from_ref(&stray));
    }
    // Parts of a segment that is missing are all that is left of it.
    archive.store().delete(&stray).await.unwrap();
    fill_and_seal(&logs.other, 2, 200);
    catch_up(&logs.other, archive).await;
    for (key, bytes) in &left {
        archive.store().put(key, bytes.clone().into()).await.unwrap();
    }
    archive.store().delete(&with_suffix(&**archive.store(), ".seg").await[0]).await.unwrap();
    archive.prune(Lsn(1), PruneGaps::Refuse).await.unwrap();
    assert_eq!(with_suffix(&**archive.store(), ".part").await.len(), left.len());
}

/// Of sealed segments a list tells. What is before them can be restored, and each log begins an epoch of its own.
#[tokio::test]
async fn segments_of_two_logs_in_one_epoch_are_a_conflict_and_what_is_before_them_is_restored() {
    let (dir, copy, archive) = (scratch(), scratch(), memory());
    let log = open(dir.path());
    fill_and_seal(&log, 1, 50);
    fill_and_seal(&log, 1, 60);
    catch_up(&log, &archive).await;
    log.close().unwrap();
    copy_all(dir.path(), copy.path());
    let (log, other) = (open(dir.path()), open(copy.path()));
    fill_and_seal(&other, 2, 100);
    fill_and_seal(&other, 2, 120);
    catch_up(&other, &archive).await;
    let elsewhere = memory();
    fill_and_seal(&log, 1, 90);
    Archiver::of_log(Arc::clone(&log), elsewhere.clone(), options().pin("stray")).unwrap().catch_up().await.unwrap();
    let stray = with_suffix(&**elsewhere.store(), ".seg").await.pop().unwrap();
    let bytes = bytes_of(&**elsewhere.store(), &stray).await;
    archive.store().put(&stray, bytes.into()).await.unwrap();
    let claims = async || {
        let listing = archive.list().await.unwrap();
        let [EpochFault::Conflict { lsn: 61, claims, .. }] = &listing.faults[..] else { panic!("{listing:?}") };
        claims.clone()
    };
    let kept = with_suffix(&**archive.store(), ".seg")
        .await
        .into_iter()
        .find(|key| *key != stray && key.as_ref().contains("/00000000000000000061-"));
    let kept = kept.unwrap().to_string();
    assert_eq!((claims().await.continued.as_ref(), claims().await.elsewhere), (Some(&kept), Vec::new()));
    let listing = archive.list().await.unwrap();
    assert!(matches!(listing.epochs[0].fault, Some(Error::Conflict { lsn: Lsn(61), .. })), "{listing:?}");
    assert_eq!((listing.epochs[0].first_lsn, listing.epochs[0].next_lsn), (Lsn(1), Lsn(61)));
    let refused = restore(&archive, RestoreTo::Latest).await.unwrap_err();
    assert!(matches!(refused, Error::Conflict { .. }), "{refused}");
    let refused = restore(&archive, RestoreTo::Lsn(Lsn(61))).await.unwrap_err();
    assert!(matches!(refused, Error::Conflict { .. }), "{refused}");
    assert_eq!(restored(&archive, RestoreTo::Lsn(Lsn(60))).await, expected(1, 1..=60));
    let refused = archive.prune(Lsn(61), PruneGaps::Refuse).await.unwrap_err();
    assert!(matches!(refused, Error::Conflict { .. }), "{refused}");
    for (log, epoch) in [(&other, 2), (&log, 3)] {
        let status = archiver(log, &archive).catch_up().await.unwrap();
        assert_eq!((status.epoch, status.lost, status.lag_records), (Some(epoch), None, 0));
    }
    let mut elsewhere = claims().await.elsewhere;
    elsewhere.sort_by_key(|(_, epoch)| *epoch);
    assert_eq!(elsewhere, [(kept.clone(), 2), (stray.to_string(), 3)], "each log has one of the two");
    let of_second = Key::from(kept.replace("/0000000001/", "/0000000002/"));
    let sound = bytes_of(&**archive.store(), &of_second).await;
    let mut bytes = sound.clone();
    bytes[5000] ^= 1;
    archive.store().put(&of_second, bytes.into()).await.unwrap();
    assert_eq!(claims().await.elsewhere, [(stray.to_string(), 3)], "a damaged one does not count");
    archive.store().put(&of_second, sound.into()).await.unwrap();
    let of_other = [expected(1, 1..=60), expected(2, 61..=120)].concat();
    assert_eq!(records_of(&archive, 2).await, of_other);
    assert_eq!(records_of(&archive, 3).await, expected(1, 1..=90));
    archive.store().delete(&stray).await.unwrap();
    assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
    assert_eq!(records_of(&archive, 1).await, of_other);
}

/// As where a list was late, or a part was missing for a while.
#[tokio::test]
async fn parts_that_have_the_same_bytes_twice_are_sound() {
    let (dir, store) = (scratch(), Arc::new(InMemory::new()));
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let log = open(dir.path());
    for last in [50, 80, 110] {
        fill(&log, 1, last);
        log.sync().unwrap();
        catch_up(&log, &archive).await;
    }
    let parts = with_suffix(&*store, ".part").await;
    assert_eq!(parts.len(), 3);
    for (from, to, lsns) in [(0, 3, (1, 111)), (1, 3, (51, 111)), (0, 2, (1, 81))] {
        let mut begin = 0;
        for part in &parts[..from] {
            begin += bytes_of(&*store, part).await.len();
        }
        let mut bytes = Vec::new();
        for part in &parts[from..to] {
            bytes.extend(bytes_of(&*store, part).await);
        }
        let (len, sum) = (bytes.len(), crc32fast::hash(&bytes));
        let name = format!("{:020}-{:020}-{:010}-{begin:010}-{len:010}-{sum:08x}.part", lsns.0, lsns.1, 1);
        store.put(&format!("a/0000000001/{name}").into(), bytes.into()).await.unwrap();
        let report = archive.verify(None, &mut |_| {}).await.unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=110));
    }
    assert_eq!(with_suffix(&*store, ".part").await.len(), 6);
}
