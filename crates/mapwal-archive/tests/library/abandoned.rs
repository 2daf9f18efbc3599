//! Epochs that vanish as a whole: nothing else is begun in their place before it is asked for, and what they alone had is missing.

use std::sync::Arc;

use mapwal::{Log, Lsn};
use mapwal_archive::{Archive, Archiver, EpochFault, Error, RestoreOptions, RestoreTo, Status};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;

use crate::support::{
    PIN, archiver, bytes_of, catch_up, changed_note, expected, fill, fill_and_seal, keys, open, options, restore,
    restored, restored_at, scratch, with_suffix,
};

/// What an archive has lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    Note,
    All,
}

/// A log of 520 records that begins with record 301, whose archive, which had all of them, has lost epoch 1.
async fn without_epoch(directory: &std::path::Path, gone: Gone) -> (Arc<InMemory>, Archive, Arc<Log>) {
    let store = Arc::new(InMemory::new());
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let log = open(directory);
    for segment in 1..=5 {
        fill_and_seal(&log, 1, segment * 100);
    }
    fill(&log, 1, 520);
    log.sync().unwrap();
    catch_up(&log, &archive).await;
    log.trim_before(Lsn(301)).unwrap();
    for key in keys(&*store).await {
        if gone == Gone::All || key.as_ref().ends_with("/epoch.json") {
            store.delete(&key).await.unwrap();
        }
    }
    (store, archive, log)
}

async fn abandon(log: &Arc<Log>, archive: &Archive, epoch: u64) -> mapwal_archive::Result<Status> {
    let options = options().abandon_epoch(Some(epoch));
    Archiver::of_log(Arc::clone(log), archive.clone(), options)?.catch_up().await
}

/// Epoch 2 has what the log had, and says what is missing before that.
async fn says_what_is_missing(archive: &Archive) {
    let lost = EpochFault::Lost { epoch: 2, missing: (1, 301) };
    let listing = archive.list().await.unwrap();
    assert!(listing.faults.contains(&lost), "{:?}", listing.faults);
    let report = archive.verify(None, &mut |_| {}).await.unwrap();
    assert!(report.faults.contains(&lost) && !report.is_sound(), "{report:?}");
    let (_dir, report) = restore(archive, RestoreTo::Latest).await.unwrap();
    assert_eq!((report.epoch, report.first_lsn, report.next_lsn), (2, Lsn(301), Lsn(521)));
    assert_eq!((report.lost.clone(), report.begins_late()), (Some(Lsn(1)..Lsn(301)), true));
    assert_eq!(restored(archive, RestoreTo::Latest).await, expected(1, 301..=520));
}

#[tokio::test]
async fn an_epoch_that_has_vanished_is_abandoned_only_if_that_is_asked_for_and_what_it_had_is_missing() {
    for gone in [Gone::Note, Gone::All] {
        let dir = scratch();
        let (store, archive, log) = without_epoch(dir.path(), gone).await;
        let before = keys(&*store).await;
        for is_other_abandoned in [false, true] {
            let tried = if is_other_abandoned {
                abandon(&log, &archive, 2).await
            } else {
                archiver(&log, &archive).catch_up().await
            };
            let refused = tried.unwrap_err();
            let Error::OtherArchive { epoch: 1, next: Lsn(501), objects, .. } = refused else { panic!("{refused}") };
            assert_eq!(objects > 0, gone == Gone::Note, "{refused}");
            assert_eq!(refused.to_string().contains("without its note"), gone == Gone::Note, "{refused}");
            // What the log has, and the archive lacks, is kept.
            let kept = if gone == Gone::All { Lsn(301) } else { Lsn(501) };
            assert_eq!((keys(&*store).await, log.pins()[0].lsn), (before.clone(), kept));
        }
        let status = abandon(&log, &archive, 1).await.unwrap();
        assert_eq!((status.epoch, status.lost), (Some(2), Some(Lsn(1)..Lsn(301))), "{gone:?}");
        says_what_is_missing(&archive).await;
        fill_and_seal(&log, 1, 600);
        let status = abandon(&log, &archive, 1).await.unwrap();
        assert_eq!((status.epoch, status.lost), (Some(2), Some(Lsn(1)..Lsn(301))), "{gone:?}: it is abandoned once");
    }
}

/// The pin says it until the epoch is there.
#[tokio::test]
async fn what_is_missing_is_said_though_the_archiver_is_killed_before_it_has_begun_another_epoch() {
    let dir = scratch();
    let (_store, archive, log) = without_epoch(dir.path(), Gone::All).await;
    log.assign_pin(PIN, "mapwal-archive begins 0123456789abcdef without 1").unwrap();
    catch_up(&log, &archive).await;
    says_what_is_missing(&archive).await;
}

