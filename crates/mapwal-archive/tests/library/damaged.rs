//! Frames that are not sound, in the log's own files and in objects whose keys have the checksum of the damaged bytes.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mapwal::{Log, Lsn};
use mapwal_archive::{Archive, Archiver, Error, ObjectDamage, RestoreOptions, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;

use crate::support::{
    self, archiver, bytes_of, catch_up, expected, fill, fill_and_seal, keys, open, options, reader, restored, scratch,
    with_suffix,
};

fn new() -> (Arc<InMemory>, Archive) {
    let store = Arc::new(InMemory::new());
    (Arc::clone(&store), Archive::new(store as _, "a"))
}

/// Flips a bit of the log's file of a segment; a second time it is as before.
fn flip(directory: &Path, number: u64, offset: u64) {
    let path = directory.join(format!("{number:020}.seg"));
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 64], offset).unwrap();
}

/// In the writer's process, and as in another one.
fn both(log: &Arc<Log>, archive: &Archive, is_reader: bool) -> Archiver {
    if is_reader {
        return Archiver::of_reader(reader(log.directory()), archive.clone(), options()).unwrap();
    }
    archiver(log, archive)
}

/// What it says that goes wrong for some time.
async fn fails(archiver: &Archiver) -> String {
    let tried = tokio::time::timeout(Duration::from_millis(300), archiver.catch_up()).await;
    assert!(tried.is_err(), "it goes on trying, and never says that it is done: {tried:?}");
    archiver.last_error().expect("an error")
}

fn names_place(told: &str, number: u64, offset: u64, lsns: std::ops::RangeInclusive<u64>) {
    assert!(told.contains(&format!("{number:020}.seg")), "{told}");
    let number = |after: &str| -> u64 {
        let rest = told.split(after).nth(1).unwrap_or_else(|| panic!("{after}: {told}"));
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    assert!(offset - number("offset ") < 300, "{told}");
    assert!(lsns.contains(&number("record ")), "{told}");
}

#[tokio::test]
async fn a_damaged_segment_is_not_archived_and_its_parts_stay() {
    for is_reader in [false, true] {
        // In memory an object is what the log has mapped.
        let (dir, (_shelf, [archive, _])) = (scratch(), support::both());
        let store = archive.store();
        let log = open(dir.path());
        fill(&log, 1, 60);
        log.sync().unwrap();
        let archiver = both(&log, &archive, is_reader);
        archiver.catch_up().await.unwrap();
        fill_and_seal(&log, 1, 100);
        let before = keys(&**store).await;
        assert_eq!(before.iter().filter(|key| key.as_ref().ends_with(".part")).count(), 1);
        flip(dir.path(), 1, 9000);
        names_place(&fails(&archiver).await, 1, 9000, 15..=30);
        assert_eq!(keys(&**store).await, before, "{is_reader}: nothing is uploaded, and nothing deleted");
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=60));
        assert!(log.pins()[0].lsn <= Lsn(1), "the log keeps it");
        flip(dir.path(), 1, 9000);
        archiver.catch_up().await.unwrap();
        assert_eq!(with_suffix(&**store, ".seg").await.len(), 1);
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=100));
    }
}

#[tokio::test]
async fn a_damaged_part_is_not_archived() {
    for is_reader in [false, true] {
        let (dir, (store, archive)) = (scratch(), new());
        let log = open(dir.path());
        fill(&log, 1, 60);
        log.sync().unwrap();
        let first = both(&log, &archive, is_reader);
        first.catch_up().await.unwrap();
        drop(first);
        fill(&log, 1, 100);
        log.sync().unwrap();
        let before = keys(&*store).await;
        // Where this part's records are; and before it, which an archiver that has begun reads again.
        for offset in [21_000, 9000] {
            let archiver = both(&log, &archive, is_reader);
            archiver.status();
            flip(dir.path(), 1, offset);
            let told = fails(&archiver).await;
            if offset == 21_000 {
                names_place(&told, 1, offset, 68..=85);
            }
            assert_eq!(with_suffix(&*store, ".part").await, [before[0].clone()], "{is_reader} {offset}: {told}");
            flip(dir.path(), 1, offset);
        }
        both(&log, &archive, is_reader).catch_up().await.unwrap();
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=100));
    }
}

