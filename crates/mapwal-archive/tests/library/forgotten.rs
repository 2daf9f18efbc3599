//! An epoch is forgotten only if all that it has is had elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use mapwal::Lsn;
use mapwal_archive::{Archive, Error, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;

use crate::hooked::{Call, Hooked, remove};
use crate::sessions::copy_log;
use crate::support::{
    archiver, bytes_of, catch_up, fill, fill_and_seal, keys, open, restore, restored_at, scratch, with_suffix,
};

fn note(epoch: u64) -> Key {
    Key::from(format!("logs/a/{epoch:010}/epoch.json"))
}

async fn delete(archive: &Archive, in_key: &str) {
    let mut found = keys(&**archive.store()).await.into_iter().filter(|key| key.as_ref().contains(in_key));
    archive.store().delete(&found.next().expect("an object")).await.unwrap();
    assert_eq!(found.next(), None);
}

/// That is refused, and deletes nothing.
async fn is_not_forgotten(archive: &Archive, epoch: u64) -> Error {
    let before = keys(&**archive.store()).await;
    let refused = archive.forget_epoch(epoch).await.unwrap_err();
    assert_eq!(keys(&**archive.store()).await, before);
    refused
}

#[tokio::test]
async fn an_epoch_with_records_of_its_own_after_a_gap_is_not_forgotten() {
    let (archive, copy) = restored_at(100, &[100, 150]).await;
    let log = open(copy.path());
    for last in [200, 300] {
        fill_and_seal(&log, 2, last);
    }
    catch_up(&log, &archive).await;
    delete(&archive, "0000000002/00000000000000000101-").await;
    let refused = is_not_forgotten(&archive, 2).await;
    assert!(matches!(refused, Error::Noted { epoch: 2 }), "{refused}");
}

#[tokio::test]
async fn an_epoch_with_a_copied_note_and_records_of_its_own_after_a_gap_is_not_forgotten() {
    let (archive, copy) = restored_at(200, &[100, 200, 300]).await;
    let log = open(copy.path());
    // The first ones as in the original.
    for last in [300, 400, 500] {
        fill_and_seal(&log, 1, last);
    }
    catch_up(&log, &archive).await;
    delete(&archive, "0000000002/00000000000000000301-").await;
    let copied = bytes_of(&**archive.store(), &note(1)).await;
    archive.store().put(&note(2), copied.into()).await.unwrap();
    is_not_forgotten(&archive, 2).await;
    archive.rebuild_note(2, false).await.unwrap();
}

#[tokio::test]
async fn parts_whose_beginning_has_vanished_are_not_forgotten_with_a_copied_note() {
    let (archive, copy) = restored_at(200, &[100, 200]).await;
    let log = open(copy.path());
    for last in [300, 350] {
        fill(&log, 2, last);
        log.sync().unwrap();
        catch_up(&log, &archive).await;
    }
    assert_eq!(with_suffix(&**archive.store(), ".part").await.len(), 2);
    delete(&archive, "0000000002/00000000000000000201-").await;
    let copied = bytes_of(&**archive.store(), &note(1)).await;
    archive.store().put(&note(2), copied.into()).await.unwrap();
    is_not_forgotten(&archive, 2).await;
}

#[tokio::test]
async fn an_archiver_whose_epoch_is_forgotten_while_it_begins_ends_and_says_so() {
    let (dir, store) = (scratch(), Arc::new(InMemory::new()));
    let log = open(dir.path());
    fill_and_seal(&log, 1, 100);
    catch_up(&log, &Archive::new(Arc::clone(&store) as _, "logs/a")).await;
    let lists = AtomicUsize::new(0);
    let hooked = Hooked::new(&store, move |call, inner| {
        // After the archiver has found its epoch, and taken it.
        if *call == Call::List && lists.fetch_add(1, Ordering::SeqCst) == 1 {
            let taken = Key::from("logs/a/0000000001/forgotten");
            inner.put(&taken, b"forgotten\n".as_slice().into()).now_or_never().unwrap().unwrap();
            for key in keys(inner).now_or_never().unwrap().into_iter().filter(|key| *key != taken) {
                remove(inner, &key);
            }
        }
    });
    let refused = archiver(&log, &Archive::new(Arc::new(hooked), "logs/a")).catch_up().await.unwrap_err();
    assert!(matches!(refused, Error::Forgotten { epoch: 1, .. }), "{refused}");
}

/// An archiver may be at work: what it has confirmed since the epoch was looked at is seen before anything is deleted.
#[tokio::test]
async fn what_is_archived_in_an_epoch_while_that_is_about_to_be_forgotten_keeps_it() {
    let (dir, store) = (scratch(), Arc::new(InMemory::new()));
    let archive = Archive::new(Arc::clone(&store) as _, "logs/a");
    let log = open(dir.path());
    for last in [100, 200, 300] {
        fill_and_seal(&log, 1, last);
    }
    catch_up(&log, &archive).await;
    let (copy, _) = restore(&archive, RestoreTo::Lsn(Lsn(200))).await.unwrap();
    let log = open(copy.path());
    fill_and_seal(&log, 1, 250);
    catch_up(&log, &archive).await;
    let before = keys(&*store).await;
    fill_and_seal(&log, 2, 300);
    catch_up(&log, &archive).await;
    let after = keys(&*store).await;
    let own = after.iter().find(|key| !before.contains(key)).unwrap().clone();
    let bytes = bytes_of(&*store, &own).await;
    store.delete(&own).await.unwrap();
    let session = Key::from("logs/a/0000000002/session.json");
    let archived = own.clone();
    let hooked = Hooked::new(&store, move |call, inner| {
        if *call == Call::List && inner.head(&session).now_or_never().unwrap().is_err() {
            inner.put(&archived, bytes.clone().into()).now_or_never().unwrap().unwrap();
        }
    });
    let refused = Archive::new(Arc::new(hooked), "logs/a").forget_epoch(2).await.unwrap_err();
    assert!(matches!(refused, Error::Noted { epoch: 2 }), "{refused}");
    assert_eq!(keys(&*store).await, after, "all is there, also the note of its session");
    store.delete(&own).await.unwrap();
    let report = archive.forget_epoch(2).await.unwrap();
    assert_eq!((report.segments, report.lost), (1, vec![]), "the other one has all of it");
}

/// That is said, since nothing says it later.
#[tokio::test]
async fn what_no_other_epoch_has_of_one_that_is_forgotten_is_told() {
    let (archive, copy) = restored_at(200, &[100, 200, 300, 400]).await;
    let log = open(copy.path());
    fill_and_seal(&log, 2, 350);
    fill_and_seal(&log, 2, 600);
    catch_up(&log, &archive).await;
    archive.store().delete(&note(2)).await.unwrap();
    assert_eq!(archive.forget_epoch(2).await.unwrap().lost, [Lsn(401)..Lsn(601)]);
}

/// It was not refused, and by now the epoch has what no other one has.
#[tokio::test]
async fn the_mark_of_a_call_that_was_killed_goes_with_a_later_one_that_is_refused() {
    let (archive, copy) = restored_at(200, &[100, 200, 300]).await;
    let log = open(copy.path());
    fill_and_seal(&log, 1, 250);
    catch_up(&log, &archive).await;
    let mark = Key::from("logs/a/0000000002/forgotten");
    archive.store().put(&mark, "forgotten\n".into()).await.unwrap();
    archive.store().delete(&Key::from("logs/a/0000000002/session.json")).await.unwrap();
    delete(&archive, "0000000001/00000000000000000201-").await;
    let ended = archiver(&log, &archive).catch_up().await.unwrap_err();
    assert!(matches!(ended, Error::Forgotten { epoch: 2, .. }), "{ended}");
    let refused = archive.forget_epoch(2).await.unwrap_err();
    assert!(matches!(refused, Error::Noted { epoch: 2 }), "{refused}");
    assert!(archive.store().head(&mark).await.is_err(), "it is not forgotten");
    fill_and_seal(&log, 2, 400);
    assert_eq!(archiver(&log, &archive).catch_up().await.unwrap().epoch, Some(2));
    // Where nothing is left of an epoch, its number stays taken.
    let gone = Key::from("logs/a/0000000007/forgotten");
    archive.store().put(&gone, "forgotten\n".into()).await.unwrap();
    let refused = archive.forget_epoch(7).await.unwrap_err();
    assert!(matches!(refused, Error::NoEpoch { epoch: 7, .. }), "{refused}");
    assert!(archive.store().head(&gone).await.is_ok());
}

/// An archive with an epoch 2 that has less than epoch 1: of a log that was restored, or of an old copy of the log's directory.
async fn with_less(is_restored: bool) -> Arc<InMemory> {
    let (dir, copied, store) = (scratch(), scratch(), Arc::new(InMemory::new()));
    let archive = Archive::new(Arc::clone(&store) as _, "logs/a");
    let log = open(dir.path());
    fill(&log, 1, 50);
    Arc::into_inner(log).unwrap().close().unwrap();
    copy_log(dir.path(), copied.path());
    let log = open(dir.path());
    for last in [100, 200, 300, 400] {
        fill_and_seal(&log, 1, last);
    }
    catch_up(&log, &archive).await;
    let copied = if is_restored { restore(&archive, RestoreTo::Lsn(Lsn(100))).await.unwrap().0 } else { copied };
    let log = open(copied.path());
    for last in if is_restored { vec![150, 250] } else { vec![] } {
        fill_and_seal(&log, 1, last);
    }
    fill(&log, 1, if is_restored { 300 } else { 80 });
    log.sync().unwrap();
    catch_up(&log, &archive).await;
    store
}

/// What is left each time can be forgotten.
#[tokio::test]
async fn a_call_that_was_killed_is_made_up_for_by_the_next_one_wherever_that_was() {
    for (is_restored, objects) in [(true, 3), (false, 1)] {
        // Also the note of its session, and its own.
        for deleted in 0..objects + 2 {
            let store = with_less(is_restored).await;
            let hooked = Hooked::new(&store, |_, _| ());
            hooked.deletes.store(deleted, Ordering::SeqCst);
            let killed = Archive::new(Arc::new(hooked), "logs/a");
            let brief = std::time::Duration::from_millis(50);
            tokio::time::timeout(brief, killed.forget_epoch(2)).await.expect_err("it waits");
            let archive = Archive::new(Arc::clone(&store) as _, "logs/a");
            let report = archive.forget_epoch(2).await;
            let report = report.unwrap_or_else(|refused| panic!("{is_restored}, after {deleted}: {refused}"));
            assert_eq!((report.lost, report.epochs), (vec![], 1));
            let left = keys(&*store).await.into_iter().filter(|key| key.as_ref().starts_with("logs/a/0000000002/"));
            assert_eq!(left.collect::<Vec<_>>(), [Key::from("logs/a/0000000002/forgotten")], "{deleted}");
            assert!(archive.list().await.unwrap().faults.is_empty(), "{deleted}");
        }
    }
}
