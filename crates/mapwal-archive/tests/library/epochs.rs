//! Histories that differ get epochs of their own, and a restore of each finds its own records.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mapwal::{Log, Lsn};
use mapwal_archive::{Archive, Archiver, Error, RestoreOptions, RestoreTo};

use crate::support::{
    PIN, catch_up, expected, fill, fill_and_seal, memory, open, options, records, restore, restored, scratch,
};

async fn epoch_of(archive: &Archive, epoch: u64) -> Vec<(u64, Vec<u8>)> {
    let dir = scratch();
    let options = RestoreOptions::new().epoch(Some(epoch));
    archive.restore(dir.path(), RestoreTo::Latest, &options, &mut |_| {}).await.unwrap();
    records(&open(dir.path()))
}

/// A log of three sealed segments and a part, archived.
async fn archived(directory: &Path) -> Archive {
    let archive = memory();
    let log = open(directory);
    for segment in 1..=3 {
        fill_and_seal(&log, 1, segment * 100);
    }
    fill(&log, 1, 330);
    log.sync().unwrap();
    catch_up(&log, &archive).await;
    archive
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = {
            let entry = entry.unwrap();
            (entry.path(), entry.file_name())
        };
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_restored_log_begins_an_epoch_where_it_leaves_the_old_one() {
    for to in [50, 100, 130, 200, 300, 315, 330] {
        let dir = scratch();
        let archive = archived(dir.path()).await;
        let (again, _) = restore(&archive, RestoreTo::Lsn(Lsn(to))).await.unwrap();
        let log = open(again.path());
        assert_eq!(log.next_lsn(), Lsn(to + 1));
        fill_and_seal(&log, 2, to + 80);
        fill(&log, 2, to + 90);
        log.sync().unwrap();
        catch_up(&log, &archive).await;
        let list = archive.list().await.unwrap();
        assert_eq!((list.epochs.len(), list.epochs[1].parent, list.epochs[1].begins_at), (2, Some(1), Lsn(to + 1)));
        assert_eq!(list.epochs[1].segments.len(), 1, "what both have is not uploaded again");
        let both = [expected(1, 1..=to), expected(2, to + 1..=to + 90)].concat();
        assert_eq!(restored(&archive, RestoreTo::Latest).await, both);
        assert_eq!(epoch_of(&archive, 1).await, expected(1, 1..=330), "the old history is still there");
        let before = restored(&archive, RestoreTo::Lsn(Lsn(to - 20))).await;
        assert_eq!(before, expected(1, 1..=to - 20));
    }
}

#[tokio::test]
async fn restores_of_restores_and_of_both_branches_keep_their_histories() {
    let dir = scratch();
    let archive = archived(dir.path()).await;
    let mut history = expected(1, 1..=330);
    for (era, back) in [(2, 250), (3, 240), (4, 310)] {
        let (again, _) = restore(&archive, RestoreTo::Lsn(Lsn(back))).await.unwrap();
        let log = open(again.path());
        fill_and_seal(&log, era, back + 100);
        catch_up(&log, &archive).await;
        history.truncate(usize::try_from(back).unwrap());
        history.extend(expected(era, back + 1..=back + 100));
        assert_eq!(restored(&archive, RestoreTo::Latest).await, history);
    }
    // The original goes on as well, in its own epoch.
    let log = open(dir.path());
    fill_and_seal(&log, 1, 400);
    catch_up(&log, &archive).await;
    assert_eq!(epoch_of(&archive, 1).await, expected(1, 1..=400));
    assert_eq!(restored(&archive, RestoreTo::Latest).await, history, "the newest epoch is another one");
    assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
}

#[tokio::test]
async fn a_truncation_of_archived_records_begins_an_epoch_and_one_of_others_does_not() {
    for (cut, epochs) in [(50, 2), (100, 2), (150, 2), (200, 2), (250, 2), (300, 2), (310, 2), (330, 1), (340, 1)] {
        let dir = scratch();
        let archive = archived(dir.path()).await;
        let log = open(dir.path());
        let archiver = crate::support::archiver(&log, &archive);
        archiver.catch_up().await.unwrap();
        fill(&log, 1, 345);
        log.truncate_after(Lsn(cut)).unwrap();
        let kept = cut.min(345);
        fill_and_seal(&log, 2, kept + 60);
        archiver.catch_up().await.unwrap();
        let list = archive.list().await.unwrap();
        assert_eq!(list.epochs.len(), epochs, "{cut}: {list:?}");
        let both = [expected(1, 1..=kept), expected(2, kept + 1..=kept + 60)].concat();
        assert_eq!(restored(&archive, RestoreTo::Latest).await, both, "{cut}");
        assert_eq!(records(&log), both);
        assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
    }
}

#[tokio::test]
async fn parts_of_what_was_truncated_are_not_taken_for_the_newest_records() {
    for (cut, more, is_restarted) in
        [(100, 5, false), (100, 60, false), (100, 5, true), (110, 5, false), (110, 60, true), (130, 5, false)]
    {
        let (dir, archive) = (scratch(), memory());
        let log = open(dir.path());
        fill_and_seal(&log, 1, 100);
        fill(&log, 1, 130);
        log.sync().unwrap();
        let mut archiver = Some(crate::support::archiver(&log, &archive));
        archiver.as_ref().unwrap().catch_up().await.unwrap();
        log.truncate_after(Lsn(cut)).unwrap();
        fill(&log, 2, cut + more);
        log.sync().unwrap();
        if is_restarted {
            archiver = None;
        }
        let archiver = archiver.unwrap_or_else(|| crate::support::archiver(&log, &archive));
        archiver.catch_up().await.unwrap();
        let both = [expected(1, 1..=cut), expected(2, cut + 1..=cut + more)].concat();
        assert_eq!(restored(&archive, RestoreTo::Latest).await, both, "{cut} {more} {is_restarted}");
    }
}

#[tokio::test]
async fn a_truncation_while_no_archiver_runs_is_noticed() {
    for cut in [150, 200, 250, 300] {
        let dir = scratch();
        let archive = archived(dir.path()).await;
        let log = open(dir.path());
        log.truncate_after(Lsn(cut)).unwrap();
        fill_and_seal(&log, 2, 400);
        catch_up(&log, &archive).await;
        let both = [expected(1, 1..=cut), expected(2, cut + 1..=400)].concat();
        assert_eq!(restored(&archive, RestoreTo::Latest).await, both, "{cut}");
        assert_eq!(archive.list().await.unwrap().epochs.len(), 2);
    }
}

#[tokio::test]
async fn a_reset_begins_a_history_of_its_own() {
    for next in [20, 331, 500] {
        let dir = scratch();
        let archive = archived(dir.path()).await;
        let log = open(dir.path());
        log.reset_to(Lsn(next)).unwrap();
        fill_and_seal(&log, 2, next + 9);
        catch_up(&log, &archive).await;
        let list = archive.list().await.unwrap();
        assert_eq!((list.epochs.len(), list.epochs[1].parent, list.epochs[1].first_lsn), (2, None, Lsn(next)));
        let missing = (next > 331).then_some(Lsn(331)..Lsn(next));
        assert_eq!(list.epochs[1].lost, missing);
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(2, next..=next + 9));
    }
}

