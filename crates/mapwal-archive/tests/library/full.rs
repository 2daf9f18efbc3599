//! A store that has no room left.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use mapwal::Lsn;
use mapwal_archive::{Archive, PruneGaps, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use crate::hooked::{Call, Hooked};
use crate::support::{bytes_of, catch_up, expected, fill, fill_and_seal, open, restored, scratch, with_suffix};

/// Its mark has to be written as well: there is room for that once something is gone.
#[tokio::test]
async fn a_prune_frees_room_in_a_store_that_is_full() {
    for (needed, is_superseded) in [(1, false), (1, true), (2, false), (3, false)] {
        let (dir, store) = (scratch(), Arc::new(InMemory::new()));
        let archive = Archive::new(Arc::clone(&store) as _, "a");
        let log = open(dir.path());
        fill(&log, 1, 50);
        log.sync().unwrap();
        catch_up(&log, &archive).await;
        let part = with_suffix(&*store, ".part").await.remove(0);
        let bytes = bytes_of(&*store, &part).await;
        for segment in 1..=5 {
            fill_and_seal(&log, 1, segment * 100);
        }
        catch_up(&log, &archive).await;
        if is_superseded {
            store.put(&part, bytes.into()).await.unwrap();
        }
        let hooked = Hooked::new(&store, |_, _| ());
        let full = Arc::clone(&hooked.full);
        full.store(needed, Ordering::SeqCst);
        let of_full = Archive::new(Arc::new(hooked), "a");
        let pruned =
            tokio::time::timeout(std::time::Duration::from_secs(5), of_full.prune(Lsn(201), PruneGaps::Refuse)).await;
        let pruned = pruned.expect("it does not wait for room");
        if needed == 3 {
            // Two segments are all that it may delete.
            let refused = pruned.unwrap_err();
            assert!(refused.to_string().contains("cannot write a/pruned/"), "{refused}");
            full.store(0, Ordering::SeqCst);
            let refused = of_full.prune(Lsn(201), PruneGaps::Refuse).await.unwrap_err();
            assert!(refused.to_string().contains("records 1..200 are missing"), "{refused}");
            of_full.prune(Lsn(201), PruneGaps::GiveUp).await.unwrap();
        } else {
            let pruned = pruned.unwrap();
            assert_eq!((pruned.segments, pruned.parts, pruned.first_lsn), (2, u64::from(is_superseded), Lsn(201)));
        }
        assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 201..=500));
    }
}

/// An archiver that finds that note gone writes it again, unless it sees that the epoch is being forgotten.
#[tokio::test]
async fn a_full_store_says_that_an_epoch_is_forgotten_once_the_note_of_its_session_is_gone() {
    let (dir, store) = (scratch(), Arc::new(InMemory::new()));
    let log = open(dir.path());
    for last in [100, 200] {
        fill_and_seal(&log, 1, last);
    }
    catch_up(&log, &Archive::new(Arc::clone(&store) as _, "a")).await;
    store.delete(&"a/0000000001/epoch.json".into()).await.unwrap();
    let marks = AtomicUsize::new(0);
    let hooked = Hooked::new(&store, move |call, inner| {
        let is_there = |name: &str| inner.head(&format!("a/0000000001/{name}").into()).now_or_never().unwrap().is_ok();
        assert!(*call != Call::List || is_there("session.json") || is_there("forgotten"));
        if matches!(call, Call::Put(_)) && marks.fetch_add(1, Ordering::SeqCst) == 1 {
            // One that has listed the epoch before that.
            let written = inner.put(&"a/0000000001/session.json".into(), "{}".into()).now_or_never();
            written.unwrap().unwrap();
        }
        assert!(*call != Call::List || !is_there("session.json") || !is_there("forgotten"), "it confirms nothing");
    });
    hooked.full.store(1, Ordering::SeqCst);
    let report = Archive::new(Arc::new(hooked), "a").forget_epoch(1).await.unwrap();
    assert_eq!(report.segments, 2);
}
