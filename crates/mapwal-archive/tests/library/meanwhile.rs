//! What an archiver or a prune does to an archive while it is restored or verified.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::FutureExt;
use mapwal::Lsn;
use mapwal_archive::{Archive, EpochFault, Error, PruneGaps, RestoreOptions, RestoreReport, RestoreTo, Result};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::hooked::{Call, Hooked, remove};
use crate::support::{
    archiver, bytes_of, catch_up, expected, fill, fill_and_seal, open, records, scratch, with_suffix,
};

fn over(store: &Arc<InMemory>) -> Archive {
    Archive::new(Arc::clone(store) as _, "a")
}

/// Five segments of a hundred records.
async fn five() -> Arc<InMemory> {
    let (store, dir) = (Arc::new(InMemory::new()), scratch());
    let log = open(dir.path());
    for segment in 1..=5 {
        fill_and_seal(&log, 1, segment * 100);
    }
    catch_up(&log, &over(&store)).await;
    store
}

/// An archive in which `change` is made at read number `at` of an object whose key ends with `suffix`.
fn changing(
    store: &Arc<InMemory>,
    (suffix, at): (&'static str, usize),
    change: impl Fn(&InMemory) + Send + Sync + 'static,
) -> Archive {
    let reads = AtomicUsize::new(0);
    let hooked = Hooked::new(store, move |call, inner| {
        let is_it = matches!(call, Call::Get(key) if key.as_ref().ends_with(suffix));
        if is_it && reads.fetch_add(1, Ordering::SeqCst) + 1 == at {
            change(inner);
        }
    });
    Archive::new(Arc::new(hooked), "a")
}

/// A prune of records before 301.
fn pruning(store: &Arc<InMemory>) -> Archive {
    let archive = over(store);
    changing(store, (".seg", 2), move |_| {
        archive.prune(Lsn(301), PruneGaps::Refuse).now_or_never().expect("memory does not wait").expect("pruned");
    })
}

async fn restore_one_by_one(archive: &Archive, to: RestoreTo) -> (tempfile::TempDir, Result<RestoreReport>) {
    let dir = scratch();
    let restored = archive.restore(dir.path(), to, &RestoreOptions::new().parallel(1), &mut |_| {}).await;
    (dir, restored)
}

#[tokio::test]
async fn what_a_prune_leaves_is_restored_and_what_it_deletes_is_told() {
    let store = five().await;
    let (dir, restored) = restore_one_by_one(&pruning(&store), RestoreTo::Latest).await;
    let report = restored.unwrap();
    assert_eq!((report.first_lsn, report.segments, report.resumed), (Lsn(301), 2, 0));
    let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!names.into_iter().any(|name| name.ends_with(".restored")), "the first segment was there, and is gone");
    assert_eq!(records(&open(dir.path())), expected(1, 301..=500));

    let store = five().await;
    let (_dir, restored) = restore_one_by_one(&pruning(&store), RestoreTo::Lsn(Lsn(250))).await;
    let Err(Error::NotArchived { lsn: Lsn(250), kept, .. }) = restored else { panic!("{restored:?}") };
    assert_eq!(kept, Lsn(301)..Lsn(501));
}

#[tokio::test]
async fn a_verification_takes_no_prune_for_damage_and_what_is_deleted_otherwise_for_a_gap() {
    let store = five().await;
    let report = pruning(&store).verify(None, &mut |_| {}).await.unwrap();
    assert!(report.is_sound(), "{report:?}");

    let store = five().await;
    let key = with_suffix(&*store, ".seg").await.remove(2);
    let archive = changing(&store, (".seg", 1), move |inner| remove(inner, &key));
    let report = archive.verify(None, &mut |_| {}).await.unwrap();
    assert_eq!(report.faults, [EpochFault::Gap { epoch: 1, missing: (201, 301) }]);
}

