//! Verifying and pruning.

use std::sync::Arc;

use mapwal::Lsn;
use mapwal_archive::{Archive, EpochFault, Error, ObjectDamage, PruneGaps, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use crate::support::{
    both, bytes_of, catch_up, expected, fill_and_seal, keys, open, records, restore, restored, scratch, with_suffix,
};

async fn fill_archive(archive: &Archive) {
    let dir = scratch();
    let log = open(dir.path());
    for segment in 1..=5 {
        fill_and_seal(&log, 1, segment * 100);
    }
    catch_up(&log, archive).await;
}

#[tokio::test]
async fn a_verification_reads_everything_or_what_has_changed() {
    let (_shelf, archives) = both();
    for archive in archives {
        fill_archive(&archive).await;
        let mut heard = Vec::new();
        let first = archive.verify(None, &mut |progress| heard.push(progress.objects)).await.unwrap();
        assert!(first.is_sound());
        assert_eq!((first.read, first.unchanged, heard.last()), (5, 0, Some(&(5, 5))));
        let second = archive.verify(Some(&first), &mut |_| {}).await.unwrap();
        assert_eq!((second.read, second.unchanged, second.is_sound()), (0, 5, true));
    }
}

#[tokio::test]
async fn a_verification_finds_what_was_replaced_shortened_and_removed() {
    let store = Arc::new(InMemory::new());
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    fill_archive(&archive).await;
    let earlier = archive.verify(None, &mut |_| {}).await.unwrap();
    let keys = with_suffix(&*store, ".seg").await;
    let mut bytes = bytes_of(&*store, &keys[0]).await;
    *bytes.last_mut().unwrap() ^= 1;
    store.put(&keys[0], bytes.into()).await.unwrap();
    store.put(&keys[1], b"short".as_slice().into()).await.unwrap();
    store.delete(&keys[3]).await.unwrap();
    for earlier in [None, Some(&earlier)] {
        let report = archive.verify(earlier, &mut |_| {}).await.unwrap();
        let damaged: Vec<&str> = report.damaged.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(damaged, [keys[0].as_ref(), keys[1].as_ref()]);
        assert!(matches!(report.damaged[0].1, ObjectDamage::Checksum { .. }));
        assert!(matches!(report.damaged[1].1, ObjectDamage::Length { found: 5, .. }));
        assert_eq!(report.faults, [EpochFault::Gap { epoch: 1, missing: (301, 401) }]);
        assert_eq!(report.read, if earlier.is_some() { 2 } else { 4 });
    }
}

#[tokio::test]
async fn a_prune_keeps_all_that_a_restore_to_a_kept_record_needs() {
    for before in [1, 50, 100, 101, 250, 301, 501] {
        let store = Arc::new(InMemory::new());
        let archive = Archive::new(Arc::clone(&store) as _, "a");
        fill_archive(&archive).await;
        let report = archive.prune(Lsn(before), PruneGaps::Refuse).await.unwrap();
        let gone = (before - 1).min(400) / 100;
        assert_eq!((report.segments, report.first_lsn), (gone, Lsn(gone * 100 + 1)), "{before}");
        for to in [before.min(500), 500] {
            let kept = restored(&archive, RestoreTo::Lsn(Lsn(to))).await;
            assert_eq!(kept, expected(1, gone * 100 + 1..=to));
        }
        assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
        if gone > 0 {
            let refused = restore(&archive, RestoreTo::Lsn(Lsn(gone * 100))).await.unwrap_err();
            assert!(matches!(refused, Error::NotArchived { .. }), "{refused}");
            // What is missing beyond that is no prune.
            store.delete(&with_suffix(&*store, ".seg").await[0]).await.unwrap();
            assert!(restore(&archive, RestoreTo::Latest).await.is_err());
        }
    }
}

#[tokio::test]
async fn pruning_goes_over_epochs_and_forgets_those_of_which_nothing_is_left() {
    let store = Arc::new(InMemory::new());
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    fill_archive(&archive).await;
    let (again, _) = restore(&archive, RestoreTo::Lsn(Lsn(250))).await.unwrap();
    let log = open(again.path());
    fill_and_seal(&log, 2, 700);
    fill_and_seal(&log, 2, 800);
    catch_up(&log, &archive).await;
    archive.prune(Lsn(201), PruneGaps::Refuse).await.unwrap();
    let both = [expected(1, 201..=250), expected(2, 251..=800)].concat();
    assert_eq!(restored(&archive, RestoreTo::Latest).await, both);
    let report = archive.prune(Lsn(701), PruneGaps::Refuse).await.unwrap();
    assert_eq!(report.epochs, 1);
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(2, 701..=800));
    assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
    let marks = keys(&*store).await.into_iter().filter(|key| key.as_ref().contains("pruned")).count();
    assert_eq!(marks, 1, "the earlier mark is gone");
    // An archiver goes on in the same epoch.
    fill_and_seal(&log, 2, 900);
    catch_up(&log, &archive).await;
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(2, 701..=900));
    assert_eq!(records(&log).len(), 900);
}

/// What is named so is in no list: only the file system knows of it.
#[tokio::test]
async fn what_killed_uploads_have_left_in_a_directory_is_removed_after_a_while() {
    let shelf = scratch();
    // Each time as another process has it.
    let archive = || {
        let store = mapwal_archive::DirectoryStore::open(shelf.path()).expect("a store");
        Archive::new(Arc::new(store), "a")
    };
    let dir = scratch();
    let log = open(dir.path());
    fill_and_seal(&log, 1, 100);
    catch_up(&log, &archive()).await;
    let key = with_suffix(&**archive().store(), ".seg").await.remove(0);
    let object = shelf.path().join(key.as_ref());
    let left = |name: &str, hours: u64| {
        let path = object.parent().unwrap().join(name);
        let file = std::fs::File::create(&path).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(hours * 3600)).unwrap();
        path
    };
    let gone = [left("a.seg#1", 2), left("b.part#12", 30), left("session.json#1", 2)];
    let kept = [left("young.seg#1", 0), left("notes#1", 30), left("a.seg#", 30), left("a.seg#b", 30), object.clone()];
    fill_and_seal(&log, 1, 200);
    catch_up(&log, &archive()).await;
    assert!(gone.iter().all(|path| !path.exists()), "{gone:?}");
    assert!(kept.iter().all(|path| path.exists()), "{kept:?}");
}