#[tokio::test]
async fn what_is_sound_before_damage_is_archived_and_the_rest_counts_as_not_archived() {
    for (number, offset, archived, known) in [(4, 9000, 301, 315..=330), (3, 9000, 201, 215..=401)] {
        let (dir, (store, archive)) = (scratch(), new());
        let log = open(dir.path());
        fill_and_seal(&log, 1, 100);
        catch_up(&log, &archive).await;
        fill_and_seal(&log, 1, 200);
        fill_and_seal(&log, 1, 300);
        fill(&log, 1, 400);
        log.sync().unwrap();
        drop(log);
        flip(dir.path(), number, offset);
        let archiver = Archiver::of_reader(reader(dir.path()), archive.clone(), options()).unwrap();
        names_place(&fails(&archiver).await, number, offset, number * 100 - 85..=number * 100 - 70);
        assert_eq!(with_suffix(&*store, ".seg").await.len() as u64, number - 1, "segment {number} is damaged");
        let status = archiver.status();
        assert_eq!(status.archived_lsn, Lsn(archived));
        assert!(known.contains(&status.next_lsn.0), "{status:?}");
        assert_eq!(status.lag_records, status.next_lsn.0 - archived);
        assert!(status.lag_records > 0 && status.lag_bytes > 0, "{status:?}");
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=archived - 1));
    }
}

#[tokio::test]
async fn a_damaged_segment_does_not_take_the_place_of_an_object_that_vanished() {
    for is_reader in [false, true] {
        let (dir, (store, archive)) = (scratch(), new());
        let log = open(dir.path());
        for segment in 1..=3 {
            fill_and_seal(&log, 1, segment * 100);
        }
        catch_up(&log, &archive).await;
        store.delete(&with_suffix(&*store, ".seg").await[1]).await.unwrap();
        let before = keys(&*store).await;
        flip(dir.path(), 2, 9000);
        let running = both(&log, &archive, is_reader);
        let caught_up = tokio::time::timeout(Duration::from_secs(20), running.catch_up()).await;
        let missing = caught_up.unwrap_or_else(|_| panic!("{:?}", running.last_error())).unwrap().missing;
        assert_eq!(missing.len(), 1, "{missing:?}");
        names_place(missing[0].log_fault.as_ref().expect("the log's copy is damaged"), 2, 9000, 115..=130);
        drop(running);
        assert_eq!(
            with_suffix(&*store, ".seg").await,
            before.iter().filter(|key| key.as_ref().ends_with(".seg")).cloned().collect::<Vec<_>>()
        );
        flip(dir.path(), 2, 9000);
        both(&log, &archive, is_reader).catch_up().await.unwrap();
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=300));
    }
}

#[tokio::test]
async fn a_segment_that_was_cut_after_its_part_was_archived_begins_an_epoch() {
    let (dir, (store, archive)) = (scratch(), new());
    let log = open(dir.path());
    fill(&log, 1, 60);
    log.sync().unwrap();
    let archiver = archiver(&log, &archive);
    archiver.catch_up().await.unwrap();
    log.truncate_after(Lsn(40)).unwrap();
    fill_and_seal(&log, 2, 50);
    archiver.catch_up().await.unwrap();
    let listing = archive.list().await.unwrap();
    assert_eq!(listing.epochs.len(), 2, "{:?}", keys(&*store).await);
    assert_eq!(listing.epochs[0].next_lsn, Lsn(61), "what was archived stays");
    let mut all = expected(1, 1..=40);
    all.extend(expected(2, 41..=50));
    assert_eq!(restored(&archive, RestoreTo::Latest).await, all);
}

/// Damages an object at `offset`, and gives it the key that it would have if it had been uploaded like that.
async fn replace(store: &InMemory, key: &Key, offset: usize) -> Key {
    let mut bytes = bytes_of(store, key).await;
    bytes[offset] ^= 64;
    let (stem, suffix) = key.as_ref().rsplit_once('.').unwrap();
    let (stem, _) = stem.rsplit_once('-').unwrap();
    let damaged = Key::from(format!("{stem}-{:08x}.{suffix}", crc32fast::hash(&bytes)));
    store.put(&damaged, bytes.into()).await.unwrap();
    store.delete(key).await.unwrap();
    damaged
}

