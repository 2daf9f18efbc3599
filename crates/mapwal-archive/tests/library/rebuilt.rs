//! An epoch whose note is lost: it is made again from the epoch's objects, where they prove what it said, or the epoch is forgotten.

use mapwal::Lsn;
use mapwal_archive::{Archive, Archiver, EpochFault, Error, PruneGaps, RestoreOptions, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;

use crate::between_epochs::with_lost_records;
use crate::support::{
    archiver, bytes_of, catch_up, changed_note, expected, fill, fill_and_seal, keys, memory, open, options, restore,
    restored, scratch, with_suffix,
};

fn note(epoch: u64) -> Key {
    Key::from(format!("logs/a/{epoch:010}/epoch.json"))
}

async fn note_of(archive: &Archive, epoch: u64) -> serde_json::Value {
    let mut note: serde_json::Value =
        serde_json::from_slice(&bytes_of(&**archive.store(), &note(epoch)).await).unwrap();
    // What no object says.
    note["checksum"] = 0.into();
    note["created_unix_ms"] = 0.into();
    note
}

#[tokio::test]
async fn a_note_that_is_lost_is_made_again_as_it_was_and_an_archiver_goes_on() {
    for bytes in [None, Some(b"{".as_slice())] {
        let (dir, archive) = (scratch(), memory());
        let log = open(dir.path());
        fill_and_seal(&log, 1, 100);
        fill(&log, 1, 150);
        log.sync().unwrap();
        catch_up(&log, &archive).await;
        // The second epoch begins within a segment of the first, and has a part alone.
        let (copy, _) = restore(&archive, RestoreTo::Lsn(Lsn(120))).await.unwrap();
        let second = open(copy.path());
        fill(&second, 2, 200);
        second.sync().unwrap();
        catch_up(&second, &archive).await;
        let (all, others) =
            (restored(&archive, RestoreTo::Latest).await, [expected(1, 1..=120), expected(2, 121..=200)].concat());
        assert_eq!(all, others);
        let before = [note_of(&archive, 1).await, note_of(&archive, 2).await];
        for epoch in [1, 2] {
            let refused = archive.rebuild_note(epoch, false).await.unwrap_err();
            assert!(matches!(refused, Error::Noted { epoch: named } if named == epoch), "{refused}");
            match bytes {
                None => archive.store().delete(&note(epoch)).await.unwrap(),
                Some(bytes) => drop(archive.store().put(&note(epoch), bytes.into()).await.unwrap()),
            }
        }
        assert!(restore(&archive, RestoreTo::Latest).await.is_err());
        // The second one continues the first, which nothing can be said of so far.
        let refused = archive.rebuild_note(2, false).await.unwrap_err();
        assert!(matches!(refused, Error::MayContinue { epoch: 2, earlier: 1 }), "{refused}");
        for epoch in [1, 2] {
            archive.rebuild_note(epoch, false).await.unwrap();
        }
        assert_eq!([note_of(&archive, 1).await, note_of(&archive, 2).await], before);
        assert!(archive.list().await.unwrap().faults.is_empty());
        assert_eq!(restored(&archive, RestoreTo::Latest).await, others);
        fill(&second, 2, 210);
        second.sync().unwrap();
        assert_eq!(archiver(&second, &archive).catch_up().await.unwrap().epoch, Some(2));
        // Also under another pin it is archived already.
        let refused = Archiver::of_log(second.clone(), archive.clone(), options().pin("other"))
            .unwrap()
            .catch_up()
            .await
            .unwrap_err();
        assert!(matches!(refused, Error::ArchivedAlready { .. }), "{refused}");
    }
}

#[tokio::test]
async fn what_cannot_be_proven_of_a_note_has_to_be_said() {
    let (dir, archive) = (scratch(), memory());
    let log = open(dir.path());
    for last in [100, 200, 300] {
        fill_and_seal(&log, 1, last);
    }
    catch_up(&log, &archive).await;
    archive.store().delete(&note(1)).await.unwrap();
    archive.store().delete(&with_suffix(&**archive.store(), ".seg").await[0]).await.unwrap();
    let before = keys(&**archive.store()).await;
    let refused = archive.rebuild_note(1, false).await.unwrap_err();
    assert!(matches!(refused, Error::Unproven { epoch: 1, number: 1, first_lsn: Lsn(101), .. }), "{refused}");
    assert_eq!(keys(&**archive.store()).await, before);
    archive.rebuild_note(1, true).await.unwrap();
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 101..=300));
    // A damaged object proves nothing.
    archive.store().delete(&note(1)).await.unwrap();
    let first = &with_suffix(&**archive.store(), ".seg").await[0];
    archive.store().put(first, b"other".as_slice().into()).await.unwrap();
    let refused = archive.rebuild_note(1, true).await.unwrap_err();
    assert!(matches!(&refused, Error::Damaged { key, .. } if *key == first.to_string()), "{refused}");
}

