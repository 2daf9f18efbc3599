//! What a prune has deleted, and what is missing beside that.

use std::path::Path;
use std::sync::Arc;

use mapwal::Lsn;
use mapwal_archive::{Archive, EpochFault, Error, ObjectDamage, PruneGaps, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;

use crate::support::{
    archiver, bytes_of, catch_up, expected, fill, fill_and_seal, keys, open, restore, restored, scratch, with_suffix,
};

fn new() -> (Arc<InMemory>, Archive) {
    let store = Arc::new(InMemory::new());
    (Arc::clone(&store), Archive::new(store as _, "a"))
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// As where the log's directory is put back from a copy, after the archive of what came later was pruned.
#[tokio::test]
async fn what_a_later_epoch_lacks_is_missing_though_an_earlier_one_was_pruned_beyond_it() {
    let (store, archive) = new();
    let (dir, older) = (scratch(), scratch());
    let log = open(dir.path());
    for segment in 1..=3 {
        fill_and_seal(&log, 1, segment * 100);
    }
    catch_up(&log, &archive).await;
    log.close().unwrap();
    copy(dir.path(), older.path());
    let log = open(dir.path());
    for segment in 4..=9 {
        fill_and_seal(&log, 1, segment * 100);
    }
    catch_up(&log, &archive).await;
    archive.prune(Lsn(801), PruneGaps::Refuse).await.unwrap();
    let log = open(older.path());
    fill_and_seal(&log, 2, 400);
    fill_and_seal(&log, 2, 500);
    catch_up(&log, &archive).await;
    let of_second = |keys: Vec<Key>| keys.into_iter().filter(|key| key.as_ref().starts_with("a/0000000002/"));
    let first = of_second(with_suffix(&*store, ".seg").await).next().unwrap();
    store.delete(&first).await.unwrap();
    let gap = EpochFault::Gap { epoch: 2, missing: (1, 101) };
    assert_eq!(archive.list().await.unwrap().faults, std::slice::from_ref(&gap));
    assert_eq!(archive.verify(None, &mut |_| {}).await.unwrap().faults, [gap]);
    let refused = restore(&archive, RestoreTo::Latest).await.unwrap_err();
    assert!(matches!(&refused, Error::Gap { epoch: 2, missing } if *missing == (Lsn(1)..Lsn(101))), "{refused}");
    assert_eq!(archiver(&log, &archive).catch_up().await.unwrap().uploaded_again, 1);
    let whole = [expected(1, 1..=300), expected(2, 301..=500)].concat();
    assert!(restored(&archive, RestoreTo::Latest).await == whole);
    // What the log has no more is named.
    store.delete(&first).await.unwrap();
    log.trim_before(Lsn(301)).unwrap();
    let status = archiver(&log, &archive).catch_up().await.unwrap();
    let missing: Vec<_> = status.missing.iter().map(|missing| (missing.epoch, missing.lsns.clone())).collect();
    assert_eq!(missing, [(2, Lsn(1)..Lsn(101))]);
    // And can be given up, or kept by a mark of its own.
    let refused = archive.prune(Lsn(401), PruneGaps::Refuse).await.unwrap_err();
    assert!(matches!(refused, Error::Gap { epoch: 2, .. }), "{refused}");
    archive.prune(Lsn(401), PruneGaps::GiveUp).await.unwrap();
    assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
    assert!(restored(&archive, RestoreTo::Latest).await == expected(2, 401..=500));
}

#[tokio::test]
async fn an_epoch_that_begins_below_a_mark_gets_again_what_vanishes_of_it() {
    let (store, archive) = new();
    let dir = scratch();
    let log = open(dir.path());
    for segment in 1..=5 {
        fill_and_seal(&log, 1, segment * 100);
    }
    catch_up(&log, &archive).await;
    archive.prune(Lsn(350), PruneGaps::Refuse).await.unwrap();
    let (again, _) = restore(&archive, RestoreTo::Lsn(Lsn(320))).await.unwrap();
    let log = open(again.path());
    fill_and_seal(&log, 2, 340);
    fill(&log, 2, 345);
    log.sync().unwrap();
    catch_up(&log, &archive).await;
    let both = [expected(1, 301..=320), expected(2, 321..=345)].concat();
    assert!(restored(&archive, RestoreTo::Latest).await == both);
    let segments = with_suffix(&*store, ".seg").await;
    let own: Vec<_> = segments.iter().filter(|key| key.as_ref().starts_with("a/0000000002/")).collect();
    assert_eq!(own.len(), 1);
    store.delete(own[0]).await.unwrap();
    let status = archiver(&log, &archive).catch_up().await.unwrap();
    assert_eq!((status.missing, status.uploaded_again), (vec![], 1));
    assert!(restored(&archive, RestoreTo::Latest).await == both);
    // What it builds on was there when it began, and the prune came before that.
    let first = segments.iter().find(|key| key.as_ref().contains("/00000000000000000301-")).unwrap();
    let bytes = bytes_of(&*store, first).await;
    store.delete(first).await.unwrap();
    let faults = archive.list().await.unwrap().faults;
    assert!(matches!(faults[..], [_, EpochFault::Gap { missing: (_, 321), .. }]), "{faults:?}");
    assert!(matches!(restore(&archive, RestoreTo::Latest).await.unwrap_err(), Error::Gap { .. }));
    let status = archiver(&log, &archive).catch_up().await.unwrap();
    assert_eq!(status.missing.iter().map(|missing| missing.lsns.end).collect::<Vec<_>>(), [Lsn(321)]);
    store.put(first, bytes.into()).await.unwrap();
    assert!(archive.list().await.unwrap().faults.is_empty());
    assert!(restored(&archive, RestoreTo::Latest).await == both);
}

/// Such as a number with a digit too many.
#[tokio::test]
async fn a_prune_before_a_record_that_is_not_there_deletes_nothing() {
    let (store, archive) = new();
    let dir = scratch();
    let log = open(dir.path());
    for segment in 1..=5 {
        fill_and_seal(&log, 1, segment * 100);
    }
    catch_up(&log, &archive).await;
    let before = keys(&*store).await;
    for (beyond, gaps) in [(502, PruneGaps::Refuse), (8000, PruneGaps::GiveUp), (u64::MAX, PruneGaps::Refuse)] {
        let refused = archive.prune(Lsn(beyond), gaps).await.unwrap_err();
        let Error::NotArchived { lsn, epoch: 1, kept, other: None } = refused else { panic!("{refused}") };
        assert_eq!((lsn, kept), (Lsn(beyond), Lsn(1)..Lsn(501)));
        assert_eq!(keys(&*store).await, before);
    }
    archive.prune(Lsn(501), PruneGaps::Refuse).await.unwrap();
    assert!(restored(&archive, RestoreTo::Latest).await == expected(1, 401..=500));
}

/// It reads the segment because a part of it is left.
#[tokio::test]
async fn a_prune_names_the_damaged_segment_that_it_has_read() {
    let (store, archive) = new();
    let dir = scratch();
    let log = open(dir.path());
    fill(&log, 1, 60);
    log.sync().unwrap();
    catch_up(&log, &archive).await;
    let part = with_suffix(&*store, ".part").await.remove(0);
    let bytes = bytes_of(&*store, &part).await;
    fill_and_seal(&log, 1, 100);
    fill_and_seal(&log, 1, 200);
    catch_up(&log, &archive).await;
    store.put(&part, bytes.into()).await.unwrap();
    let sealed = with_suffix(&*store, ".seg").await.remove(0);
    let bytes = bytes_of(&*store, &sealed).await;
    let mut flipped = bytes.clone();
    flipped[5000] ^= 1;
    // The list shows the other one as well: it is told once.
    for (damaged, is_listed) in [(flipped, false), (bytes[..bytes.len() - 1].to_vec(), true)] {
        store.put(&sealed, damaged.into()).await.unwrap();
        let report = archive.prune(Lsn(1), PruneGaps::Refuse).await.unwrap();
        let [EpochFault::Damaged { epoch: 1, key, damage }] = &report.faults[..] else { panic!("{report:?}") };
        assert_eq!(matches!(damage, ObjectDamage::Length { .. }), is_listed, "{damage}");
        assert_eq!((key.as_str(), report.parts), (sealed.as_ref(), 0));
    }
}

#[tokio::test]
async fn a_prune_makes_no_gap_in_an_epoch_that_continues_one_which_is_left_as_it_is() {
    let (dir, (_store, archive)) = (scratch(), new());
    let log = open(dir.path());
    for last in [100, 200, 300, 400, 500] {
        fill_and_seal(&log, 1, last);
    }
    catch_up(&log, &archive).await;
    let (copy, _) = restore(&archive, RestoreTo::Lsn(Lsn(250))).await.unwrap();
    let second = open(copy.path());
    for last in [350, 450, 550] {
        fill_and_seal(&second, 2, last);
    }
    catch_up(&second, &archive).await;
    // After the place where the second epoch leaves the first one.
    let of_first = with_suffix(&**archive.store(), ".seg").await;
    let key = of_first.iter().find(|key| key.as_ref().contains("/00000000000000000401-00000000000000000501-")).unwrap();
    let (begin, _) = key.as_ref().rsplit_once('-').unwrap();
    let bytes = bytes_of(&**archive.store(), key).await;
    archive.store().put(&Key::from(format!("{begin}-00beef00.seg")), bytes.into()).await.unwrap();
    let all = restored(&archive, RestoreTo::Latest).await;
    for gaps in [PruneGaps::Refuse, PruneGaps::GiveUp] {
        let report = archive.prune(Lsn(450), gaps).await.unwrap();
        assert!(matches!(report.faults[..], [EpochFault::Damaged { epoch: 1, .. }]), "{report:?}");
        assert_eq!(restored(&archive, RestoreTo::Latest).await, all);
    }
    archive.store().delete(&Key::from(format!("{begin}-00beef00.seg"))).await.unwrap();
    assert_eq!(archive.prune(Lsn(450), PruneGaps::Refuse).await.unwrap().faults, []);
    assert_eq!(restored(&archive, RestoreTo::Latest).await.last(), all.last());
}