#[tokio::test]
async fn an_object_whose_key_has_the_checksum_of_damaged_bytes_is_found_by_a_verification_and_a_restore() {
    for (suffix, at, offset, place) in [
        (".seg", 1, 9000, Some((9000, 120))),
        (".part", 0, 9000, Some((9000, 220))),
        (".part", 1, 3000, Some((3000, 253))),
        (".part", 2, 100, Some((0, 280))),
        // The header, and the first frame.
        (".seg", 0, 20, None),
        (".seg", 0, 4100, None),
    ] {
        let (dir, (store, archive)) = (scratch(), new());
        let log = open(dir.path());
        fill_and_seal(&log, 1, 100);
        fill_and_seal(&log, 1, 200);
        let archiver = archiver(&log, &archive);
        for last in [240, 280, 300] {
            fill(&log, 1, last);
            log.sync().unwrap();
            archiver.catch_up().await.unwrap();
        }
        assert_eq!(with_suffix(&*store, ".part").await.len(), 3);
        let sound = archive.verify(None, &mut |_| {}).await.unwrap();
        assert!(sound.is_sound());
        let key = with_suffix(&*store, suffix).await[at].clone();
        let damaged = replace(&store, &key, offset).await;
        // One that was sound before is not read again, and it is not that one.
        for earlier in [None, Some(&sound)] {
            let report = archive.verify(earlier, &mut |_| {}).await.unwrap();
            let named: Vec<_> = report.damaged.iter().map(|(key, _)| key.as_str()).collect();
            assert_eq!(named, [damaged.as_ref()], "{suffix} {at}: {report:?}");
            if place.is_some() {
                let ObjectDamage::Frame { offset: Some(_), lsn: Some(_), .. } = report.damaged[0].1 else {
                    panic!("{report:?}")
                };
            }
        }
        let refused = archive.restore(scratch().path(), RestoreTo::Latest, &RestoreOptions::new(), &mut |_| {}).await;
        let Err(Error::Damaged { key, offset, lsn, .. }) = refused else { panic!("{suffix} {at}: {refused:?}") };
        assert_eq!(key, damaged.as_ref());
        if let Some((at, record)) = place {
            assert!(offset.unwrap().abs_diff(at) < 300, "{offset:?}");
            assert!(lsn.unwrap().0.abs_diff(record) < 10, "{lsn:?}");
        }
        // What comes before it can be restored, where that needs it not.
        if suffix == ".part" {
            assert_eq!(restored(&archive, RestoreTo::Lsn(Lsn(200))).await, expected(1, 1..=200));
        }
    }
}

/// As after a bad copy: the newest segment and the control page are gone, and what is left looks like another history.
#[tokio::test]
async fn a_log_whose_end_is_damaged_begins_no_epoch_that_has_less_than_the_archive() {
    for has_pin in [true, false] {
        let (dir, (store, archive)) = (scratch(), new());
        let log = open(dir.path());
        for segment in 1..=4 {
            fill_and_seal(&log, 1, segment * 100);
        }
        fill(&log, 1, 450);
        log.sync().unwrap();
        catch_up(&log, &archive).await;
        log.close().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::remove_file(path("00000000000000000005.seg")).unwrap();
        std::fs::remove_file(path("control")).unwrap();
        if !has_pin {
            std::fs::remove_dir_all(path("pins")).or_else(|_| std::fs::remove_file(path("pins"))).unwrap();
        }
        let before = keys(&*store).await;
        let of_reader = |options| Archiver::of_reader(reader(dir.path()), archive.clone(), options).unwrap();
        let told = fails(&of_reader(options())).await;
        assert!(told.contains("00000000000000000005.seg"), "{told}");
        assert_eq!(keys(&*store).await, before, "{has_pin}: no epoch is begun");
        assert!(restored(&archive, RestoreTo::Latest).await == expected(1, 1..=450));
        if has_pin {
            fails(&of_reader(options().abandon_epoch(Some(1)))).await;
            assert_eq!(archive.list().await.unwrap().epochs.len(), 2, "it was asked for");
        }
    }
}

