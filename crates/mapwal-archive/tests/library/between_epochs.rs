//! Records that were trimmed before they were archived: they are between two epochs.

use mapwal::Lsn;
use mapwal_archive::{Archive, Error, PruneGaps, RestoreTo};

use crate::support::{PIN, catch_up, expected, fill, fill_and_seal, keys, memory, open, restored, scratch};

/// Epoch 1 with records 1 to 300, and epoch 2 with 501 to 700.
async fn with_lost_records() -> Archive {
    let (dir, archive) = (scratch(), memory());
    let log = open(dir.path());
    for segment in 1..=3 {
        fill_and_seal(&log, 1, segment * 100);
    }
    catch_up(&log, &archive).await;
    log.drop_pin(PIN).unwrap();
    for segment in 4..=6 {
        fill_and_seal(&log, 1, segment * 100);
    }
    log.trim_before(Lsn(501)).unwrap();
    fill(&log, 1, 700);
    log.sync().unwrap();
    catch_up(&log, &archive).await;
    assert_eq!(archive.list().await.unwrap().epochs[1].lost, Some(Lsn(301)..Lsn(501)));
    archive
}

#[tokio::test]
async fn a_prune_does_not_pass_records_that_are_in_no_epoch_unless_they_are_given_up() {
    let archive = with_lost_records().await;
    let before = keys(&**archive.store()).await;
    for lsn in [301, 302, 450, 501, 550, 10_000] {
        let refused = archive.prune(Lsn(lsn), PruneGaps::Refuse).await;
        let Err(Error::Gap { epoch: 2, missing }) = refused else { panic!("{lsn}: {refused:?}") };
        assert_eq!(missing, Lsn(301)..Lsn(501));
        assert_eq!(keys(&**archive.store()).await, before, "{lsn}: nothing is deleted");
    }
    let refused = archive.prune(Lsn(450), PruneGaps::GiveUp).await;
    assert!(matches!(refused, Err(Error::Gap { epoch: 2, .. })), "{refused:?}");
    assert_eq!(archive.prune(Lsn(150), PruneGaps::Refuse).await.unwrap().segments, 1);
    let given_up = archive.prune(Lsn(501), PruneGaps::GiveUp).await.unwrap();
    assert_eq!((given_up.segments, given_up.epochs, given_up.faults.len()), (2, 1, 0), "{given_up:?}");
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 501..=700));
    archive.prune(Lsn(601), PruneGaps::Refuse).await.unwrap();
}
