//! Notes of epochs that are damaged, keys that are not the archive's, and gaps under a prune.

use std::sync::Arc;

use mapwal::Lsn;
use mapwal_archive::{Archive, EpochFault, Error, ObjectDamage, PruneGaps, RestoreOptions, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;

use crate::support::{
    bytes_of, catch_up, changed_note, expected, fill_and_seal, keys, open, records, restore, restored, scratch,
    with_suffix,
};

/// Three epochs: 1 to 500, then from 251 on to 700, and from 601 on to 900.
async fn three_epochs() -> (Arc<InMemory>, Archive) {
    let store = Arc::new(InMemory::new());
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let dir = scratch();
    let log = open(dir.path());
    for segment in 1..=5 {
        fill_and_seal(&log, 1, segment * 100);
    }
    catch_up(&log, &archive).await;
    for (era, to, last) in [(2, 250, 700), (3, 600, 900)] {
        let (again, _) = restore(&archive, RestoreTo::Lsn(Lsn(to))).await.unwrap();
        let log = open(again.path());
        for segment in to / 100 + 1..=last / 100 {
            fill_and_seal(&log, era, segment * 100);
        }
        catch_up(&log, &archive).await;
    }
    (store, archive)
}

type IsIt = fn(&ObjectDamage) -> bool;

fn note(epoch: u64) -> Key {
    format!("a/{epoch:010}/epoch.json").into()
}

async fn of_epoch(archive: &Archive, epoch: u64) -> Result<Vec<(u64, Vec<u8>)>, Error> {
    let dir = scratch();
    let options = RestoreOptions::new().epoch(Some(epoch));
    archive.restore(dir.path(), RestoreTo::Latest, &options, &mut |_| {}).await?;
    Ok(records(&open(dir.path())))
}

fn is_damage_of(error: &Error, note: &Key) -> bool {
    matches!(error, Error::Damaged { key, .. } if key == note.as_ref())
}

#[tokio::test]
async fn a_damaged_note_concerns_its_epoch_and_what_continues_it_alone() {
    for (damaged, others) in [(1, vec![]), (2, vec![1]), (3, vec![1, 2])] {
        for contents in ["", "{", "{}", "missing"] {
            let (store, archive) = three_epochs().await;
            match contents {
                "missing" => store.delete(&note(damaged)).await.unwrap(),
                contents => drop(store.put(&note(damaged), contents.into()).await.unwrap()),
            }
            let list = archive.list().await.unwrap();
            for epoch in &list.epochs {
                match (&epoch.fault, others.contains(&epoch.epoch)) {
                    (None, is_other) => assert!(is_other, "{damaged}: {epoch:?}"),
                    (Some(fault), is_other) => assert!(!is_other && is_damage_of(fault, &note(damaged)), "{fault}"),
                }
            }
            let verified = archive.verify(None, &mut |_| {}).await.unwrap();
            for faults in [&list.faults, &verified.faults] {
                assert_eq!(faults.len(), 3 - others.len());
                let named = |fault: &EpochFault| fault.to_string().contains(note(damaged).as_ref());
                assert!(faults.iter().all(named), "{faults:?}");
            }
            let refused = restore(&archive, RestoreTo::Latest).await.unwrap_err();
            assert!(is_damage_of(&refused, &note(damaged)), "{refused}");
            for &epoch in &others {
                let last = of_epoch(&archive, epoch).await.unwrap().pop().unwrap().0;
                assert_eq!(last, if epoch == 1 { 500 } else { 700 });
            }
        }
    }
}

#[tokio::test]
async fn a_prune_leaves_an_epoch_with_a_damaged_note_as_it_is_and_goes_on_with_others() {
    for (damaged, before, deleted, first) in [(3, 451, 6, 401), (3, 501, 8, 501), (2, 401, 4, 251)] {
        let (store, archive) = three_epochs().await;
        let good = bytes_of(&*store, &note(damaged)).await;
        store.put(&note(damaged), "{".into()).await.unwrap();
        let is_of = |key: &Key| key.as_ref().contains(&format!("a/{damaged:010}/"));
        let of_damaged = async || keys(&*store).await.into_iter().filter(is_of).collect::<Vec<_>>();
        let there = of_damaged().await;
        let report = archive.prune(Lsn(before), PruneGaps::Refuse).await.unwrap();
        assert_eq!((report.segments, report.faults.len()), (deleted, 4 - damaged as usize), "{report:?}");
        assert_eq!(of_damaged().await, there);
        assert!(keys(&*store).await.contains(&note(1)), "it may continue any earlier one");
        store.put(&note(damaged), good.into()).await.unwrap();
        let kept = restored(&archive, RestoreTo::Latest).await;
        assert_eq!((kept[0].0, kept.last().unwrap().0), (first, 900), "what is kept can be restored");
    }
    let (store, archive) = three_epochs().await;
    // All of them: nothing is deleted.
    for epoch in 1..=3 {
        store.put(&note(epoch), "{".into()).await.unwrap();
    }
    let before = keys(&*store).await;
    let refused = archive.prune(Lsn(451), PruneGaps::GiveUp).await.unwrap_err();
    assert!(matches!(refused, Error::Damaged { .. }), "{refused}");
    assert_eq!(keys(&*store).await, before);
}

#[tokio::test]
async fn an_archiver_goes_on_though_notes_of_other_epochs_are_damaged() {
    let (store, archive) = three_epochs().await;
    let (again, _) = restore(&archive, RestoreTo::Latest).await.unwrap();
    let log = open(again.path());
    fill_and_seal(&log, 4, 1000);
    catch_up(&log, &archive).await;
    let good = bytes_of(&*store, &note(2)).await;
    store.put(&note(2), "{".into()).await.unwrap();
    fill_and_seal(&log, 4, 1100);
    let caught_up = tokio::time::timeout(std::time::Duration::from_secs(60), catch_up(&log, &archive));
    caught_up.await.expect("in a minute");
    store.put(&note(2), good.into()).await.unwrap();
    let last = restored(&archive, RestoreTo::Latest).await.pop().unwrap().0;
    assert_eq!((last, archive.list().await.unwrap().epochs.len()), (1100, 4));
}

#[tokio::test]
async fn a_note_says_what_is_wrong_with_it() {
    let (store, archive) = three_epochs().await;
    let bytes = bytes_of(&*store, &note(3)).await;
    let text = String::from_utf8(bytes.clone()).unwrap();
    let first = String::from_utf8(bytes_of(&*store, &note(1)).await).unwrap();
    let mut other_log = text.clone();
    let log_at = text.find("\"log\": \"").unwrap() + 8;
    other_log.replace_range(log_at..=log_at, if text[log_at..].starts_with('0') { "1" } else { "0" });
    let sound = |from: &str, to: &str| String::from_utf8(changed_note(&bytes, |text| text.replace(from, to))).unwrap();
    let log = text[log_at..].split_once('"').unwrap().0;
    let other = if log.starts_with('0') { log.replacen('0', "1", 1) } else { format!("0{}", &log[1..]) };
    let cases: [(String, IsIt); 12] = [
        // With the checksum of what it says, it is a later version's; without, one of this version that has changed.
        (sound("\"version\": 1", "\"version\": 2"), |damage| matches!(damage, ObjectDamage::Version { version: 2 })),
        (text.replace("\"version\": 1", "\"version\": 2"), |damage| matches!(damage, ObjectDamage::Checksum { .. })),
        (text.replace("\"version\": 1", "\"version\": 0"), |damage| matches!(damage, ObjectDamage::Checksum { .. })),
        ("{\"version\": 2}".to_owned(), |damage| matches!(damage, ObjectDamage::Version { version: 2 })),
        (sound("\"epoch\": 2", "\"epoch\": 3"), |damage| *damage == ObjectDamage::Contents),
        (text.replace("\"epoch\": 2", "\"epoch\": 1"), |damage| matches!(damage, ObjectDamage::Checksum { .. })),
        (text.replace("\"first_lsn\": ", "\"first_lsn\": 1"), |damage| matches!(damage, ObjectDamage::Checksum { .. })),
        (text.replace('}', ""), |damage| matches!(damage, ObjectDamage::Note { .. })),
        (first, |damage| matches!(damage, ObjectDamage::Copy { epoch: 1 })),
        (other_log, |damage| matches!(damage, ObjectDamage::Checksum { .. })),
        (sound(log, &other), |damage| matches!(damage, ObjectDamage::OtherLog { .. })),
        (text.replace("\"first_lsn\": ", "\"first_lsn\": -"), |damage| matches!(damage, ObjectDamage::Note { .. })),
    ];
    for (contents, is_it) in cases {
        assert_ne!(contents, text);
        store.put(&note(3), contents.clone().into()).await.unwrap();
        let fault = archive.list().await.unwrap().epochs[2].fault.take().expect("a fault");
        let Error::Damaged { key, damage, .. } = &fault else { panic!("{fault}") };
        assert!(*key == note(3).as_ref() && is_it(damage), "{fault}: {contents}");
    }
}

/// A copy of a whole epoch would be taken for the newest, and hides what the original has got since.
#[tokio::test]
async fn a_copy_of_an_epoch_is_not_taken_for_a_later_one() {
    let store = Arc::new(InMemory::new());
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let dir = scratch();
    let log = open(dir.path());
    fill_and_seal(&log, 1, 100);
    catch_up(&log, &archive).await;
    for key in keys(&*store).await {
        let copy = Key::from(key.as_ref().replace("a/0000000001/", "a/0000000002/"));
        store.copy(&key, &copy).await.unwrap();
    }
    fill_and_seal(&log, 1, 200);
    catch_up(&log, &archive).await;
    let refused = restore(&archive, RestoreTo::Latest).await.unwrap_err();
    assert!(matches!(&refused, Error::Damaged { damage: ObjectDamage::Copy { epoch: 1 }, .. }), "{refused}");
    assert_eq!(of_epoch(&archive, 1).await.unwrap(), expected(1, 1..=200));
}

#[tokio::test]
async fn foreign_keys_with_the_largest_numbers_confuse_nothing() {
    let (store, archive) = three_epochs().await;
    let foreign = [
        "9999999999/notes.txt",
        "9999999999/session.json",
        "99999999999/epoch.json",
        "18446744073709551615/epoch.json",
        "pruned/18446744073709551615-9999999999",
        "pruned/18446744073709551615",
        "pruned/99999999999999999999-0000000001",
        "pruned/.keep",
        "zzzz",
        "0000000001/99999999999999999999-99999999999999999999-9999999999-ffffffff.seg",
    ];
    for name in foreign {
        store.put(&Key::from(format!("a/{name}")), "foreign".into()).await.unwrap();
    }
    let list = archive.list().await.unwrap();
    assert_eq!(list.epochs.iter().map(|epoch| epoch.epoch).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((list.pruned_before, list.faults.len()), (Lsn(0), 0));
    let (again, report) = restore(&archive, RestoreTo::Latest).await.unwrap();
    assert_eq!(report.next_lsn, Lsn(901));
    let log = open(again.path());
    fill_and_seal(&log, 4, 1000);
    catch_up(&log, &archive).await;
    let list = archive.list().await.unwrap();
    assert_eq!(list.epochs.last().map(|epoch| epoch.epoch), Some(4));
    archive.prune(Lsn(301), PruneGaps::Refuse).await.unwrap();
    archive.prune(Lsn(401), PruneGaps::Refuse).await.unwrap();
    for name in foreign.iter().filter(|name| !name.starts_with("pruned/1")) {
        assert!(store.head(&Key::from(format!("a/{name}"))).await.is_ok(), "{name} is not the archive's to delete");
    }
}

/// What looks like the last number that there is leaves none above it.
#[tokio::test]
async fn an_epoch_begins_though_the_last_number_is_taken() {
    let (store, archive) = three_epochs().await;
    store.put(&note(9_999_999_999), "junk".into()).await.unwrap();
    // The next one that is free was that of an epoch that was forgotten.
    store.put(&Key::from("a/0000000004/forgotten"), "forgotten\n".into()).await.unwrap();
    let dir = scratch();
    let options = RestoreOptions::new().epoch(Some(3));
    archive.restore(dir.path(), RestoreTo::Latest, &options, &mut |_| {}).await.unwrap();
    let log = open(dir.path());
    fill_and_seal(&log, 4, 1000);
    catch_up(&log, &archive).await;
    let last = of_epoch(&archive, 5).await.unwrap().pop().unwrap().0;
    assert_eq!(last, 1000);
    let refused = restore(&archive, RestoreTo::Latest).await.unwrap_err();
    assert!(is_damage_of(&refused, &note(9_999_999_999)), "{refused}");
}

/// Five segments of a hundred records, without those at `gone`.
async fn with_gaps(gone: &[usize]) -> (Arc<InMemory>, Archive) {
    let store = Arc::new(InMemory::new());
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let dir = scratch();
    let log = open(dir.path());
    for segment in 1..=5 {
        fill_and_seal(&log, 1, segment * 100);
    }
    catch_up(&log, &archive).await;
    let segments = with_suffix(&*store, ".seg").await;
    for &at in gone {
        store.delete(&segments[at]).await.unwrap();
    }
    (store, archive)
}

#[tokio::test]
async fn a_prune_does_not_pass_a_gap_unless_it_is_given_up() {
    for (before, gap, gives_up) in [
        (1, None, None),
        (101, None, None),
        (200, None, None),
        (201, Some(201..301), None),
        (300, Some(201..301), None),
        (301, Some(201..301), Some(301)),
        (450, Some(201..301), Some(401)),
        (501, Some(201..301), Some(401)),
    ] {
        let (store, archive) = with_gaps(&[2]).await;
        let there = keys(&*store).await;
        for gaps in [PruneGaps::Refuse, PruneGaps::GiveUp] {
            let pruned = archive.prune(Lsn(before), gaps).await;
            match (&gap, gives_up.filter(|_| gaps == PruneGaps::GiveUp)) {
                (Some(gap), None) => {
                    let Err(Error::Gap { epoch: 1, missing }) = pruned else { panic!("{before}: {pruned:?}") };
                    assert_eq!(missing, Lsn(gap.start)..Lsn(gap.end));
                    assert_eq!(keys(&*store).await, there, "nothing is deleted");
                }
                (Some(_), Some(first)) => {
                    assert_eq!(pruned.unwrap().first_lsn, Lsn(first), "{before}");
                    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, first..=500));
                    assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
                }
                (None, _) => {
                    let report = pruned.unwrap();
                    assert_eq!(report.faults, [EpochFault::Gap { epoch: 1, missing: (201, 301) }]);
                    let first = (before - 1) / 100 * 100 + 1;
                    assert_eq!(report.first_lsn, Lsn(first));
                    assert_eq!(restored(&archive, RestoreTo::Lsn(Lsn(200))).await, expected(1, first..=200));
                }
            }
        }
    }
}