/// Before it knows where to go on.
#[tokio::test]
async fn an_archiver_that_begins_with_a_damaged_log_says_how_much_of_it_is_archived() {
    for (sealed, archived) in [(false, 251), (true, 201)] {
        let (dir, (_store, archive)) = (scratch(), new());
        let log = open(dir.path());
        fill_and_seal(&log, 1, 100);
        fill_and_seal(&log, 1, 200);
        if !sealed {
            fill(&log, 1, 250);
            log.sync().unwrap();
        }
        catch_up(&log, &archive).await;
        fill(&log, 1, 350);
        log.sync().unwrap();
        drop(log);
        flip(dir.path(), 3, 25_000);
        let archiver = Archiver::of_reader(reader(dir.path()), archive.clone(), options()).unwrap();
        names_place(&fails(&archiver).await, 3, 25_000, 290..=320);
        let status = archiver.status();
        assert_eq!((status.epoch, status.archived_lsn), (Some(1), Lsn(archived)), "{status:?}");
        assert_eq!(status.lag_records, status.next_lsn.0 - archived);
        assert!(status.lag_bytes > 0 && status.lag_bytes < 30_000, "{status:?}");
    }
}

/// As after a power cut, until a writer opens the log.
#[tokio::test]
async fn a_log_whose_control_page_is_an_older_one_begins_no_epoch_that_has_less_than_the_archive() {
    let (dir, (_store, archive)) = (scratch(), new());
    let control = dir.path().join("control");
    let log = open(dir.path());
    fill_and_seal(&log, 1, 100);
    fill(&log, 1, 150);
    log.sync().unwrap();
    log.close().unwrap();
    let older = std::fs::read(&control).unwrap();
    let log = open(dir.path());
    fill(&log, 1, 180);
    log.sync().unwrap();
    catch_up(&log, &archive).await;
    log.close().unwrap();
    std::fs::write(&control, older).unwrap();
    let of_reader = || Archiver::of_reader(reader(dir.path()), archive.clone(), options()).unwrap();
    let told = fails(&of_reader()).await;
    assert!(told.contains("record 180 was archived, and the log does not say that it is durable"), "{told}");
    let log = open(dir.path());
    fill(&log, 1, 190);
    log.sync().unwrap();
    assert_eq!(of_reader().catch_up().await.unwrap().epoch, Some(1));
    // One that was truncated has another history.
    log.truncate_after(Lsn(170)).unwrap();
    log.sync().unwrap();
    assert_eq!(of_reader().catch_up().await.unwrap().epoch, Some(2));
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=170));
}

/// Also where nothing else has changed since an earlier verification: the note is not to blame.
#[tokio::test]
async fn a_segment_of_another_log_is_told_by_a_verification() {
    let mut archives = Vec::new();
    for era in [1, 2] {
        let (dir, (store, archive)) = (scratch(), new());
        let log = open(dir.path());
        for last in [100, 200, 300] {
            fill_and_seal(&log, era, last);
        }
        catch_up(&log, &archive).await;
        archives.push((store, archive));
    }
    let [(store, archive), (other, _)] = &archives[..] else { panic!() };
    let earlier = archive.verify(None, &mut |_| {}).await.unwrap();
    let (own, foreign) = (&with_suffix(&**store, ".seg").await[1], &with_suffix(&**other, ".seg").await[1]);
    store.delete(own).await.unwrap();
    store.put(foreign, bytes_of(&**other, foreign).await.into()).await.unwrap();
    for earlier in [None, Some(&earlier)] {
        let report = archive.verify(earlier, &mut |_| {}).await.unwrap();
        assert_eq!((report.damaged, report.faults), (vec![(foreign.to_string(), ObjectDamage::Identity)], vec![]));
    }
    let refused = support::restore(archive, RestoreTo::Latest).await.unwrap_err();
    assert!(matches!(&refused, Error::Damaged { damage: ObjectDamage::Identity, .. }), "{refused}");
}