/// Also if no record follows, and only metadata came with them.
#[tokio::test]
async fn a_truncation_and_a_reset_are_archived_though_no_record_follows() {
    for is_reset in [false, true] {
        let dir = scratch();
        let archive = archived(dir.path()).await;
        let log = open(dir.path());
        let archiver = crate::support::archiver(&log, &archive);
        archiver.catch_up().await.unwrap();
        if is_reset {
            log.reset_to_with(Lsn(500), &[(4, b"reset")]).unwrap();
        } else {
            log.truncate_after_with(Lsn(150), &[(4, b"truncated")]).unwrap();
        }
        archiver.catch_up().await.unwrap();
        assert_eq!(archive.list().await.unwrap().epochs.len(), 2);
        let (again, _) = restore(&archive, RestoreTo::Latest).await.unwrap();
        let again = open(again.path());
        assert_eq!((again.next_lsn(), again.meta(4)), (log.next_lsn(), log.meta(4)));
        assert!(again.meta(4).is_some());
        assert_eq!(records(&again), records(&log));
    }
}

#[tokio::test]
async fn a_reset_to_the_very_record_that_comes_next_is_another_history_as_well() {
    let (dir, archive) = (scratch(), memory());
    let log = open(dir.path());
    let archiver = crate::support::archiver(&log, &archive);
    fill_and_seal(&log, 1, 100);
    archiver.catch_up().await.unwrap();
    log.reset_to(Lsn(101)).unwrap();
    fill_and_seal(&log, 2, 120);
    archiver.catch_up().await.unwrap();
    assert_eq!(epoch_of(&archive, 1).await, expected(1, 1..=100));
    assert_eq!(epoch_of(&archive, 2).await, expected(2, 101..=120));
}