#[tokio::test]
async fn an_epoch_without_its_note_can_be_forgotten_after_another_one_has_taken_its_place() {
    let (dir, archive) = (scratch(), memory());
    let log = open(dir.path());
    for last in [100, 200, 300] {
        fill_and_seal(&log, 1, last);
    }
    catch_up(&log, &archive).await;
    let refused = archive.forget_epoch(1).await.unwrap_err();
    assert!(matches!(refused, Error::Noted { epoch: 1 }), "{refused}");
    log.trim_before(Lsn(150)).unwrap();
    archive.store().delete(&note(1)).await.unwrap();
    let without = Archiver::of_log(log.clone(), archive.clone(), options().abandon_epoch(Some(1))).unwrap();
    assert_eq!(without.catch_up().await.unwrap().epoch, Some(2));
    let report = archive.forget_epoch(1).await.unwrap();
    assert_eq!((report.segments, report.epochs), (3, 1));
    let left = keys(&**archive.store()).await.into_iter().filter(|key| key.as_ref().contains("/0000000001/"));
    assert_eq!(left.collect::<Vec<_>>(), [Key::from("logs/a/0000000001/forgotten")]);
    archive.prune(Lsn(101), PruneGaps::GiveUp).await.unwrap();
    assert!(archive.list().await.unwrap().faults.is_empty());
    assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 101..=300));
    // One that another one continues stays.
    let (copy, _) = restore(&archive, RestoreTo::Lsn(Lsn(250))).await.unwrap();
    let third = open(copy.path());
    fill(&third, 2, 400);
    third.sync().unwrap();
    catch_up(&third, &archive).await;
    archive.store().delete(&note(2)).await.unwrap();
    let refused = archive.forget_epoch(2).await.unwrap_err();
    assert!(matches!(refused, Error::Continued { epoch: 2, by: 3 }), "{refused}");
}

/// Epoch 1 with records 1 to 300, and epoch 2, which continues it after 250 and has up to 400.
async fn two_epochs() -> Archive {
    let (dir, archive) = (scratch(), memory());
    let log = open(dir.path());
    for last in [100, 200, 300] {
        fill_and_seal(&log, 1, last);
    }
    catch_up(&log, &archive).await;
    begin_at(&archive, 250, 400).await;
    archive
}

/// A log of records up to `at` begins an epoch, with those up to `last`.
async fn begin_at(archive: &Archive, at: u64, last: u64) -> Option<u64> {
    let options = RestoreOptions::new().epoch(Some(1));
    let copy = scratch();
    archive.restore(copy.path(), RestoreTo::Lsn(Lsn(at)), &options, &mut |_| {}).await.unwrap();
    let log = open(copy.path());
    fill_and_seal(&log, 2, last);
    archiver(&log, archive).catch_up().await.unwrap().epoch
}

