//! Objects in the directory of an epoch that they do not belong to.

use std::sync::Arc;

use mapwal::{Log, Lsn};
use mapwal_archive::{Archive, EpochFault, Error, ObjectDamage, PruneGaps, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use tempfile::TempDir;

use crate::support::{
    archiver, bytes_of, catch_up, expected, fill, fill_and_seal, keys, memory, open, restore, restored, scratch,
    with_suffix,
};

/// Epoch 1 with records 1 to 400, epoch 2, which continues it after 300, with up to 500, and the log of that.
async fn two_epochs() -> (Archive, Arc<Log>, TempDir) {
    let (dir, archive) = (scratch(), memory());
    let log = open(dir.path());
    for last in [100, 200, 300, 400] {
        fill_and_seal(&log, 1, last);
    }
    catch_up(&log, &archive).await;
    let (copy, _) = restore(&archive, RestoreTo::Lsn(Lsn(300))).await.unwrap();
    let log = open(copy.path());
    fill_and_seal(&log, 2, 500);
    catch_up(&log, &archive).await;
    (archive, log, copy)
}

/// The key of object `at` of epoch 1, and the one that it would have in epoch 2.
async fn object(archive: &Archive, at: usize) -> (Key, Key) {
    let key = with_suffix(&**archive.store(), ".seg").await.remove(at);
    let elsewhere = Key::from(key.as_ref().replace("/0000000001/", "/0000000002/"));
    assert_ne!(key, elsewhere);
    (key, elsewhere)
}

async fn faults(archive: &Archive) -> Vec<EpochFault> {
    let listed = archive.list().await.unwrap().faults;
    let report = archive.verify(None, &mut |_| {}).await.unwrap();
    assert_eq!((&report.faults, report.damaged.len()), (&listed, 0));
    listed
}

#[tokio::test]
async fn a_copy_of_an_object_of_an_earlier_epoch_is_told_and_keeps_nothing_from_being_done() {
    // The last one before the place where the second epoch begins, and others.
    for at in 0..3 {
        let (archive, log, _dir) = two_epochs().await;
        let all = restored(&archive, RestoreTo::Latest).await;
        let before = keys(&**archive.store()).await;
        let (original, copy) = object(&archive, at).await;
        let bytes = bytes_of(&**archive.store(), &original).await;
        archive.store().put(&copy, bytes.clone().into()).await.unwrap();
        let told = EpochFault::Copy { epoch: 2, key: copy.to_string(), original: original.to_string() };
        assert_eq!(faults(&archive).await, std::slice::from_ref(&told), "{at}");
        assert_eq!(told.to_string(), format!("epoch 2: {copy} is a copy of {original}"));
        assert_eq!(restored(&archive, RestoreTo::Latest).await, all, "{at}");
        assert!(archive.list().await.unwrap().epochs.iter().all(|epoch| epoch.fault.is_none()));
        // One that is damaged is told as well.
        archive.store().put(&copy, bytes[1..].to_vec().into()).await.unwrap();
        let report = archive.verify(None, &mut |_| {}).await.unwrap();
        assert_eq!((report.damaged.len(), &report.damaged[0].0), (1, &copy.to_string()));
        fill_and_seal(&log, 2, 600);
        let status = archiver(&log, &archive).catch_up().await.unwrap();
        assert_eq!((status.epoch, status.archived_lsn, status.last_error), (Some(2), Lsn(601), None), "{at}");
        archive.store().delete(&copy).await.unwrap();
        assert_eq!(faults(&archive).await, []);
        assert!(before.iter().all(|key| *key != copy));
    }
}

#[tokio::test]
async fn a_copy_goes_with_what_is_pruned_and_with_its_epoch() {
    for is_forgotten in [false, true] {
        let (archive, ..) = two_epochs().await;
        let (original, copy) = object(&archive, 1).await;
        archive.store().put(&copy, bytes_of(&**archive.store(), &original).await.into()).await.unwrap();
        if is_forgotten {
            archive.store().delete(&"logs/a/0000000002/epoch.json".into()).await.unwrap();
            archive.forget_epoch(2).await.unwrap();
            let left = keys(&**archive.store()).await;
            let left: Vec<_> = left.iter().filter(|key| key.as_ref().contains("/0000000002/")).collect();
            assert_eq!(left, [&Key::from("logs/a/0000000002/forgotten")]);
        } else {
            archive.prune(Lsn(250), PruneGaps::Refuse).await.unwrap();
            assert_eq!(restored(&archive, RestoreTo::Latest).await.first(), expected(1, 201..=201).first());
        }
        assert!(!keys(&**archive.store()).await.contains(&copy), "{is_forgotten}");
        assert_eq!(faults(&archive).await, [], "{is_forgotten}");
    }
}

/// It may be the only one: nothing is restored past it, and an archiver goes on.
#[tokio::test]
async fn an_object_that_was_moved_to_a_later_epoch_is_told_until_it_is_moved_back() {
    let (archive, log, _dir) = two_epochs().await;
    let all = restored(&archive, RestoreTo::Latest).await;
    let (from, to) = object(&archive, 1).await;
    archive.store().rename(&from, &to).await.unwrap();
    let damage = ObjectDamage::Early { first: 301 };
    let told = EpochFault::Damaged { epoch: 2, key: to.to_string(), damage: damage.clone() };
    assert_eq!(faults(&archive).await, [EpochFault::Gap { epoch: 1, missing: (101, 201) }, told]);
    let refused = restore(&archive, RestoreTo::Latest).await.unwrap_err();
    assert!(matches!(&refused, Error::Damaged { key, .. } if *key == to.to_string()), "{refused}");
    fill(&log, 2, 550);
    log.sync().unwrap();
    let status = archiver(&log, &archive).catch_up().await.unwrap();
    assert_eq!((status.epoch, status.archived_lsn), (Some(2), Lsn(551)), "{:?}", status.last_error);
    assert_eq!(status.damaged, [(to.to_string(), damage)]);
    archive.store().rename(&to, &from).await.unwrap();
    assert_eq!(faults(&archive).await, []);
    assert_eq!(restored(&archive, RestoreTo::Latest).await[..500], all);
}

#[tokio::test]
async fn objects_that_are_put_back_after_their_note_was_made_again_are_told_and_had_again() {
    let (dir, archive) = (scratch(), memory());
    let log = open(dir.path());
    for last in [100, 200, 300] {
        fill_and_seal(&log, 1, last);
    }
    catch_up(&log, &archive).await;
    let note = Key::from("logs/a/0000000001/epoch.json");
    let first = with_suffix(&**archive.store(), ".seg").await.remove(0);
    let bytes = bytes_of(&**archive.store(), &first).await;
    for key in [&note, &first] {
        archive.store().delete(key).await.unwrap();
    }
    archive.rebuild_note(1, true).await.unwrap();
    archive.store().put(&first, bytes.into()).await.unwrap();
    let damage = ObjectDamage::Early { first: 101 };
    assert_eq!(faults(&archive).await, [EpochFault::Damaged { epoch: 1, key: first.to_string(), damage }]);
    assert!(restore(&archive, RestoreTo::Latest).await.is_err(), "it is not left out");
    archive.store().delete(&note).await.unwrap();
    archive.rebuild_note(1, false).await.unwrap();
    assert_eq!(faults(&archive).await, []);
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=300));
}

/// Each of them, and what is missing of the epoch beside.
#[tokio::test]
async fn all_objects_that_belong_to_another_epoch_are_told_and_so_are_gaps() {
    let (archive, log, _dir) = two_epochs().await;
    fill_and_seal(&log, 2, 600);
    fill_and_seal(&log, 2, 700);
    catch_up(&log, &archive).await;
    let mut told = vec![EpochFault::Gap { epoch: 1, missing: (1, 201) }];
    for _ in 0..2 {
        let (from, to) = object(&archive, 0).await;
        archive.store().rename(&from, &to).await.unwrap();
        let damage = ObjectDamage::Early { first: 301 };
        told.push(EpochFault::Damaged { epoch: 2, key: to.to_string(), damage });
    }
    let middle = keys(&**archive.store())
        .await
        .into_iter()
        .find(|key| key.as_ref().contains("/0000000002/00000000000000000501-"))
        .unwrap();
    archive.store().delete(&middle).await.unwrap();
    told.push(EpochFault::Gap { epoch: 2, missing: (501, 601) });
    assert_eq!(faults(&archive).await, told);
}
