//! What is said of records that are missing: each once, and of a key only what is known of it.

use std::sync::Arc;

use mapwal::Lsn;
use mapwal_archive::{Archive, PruneGaps, RestoreTo};
use object_store::ObjectStoreExt;

use crate::rolled_back::{archived, checking, lose, lsns, put_back, told};
use crate::support::{catch_up, fill, fill_and_seal, keys, open, restore, scratch, with_suffix};

/// The beginning of the key of an object of epoch 1.
fn key(first: u64) -> Option<String> {
    Some(format!("a/0000000001/{first:020}-"))
}

/// A part comes after what is missing, and the log has some of that.
#[tokio::test]
async fn what_is_missing_at_the_end_is_named_once() {
    let dir = scratch();
    let (store, log) = archived(dir.path(), 401).await;
    lose(&store, &(101..=200)).await;
    lose(&store, &(301..=900)).await;
    assert_eq!(with_suffix(&*store, ".part").await.len(), 1);
    let waiting = checking(&log, &Archive::new(Arc::clone(&store) as _, "a"));
    let error = told(&waiting).await;
    assert!(error.starts_with("epoch 1 ends before record 301, and all before record 901 was confirmed: "), "{error}");
    let missing = waiting.missing().into_iter().map(|missing| (missing.lsns, missing.key));
    assert_eq!(missing.collect::<Vec<_>>(), [(Lsn(101)..Lsn(201), key(101)), (Lsn(301)..Lsn(401), key(301))]);
}

/// A mark of a prune may be in the middle of a segment.
#[tokio::test]
async fn no_key_is_told_of_what_is_missing_after_a_prune() {
    for is_end in [false, true] {
        let dir = scratch();
        let (store, log) = archived(dir.path(), 901).await;
        let archive = Archive::new(Arc::clone(&store) as _, "a");
        archive.prune(Lsn(250), PruneGaps::Refuse).await.unwrap();
        assert_eq!(lsns(&with_suffix(&*store, ".seg").await[0]), Some((201, 301)), "the segment stays");
        lose(&store, &if is_end { 201..=900 } else { 201..=300 }).await;
        let waiting = checking(&log, &archive);
        let missing = if is_end {
            let error = told(&waiting).await;
            assert!(error.contains("was confirmed: what came then is missing, and the log does not"), "{error}");
            waiting.missing()
        } else {
            waiting.catch_up().await.unwrap().missing
        };
        let [missing] = &missing[..] else { panic!("{missing:?}") };
        assert_eq!((missing.lsns.clone(), &missing.key), (Lsn(250)..Lsn(if is_end { 901 } else { 301 }), &None));
        let told = missing.to_string();
        assert!(told.contains(" of epoch 1 are missing, ") && !told.contains('('), "{told}");
    }
}

/// A part of it is left: whether what is missing was in the whole segment, or in another part, is known only where another one follows.
#[tokio::test]
async fn the_key_of_a_segment_is_told_where_it_is_known_to_have_been_there() {
    let dir = scratch();
    let (store, log) = archived(dir.path(), 1).await;
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let part = lose(&store, &(901..=920)).await;
    put_back(&store, part.clone()).await;
    fill_and_seal(&log, 1, 1000);
    catch_up(&log, &archive).await;
    log.trim_before(log.next_lsn()).unwrap();
    lose(&store, &(901..=1000)).await;
    put_back(&store, part).await;
    let waiting = checking(&log, &archive);
    told(&waiting).await;
    let missing = waiting.missing().remove(0);
    assert_eq!((missing.lsns, missing.key), (Lsn(921)..Lsn(1001), key(901)));
}

/// Of parts that another epoch continues.
#[tokio::test]
async fn no_key_is_told_of_what_is_missing_after_a_part() {
    let dir = scratch();
    let (store, log) = archived(dir.path(), 1).await;
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    for last in [940, 960] {
        fill(&log, 1, last);
        log.sync().unwrap();
        catch_up(&log, &archive).await;
    }
    assert_eq!(with_suffix(&*store, ".part").await.len(), 3);
    let (copy, _) = restore(&archive, RestoreTo::Lsn(Lsn(960))).await.unwrap();
    let again = open(copy.path());
    fill_and_seal(&again, 2, 1100);
    catch_up(&again, &archive).await;
    for key in keys(&*store).await.iter().filter(|key| lsns(key) == Some((921, 941))) {
        store.delete(key).await.unwrap();
    }
    let missing = checking(&again, &archive).catch_up().await.unwrap().missing;
    let [missing] = &missing[..] else { panic!("{missing:?}") };
    assert_eq!((missing.lsns.clone(), &missing.key), (Lsn(921)..Lsn(941), &None));
}
