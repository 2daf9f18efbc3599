//! Parts that are left of a segment whose sealed object has vanished, or is damaged: their records are there.

use std::sync::Arc;

use mapwal::{Log, Lsn};
use mapwal_archive::{Archive, EpochFault, Error, PruneGaps, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use tempfile::TempDir;

use crate::support::{
    archiver, bytes_of, catch_up, expected, fill, fill_and_seal, memory, open, restore, restored, scratch, with_suffix,
};

/// Segments of records 1 to 100, 101 to 200 and 201 to 300; and a part with records 101 to `last`, as it is left by an archiver that was
/// killed before it had deleted it.
async fn archived(last: u64) -> (TempDir, Arc<Log>, Archive, Vec<Key>) {
    let (dir, archive) = (scratch(), memory());
    let log = open(dir.path());
    fill_and_seal(&log, 1, 100);
    fill(&log, 1, last);
    log.sync().unwrap();
    catch_up(&log, &archive).await;
    let part = with_suffix(&**archive.store(), ".part").await.pop().unwrap();
    let bytes = bytes_of(&**archive.store(), &part).await;
    fill_and_seal(&log, 1, 200);
    fill_and_seal(&log, 1, 300);
    catch_up(&log, &archive).await;
    archive.store().put(&part, bytes.into()).await.unwrap();
    let segments = with_suffix(&**archive.store(), ".seg").await;
    assert_eq!(segments.len(), 3);
    (dir, log, archive, segments)
}

#[tokio::test]
async fn records_in_a_part_whose_segment_has_vanished_are_there_and_only_the_others_are_missing() {
    for (last, told) in [
        (150, "records 151..200 are missing in epoch 1"),
        (200, "the end of the segment with record 200, which has no record, is missing in epoch 1"),
    ] {
        let (_dir, _log, archive, segments) = archived(last).await;
        archive.store().delete(&segments[1]).await.unwrap();
        let listing = archive.list().await.unwrap();
        let gap = [EpochFault::Gap { epoch: 1, missing: (last + 1, 201) }];
        assert_eq!((&listing.faults[..], listing.epochs[0].next_lsn), (&gap[..], Lsn(last + 1)));
        assert_eq!(archive.verify(None, &mut |_| {}).await.unwrap().faults, gap);
        for to in [RestoreTo::Latest, RestoreTo::Lsn(Lsn(last + 1)), RestoreTo::Lsn(Lsn(250))] {
            assert_eq!(restore(&archive, to).await.unwrap_err().to_string(), told);
        }
        assert_eq!(restored(&archive, RestoreTo::Lsn(Lsn(last))).await, expected(1, 1..=last));
        assert_eq!(restored(&archive, RestoreTo::Lsn(Lsn(120))).await, expected(1, 1..=120));
        // Nothing goes with what is missing that is not older than what is kept.
        let refused = archive.prune(Lsn(201), PruneGaps::Refuse).await.unwrap_err();
        assert_eq!(refused.to_string(), told);
        archive.prune(Lsn(140), PruneGaps::Refuse).await.unwrap();
        assert_eq!(restored(&archive, RestoreTo::Lsn(Lsn(last))).await, expected(1, 101..=last));
        archive.prune(Lsn(201), PruneGaps::GiveUp).await.unwrap();
        assert!(archive.list().await.unwrap().faults.is_empty());
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 201..=300));
    }
}

#[tokio::test]
async fn a_segment_that_has_vanished_and_left_a_part_is_uploaded_again_or_its_end_is_missing() {
    for last in [150, 200] {
        let (_dir, log, archive, segments) = archived(last).await;
        archive.store().delete(&segments[1]).await.unwrap();
        let status = archiver(&log, &archive).catch_up().await.unwrap();
        assert_eq!((status.uploaded_again, status.missing), (1, Vec::new()));
        assert!(archive.list().await.unwrap().faults.is_empty());
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=300));
    }
    for last in [150, 200] {
        let (_dir, log, archive, segments) = archived(last).await;
        log.trim_before(Lsn(250)).unwrap();
        archive.store().delete(&segments[1]).await.unwrap();
        let status = archiver(&log, &archive).catch_up().await.unwrap();
        let missing: Vec<_> = status.missing.iter().map(|missing| (missing.lsns.start.0, missing.lsns.end.0)).collect();
        assert_eq!(missing, [(last + 1, 201)]);
        let key = status.missing[0].key.as_ref().unwrap();
        assert!(segments[1].as_ref().starts_with(key), "{key}");
        assert!(status.last_error.unwrap().contains("missing"));
    }
}

#[tokio::test]
async fn a_restore_takes_a_part_where_the_sealed_segment_is_damaged_after_what_is_wanted() {
    let (_dir, _log, archive, segments) = archived(150).await;
    let mut bytes = bytes_of(&**archive.store(), &segments[1]).await;
    let at = bytes.len() - 200;
    bytes[at] ^= 1;
    archive.store().put(&segments[1], bytes.into()).await.unwrap();
    for to in [RestoreTo::Latest, RestoreTo::Lsn(Lsn(151)), RestoreTo::Lsn(Lsn(300))] {
        let refused = restore(&archive, to).await.unwrap_err();
        assert!(matches!(&refused, Error::Damaged { key, .. } if *key == segments[1].to_string()), "{refused}");
    }
    assert_eq!(restored(&archive, RestoreTo::Lsn(Lsn(150))).await, expected(1, 1..=150));
    // Also of the last one, of which the part has less.
    archive.store().delete(&segments[2]).await.unwrap();
    let refused = restore(&archive, RestoreTo::Latest).await.unwrap_err();
    assert!(matches!(&refused, Error::Damaged { .. }), "{refused}");
}

#[tokio::test]
async fn an_archiver_names_a_damaged_segment_that_it_has_read_to_compare_a_part_with_it() {
    let (_dir, log, archive, segments) = archived(150).await;
    let mut bytes = bytes_of(&**archive.store(), &segments[1]).await;
    bytes[9000] ^= 1;
    archive.store().put(&segments[1], bytes.into()).await.unwrap();
    let status = archiver(&log, &archive).catch_up().await.unwrap();
    let named: Vec<_> = status.damaged.iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(named, [segments[1].to_string()]);
}
