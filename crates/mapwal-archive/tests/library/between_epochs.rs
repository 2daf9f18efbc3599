//! Records that were trimmed before they were archived: they are between two epochs.

use mapwal::Lsn;
use mapwal_archive::{Archive, EpochFault, Error, PruneGaps, RestoreOptions, RestoreTo};

use crate::support::{PIN, catch_up, expected, fill, fill_and_seal, keys, memory, open, restore, restored, scratch};

/// Epoch 1 with records 1 to 300, and epoch 2 with 501 to 700.
pub(crate) async fn with_lost_records() -> Archive {
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
    for lsn in [301, 302, 450, 501, 550, 701] {
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

#[tokio::test]
async fn a_list_a_verification_and_a_restore_say_what_is_in_no_epoch_and_what_is_in_another() {
    let archive = with_lost_records().await;
    let lost = [EpochFault::Lost { epoch: 2, missing: (301, 501) }];
    assert_eq!(archive.list().await.unwrap().faults, lost);
    let report = archive.verify(None, &mut |_| {}).await.unwrap();
    assert_eq!((&report.faults[..], report.is_sound()), (&lost[..], false));
    for to in [RestoreTo::Latest, RestoreTo::Lsn(Lsn(600))] {
        let (_dir, report) = restore(&archive, to).await.unwrap();
        assert_eq!((report.first_lsn, report.lost.clone()), (Lsn(501), Some(Lsn(301)..Lsn(501))));
        assert_eq!((report.begins_late(), report.others), (true, vec![(1, Lsn(1)..Lsn(301))]));
    }
    for (lsn, other) in [(250, Some(1)), (400, None), (701, None)] {
        let refused = restore(&archive, RestoreTo::Lsn(Lsn(lsn))).await.unwrap_err();
        let Error::NotArchived { lsn: Lsn(named), epoch: 2, other: found, .. } = &refused else { panic!("{refused}") };
        assert_eq!((*named, *found), (lsn, other));
        assert_eq!(refused.to_string().ends_with("; epoch 1 has it"), other.is_some(), "{refused}");
    }
    archive.prune(Lsn(501), PruneGaps::GiveUp).await.unwrap();
    let (_dir, report) = restore(&archive, RestoreTo::Latest).await.unwrap();
    assert_eq!((report.lost.clone(), report.begins_late()), (None, false), "they were given up");
    assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
}

/// Such as what was archived before a crash, in an epoch that another one was begun beside.
#[tokio::test]
async fn a_restore_does_not_call_what_it_has_restored_another_epochs() {
    for era in [1, 2] {
        let (dir, archive) = (scratch(), memory());
        let log = open(dir.path());
        fill(&log, 1, 60);
        log.sync().unwrap();
        catch_up(&log, &archive).await;
        let log = if era == 1 {
            log.drop_pin(PIN).unwrap();
            log
        } else {
            let (_dir, archive) = (scratch(), &archive);
            let (copy, _) = restore(archive, RestoreTo::Lsn(Lsn(40))).await.unwrap();
            open(&copy.keep())
        };
        fill_and_seal(&log, era, 200);
        catch_up(&log, &archive).await;
        let (_dir, report) = restore(&archive, RestoreTo::Latest).await.unwrap();
        let others = if era == 1 { vec![] } else { vec![(1, Lsn(41)..Lsn(61))] };
        assert_eq!((report.epoch, report.others.clone(), report.begins_late()), (2, others, false));
    }
}

#[tokio::test]
async fn a_restore_says_what_the_original_has_archived_after_the_log_that_was_restored() {
    let (dir, archive) = (scratch(), memory());
    let log = open(dir.path());
    fill_and_seal(&log, 1, 100);
    catch_up(&log, &archive).await;
    let (copy, report) = restore(&archive, RestoreTo::Latest).await.unwrap();
    assert_eq!(report.others, []);
    let copy_log = open(copy.path());
    fill_and_seal(&copy_log, 2, 150);
    catch_up(&copy_log, &archive).await;
    let (_dir, report) = restore(&archive, RestoreTo::Latest).await.unwrap();
    assert_eq!((report.epoch, report.others), (2, vec![]), "all of epoch 1 is in it");
    fill_and_seal(&log, 1, 300);
    catch_up(&log, &archive).await;
    let (_dir, report) = restore(&archive, RestoreTo::Latest).await.unwrap();
    assert_eq!((report.epoch, report.next_lsn), (2, Lsn(151)));
    assert_eq!((report.begins_late(), report.others), (false, vec![(1, Lsn(101)..Lsn(301))]));
    let (_dir, report) = restore(&archive, RestoreTo::Lsn(Lsn(120))).await.unwrap();
    assert_eq!(report.others, [], "no later ones were asked for");
    let of_first = RestoreOptions::new().epoch(Some(1));
    let report = archive.restore(scratch().path(), RestoreTo::Latest, &of_first, &mut |_| {}).await.unwrap();
    assert_eq!(report.others, [(2, Lsn(101)..Lsn(151))]);
}
