//! Objects that do not have the lengths in their keys: a list shows that, and no archiver takes them for another history.

use std::sync::Arc;

use mapwal::{Log, Lsn};
use mapwal_archive::{Archive, EpochFault, Error, ObjectDamage, PruneGaps, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;

use crate::support::{
    archiver, bytes_of, catch_up, expected, fill, fill_and_seal, keys, open, restore, restored, scratch, with_suffix,
};

/// Three segments of a hundred records, and 20 records in a part.
async fn archived(directory: &std::path::Path) -> (Arc<InMemory>, Archive, Arc<Log>) {
    let store = Arc::new(InMemory::new());
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let log = open(directory);
    for segment in 1..=3 {
        fill_and_seal(&log, 1, segment * 100);
    }
    fill(&log, 1, 320);
    log.sync().unwrap();
    catch_up(&log, &archive).await;
    (store, archive, log)
}

/// Leaves `len` bytes of an object; returns the length that it had.
async fn shorten(store: &InMemory, key: &Key, len: usize) -> u64 {
    let bytes = bytes_of(store, key).await;
    store.put(key, bytes[..len].to_vec().into()).await.unwrap();
    bytes.len() as u64
}

#[tokio::test]
async fn a_list_a_prune_and_an_archiver_name_an_object_that_is_shorter_than_its_key_says() {
    for (at, len) in [(0, 0), (1, 1000), (2, 7), (3, 0), (3, 100)] {
        let dir = scratch();
        let (store, archive, log) = archived(dir.path()).await;
        let running = archiver(&log, &archive);
        let all = [with_suffix(&*store, ".seg").await, with_suffix(&*store, ".part").await].concat();
        let expected_len = shorten(&store, &all[at], len).await;
        let damage = ObjectDamage::Length { expected: expected_len, found: len as u64 };
        let named = [(all[at].to_string(), damage.clone())];
        let fault = [EpochFault::Damaged { epoch: 1, key: all[at].to_string(), damage: damage.clone() }];
        assert_eq!(archive.list().await.unwrap().faults, fault);
        assert_eq!(archive.prune(Lsn(1), PruneGaps::Refuse).await.unwrap().faults, fault);
        let report = archive.verify(None, &mut |_| {}).await.unwrap();
        assert_eq!((report.damaged.len(), report.faults.len()), (1, 0), "told once");
        let refused = restore(&archive, RestoreTo::Latest).await.unwrap_err();
        assert!(matches!(&refused, Error::Damaged { key, .. } if *key == named[0].0), "{refused}");
        // The last segment is read when an archiver begins; the log says how it goes on.
        assert_eq!((running.catch_up().await.unwrap().damaged, running.damaged()), (named.to_vec(), named.to_vec()));
        assert_eq!(archive.list().await.unwrap().epochs.len(), 1, "{at}: no other history");
        drop(running);
        // The way out.
        store.delete(&all[at]).await.unwrap();
        fill(&log, 1, 330);
        log.sync().unwrap();
        let status = archiver(&log, &archive).catch_up().await.unwrap();
        assert_eq!((status.damaged, status.missing, status.epoch), (vec![], vec![], Some(1)));
        assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=330));
    }
}

/// Without waiting for the next check: a restore of the new epoch ends before it as well.
#[tokio::test]
async fn what_is_damaged_of_an_epoch_before_is_named_as_soon_as_another_one_begins() {
    for is_running in [true, false] {
        let dir = scratch();
        let (store, archive, log) = archived(dir.path()).await;
        let running = archiver(&log, &archive);
        running.catch_up().await.unwrap();
        let first = with_suffix(&*store, ".seg").await.remove(0);
        let expected = shorten(&store, &first, 1000).await;
        log.truncate_after(Lsn(250)).unwrap();
        fill_and_seal(&log, 2, 400);
        let running = if is_running {
            running
        } else {
            drop(running);
            archiver(&log, &archive)
        };
        let status = running.catch_up().await.unwrap();
        assert_eq!(status.epoch, Some(2));
        let damage = ObjectDamage::Length { expected, found: 1000 };
        assert_eq!(status.damaged, [(first.to_string(), damage)], "running: {is_running}");
        assert!(status.last_error.is_some_and(|error| error.contains(first.as_ref())));
    }
}

