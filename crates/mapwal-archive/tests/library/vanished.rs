//! Objects that vanish from the store after they were confirmed.

use std::sync::Arc;
use std::time::Duration;

use mapwal::{Log, Lsn};
use mapwal_archive::{Archive, Archiver, Error, PruneGaps, RestoreOptions, RestoreTo, Status};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use crate::hooked::{Call, Hooked};
use crate::support::{
    PIN, archiver, bytes_of, catch_up, expected, fill, fill_and_seal, keys, open, options, restore, restored, scratch,
    with_suffix,
};

/// A log with five segments of a hundred records, all archived, and some records in a part.
async fn archived(directory: &std::path::Path) -> (Arc<InMemory>, Archive, Arc<Log>) {
    let store = Arc::new(InMemory::new());
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let log = open(directory);
    for segment in 1..=5 {
        fill_and_seal(&log, 1, segment * 100);
    }
    fill(&log, 1, 520);
    log.sync().unwrap();
    catch_up(&log, &archive).await;
    (store, archive, log)
}

async fn is_whole(archive: &Archive, last: u64) {
    assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
    assert_eq!(archive.list().await.unwrap().epochs.len(), 1, "no other epoch");
    assert_eq!(restored(archive, RestoreTo::Latest).await, expected(1, 1..=last));
}

#[tokio::test]
async fn whatever_vanishes_is_uploaded_again_when_an_archiver_begins_if_the_log_has_it() {
    let whole = [vec![0], vec![2], vec![4], vec![0, 2, 4], vec![3, 4], vec![0, 1, 2, 3, 4]];
    for (vanished, is_part_gone) in whole.iter().flat_map(|vanished| [(vanished, false), (vanished, true)]) {
        let dir = scratch();
        let (store, archive, log) = archived(dir.path()).await;
        let before = keys(&*store).await;
        let segments = with_suffix(&*store, ".seg").await;
        for &at in vanished {
            store.delete(&segments[at]).await.unwrap();
        }
        for part in with_suffix(&*store, ".part").await.iter().filter(|_| is_part_gone) {
            store.delete(part).await.unwrap();
        }
        let status = archiver(&log, &archive).catch_up().await.unwrap();
        assert_eq!((status.missing.len(), status.archived_lsn), (0, Lsn(521)), "{vanished:?}");
        assert_eq!(keys(&*store).await, before, "{vanished:?} {is_part_gone}: the same keys as before");
        is_whole(&archive, 520).await;
    }
}

#[tokio::test]
async fn what_vanishes_under_an_archiver_is_uploaded_again_at_the_next_check_and_not_before() {
    let dir = scratch();
    let (store, archive, log) = archived(dir.path()).await;
    let often = options().check_interval(Some(Duration::from_millis(1)));
    for (interval, is_found) in [(None, false), (Some(Duration::from_secs(3600)), false), (Some(Duration::ZERO), true)]
    {
        let of_interval =
            Archiver::of_log(Arc::clone(&log), archive.clone(), often.clone().check_interval(interval)).unwrap();
        let begun = of_interval.catch_up().await.unwrap().uploaded_again;
        let before = keys(&*store).await;
        for key in [&with_suffix(&*store, ".seg").await[1], &with_suffix(&*store, ".part").await[0]] {
            store.delete(key).await.unwrap();
        }
        let status = of_interval.catch_up().await.unwrap();
        assert_eq!(status.uploaded_again - begun, u64::from(is_found), "{interval:?}");
        assert_eq!(keys(&*store).await == before, is_found, "{interval:?}");
    }
    is_whole(&archive, 520).await;
}