#[tokio::test]
async fn all_gaps_are_told_and_not_the_first_alone() {
    let (_store, archive) = with_gaps(&[0, 2, 3]).await;
    let gaps = [(1, 101), (201, 401)].map(|missing| EpochFault::Gap { epoch: 1, missing });
    assert_eq!(archive.list().await.unwrap().faults, gaps);
    assert_eq!(archive.verify(None, &mut |_| {}).await.unwrap().faults, gaps);
    for (before, left) in [(100, None), (101, Some(1)), (201, None), (300, None), (401, Some(0))] {
        let pruned = archive.prune(Lsn(before), PruneGaps::GiveUp).await;
        assert_eq!(pruned.ok().map(|report| report.faults.len()), left, "{before}");
    }
    // What was pruned is not among them.
    let (store, archive) = with_gaps(&[]).await;
    archive.prune(Lsn(101), PruneGaps::Refuse).await.unwrap();
    store.delete(&with_suffix(&*store, ".seg").await[0]).await.unwrap();
    let gap = EpochFault::Gap { epoch: 1, missing: (101, 201) };
    assert_eq!(archive.list().await.unwrap().faults, [gap]);
}

#[tokio::test]
async fn a_note_that_cannot_be_read_concerns_its_epoch_and_what_continues_it_alone() {
    let (store, _) = three_epochs().await;
    let hooked = crate::hooked::Hooked::new(&store, |_, _| {});
    *hooked.denied.lock().unwrap() = Some(note(2));
    let archive = Archive::new(Arc::new(hooked), "a");
    let list = archive.list().await.unwrap();
    assert_eq!(list.epochs.iter().map(|epoch| epoch.fault.is_some()).collect::<Vec<_>>(), [false, true, true]);
    let report = archive.verify(None, &mut |_| {}).await.unwrap();
    let unread: Vec<_> = report.unread.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!((unread, report.faults.len(), report.is_sound()), (vec![note(2).as_ref()], 0, false), "{report:?}");
    assert!(report.unread[0].1.contains("not for this one"), "{report:?}");
    assert_eq!(report.read as usize, with_suffix(&*store, ".seg").await.len(), "all others are read");
    assert_eq!(of_epoch(&archive, 1).await.unwrap(), expected(1, 1..=500));
    let refused = restore(&archive, RestoreTo::Latest).await.unwrap_err();
    assert!(matches!(&refused, Error::Damaged { damage: ObjectDamage::Unreadable { .. }, .. }), "{refused}");
    // What changes something waits until all can be read.
    let there = keys(&*store).await;
    assert!(archive.rebuild_note(2, true).await.is_err());
    assert!(archive.forget_epoch(2).await.is_err());
    assert!(archive.prune(Lsn(451), PruneGaps::Refuse).await.is_err());
    assert_eq!(keys(&*store).await, there);
}

