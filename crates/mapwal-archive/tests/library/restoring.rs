//! What a restore makes of what is there, whole or not.

use std::sync::Arc;

use mapwal::Lsn;
use mapwal_archive::{Archive, EpochFault, Error, ObjectDamage, PruneGaps, RestoreOptions, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use crate::hooked::{Call, Hooked};
use crate::support::{
    bytes_of, catch_up, expected, fill, fill_and_seal, open, reader, records, restore, restored, scratch, with_suffix,
};

/// Five segments of a hundred records, metadata in each, and a part.
async fn archived() -> (Arc<InMemory>, Archive) {
    let store = Arc::new(InMemory::new());
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let dir = scratch();
    let log = open(dir.path());
    for segment in 1..=5_u64 {
        log.put_meta(0, &segment.to_le_bytes()).unwrap();
        fill(&log, 1, segment * 100 - 50);
        log.put_meta(1, &segment.to_le_bytes()).unwrap();
        fill_and_seal(&log, 1, segment * 100);
    }
    log.append_batch(&[(7, b"one".as_slice()), (7, b"two"), (7, b"three")]).unwrap();
    log.sync().unwrap();
    catch_up(&log, &archive).await;
    (store, archive)
}

#[tokio::test]
async fn any_record_may_be_the_last_and_metadata_is_as_it_was_then() {
    let (_store, archive) = archived().await;
    for to in [1, 50, 51, 99, 100, 101, 150, 151, 250, 500] {
        let (dir, report) = restore(&archive, RestoreTo::Lsn(Lsn(to))).await.unwrap();
        assert_eq!((report.first_lsn, report.next_lsn), (Lsn(1), Lsn(to + 1)));
        let log = open(dir.path());
        assert_eq!(records(&log), expected(1, 1..=to));
        let segment = (to - 1) / 100 + 1;
        assert_eq!(log.meta(0).as_deref(), Some(&segment.to_le_bytes()[..]), "{to}");
        // Set after the fiftieth record of each segment.
        let halves = (to + 49) / 100;
        let halves = (halves > 0).then(|| halves.to_le_bytes().to_vec());
        assert_eq!(log.meta(1), halves, "{to}");
        fill(&log, 2, to + 10);
        log.sync().unwrap();
        assert_eq!(reader(dir.path()).published_lsn().unwrap(), Lsn(to + 10));
    }
    assert_eq!(restored(&archive, RestoreTo::Latest).await.len(), 503);
}

#[tokio::test]
async fn a_batch_is_restored_whole_or_not_at_all() {
    let (_store, archive) = archived().await;
    for (to, next) in [(501, 501), (502, 501), (503, 504)] {
        let (dir, report) = restore(&archive, RestoreTo::Lsn(Lsn(to))).await.unwrap();
        assert_eq!(report.next_lsn, Lsn(next), "{to}");
        assert_eq!(open(dir.path()).next_lsn(), Lsn(next));
    }
}

#[tokio::test]
async fn a_record_that_is_not_there_is_not_restored() {
    let (_store, archive) = archived().await;
    let refused = restore(&archive, RestoreTo::Lsn(Lsn(504))).await.unwrap_err();
    let Error::NotArchived { lsn: Lsn(504), kept, .. } = refused else { panic!("{refused}") };
    assert_eq!(kept, Lsn(1)..Lsn(504));
    let empty = Archive::new(Arc::new(InMemory::new()), "a");
    assert!(matches!(restore(&empty, RestoreTo::Latest).await, Err(Error::Empty { .. })));
    // One of a log that has no record so far.
    let dir = scratch();
    catch_up(&open(dir.path()), &empty).await;
    assert_eq!(empty.list().await.unwrap().epochs.len(), 1);
    for to in [RestoreTo::Latest, RestoreTo::Lsn(Lsn(1))] {
        let refused = restore(&empty, to).await.unwrap_err();
        assert!(matches!(refused, Error::Empty { .. }), "{refused}");
    }
    let verified = empty.verify(None, &mut |_| {}).await.unwrap();
    assert_eq!((verified.epochs, verified.read, verified.is_sound()), (1, 0, true));
}

#[tokio::test]
async fn an_epoch_that_is_not_there_is_named_beside_the_newest() {
    let (_store, archive) = archived().await;
    let options = RestoreOptions::new().epoch(Some(7));
    let refused = archive.restore(scratch().path(), RestoreTo::Latest, &options, &mut |_| {}).await.unwrap_err();
    assert!(matches!(refused, Error::NoEpoch { epoch: 7, newest: 1, .. }), "{refused}");
    assert_eq!(refused.to_string(), "the archive at a has no epoch 7; the newest is 1");
}

/// Of what arrives, no more than a chunk of each download is held.
#[tokio::test]
async fn downloads_hold_as_many_chunks_as_there_are_of_them_at_once() {
    let (store, archive) = archived().await;
    let len = archive.list().await.unwrap().len_bytes() as usize;
    for parallel in [1, 2, 3] {
        let mut hooked = Hooked::new(&store, |_, _| {});
        hooked.chunk_len = 4096;
        let alive = Arc::clone(&hooked.alive);
        let archive = Archive::new(Arc::new(hooked), "a");
        let dir = scratch();
        let options = RestoreOptions::new().parallel(parallel);
        archive.restore(dir.path(), RestoreTo::Latest, &options, &mut |_| {}).await.unwrap();
        assert_eq!(alive.most(), parallel * 4096, "of {len} bytes");
        assert_eq!(records(&open(dir.path())).len(), 503);
    }
}

#[tokio::test]
async fn a_missing_segment_is_a_gap_and_what_comes_before_can_be_restored() {
    let (store, archive) = archived().await;
    let keys = with_suffix(&*store, ".seg").await;
    store.delete(&keys[2]).await.unwrap();
    for to in [RestoreTo::Latest, RestoreTo::Lsn(Lsn(201)), RestoreTo::Lsn(Lsn(450))] {
        let dir = scratch();
        let refused = archive.restore(dir.path(), to, &RestoreOptions::new(), &mut |_| {}).await.unwrap_err();
        let Error::Gap { epoch: 1, missing } = refused else { panic!("{refused}") };
        assert_eq!(missing, Lsn(201)..Lsn(301));
    }
    assert_eq!(restored(&archive, RestoreTo::Lsn(Lsn(200))).await, expected(1, 1..=200));
    // The first one cannot be told from a pruned one by what follows: but nothing was pruned.
    store.delete(&keys[0]).await.unwrap();
    let refused = restore(&archive, RestoreTo::Latest).await.unwrap_err();
    let Error::Gap { missing, .. } = refused else { panic!("{refused}") };
    assert_eq!(missing, Lsn(1)..Lsn(101));
}

/// Parts tell of records as segments do.
#[tokio::test]
async fn a_gap_before_parts_and_between_them_is_one_as_well() {
    for (missing, last, next) in [(".seg", 100, 201), ("-0000000000-", 200, 221), (".part", 220, 241)] {
        let (store, dir) = (Arc::new(InMemory::new()), scratch());
        let archive = Archive::new(Arc::clone(&store) as _, "a");
        let log = open(dir.path());
        fill_and_seal(&log, 1, 100);
        fill_and_seal(&log, 1, 200);
        for last in [220, 240, 260] {
            fill(&log, 1, last);
            log.sync().unwrap();
            catch_up(&log, &archive).await;
        }
        let mut keys = with_suffix(&*store, if missing == ".seg" { ".seg" } else { ".part" }).await;
        let at = if missing == "-0000000000-" { 0 } else { 1 };
        store.delete(&keys.remove(at)).await.unwrap();
        let refused = restore(&archive, RestoreTo::Latest).await.unwrap_err();
        assert!(matches!(&refused, Error::Gap { missing, .. } if *missing == (Lsn(last + 1)..Lsn(next))), "{refused}");
        let report = archive.verify(None, &mut |_| {}).await.unwrap();
        assert_eq!(report.faults.len(), 1, "{report:?}");
        assert!(archive.list().await.unwrap().epochs[0].fault.is_some());
        assert_eq!(restored(&archive, RestoreTo::Lsn(Lsn(last))).await, expected(1, 1..=last));
    }
}

#[tokio::test]
async fn objects_that_were_replaced_or_shortened_are_not_restored() {
    let (store, archive) = archived().await;
    let keys = with_suffix(&*store, ".seg").await;
    let good = bytes_of(&*store, &keys[1]).await;
    let other = bytes_of(&*store, &keys[2]).await;
    let mut flipped = good.clone();
    flipped[9000] ^= 1;
    // So that the first segment is there when the second is refused.
    let one_by_one = RestoreOptions::new().parallel(1);
    let told = |damage: &ObjectDamage| matches!(damage, ObjectDamage::Checksum { .. } | ObjectDamage::Length { .. });
    for bytes in [flipped, good[..good.len() / 2].to_vec(), other, Vec::new()] {
        store.put(&keys[1], bytes.into()).await.unwrap();
        let dir = scratch();
        for _ in 0..2 {
            let refused = archive.restore(dir.path(), RestoreTo::Latest, &one_by_one, &mut |_| {}).await;
            let Err(Error::Damaged { key, damage, .. }) = refused else { panic!("{refused:?}") };
            assert!(key == keys[1].to_string() && told(&damage), "{key}: {damage}");
            // SAFETY: only this test has the directory.
            assert!(unsafe { mapwal::LogReader::open(dir.path()) }.is_err(), "no log is opened by mistake");
        }
        store.put(&keys[1], good.clone().into()).await.unwrap();
        let report = archive.restore(dir.path(), RestoreTo::Latest, &one_by_one, &mut |_| {}).await;
        assert!(report.unwrap().resumed > 0, "what was there is not downloaded again");
        assert_eq!(records(&open(dir.path())).len(), 503);
    }
}

/// Looked at first, the one after it would be told to follow something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_damaged_object_is_named_and_not_its_neighbour_with_the_byte_and_the_record() {
    let (store, _) = archived().await;
    let key = with_suffix(&*store, ".seg").await[1].clone();
    let good = bytes_of(&*store, &key).await;
    // The second segment, which has records 101 to 200, waits until all others have been looked at.
    let late = key.clone();
    let hooked = Hooked::new(&store, move |call, _| {
        if matches!(call, Call::Get(key) if **key == late) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    let archive = Archive::new(Arc::new(hooked), "a");
    let mut flipped = good.clone();
    let at = good.len() - 300;
    flipped[at] ^= 1;
    for bytes in
        [good[..good.len() - 1].to_vec(), good[..good.len() / 2].to_vec(), flipped, good[..5000].to_vec(), Vec::new()]
    {
        let len = bytes.len() as u64;
        store.put(&key, bytes.into()).await.unwrap();
        let refused = restore(&archive, RestoreTo::Latest).await.unwrap_err();
        let Error::Damaged { key: named, offset, lsn, .. } = &refused else { panic!("{refused}") };
        let (offset, Lsn(lsn)) = (offset.expect("an offset"), lsn.expect("a record"));
        assert_eq!(*named, key.to_string());
        assert!(offset <= len && (101..=201).contains(&lsn), "{refused}");
        if len > 10_000 {
            // A record has 224 bytes and some.
            let expected = 101 + (offset - 4096) / 232;
            assert!(lsn.abs_diff(expected) <= 8, "{refused}: {expected}");
            assert!((len - 1).min(at as u64).abs_diff(offset) < 512 || len < good.len() as u64, "{refused}");
        }
        assert!(
            refused.to_string().contains(&format!("at byte {offset}, where record {lsn} is expected")),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_missing_segment_without_a_record_is_told_from_damage() {
    let (store, dir) = (Arc::new(InMemory::new()), scratch());
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let log = open(dir.path());
    fill_and_seal(&log, 1, 100);
    log.put_meta(1, b"one").unwrap();
    log.rotate().unwrap();
    log.sync().unwrap();
    fill_and_seal(&log, 1, 200);
    catch_up(&log, &archive).await;
    let keys = with_suffix(&*store, ".seg").await;
    assert_eq!(keys.len(), 3);
    let sound = archive.verify(None, &mut |_| {}).await.unwrap();
    assert!(sound.is_sound(), "{sound:?}");
    store.delete(&keys[1]).await.unwrap();
    let report = archive.verify(None, &mut |_| {}).await.unwrap();
    let [(key, ObjectDamage::Link { names: (2, _), found: (1, _) })] = &report.damaged[..] else {
        panic!("{report:?}")
    };
    assert_eq!(*key, keys[2].to_string());
    let again = archive.verify(Some(&report), &mut |_| {}).await.unwrap();
    assert_eq!(again.damaged, report.damaged, "it is read again");
    let refused = restore(&archive, RestoreTo::Latest).await.unwrap_err();
    let Error::Damaged { key, damage: ObjectDamage::Link { names: (2, _), found: (1, _) }, .. } = &refused else {
        panic!("{refused}")
    };
    assert_eq!(*key, keys[2].to_string());
}

#[tokio::test]
async fn a_segment_with_the_key_of_another_is_not_taken_for_it() {
    let (store, archive) = archived().await;
    let keys = with_suffix(&*store, ".seg").await;
    // Its own checksum is right.
    let third = bytes_of(&*store, &keys[2]).await;
    let key = keys[1].to_string();
    let (stem, _) = key.rsplit_once('-').and_then(|(stem, _)| stem.rsplit_once('-')).unwrap();
    let forged =
        object_store::path::Path::from(format!("{stem}-{:010}-{:08x}.seg", third.len(), crc32fast::hash(&third)));
    store.put(&forged, third.into()).await.unwrap();
    store.delete(&keys[1]).await.unwrap();
    let refused = restore(&archive, RestoreTo::Latest).await.unwrap_err();
    assert!(matches!(refused, Error::Damaged { damage: ObjectDamage::Identity, .. }), "{refused}");
}

/// The contents are the same, or others: one does not have the checksum in its key.
#[tokio::test]
async fn of_two_objects_with_the_same_records_the_one_that_is_damaged_is_named() {
    let (store, archive) = archived().await;
    let keys = with_suffix(&*store, ".seg").await;
    let (key, good) = (keys[1].to_string().replace(".seg", ""), bytes_of(&*store, &keys[1]).await);
    for (checksum, bytes) in [("ffffffff", b"other".to_vec()), ("00000000", good)] {
        let other = object_store::path::Path::from(format!("{}{checksum}.seg", &key[..key.len() - 8]));
        store.put(&other, bytes.into()).await.unwrap();
        let refused = restore(&archive, RestoreTo::Latest).await.unwrap_err();
        assert!(matches!(&refused, Error::Damaged { key, .. } if *key == other.to_string()), "{refused}");
        let listed = archive.list().await.unwrap();
        let is_named =
            |fault: &EpochFault| matches!(fault, EpochFault::Damaged { key, .. } if *key == other.to_string());
        assert!(!listed.faults.is_empty() && listed.faults.iter().all(is_named), "{listed:?}");
        let report = archive.verify(None, &mut |_| {}).await.unwrap();
        let damaged: Vec<_> = report.damaged.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!((damaged, report.faults), (vec![other.to_string()], Vec::new()), "told once");
        // A prune that keeps something before it is done.
        let report = archive.prune(Lsn(100), PruneGaps::Refuse).await.unwrap();
        assert!(report.faults.len() == 1 && report.faults.iter().all(is_named), "told once: {report:?}");
        let refused = archive.prune(Lsn(102), PruneGaps::Refuse).await.unwrap_err();
        let Error::Damaged { key, lsn: Some(Lsn(101)), .. } = &refused else { panic!("{refused}") };
        assert_eq!(*key, other.to_string());
        store.delete(&other).await.unwrap();
        assert_eq!(restored(&archive, RestoreTo::Latest).await.len(), 503);
    }
}

#[tokio::test]
async fn only_an_empty_directory_or_the_same_restore_is_gone_on_with() {
    let (store, archive) = archived().await;
    let dir = scratch();
    std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let into = async |to| archive.restore(dir.path(), to, &RestoreOptions::new(), &mut |_| {}).await;
    assert!(matches!(into(RestoreTo::Latest).await, Err(Error::NotEmpty { .. })));
    std::fs::remove_file(dir.path().join("notes.txt")).unwrap();
    let key = &with_suffix(&*store, ".seg").await[3];
    let good = bytes_of(&*store, key).await;
    store.put(key, b"bad".as_slice().into()).await.unwrap();
    assert!(matches!(into(RestoreTo::Latest).await, Err(Error::Damaged { .. })));
    let other = into(RestoreTo::Lsn(Lsn(50))).await.unwrap_err();
    assert!(matches!(other, Error::OtherRestore { epoch: 1, to: None, .. }), "{other}");
    store.put(key, good.into()).await.unwrap();
    into(RestoreTo::Latest).await.unwrap();
    assert!(matches!(into(RestoreTo::Latest).await, Err(Error::NotEmpty { .. })), "it is a log");
    assert_eq!(records(&open(dir.path())).len(), 503);
}

#[tokio::test]
async fn a_restore_that_was_interrupted_while_files_were_put_in_their_place_is_gone_on_with() {
    let (_store, archive) = archived().await;
    let dir = scratch();
    let restore = async || archive.restore(dir.path(), RestoreTo::Latest, &RestoreOptions::new(), &mut |_| {}).await;
    restore().await.unwrap();
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 9, "six segments, the one that the log goes on in, LOCK and control: {names:?}");
    // As if some were not in their place yet.
    let log_id = mapwal::inspect::Inspection::open(dir.path()).unwrap().log_id();
    let mark = format!("{{\"log\":\"{log_id:032x}\",\"epoch\":1,\"to\":null}}");
    std::fs::write(dir.path().join("restore-under-way.seg"), mark).unwrap();
    let folder = dir.path().join("restore-under-way");
    std::fs::create_dir(&folder).unwrap();
    for number in 1..=3 {
        let name = format!("{number:020}.seg");
        std::fs::rename(dir.path().join(&name), folder.join(&name)).unwrap();
    }
    // One was damaged meanwhile.
    let path = folder.join("00000000000000000002.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[9000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let report = restore().await.unwrap();
    assert_eq!((report.segments, report.resumed), (6, 5), "the others are not downloaded again");
    assert_eq!(records(&open(dir.path())).len(), 503);
}