/// As before a gap: what is before it may be all that can be restored.
#[tokio::test]
async fn a_prune_does_not_pass_an_object_that_was_cut_short_unless_it_is_given_up() {
    // Of segments of a hundred records, and of a part that begins with record 301.
    for (at, before, is_refused, is_given_up) in [
        (0, 1, false, true),
        (0, 100, false, true),
        (0, 101, true, true),
        (1, 1, false, true),
        (1, 100, false, true),
        (1, 101, true, false),
        (1, 200, true, false),
        (1, 201, true, true),
        (1, 321, true, true),
        (2, 200, false, true),
        (2, 301, true, false),
        (3, 300, false, true),
        (3, 321, true, false),
    ] {
        let dir = scratch();
        let (store, archive, _log) = archived(dir.path()).await;
        let all = [with_suffix(&*store, ".seg").await, with_suffix(&*store, ".part").await].concat();
        shorten(&store, &all[at], 0).await;
        let there = keys(&*store).await;
        let name = format!("{at} {before}");
        for (gaps, is_refused) in [(PruneGaps::Refuse, is_refused), (PruneGaps::GiveUp, !is_given_up)] {
            match archive.prune(Lsn(before), gaps).await {
                Err(Error::Damaged { key, lsn, damage: ObjectDamage::Length { .. }, .. }) if is_refused => {
                    assert_eq!((&*key, lsn), (all[at].as_ref(), Some(Lsn(at as u64 * 100 + 1))), "{name}");
                    assert_eq!(keys(&*store).await, there, "{name}: nothing is deleted");
                    if at > 0 {
                        let to = RestoreTo::Lsn(Lsn(at as u64 * 100));
                        assert_eq!(restored(&archive, to).await, expected(1, 1..=at as u64 * 100), "{name}");
                    }
                }
                Ok(_) if !is_refused => {}
                pruned => panic!("{name} {gaps:?}: {pruned:?}"),
            }
        }
        if is_given_up && before > (at as u64 + 1) * 100 {
            let kept = restored(&archive, RestoreTo::Latest).await;
            assert_eq!(kept.last().unwrap().0, 320, "{name}: what is after it can be restored");
        }
    }
}

/// What the log has trimmed cannot be compared with it.
#[tokio::test]
async fn a_last_segment_that_is_damaged_is_no_other_history() {
    for flip in [false, true] {
        let dir = scratch();
        let (store, archive, log) = archived(dir.path()).await;
        log.trim_before(Lsn(301)).unwrap();
        let key = with_suffix(&*store, ".seg").await.remove(2);
        let mut bytes = bytes_of(&*store, &key).await;
        let sound = bytes.clone();
        if flip {
            bytes[9000] ^= 1;
        } else {
            bytes.truncate(9000);
        }
        store.put(&key, bytes.into()).await.unwrap();
        let before = keys(&*store).await;
        let running = archiver(&log, &archive);
        let tried = tokio::time::timeout(std::time::Duration::from_millis(200), running.catch_up()).await;
        assert!(tried.is_err(), "it waits: {tried:?}");
        assert_eq!(running.damaged()[0].0, key.to_string());
        assert_eq!(keys(&*store).await, before, "{flip}: no other epoch");
        store.put(&key, sound.into()).await.unwrap();
        let status = running.catch_up().await.unwrap();
        assert_eq!((status.damaged, status.epoch), (vec![], Some(1)));
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=320));
    }
}

/// Its key says what it had, and the log has that: what is to be archived follows it.
#[tokio::test]
async fn a_last_segment_that_is_damaged_and_that_the_log_has_keeps_nothing_else_from_being_archived() {
    for (len, is_other_gone) in [(None, false), (Some(0), false), (Some(9000), false), (None, true), (Some(0), true)] {
        let dir = scratch();
        let (store, archive, log) = archived(dir.path()).await;
        let segments = with_suffix(&*store, ".seg").await;
        let mut bytes = bytes_of(&*store, &segments[2]).await;
        bytes[9000] ^= 1;
        bytes.truncate(len.unwrap_or(bytes.len()));
        store.put(&segments[2], bytes.into()).await.unwrap();
        if is_other_gone {
            store.delete(&segments[1]).await.unwrap();
        }
        fill_and_seal(&log, 1, 400);
        fill(&log, 1, 420);
        log.sync().unwrap();
        let running = archiver(&log, &archive);
        let status = running.catch_up().await.unwrap();
        assert_eq!((status.epoch, status.archived_lsn), (Some(1), Lsn(421)), "{len:?}");
        assert_eq!(status.uploaded_again, u64::from(is_other_gone));
        let told: Vec<_> = status.damaged.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(told, [segments[2].as_ref()], "{len:?}");
        assert!(restored(&archive, RestoreTo::Lsn(Lsn(200))).await == expected(1, 1..=200), "what is before");
        drop(running);
        // As it is said.
        store.delete(&segments[2]).await.unwrap();
        let status = archiver(&log, &archive).catch_up().await.unwrap();
        assert_eq!((status.damaged, status.uploaded_again), (vec![], 1));
        assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=420));
    }
}