/// Not one for each upload.
#[tokio::test]
async fn the_store_is_listed_once_in_an_interval() {
    let (store, dir) = (Arc::new(InMemory::new()), scratch());
    let lists = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&lists);
    let hooked = Hooked::new(&store, move |call, _| {
        if matches!(call, Call::List) {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    let archive = Archive::new(Arc::new(hooked), "a");
    let log = open(dir.path());
    let archiver = archiver(&log, &archive);
    for segment in 1..=20 {
        fill_and_seal(&log, 1, segment * 20);
        archiver.catch_up().await.unwrap();
    }
    assert_eq!(lists.load(std::sync::atomic::Ordering::SeqCst), 1, "the first, when it began");
}

async fn status_of(log: &Arc<Log>, archive: &Archive) -> Status {
    archiver(log, archive).catch_up().await.unwrap()
}

#[tokio::test]
async fn what_the_log_has_no_more_is_named_until_it_is_put_back() {
    let dir = scratch();
    let (store, archive, log) = archived(dir.path()).await;
    log.trim_before(Lsn(301)).unwrap();
    assert_eq!(log.first_lsn(), Lsn(301));
    let segments = with_suffix(&*store, ".seg").await;
    let mut gone = Vec::new();
    for at in [0, 2, 3] {
        gone.push((segments[at].clone(), bytes_of(&*store, &segments[at]).await));
        store.delete(&segments[at]).await.unwrap();
    }
    let status = status_of(&log, &archive).await;
    assert_eq!(status.uploaded_again, 1, "the fourth is in the log");
    let named: Vec<_> = status.missing.iter().map(|missing| (missing.epoch, missing.lsns.clone())).collect();
    assert_eq!(named, [(1, Lsn(1)..Lsn(101)), (1, Lsn(201)..Lsn(301))]);
    for (missing, at) in status.missing.iter().zip([0, 2]) {
        assert!(segments[at].as_ref().starts_with(missing.key.as_ref().unwrap()), "{missing:?}");
    }
    let told = "records 1..100 of epoch 1 (a/0000000001/00000000000000000001-*) are missing, and cannot be uploaded again: the log has them no more, or they are of an earlier epoch";
    assert_eq!((status.failures, status.last_error.as_deref()), (0, Some(told)), "the archive goes on");
    fill_and_seal(&log, 1, 600);
    assert_eq!(status_of(&log, &archive).await.missing.len(), 2, "for as long as it is missing");
    for (key, bytes) in gone {
        store.put(&key, bytes.into()).await.unwrap();
    }
    assert_eq!(status_of(&log, &archive).await.missing, []);
    is_whole(&archive, 600).await;
}

/// Without the pin the archive begins another epoch, which can be restored.
#[tokio::test]
async fn the_way_out_of_what_is_missing_for_good_is_another_epoch() {
    for vanished in [1, 2] {
        let dir = scratch();
        let (store, archive, log) = archived(dir.path()).await;
        log.trim_before(Lsn(301)).unwrap();
        for key in with_suffix(&*store, ".seg").await.iter().skip(1).take(vanished) {
            store.delete(key).await.unwrap();
        }
        assert!(!status_of(&log, &archive).await.missing.is_empty());
        assert!(matches!(restore(&archive, RestoreTo::Latest).await, Err(Error::Gap { .. })));
        log.drop_pin(PIN).unwrap();
        let status = status_of(&log, &archive).await;
        assert_eq!((status.epoch, status.missing.len()), (Some(2), 0));
        assert_eq!(status.lost, Some(Lsn(101)..Lsn(301)));
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 301..=520));
        let options = RestoreOptions::new().epoch(Some(1));
        let dir = scratch();
        archive.restore(dir.path(), RestoreTo::Lsn(Lsn(100)), &options, &mut |_| {}).await.unwrap();
    }
}