/// Without the pin the objects that are left say that there was more.
#[tokio::test]
async fn an_epoch_that_begins_beside_one_without_its_note_says_what_is_missing() {
    let dir = scratch();
    let (_store, archive, log) = without_epoch(dir.path(), Gone::Note).await;
    log.drop_pin(PIN).unwrap();
    catch_up(&log, &archive).await;
    says_what_is_missing(&archive).await;
}

#[tokio::test]
async fn a_note_that_is_put_back_after_its_epoch_was_abandoned_makes_that_one_of_use_again() {
    let dir = scratch();
    let (store, archive, log) = without_epoch(dir.path(), Gone::Note).await;
    abandon(&log, &archive, 1).await.unwrap();
    // As the first one was, but for its token.
    let key = object_store::path::Path::from("a/0000000002/epoch.json");
    let note = changed_note(&bytes_of(&*store, &key).await, |text| {
        let note: serde_json::Value = serde_json::from_str(&format!("{text}}}")).unwrap();
        let (first, lost) = (note["first_lsn"].as_u64().unwrap(), note["lost"].as_array().unwrap());
        let lost = format!("\"lost\": [\n    {},\n    {}\n  ]", lost[0], lost[1]);
        let changed =
            text.replace(&format!("\"first_lsn\": {first}"), "\"first_lsn\": 1").replace(&lost, "\"lost\": null");
        assert_ne!(changed, text);
        changed
    });
    store.put(&"a/0000000001/epoch.json".into(), note.into()).await.unwrap();
    let (_dir, report) = restore(&archive, RestoreTo::Latest).await.unwrap();
    assert_eq!((report.epoch, report.begins_late()), (2, true));
    assert_eq!(report.others, [(1, Lsn(1)..Lsn(521))]);
    let (dir, first) = (scratch(), RestoreOptions::new().epoch(Some(1)));
    archive.restore(dir.path(), RestoreTo::Latest, &first, &mut |_| {}).await.unwrap();
    assert_eq!(crate::support::records(&open(dir.path())), expected(1, 1..=520));
}

#[tokio::test]
async fn an_epoch_whose_end_is_missing_for_good_is_abandoned_on_request() {
    let dir = scratch();
    let store = Arc::new(InMemory::new());
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let log = open(dir.path());
    for segment in 1..=3 {
        fill_and_seal(&log, 1, segment * 100);
    }
    catch_up(&log, &archive).await;
    log.trim_before(Lsn(301)).unwrap();
    fill(&log, 1, 320);
    log.sync().unwrap();
    store.delete(&crate::support::with_suffix(&*store, ".seg").await[2]).await.unwrap();
    let status = abandon(&log, &archive, 1).await.unwrap();
    assert_eq!((status.epoch, status.lost), (Some(2), Some(Lsn(201)..Lsn(301))));
    let (_dir, report) = restore(&archive, RestoreTo::Latest).await.unwrap();
    assert_eq!((report.first_lsn, report.others), (Lsn(301), vec![(1, Lsn(1)..Lsn(201))]));
}

/// What is lost is all that no epoch leads to, though objects of one that cannot be followed are there.
#[tokio::test]
async fn what_an_epoch_had_whose_parent_has_vanished_is_lost_from_the_parents_first_record_on() {
    for (gone, lost) in [(1, (1, 301)), (2, (151, 301))] {
        let (first, store) = (scratch(), Arc::new(InMemory::new()));
        let archive = Archive::new(Arc::clone(&store) as _, "a");
        let log = open(first.path());
        fill_and_seal(&log, 1, 100);
        fill_and_seal(&log, 1, 400);
        catch_up(&log, &archive).await;
        let (again, _) = restore(&archive, RestoreTo::Lsn(Lsn(150))).await.unwrap();
        let log = open(again.path());
        fill_and_seal(&log, 2, 200);
        fill_and_seal(&log, 2, 300);
        fill_and_seal(&log, 2, 320);
        catch_up(&log, &archive).await;
        // The parent and all that it has, or the note of the epoch itself.
        let is_gone = |key: &&object_store::path::Path| match gone {
            1 => key.as_ref().starts_with("a/0000000001/"),
            _ => key.as_ref() == "a/0000000002/epoch.json",
        };
        for key in keys(&*store).await.iter().filter(is_gone) {
            store.delete(key).await.unwrap();
        }
        log.trim_before(Lsn(301)).unwrap();
        assert_eq!(log.first_lsn(), Lsn(301));
        let status = abandon(&log, &archive, 2).await.unwrap();
        assert_eq!((status.epoch, status.lost), (Some(3), Some(Lsn(lost.0)..Lsn(lost.1))), "{gone}");
        let (_dir, report) = restore(&archive, RestoreTo::Latest).await.unwrap();
        assert_eq!((report.first_lsn, report.lost), (Lsn(301), Some(Lsn(lost.0)..Lsn(lost.1))));
    }
}