/// A segment and two parts of the next one, and what an archiver does when that is sealed.
async fn superseding() -> (Arc<InMemory>, impl Fn(&InMemory) + Clone + Send + Sync + 'static) {
    let (store, dir) = (Arc::new(InMemory::new()), scratch());
    let log = open(dir.path());
    fill_and_seal(&log, 1, 100);
    for last in [120, 150] {
        fill(&log, 1, last);
        log.sync().unwrap();
        catch_up(&log, &over(&store)).await;
    }
    let mut parts: Vec<(Key, Vec<u8>)> = Vec::new();
    for key in with_suffix(&*store, ".part").await {
        let bytes = bytes_of(&*store, &key).await;
        parts.push((key, bytes));
    }
    assert_eq!(parts.len(), 2);
    fill_and_seal(&log, 1, 200);
    catch_up(&log, &over(&store)).await;
    let segment = with_suffix(&*store, ".seg").await.remove(1);
    let bytes = bytes_of(&*store, &segment).await;
    // As it was before.
    store.delete(&segment).await.unwrap();
    for (key, bytes) in &parts {
        store.put(key, bytes.clone().into()).await.unwrap();
    }
    let supersede = move |store: &InMemory| {
        let put = store.put(&segment, bytes.clone().into()).now_or_never();
        put.expect("memory does not wait").expect("stored");
        for (key, _) in &parts {
            remove(store, key);
        }
    };
    (store, supersede)
}

#[tokio::test]
async fn a_segment_that_takes_the_place_of_parts_is_restored_in_their_place() {
    for (to, last) in [(RestoreTo::Latest, 200), (RestoreTo::Lsn(Lsn(130)), 130)] {
        let (store, supersede) = superseding().await;
        let archive = changing(&store, (".part", 1), supersede);
        let (dir, restored) = restore_one_by_one(&archive, to).await;
        assert_eq!(restored.unwrap().segments, 2);
        assert_eq!(records(&open(dir.path())), expected(1, 1..=last));
    }
    let (store, supersede) = superseding().await;
    let report = changing(&store, (".part", 1), supersede).verify(None, &mut |_| {}).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
}

/// A list of an archive that grows need not be what was there at any one moment.
#[tokio::test]
async fn a_segment_that_one_list_lacks_is_no_gap() {
    let store = five().await;
    let late = with_suffix(&*store, ".seg").await.remove(3);
    let listing = || {
        let (is_first, late) = (AtomicBool::new(true), late.clone());
        let lists = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&lists);
        let hooked = Hooked::new(&store, move |call, _| {
            if *call == Call::List {
                noted.store(is_first.swap(false, Ordering::SeqCst), Ordering::SeqCst);
            }
        });
        Archive::new(Arc::new(hooked.hiding(move |key| *key == late && lists.load(Ordering::SeqCst))), "a")
    };
    let (dir, restored) = restore_one_by_one(&listing(), RestoreTo::Latest).await;
    restored.unwrap();
    assert_eq!(records(&open(dir.path())), expected(1, 1..=500));
    assert!(listing().verify(None, &mut |_| {}).await.unwrap().is_sound());
    assert!(listing().list().await.unwrap().epochs[0].fault.is_none());
}

/// Each list lacks what the one before had, so that the archiver never sees what is there.
#[tokio::test]
async fn an_archiver_lists_a_store_whose_lists_never_agree_now_and_then() {
    let (store, dir) = (Arc::new(InMemory::new()), scratch());
    let log = open(dir.path());
    for last in [100, 200, 300] {
        fill_and_seal(&log, 1, last);
    }
    catch_up(&log, &over(&store)).await;
    let lists = Arc::new(AtomicUsize::new(0));
    let (counted, seen) = (Arc::clone(&lists), Arc::clone(&lists));
    let hooked = Hooked::new(&store, move |call, _| {
        counted.fetch_add(usize::from(matches!(call, Call::List)), Ordering::SeqCst);
    });
    let hooked = hooked.hiding(move |key| {
        key.as_ref().ends_with(".seg") && key.as_ref().contains("0000000003-") && seen.load(Ordering::SeqCst) % 2 == 0
    });
    let archiver = archiver(&log, &Archive::new(Arc::new(hooked), "a"));
    let running = archiver.run();
    let ended = tokio::time::timeout(std::time::Duration::from_millis(400), running).await;
    assert!(ended.is_err(), "it goes on");
    let lists = lists.load(Ordering::SeqCst);
    assert!((3..100).contains(&lists), "{lists}");
}