/// A pin that a crash has left behind must not go over what is missing.
#[tokio::test]
async fn the_pin_does_not_pass_what_is_missing_and_cannot_be_uploaded() {
    let (store, dir) = (Arc::new(InMemory::new()), scratch());
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let log = open(dir.path());
    fill_and_seal(&log, 1, 100);
    catch_up(&log, &archive).await;
    // Uploaded, and the pin did not move: as by an archiver that was killed.
    let mut uploaded = Vec::new();
    for (first, next) in [(101, 201), (201, 301)] {
        fill_and_seal(&log, 1, next - 1);
        let sealed = log.sealed(0).unwrap().pop().unwrap();
        let (number, len, sum) = (sealed.number(), sealed.bytes().len(), sealed.checksum());
        let name = format!("{first:020}-{next:020}-{number:010}-{len:010}-{sum:08x}.seg");
        uploaded.push((object_store::path::Path::from(format!("a/0000000001/{name}")), sealed.bytes().to_vec()));
    }
    // The second one has vanished, and cannot be uploaded at first.
    store.put(&uploaded[1].0, uploaded[1].1.clone().into()).await.unwrap();
    let refused = uploaded[0].0.clone();
    let bad = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_bad = Arc::clone(&bad);
    let pinned = Arc::clone(&log);
    let hooked = Hooked::new(&store, move |call, _| {
        if matches!(call, Call::Put(key) if **key == refused) {
            assert_eq!(pinned.pins()[0].lsn, Lsn(101), "it does not pass what is missing");
            is_bad.store(false, std::sync::atomic::Ordering::SeqCst);
        }
    });
    let status = archiver(&log, &Archive::new(Arc::new(hooked), "a")).catch_up().await.unwrap();
    assert!(!bad.load(std::sync::atomic::Ordering::SeqCst), "it was uploaded");
    assert_eq!((status.sealed_lsn, log.pins()[0].lsn), (Lsn(301), Lsn(301)));
    is_whole(&archive, 300).await;
}

/// The end of what was confirmed: nothing says how the log goes on after it.
#[tokio::test]
async fn an_end_that_is_missing_for_good_is_waited_for_and_named() {
    let dir = scratch();
    let (store, archive, log) = archived(dir.path()).await;
    log.trim_before(Lsn(501)).unwrap();
    let segments = with_suffix(&*store, ".seg").await;
    for key in [&segments[3], &segments[4]] {
        store.delete(key).await.unwrap();
    }
    let archiver = archiver(&log, &archive);
    let told = async {
        while archiver.last_error().is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        stopped = archiver.run() => panic!("{stopped:?}"),
        told = tokio::time::timeout(Duration::from_secs(60), told) => told.expect("in a minute"),
    }
    let missing = archiver.missing().remove(0);
    assert_eq!((missing.epoch, missing.lsns), (1, Lsn(301)..Lsn(501)));
    let key = missing.key.unwrap();
    assert!(segments[3].as_ref().starts_with(&key));
    let error = archiver.last_error().unwrap();
    assert!(error.contains(&key) && error.contains("all before record 501 was confirmed"), "{error}");
    log.drop_pin(PIN).unwrap();
    let status = archiver.catch_up().await.unwrap();
    assert_eq!((status.epoch, status.missing.len()), (Some(2), 0));
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 501..=520));
}

#[tokio::test]
async fn a_note_of_the_session_that_is_damaged_is_written_anew() {
    let dir = scratch();
    let (store, archive, log) = archived(dir.path()).await;
    let archiver = archiver(&log, &archive);
    archiver.catch_up().await.unwrap();
    store.put(&"a/0000000001/session.json".into(), "{".into()).await.unwrap();
    fill_and_seal(&log, 1, 600);
    tokio::time::timeout(Duration::from_secs(60), archiver.catch_up()).await.expect("in a minute").unwrap();
    is_whole(&archive, 600).await;
}

#[tokio::test]
async fn what_was_pruned_is_not_missing_and_not_uploaded_again() {
    let dir = scratch();
    let (store, archive, log) = archived(dir.path()).await;
    archive.prune(Lsn(301), PruneGaps::Refuse).await.unwrap();
    let before = keys(&*store).await;
    let status = status_of(&log, &archive).await;
    assert_eq!((status.uploaded_again, status.missing.len()), (0, 0));
    assert_eq!(keys(&*store).await, before);
    assert_eq!(log.first_lsn(), Lsn(1), "the log has them still");
}

