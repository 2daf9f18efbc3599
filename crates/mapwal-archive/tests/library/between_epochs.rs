//! Records that were trimmed before they were archived: they are between two epochs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mapwal::{Log, Lsn};
use mapwal_archive::{Archive, Archiver, EpochFault, Error, PruneGaps, RestoreOptions, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use tempfile::TempDir;

use crate::hooked::Hooked;
use crate::support::{
    PIN, archiver, bytes_of, catch_up, expected, fill, fill_and_seal, keys, memory, open, options, records, restore,
    restored, restored_at, scratch, with_suffix,
};

/// Epoch 1 with records 1 to 300, and epoch 2 with 501 to 700.
pub(crate) async fn with_lost_records() -> Archive {
    archived_with_lost_records().await.0
}

/// As [`with_lost_records`], with the log.
async fn archived_with_lost_records() -> (Archive, TempDir, Arc<Log>) {
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
    (archive, dir, log)
}

async fn restored_of(archive: &Archive, epoch: u64) -> Vec<(u64, Vec<u8>)> {
    let (dir, of_it) = (scratch(), RestoreOptions::new().epoch(Some(epoch)));
    archive.restore(dir.path(), RestoreTo::Latest, &of_it, &mut |_| {}).await.unwrap();
    records(&open(dir.path()))
}

/// All say that records from `from` up to but without `to` are missing before `epoch`, and those before them are kept by the prune that a
/// refused one names.
async fn all_say_what_is_lost(archive: &Archive, log: &Arc<Log>, epoch: u64, (from, to): (u64, u64)) {
    let lost = [EpochFault::Lost { epoch, missing: (from, to) }];
    assert_eq!(archive.list().await.unwrap().faults, lost);
    assert_eq!(archive.verify(None, &mut |_| {}).await.unwrap().faults, lost);
    let lost = Lsn(from)..Lsn(to);
    assert_eq!(archive.list().await.unwrap().epochs.last().unwrap().lost, Some(lost.clone()));
    assert_eq!(restore(archive, RestoreTo::Latest).await.unwrap().1.lost, Some(lost.clone()));
    assert_eq!(archiver(log, archive).catch_up().await.unwrap().lost, Some(lost.clone()));
    for before in [from, to - 1, to] {
        let refused = archive.prune(Lsn(before), PruneGaps::Refuse).await;
        let Err(Error::Gap { missing, .. }) = refused else { panic!("{before}: {refused:?}") };
        assert_eq!(missing, lost);
        let limits = archive.prune_limits(Lsn(before)).await.unwrap();
        assert_eq!((limits.keeps, limits.gives_up), (Some(Lsn(from - 1)), Some(Lsn(to))));
    }
}

#[tokio::test]
async fn what_vanishes_before_records_that_are_in_no_epoch_is_missing_as_well() {
    let (archive, _dir, log) = archived_with_lost_records().await;
    let last = with_suffix(&**archive.store(), ".seg").await.remove(2);
    assert!(last.as_ref().contains("0000000001/00000000000000000201-"), "{last}");
    archive.store().delete(&last).await.unwrap();
    all_say_what_is_lost(&archive, &log, 2, (201, 501)).await;
    assert_eq!(archive.prune(Lsn(200), PruneGaps::Refuse).await.unwrap().segments, 1);
    assert_eq!(restored_of(&archive, 1).await, expected(1, 101..=200));
    archive.prune(Lsn(501), PruneGaps::GiveUp).await.unwrap();
    assert!(archive.list().await.unwrap().faults.is_empty());
}

/// The gap is told as one of that epoch, once.
#[tokio::test]
async fn what_vanishes_in_the_middle_before_records_that_are_in_no_epoch_is_missing_in_its_epoch() {
    let (archive, _dir, _log) = archived_with_lost_records().await;
    archive.store().delete(&with_suffix(&**archive.store(), ".seg").await[1]).await.unwrap();
    let gap = EpochFault::Gap { epoch: 1, missing: (101, 201) };
    let lost = EpochFault::Lost { epoch: 2, missing: (301, 501) };
    let faults = archive.list().await.unwrap().faults;
    assert!(faults.len() == 2 && faults.contains(&gap) && faults.contains(&lost), "{faults:?}");
    assert_eq!(archive.prune_limits(Lsn(250)).await.unwrap().keeps, Some(Lsn(100)));
    archive.prune(Lsn(201), PruneGaps::GiveUp).await.unwrap();
    assert_eq!(archive.list().await.unwrap().faults, [lost]);
    assert_eq!(restored_of(&archive, 1).await, expected(1, 201..=300));
}

/// In epochs that the log's own does not continue, and in one that it does, after the place where it leaves it.
#[tokio::test]
async fn what_is_wrong_beside_what_an_epoch_leads_to_is_in_the_status_until_it_is_put_back() {
    for is_continued in [false, true] {
        let (archive, _dir, log) = if is_continued { continued().await } else { archived_with_lost_records().await };
        let checked = options().check_interval(Some(std::time::Duration::ZERO));
        let running = Archiver::of_log(Arc::clone(&log), archive.clone(), checked).unwrap();
        assert_eq!(running.catch_up().await.unwrap().beside, []);
        let (store, mut removed) = (archive.store(), Vec::new());
        let gone = with_suffix(&**store, ".seg").await;
        let [first, gone] = if is_continued { [&gone[2], &gone[3]] } else { [&gone[0], &gone[1]] };
        for key in [first, gone] {
            removed.push((key.clone(), bytes_of(&**store, key).await));
        }
        store.delete(gone).await.unwrap();
        store.put(first, b"short".as_slice().into()).await.unwrap();
        let lsns = if is_continued { (301, 401) } else { (101, 201) };
        let mut running = Some(running);
        for _ in ["at work", "when it begins"] {
            let status = running.take().unwrap_or_else(|| archiver(&log, &archive)).catch_up().await.unwrap();
            let [EpochFault::Damaged { epoch: 1, key, .. }, EpochFault::Gap { epoch: 1, missing }] = &status.beside[..]
            else {
                panic!("{status:?}")
            };
            assert_eq!((key.as_str(), *missing), (first.as_ref(), lsns), "{is_continued}");
            assert_eq!((status.missing, status.damaged, status.last_error), (vec![], vec![], None), "of its own");
        }
        for (key, bytes) in removed {
            store.put(&key, bytes.into()).await.unwrap();
        }
        assert_eq!(archiver(&log, &archive).catch_up().await.unwrap().beside, []);
    }
}

/// Lists may be late: two are made when an archiver begins, and another one where something is wrong.
#[tokio::test]
async fn what_lists_lack_of_another_epoch_when_an_archiver_begins_is_looked_for_again() {
    let (archive, _dir, log) = continued().await;
    let late = with_suffix(&**archive.store(), ".seg").await[3].clone();
    let (store, lists) = (Arc::new(InMemory::new()), AtomicUsize::new(0));
    for key in keys(&**archive.store()).await {
        store.put(&key, bytes_of(&**archive.store(), &key).await.into()).await.unwrap();
    }
    let is_hidden = move |key: &Key| *key == late && lists.fetch_add(1, Ordering::SeqCst) < 2;
    let hooked = Hooked::new(&store, |_, _| ()).hiding(is_hidden);
    let status = archiver(&log, &Archive::new(Arc::new(hooked), "logs/a")).catch_up().await.unwrap();
    assert_eq!((status.epoch, status.beside), (Some(2), vec![]));
}

/// Epoch 1 with records 1 to 500, and epoch 2, which leaves it after record 150.
async fn continued() -> (Archive, TempDir, Arc<Log>) {
    let (archive, copy) = restored_at(150, &[100, 200, 300, 400, 500]).await;
    let log = open(copy.path());
    fill_and_seal(&log, 2, 300);
    catch_up(&log, &archive).await;
    (archive, copy, log)
}

#[tokio::test]
async fn what_a_forgotten_epoch_had_before_records_that_are_in_no_epoch_is_missing_as_well() {
    let (archive, again) = restored_at(300, &[100, 200, 300]).await;
    let log = open(again.path());
    for segment in 4..=7 {
        fill_and_seal(&log, 1, segment * 100);
    }
    catch_up(&log, &archive).await;
    log.trim_before(Lsn(601)).unwrap();
    let segments = with_suffix(&**archive.store(), ".seg").await;
    let gone = segments.iter().find(|key| key.as_ref().contains("/00000000000000000501-")).unwrap();
    archive.store().delete(gone).await.unwrap();
    let abandons = options().abandon_epoch(Some(2));
    let status = Archiver::of_log(Arc::clone(&log), archive.clone(), abandons).unwrap().catch_up().await.unwrap();
    assert_eq!((status.epoch, status.lost), (Some(3), Some(Lsn(501)..Lsn(601))));
    assert_eq!(archive.forget_epoch(2).await.unwrap().lost, [Lsn(301)..Lsn(501)]);
    all_say_what_is_lost(&archive, &log, 3, (301, 601)).await;
    archive.prune(Lsn(300), PruneGaps::Refuse).await.unwrap();
    assert_eq!(restored_of(&archive, 1).await, expected(1, 201..=300));
}

#[tokio::test]
async fn what_an_epoch_has_whose_note_is_back_is_not_missing_any_more() {
    for gone in [1, 2] {
        let (archive, again) = restored_at(300, &[100, 200, 300]).await;
        let log = open(again.path());
        for segment in 4..=7 {
            fill_and_seal(&log, 1, segment * 100);
            if segment == 5 {
                catch_up(&log, &archive).await;
                log.drop_pin(PIN).unwrap();
            }
        }
        let key = Key::from(format!("logs/a/{gone:010}/epoch.json"));
        let note = bytes_of(&**archive.store(), &key).await;
        archive.store().delete(&key).await.unwrap();
        log.trim_before(Lsn(601)).unwrap();
        let status = archiver(&log, &archive).catch_up().await.unwrap();
        assert_eq!((status.epoch, status.lost.unwrap().end), (Some(3), Lsn(601)), "{gone}");
        archive.store().put(&key, note.into()).await.unwrap();
        all_say_what_is_lost(&archive, &log, 3, (501, 601)).await;
        archive.prune(Lsn(350), PruneGaps::Refuse).await.unwrap();
        assert_eq!(restored_of(&archive, 2).await, expected(1, 301..=500));
    }
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