#[tokio::test]
async fn an_epoch_that_a_later_one_without_a_note_may_continue_is_not_forgotten() {
    for bytes in [None, Some(b"{".as_slice())] {
        let archive = two_epochs().await;
        let all = restored(&archive, RestoreTo::Latest).await;
        for epoch in [1, 2] {
            match bytes {
                None => archive.store().delete(&note(epoch)).await.unwrap(),
                Some(bytes) => drop(archive.store().put(&note(epoch), bytes.into()).await.unwrap()),
            }
        }
        let before = keys(&**archive.store()).await;
        let refused = archive.forget_epoch(1).await.unwrap_err();
        assert_eq!(refused.to_string(), "epoch 2, which has no note that can be used, may continue epoch 1");
        assert_eq!(keys(&**archive.store()).await, before, "nothing is deleted");
        for epoch in [1, 2] {
            archive.rebuild_note(epoch, false).await.unwrap();
        }
        assert_eq!(restored(&archive, RestoreTo::Latest).await, all);
    }
}

#[tokio::test]
async fn the_number_of_an_epoch_that_was_forgotten_is_not_taken_again() {
    for is_mark_alone in [false, true] {
        let archive = two_epochs().await;
        if is_mark_alone {
            archive.prune(Lsn(330), PruneGaps::Refuse).await.unwrap();
        }
        archive.store().delete(&note(2)).await.unwrap();
        archive.forget_epoch(2).await.unwrap();
        assert!(archive.list().await.unwrap().epochs.iter().all(|epoch| epoch.epoch == 1), "nothing is left of it");
        if is_mark_alone {
            for key in with_suffix(&**archive.store(), "/forgotten").await {
                archive.store().delete(&key).await.unwrap();
            }
        }
        assert_eq!(begin_at(&archive, 270, 280).await, Some(3), "{is_mark_alone}");
        assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
    }
}

#[tokio::test]
async fn an_epoch_that_is_said_to_begin_lacks_what_the_earlier_ones_prove_to_be_missing() {
    let archive = with_lost_records().await;
    let before = note_of(&archive, 2).await;
    let faults = archive.list().await.unwrap().faults;
    archive.store().delete(&note(2)).await.unwrap();
    assert!(matches!(archive.rebuild_note(2, false).await.unwrap_err(), Error::Unproven { epoch: 2, .. }));
    archive.rebuild_note(2, true).await.unwrap();
    assert_eq!(note_of(&archive, 2).await, before);
    assert_eq!(archive.list().await.unwrap().faults, faults);
    let refused = archive.prune(Lsn(550), PruneGaps::Refuse).await.unwrap_err();
    assert!(matches!(&refused, Error::Gap { epoch: 2, missing } if *missing == (Lsn(301)..Lsn(501))), "{refused}");
}

#[tokio::test]
async fn an_epoch_is_not_said_to_begin_while_one_that_it_may_continue_has_no_note() {
    let archive = two_epochs().await;
    let all = restored(&archive, RestoreTo::Latest).await;
    for epoch in [1, 2] {
        archive.store().delete(&note(epoch)).await.unwrap();
    }
    for begins in [false, true] {
        let refused = archive.rebuild_note(2, begins).await.unwrap_err();
        assert_eq!(refused.to_string(), "epoch 2 may continue epoch 1, which has no note that can be used");
    }
    for epoch in [1, 2] {
        archive.rebuild_note(epoch, false).await.unwrap();
    }
    assert_eq!(restored(&archive, RestoreTo::Latest).await, all);
}

#[tokio::test]
async fn an_epoch_is_not_said_to_begin_after_the_place_where_a_later_one_leaves_it() {
    let (dir, archive) = (scratch(), memory());
    let log = open(dir.path());
    for last in [100, 200, 300] {
        fill_and_seal(&log, 1, last);
    }
    catch_up(&log, &archive).await;
    begin_at(&archive, 150, 400).await;
    archive.store().delete(&note(1)).await.unwrap();
    let of_first = with_suffix(&**archive.store(), ".seg").await;
    for key in &of_first[..2] {
        archive.store().delete(key).await.unwrap();
    }
    let before = keys(&**archive.store()).await;
    let refused = archive.rebuild_note(1, true).await.unwrap_err();
    assert_eq!(refused.to_string(), "epoch 1 did not begin with record 201: epoch 2 continues it with record 151");
    assert_eq!(keys(&**archive.store()).await, before);
}