/// A prune of a later record that finds the mark of this one deletes it, in any moment.
#[tokio::test]
async fn prunes_that_are_called_at_once_end_with_success() {
    // When the mark is looked at that was written just now; and before it is written, which finds it there then.
    for at in [1, 2] {
        let (store, other) = (five().await, Arc::new(AtomicUsize::new(0)));
        let key = Key::from(format!("a/pruned/{:020}-{:010}", 201, 1));
        let (archive, mark) = (over(&store), key.clone());
        let hooked = Hooked::new(&store, move |call, inner| {
            if *call == Call::Put(&mark) && at == 2 {
                inner.put(&mark, "pruned\n".into()).now_or_never().expect("memory does not wait").expect("stored");
            }
            if *call == Call::Get(&mark) && other.fetch_add(1, Ordering::SeqCst) == 0 {
                archive
                    .prune(Lsn(301), PruneGaps::Refuse)
                    .now_or_never()
                    .expect("memory does not wait")
                    .expect("pruned");
            }
        });
        let report = Archive::new(Arc::new(hooked), "a").prune(Lsn(201), PruneGaps::Refuse).await.unwrap();
        assert_eq!((report.first_lsn, report.faults), (Lsn(301), vec![]));
        assert!(store.head(&key).await.is_err(), "the other one has deleted it");
        assert_eq!(with_suffix(&*store, "-0000000001").await.len(), 1, "and left its own");
    }
}

/// A mark that is gone and has no other in its place says nothing: without it, what is deleted would be missing.
#[tokio::test]
async fn a_prune_deletes_nothing_whose_mark_vanishes_for_another_reason() {
    let store = five().await;
    let archive = changing(&store, ("-0000000001", 1), |inner| {
        remove(inner, &Key::from(format!("a/pruned/{:020}-{:010}", 201, 1)));
    });
    let error = archive.prune(Lsn(201), PruneGaps::Refuse).await.unwrap_err();
    assert!(matches!(error, Error::Store { .. }), "{error:?}");
    assert_eq!(with_suffix(&*store, ".seg").await.len(), 5);
}

/// It reads the sealed segment whose parts are left, and the other one deletes it then.
#[tokio::test]
async fn a_segment_that_another_prune_deletes_meanwhile_is_no_damage() {
    let (store, dir) = (Arc::new(InMemory::new()), scratch());
    let log = open(dir.path());
    fill_and_seal(&log, 1, 100);
    fill(&log, 1, 150);
    log.sync().unwrap();
    catch_up(&log, &over(&store)).await;
    let part = with_suffix(&*store, ".part").await.remove(0);
    let bytes = bytes_of(&*store, &part).await;
    fill_and_seal(&log, 1, 200);
    fill_and_seal(&log, 1, 300);
    catch_up(&log, &over(&store)).await;
    store.put(&part, bytes.into()).await.unwrap();
    let (other, is_first) = (over(&store), AtomicBool::new(true));
    let segment = with_suffix(&*store, ".seg").await.remove(1);
    let hooked = Hooked::new(&store, move |call, _| {
        if *call == Call::Get(&segment) && is_first.swap(false, Ordering::SeqCst) {
            other.prune(Lsn(250), PruneGaps::Refuse).now_or_never().expect("memory does not wait").expect("pruned");
        }
    });
    let report = Archive::new(Arc::new(hooked), "a").prune(Lsn(150), PruneGaps::Refuse).await.unwrap();
    assert_eq!((report.first_lsn, report.faults), (Lsn(201), vec![]));
}

/// A link to nothing stands for what is there when an object is made, and gone when its name is synced.
#[tokio::test]
async fn an_object_in_a_directory_that_another_process_deletes_meanwhile_is_told_as_not_there() {
    let shelf = scratch();
    let store = mapwal_archive::DirectoryStore::open(shelf.path()).unwrap();
    std::os::unix::fs::symlink("nowhere", shelf.path().join("gone")).unwrap();
    let put = store.put_opts(&Key::from("gone"), "a".into(), object_store::PutMode::Create.into()).await;
    assert!(matches!(put, Err(object_store::Error::NotFound { .. })), "{put:?}");
}