#[tokio::test]
async fn a_note_with_lost_records_that_are_none_or_with_too_many_bytes_is_not_used() {
    let archive = crate::between_epochs::with_lost_records().await;
    let key = Key::from("logs/a/0000000002/epoch.json");
    let sound = bytes_of(&**archive.store(), &key).await;
    let lost = |from: u64, to: u64| {
        let told = "\"lost\": [\n    301,\n    501\n  ]";
        let changed = format!("\"lost\": [\n    {from},\n    {to}\n  ]");
        changed_note(&sound, |text| {
            assert!(text.contains(told), "{text}");
            text.replace(told, &changed)
        })
    };
    let mut long = sound.clone();
    long.resize(100_000, b' ');
    for bytes in [lost(0, 501), lost(400, 400), lost(501, 301), lost(301, 502), long] {
        archive.store().put(&key, bytes.into()).await.unwrap();
        let faults = archive.list().await.unwrap().faults;
        let [EpochFault::Note { epoch: 2, damage: ObjectDamage::Contents, .. }] = &faults[..] else {
            panic!("{faults:?}")
        };
        archive.rebuild_note(2, true).await.unwrap();
        assert_eq!(archive.list().await.unwrap().epochs[1].lost, Some(Lsn(301)..Lsn(501)));
    }
}