#[tokio::test]
async fn a_note_whose_contents_have_changed_is_told_alone_and_made_again() {
    let archive = two_epochs().await;
    let all = restored(&archive, RestoreTo::Latest).await;
    let digits = |text: &str, name: &str| {
        let at = text.find(&format!("\"{name}\": ")).unwrap() + name.len() + 4;
        text[at..].split([',', '\n']).next().unwrap().to_owned()
    };
    for (epoch, name, to) in [
        (1, "log", "\"0123456789abcdef0123456789abcdef\""),
        (1, "first_lsn", "2"),
        (1, "lost", "[1, 2]"),
        (2, "log", "\"0123456789abcdef0123456789abcdef\""),
        (2, "first_lsn", "201"),
        (2, "number", "1"),
        (2, "end_bytes", "77"),
    ] {
        let text = String::from_utf8(bytes_of(&**archive.store(), &note(epoch)).await).unwrap();
        let from = format!("\"{name}\": {}", digits(&text, name));
        let changed = text.replacen(&from, &format!("\"{name}\": {to}"), 1);
        assert_ne!(changed, text, "{name}");
        archive.store().put(&note(epoch), changed.into()).await.unwrap();
        let told = [
            archive.list().await.unwrap().faults,
            archive.verify(None, &mut |_| {}).await.unwrap().faults,
            vec![EpochFault::Broken {
                epoch,
                why: restore(&archive, RestoreTo::Latest).await.unwrap_err().to_string(),
            }],
        ];
        for faults in &told {
            let is_named = |fault: &EpochFault| fault.to_string().contains(note(epoch).as_ref());
            assert!(!faults.is_empty() && faults.iter().all(is_named), "{epoch} {name}: {faults:?}");
        }
        archive.rebuild_note(epoch, false).await.unwrap();
        assert_eq!(restored(&archive, RestoreTo::Latest).await, all, "{epoch} {name}");
        assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
    }
}

#[tokio::test]
async fn an_epoch_with_a_note_in_a_later_version_or_of_another_log_is_not_forgotten() {
    let archive = two_epochs().await;
    let all = restored(&archive, RestoreTo::Latest).await;
    let sound = bytes_of(&**archive.store(), &note(2)).await;
    let text = String::from_utf8(sound.clone()).unwrap();
    assert!(text.contains("\"version\": 1"));
    let later = changed_note(&sound, |text| text.replace("\"version\": 1", "\"version\": 2"));
    let others = with_lost_records().await;
    let other = bytes_of(&**others.store(), &note(2)).await;
    for (bytes, is_made_again) in [(later, false), (b"{\"version\": 7}".to_vec(), false), (other, true)] {
        archive.store().put(&note(2), bytes.into()).await.unwrap();
        let before = keys(&**archive.store()).await;
        let refused = archive.forget_epoch(2).await.unwrap_err();
        assert!(matches!(&refused, Error::Damaged { key, .. } if *key == note(2).to_string()), "{refused}");
        assert_eq!(keys(&**archive.store()).await, before);
        assert_eq!(archive.rebuild_note(2, true).await.is_ok(), is_made_again);
    }
    assert_eq!(restored(&archive, RestoreTo::Latest).await, all);
}

#[tokio::test]
async fn a_segment_that_an_epoch_may_continue_and_that_is_damaged_is_named() {
    let archive = two_epochs().await;
    let all = restored(&archive, RestoreTo::Latest).await;
    let parent = with_suffix(&**archive.store(), ".seg").await.remove(2);
    let sound = bytes_of(&**archive.store(), &parent).await;
    let mut bytes = sound.clone();
    bytes[9000] ^= 1;
    archive.store().put(&parent, bytes.into()).await.unwrap();
    archive.store().delete(&note(2)).await.unwrap();
    for begins in [false, true] {
        let refused = archive.rebuild_note(2, begins).await.unwrap_err();
        assert!(matches!(&refused, Error::Damaged { key, .. } if *key == parent.to_string()), "{refused}");
    }
    archive.store().put(&parent, sound.into()).await.unwrap();
    archive.rebuild_note(2, false).await.unwrap();
    assert_eq!(restored(&archive, RestoreTo::Latest).await, all);
}