/// As where a restored log has gone on, and a prune has forgotten what it left.
#[tokio::test]
async fn an_archiver_whose_epoch_was_pruned_says_so_and_can_begin_another() {
    let dir = scratch();
    let (store, archive, log) = archived(dir.path()).await;
    let running = archiver(&log, &archive);
    running.catch_up().await.unwrap();
    let (elsewhere, _) = restore(&archive, RestoreTo::Lsn(Lsn(520))).await.unwrap();
    let newer = open(elsewhere.path());
    fill_and_seal(&newer, 2, 700);
    fill_and_seal(&newer, 2, 800);
    catch_up(&newer, &archive).await;
    archive.prune(Lsn(701), PruneGaps::Refuse).await.unwrap();
    assert!(keys(&*store).await.iter().all(|key| !key.as_ref().starts_with("a/0000000001/")), "it is forgotten");
    fill_and_seal(&log, 1, 600);
    let ended = tokio::time::timeout(Duration::from_secs(60), running.catch_up()).await;
    let refused = ended.expect("it ends").unwrap_err();
    assert!(matches!(&refused, Error::Pruned { epoch: 1, pin, .. } if pin == PIN), "{refused}");
    assert!(keys(&*store).await.iter().all(|key| !key.as_ref().starts_with("a/0000000001/")), "nothing is left of it");
    drop(running);
    let refused = archiver(&log, &archive).catch_up().await.unwrap_err();
    assert!(matches!(refused, Error::Pruned { epoch: 1, .. }), "{refused}");
    log.drop_pin(PIN).unwrap();
    assert_eq!(status_of(&log, &archive).await.epoch, Some(3));
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=600));
}

/// A part of a segment that was sealed meanwhile: what comes after the segments before it is about to be uploaded.
#[tokio::test]
async fn a_part_that_vanishes_is_not_missing_while_the_log_has_its_records() {
    let dir = scratch();
    let (store, archive, log) = archived(dir.path()).await;
    fill(&log, 1, 540);
    log.sync().unwrap();
    catch_up(&log, &archive).await;
    store.delete(&with_suffix(&*store, ".part").await[0]).await.unwrap();
    fill_and_seal(&log, 1, 600);
    fill(&log, 1, 620);
    log.sync().unwrap();
    let running = archiver(&log, &archive);
    let status = running.catch_up().await.unwrap();
    assert_eq!((status.missing, status.epoch), (vec![], Some(1)));
    is_whole(&archive, 620).await;
}

#[tokio::test]
async fn a_vanished_segment_whose_copy_in_the_log_is_damaged_keeps_nothing_else_from_being_archived() {
    use std::os::unix::fs::FileExt;
    let dir = scratch();
    let (store, archive, log) = archived(dir.path()).await;
    let segments = with_suffix(&*store, ".seg").await;
    let sound = bytes_of(&*store, &segments[1]).await;
    for at in [1, 2] {
        store.delete(&segments[at]).await.unwrap();
    }
    let file = std::fs::File::options().read(true).write(true).open(dir.path().join(format!("{:020}.seg", 2))).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 9000).unwrap();
    file.write_all_at(&[byte[0] ^ 64], 9000).unwrap();
    fill(&log, 1, 550);
    log.sync().unwrap();
    let running = archiver(&log, &archive);
    let caught_up = tokio::time::timeout(Duration::from_secs(20), running.catch_up()).await;
    let status = caught_up.unwrap_or_else(|_| panic!("{:?}", running.last_error())).unwrap();
    drop(running);
    assert_eq!((status.archived_lsn, status.uploaded_again, status.failures), (Lsn(551), 1, 0));
    assert!(status.last_error.expect("what is missing").contains("are missing, and damaged in the log: "));
    let [missing] = &status.missing[..] else { panic!("{:?}", status.missing) };
    assert_eq!(missing.lsns, Lsn(101)..Lsn(201));
    let fault = missing.log_fault.as_ref().expect("the log's copy is damaged");
    assert!(fault.contains("00000000000000000002.seg") && fault.contains("record"), "{fault}");
    store.put(&segments[1], sound.into()).await.unwrap();
    assert_eq!(status_of(&log, &archive).await.missing, []);
    is_whole(&archive, 550).await;
}