/// Nothing of an epoch can be restored without the note of the one that it continues: that is no archive that is well.
#[tokio::test]
async fn an_epoch_whose_parent_has_vanished_is_not_whole_and_the_way_out_is_another_one() {
    use std::time::Duration;

    use mapwal_archive::ObjectDamage;

    for (gone, is_running) in [(Gone::Note, false), (Gone::All, false), (Gone::Note, true), (Gone::All, true)] {
        let (first, store) = (scratch(), Arc::new(InMemory::new()));
        let archive = Archive::new(Arc::clone(&store) as _, "a");
        let log = open(first.path());
        fill_and_seal(&log, 1, 100);
        fill_and_seal(&log, 1, 200);
        catch_up(&log, &archive).await;
        let (again, _) = restore(&archive, RestoreTo::Lsn(Lsn(150))).await.unwrap();
        let log = open(again.path());
        fill_and_seal(&log, 2, 300);
        let often = options().check_interval(Some(Duration::ZERO));
        let running = Archiver::of_log(Arc::clone(&log), archive.clone(), often).unwrap();
        assert_eq!(running.catch_up().await.unwrap().damaged, []);
        let mut removed = Vec::new();
        for key in keys(&*store).await.into_iter().filter(|key| key.as_ref().starts_with("a/0000000001/")) {
            if gone == Gone::All || key.as_ref().ends_with("/epoch.json") {
                removed.push((key.clone(), bytes_of(&*store, &key).await));
                store.delete(&key).await.unwrap();
            }
        }
        assert!(restore(&archive, RestoreTo::Latest).await.is_err());
        let looked = async |running: Archiver| {
            let running = if is_running {
                running
            } else {
                drop(running);
                archiver(&log, &archive)
            };
            running.catch_up().await.unwrap()
        };
        let status = looked(running).await;
        assert_eq!((status.epoch, status.lag_records), (Some(2), 0), "the archive goes on");
        assert_eq!(status.damaged, [("a/0000000001/epoch.json".to_owned(), ObjectDamage::Missing)], "{gone:?}");
        assert_eq!(status.last_error.as_deref(), Some("a/0000000001/epoch.json is damaged: it is missing"));
        for (key, bytes) in &removed {
            store.put(key, bytes.clone().into()).await.unwrap();
        }
        assert_eq!(looked(archiver(&log, &archive)).await.damaged, [], "put back");
        for (key, _) in &removed {
            store.delete(key).await.unwrap();
        }
        let status = abandon(&log, &archive, 2).await.unwrap();
        assert_eq!((status.epoch, status.damaged), (Some(3), vec![]));
        let both = [expected(1, 1..=150), expected(2, 151..=300)].concat();
        assert_eq!(restored(&archive, RestoreTo::Latest).await, both, "while the log has the records");
    }
}

/// The log has the same segments as when it was restored, and its objects the same names.
#[tokio::test]
async fn what_an_earlier_epoch_lacks_can_be_copied_to_it_from_one_that_has_it_again() {
    let (archive, copy) = restored_at(300, &[100, 200, 300]).await;
    let log = open(copy.path());
    fill_and_seal(&log, 1, 400);
    catch_up(&log, &archive).await;
    let store = archive.store();
    let gone = with_suffix(&**store, ".seg").await.remove(1);
    store.delete(&gone).await.unwrap();
    assert_eq!(abandon(&log, &archive, 2).await.unwrap().epoch, Some(3));
    let gap = EpochFault::Gap { epoch: 1, missing: (101, 201) };
    assert_eq!(archive.list().await.unwrap().faults, [gap]);
    let same = |key: &&Key| **key != gone && key.filename() == gone.filename();
    let segments = with_suffix(&**store, ".seg").await;
    store.copy(segments.iter().find(same).expect("in epoch 3"), &gone).await.unwrap();
    assert_eq!(archive.list().await.unwrap().faults, []);
    assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
}