#[tokio::test]
async fn a_directory_that_was_rolled_back_with_its_pins_begins_an_epoch() {
    // The rolled-back log makes segments of the same numbers, ends and lengths, with other bytes.
    for ahead in [200, 230, 300] {
        let (dir, before) = (scratch(), scratch());
        let archive = memory();
        let log = open(dir.path());
        fill_and_seal(&log, 1, 100);
        fill(&log, 1, 150);
        log.sync().unwrap();
        catch_up(&log, &archive).await;
        // It goes on in the same segment.
        log.close().unwrap();
        copy(dir.path(), before.path());
        let log = open(dir.path());
        fill(&log, 1, ahead);
        if ahead != 230 {
            log.rotate().unwrap();
        }
        log.sync().unwrap();
        catch_up(&log, &archive).await;
        drop(log);
        let log = open(before.path());
        fill_and_seal(&log, 2, 200);
        fill_and_seal(&log, 2, 300);
        catch_up(&log, &archive).await;
        let both = records(&log);
        assert_eq!(both[..150], expected(1, 1..=150));
        assert_eq!(both[150..], expected(2, 151..=300));
        assert_eq!(restored(&archive, RestoreTo::Latest).await, both, "{ahead}");
        assert_eq!(epoch_of(&archive, 1).await, expected(1, 1..=ahead), "{ahead}");
    }
}

#[tokio::test]
async fn records_that_were_trimmed_because_of_the_limit_are_told_and_an_epoch_begins_after_them() {
    let dir = scratch();
    let archive = memory();
    let log = open(dir.path());
    let limited = || {
        let options = options().pin_limit_bytes(Some(128 << 10));
        mapwal_archive::Archiver::of_log(std::sync::Arc::clone(&log), archive.clone(), options).unwrap()
    };
    fill_and_seal(&log, 1, 100);
    limited().catch_up().await.unwrap();
    for segment in 2..=6 {
        fill_and_seal(&log, 1, segment * 100);
    }
    log.trim_before(Lsn(301)).unwrap();
    assert_eq!(log.first_lsn(), Lsn(301));
    let status = limited().catch_up().await.unwrap();
    assert_eq!((status.epoch, status.lost, status.lag_records), (Some(2), Some(Lsn(101)..Lsn(301)), 0));
    assert_eq!(log.pins().iter().filter(|pin| pin.name == PIN).count(), 1);
    let list = archive.list().await.unwrap();
    assert_eq!((list.epochs[1].lost.clone(), list.epochs[1].parent), (Some(Lsn(101)..Lsn(301)), None));
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 301..=600));
    assert_eq!(epoch_of(&archive, 1).await, expected(1, 1..=100));
}

/// A log whose segment is sealed just before it is asked for something for the `at`th time.
struct SealedAt {
    log: Arc<Log>,
    at: usize,
    asked: AtomicUsize,
}

impl AsRef<Log> for SealedAt {
    fn as_ref(&self) -> &Log {
        if self.asked.fetch_add(1, Ordering::SeqCst) == self.at {
            fill_and_seal(&self.log, 1, 80);
        }
        &self.log
    }
}

#[tokio::test]
async fn a_segment_with_parts_that_is_sealed_at_any_moment_while_an_archiver_begins_is_no_other_history() {
    for at in 0.. {
        let (dir, archive) = (scratch(), memory());
        let log = open(dir.path());
        fill(&log, 1, 60);
        log.sync().unwrap();
        catch_up(&log, &archive).await;
        let log = Arc::new(SealedAt { log, at, asked: AtomicUsize::new(0) });
        let status = Archiver::of_log(Arc::clone(&log), archive.clone(), options()).unwrap().catch_up().await.unwrap();
        assert_eq!((status.epoch, archive.list().await.unwrap().epochs.len()), (Some(1), 1), "at {at}");
        if log.asked.load(Ordering::SeqCst) <= at {
            assert!(at > 10, "it was asked {at} times");
            break;
        }
        catch_up(&log.log, &archive).await;
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=80), "at {at}");
    }
}

#[tokio::test]
async fn another_log_at_the_prefix_is_refused() {
    let (dir, other) = (scratch(), scratch());
    let archive = archived(dir.path()).await;
    let log = open(other.path());
    fill_and_seal(&log, 2, 10);
    let refused = crate::support::archiver(&log, &archive).catch_up().await.unwrap_err();
    assert!(matches!(refused, Error::OtherLog { .. }), "{refused}");
    assert_eq!(archive.list().await.unwrap().epochs.len(), 1);
    assert!(log.pins().is_empty(), "one that was refused keeps nothing");
}

#[tokio::test]
async fn a_pin_of_another_archive_is_refused_and_one_of_somebody_else_as_well() {
    let dir = scratch();
    drop(archived(dir.path()).await);
    let log = open(dir.path());
    let elsewhere = memory();
    let refused = crate::support::archiver(&log, &elsewhere).catch_up().await.unwrap_err();
    assert!(matches!(refused, Error::OtherArchive { epoch: 1, .. }), "{refused}");
    log.drop_pin(PIN).unwrap();
    log.create_pin(PIN, "a replica", Lsn(1), None).unwrap();
    let refused = crate::support::archiver(&log, &elsewhere).catch_up().await.unwrap_err();
    assert!(matches!(refused, Error::PinTaken { .. }), "{refused}");
}
