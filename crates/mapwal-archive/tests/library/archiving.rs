//! What is uploaded, when, and what the pin says then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mapwal::{Lsn, PinState};
use mapwal_archive::{Archive, Archiver, Error, RestoreTo};
use object_store::memory::InMemory;

use crate::hooked::{Call, Hooked};
use crate::support::{
    PIN, archiver, both, bytes_of, catch_up, expected, fill, fill_and_seal, keys, memory, open, options, reader,
    records, restored, scratch, with_suffix,
};

#[tokio::test]
async fn sealed_segments_are_uploaded_as_they_are_and_then_may_be_trimmed() {
    let (_shelf, archives) = both();
    for archive in archives {
        let dir = scratch();
        let log = open(dir.path());
        for segment in 1..=3 {
            fill_and_seal(&log, 1, segment * 100);
        }
        assert_eq!(archiver(&log, &archive).status().lag_records, 300);
        let status = archiver(&log, &archive).catch_up().await.unwrap();
        assert_eq!((status.sealed_lsn, status.archived_lsn, status.segments), (Lsn(301), Lsn(301), 3));
        assert_eq!((status.lag_records, status.last_error), (0, None));
        let pin = log.pins().remove(0);
        assert_eq!((pin.name.as_str(), pin.lsn, pin.state), (PIN, Lsn(301), PinState::Reserved));
        let list = archive.list().await.unwrap();
        let epoch = &list.epochs[0];
        assert_eq!((list.epochs.len(), epoch.epoch, epoch.first_lsn, epoch.next_lsn), (1, 1, Lsn(1), Lsn(301)));
        let sealed = log.sealed(0).unwrap();
        assert_eq!(sealed.iter().map(mapwal::SealedSegment::checksum).collect::<Vec<_>>(), {
            epoch.segments.iter().map(|segment| segment.checksum).collect::<Vec<_>>()
        });
        assert_eq!(restored(&archive, RestoreTo::Latest).await, records(&log));
    }
}

#[tokio::test]
async fn what_is_durable_of_the_active_segment_is_uploaded_in_parts_that_the_segment_supersedes() {
    let store = Arc::new(InMemory::new());
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let dir = scratch();
    let log = open(dir.path());
    let archiver = archiver(&log, &archive);
    for last in [10, 25, 60] {
        fill(&log, 1, last);
        log.sync().unwrap();
        fill(&log, 1, last + 5); // not durable
        let status = archiver.catch_up().await.unwrap();
        assert_eq!((status.sealed_lsn, status.archived_lsn, status.lag_records), (Lsn(1), Lsn(last + 1), 5));
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=last));
    }
    let parts = archive.list().await.unwrap().epochs[0].parts.clone();
    let new: Vec<_> = parts.iter().map(|part| (part.part.unwrap(), part.first_lsn, part.next_lsn)).collect();
    let (first, second) = (parts[0].len_bytes, parts[0].len_bytes + parts[1].len_bytes);
    let wanted = [(0, Lsn(1), Lsn(11)), (first, Lsn(11), Lsn(26)), (second, Lsn(26), Lsn(61))];
    assert_eq!(new, wanted, "each has what is new");
    fill_and_seal(&log, 1, 70);
    archiver.catch_up().await.unwrap();
    assert_eq!(with_suffix(&*store, ".part").await, [], "superseded");
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=70));
}

#[tokio::test]
async fn a_restarted_archiver_goes_on_after_the_parts_that_are_there() {
    let store = Arc::new(InMemory::new());
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let dir = scratch();
    let log = open(dir.path());
    for last in [10, 25, 25, 60] {
        fill(&log, 1, last);
        log.sync().unwrap();
        catch_up(&log, &archive).await;
    }
    assert_eq!(with_suffix(&*store, ".part").await.len(), 3);
    assert_eq!(archive.list().await.unwrap().epochs.len(), 1);
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=60));
    fill_and_seal(&log, 1, 70);
    catch_up(&log, &archive).await;
    assert_eq!(with_suffix(&*store, ".part").await, [], "those of earlier archivers as well");
}

#[tokio::test]
async fn another_process_archives_what_the_writer_has_made_durable() {
    let archive = memory();
    let dir = scratch();
    let log = open(dir.path());
    fill_and_seal(&log, 1, 100);
    fill_and_seal(&log, 1, 200);
    fill(&log, 1, 210);
    log.sync().unwrap();
    fill(&log, 1, 220);
    let archiver = Archiver::of_reader(reader(dir.path()), archive.clone(), options()).unwrap();
    let status = archiver.catch_up().await.unwrap();
    assert_eq!((status.sealed_lsn, status.archived_lsn, status.lag_records), (Lsn(201), Lsn(211), 10));
    assert_eq!(log.pins()[0].lsn, Lsn(201));
    fill_and_seal(&log, 1, 300);
    archiver.catch_up().await.unwrap();
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=300));
    drop(log); // as if killed
    drop(archiver);
    let again = Archiver::of_reader(reader(dir.path()), archive.clone(), options()).unwrap();
    assert_eq!(again.catch_up().await.unwrap().lag_records, 0);
    assert_eq!(archive.list().await.unwrap().epochs.len(), 1);
}

#[tokio::test]
async fn it_goes_on_over_restarts_of_the_log_in_the_same_epoch() {
    let archive = memory();
    let dir = scratch();
    for run in 1..=6 {
        let log = open(dir.path());
        fill(&log, 1, run * 50);
        log.sync().unwrap();
        catch_up(&log, &archive).await;
        if run % 2 == 0 {
            log.close().unwrap();
        }
    }
    let list = archive.list().await.unwrap();
    assert_eq!(list.epochs.len(), 1, "{list:?}");
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=300));
}

#[tokio::test]
async fn an_empty_log_one_that_begins_late_and_one_with_empty_segments_are_archived() {
    let archive = memory();
    let dir = scratch();
    let log = crate::support::try_open(dir.path(), &crate::support::small().first_lsn(Lsn(1000))).unwrap();
    let status = archiver(&log, &archive).catch_up().await.unwrap();
    assert_eq!((status.archived_lsn, status.next_lsn, status.lag), (Lsn(1000), Lsn(1000), Duration::ZERO));
    for value in 0..3_u8 {
        log.put_meta(4, &[value]).unwrap();
        log.rotate().unwrap();
    }
    log.sync().unwrap();
    catch_up(&log, &archive).await;
    fill_and_seal(&log, 1, 1010);
    catch_up(&log, &archive).await;
    let epochs = archive.list().await.unwrap().epochs;
    assert_eq!((epochs.len(), epochs[0].segments.len(), epochs[0].first_lsn), (1, 4, Lsn(1000)));
    let (restored, _) = crate::support::restore(&archive, RestoreTo::Latest).await.unwrap();
    let restored = open(restored.path());
    assert_eq!(records(&restored), expected(1, 1000..=1010));
    assert_eq!(restored.meta(4).as_deref(), Some(&[2][..]));
}

#[tokio::test]
async fn a_segment_that_waits_too_long_is_rotated_in_the_process_of_the_writer_alone() {
    let archive = memory();
    let dir = scratch();
    let log = open(dir.path());
    let aged = options().max_age(Some(Duration::from_millis(1))).part_interval(None);
    let refused = Archiver::of_reader(reader(dir.path()), archive.clone(), aged.clone()).unwrap_err();
    assert!(matches!(refused, Error::NotTheWriter), "{refused}");
    let archiver = Archiver::of_log(Arc::clone(&log), archive.clone(), aged).unwrap();
    fill(&log, 1, 10); // and not synced
    let archived = async {
        while archiver.status().sealed_lsn < Lsn(11) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        stopped = archiver.run() => panic!("{stopped:?}"),
        archived = tokio::time::timeout(Duration::from_secs(60), archived) => archived.expect("in a minute"),
    }
    assert_eq!(log.durable_lsn(), Lsn(10));
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=10));
}

#[tokio::test]
async fn the_stale_end_of_a_recycled_file_is_not_uploaded() {
    // A store in memory would hold the mappings, and so the files.
    let (_shelf, [archive, _]) = both();
    let dir = scratch();
    let log = open(dir.path());
    let archiver = archiver(&log, &archive);
    let (mut last, mut short) = (0, 0);
    // Full segments first, then short ones, until some are in their files.
    let deadline = Instant::now() + Duration::from_secs(60);
    while short < 5 {
        assert!(Instant::now() < deadline, "{:?}", log.stats());
        let is_recycled = log.stats().recycled_segments > 0;
        short += u64::from(is_recycled);
        last += if is_recycled { 20 } else { 290 };
        fill_and_seal(&log, 1, last);
        archiver.catch_up().await.unwrap();
        log.trim_before(Lsn(last)).unwrap();
    }
    for key in with_suffix(&**archive.store(), ".seg").await {
        let bytes = bytes_of(&**archive.store(), &key).await;
        let summary = mapwal::inspect::verify_segment(&bytes).unwrap();
        assert_eq!(summary.len_bytes, bytes.len() as u64, "{key}");
        assert!(summary.sealed);
    }
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=last));
}

#[tokio::test]
async fn nothing_is_trimmed_that_is_not_confirmed() {
    let archive = memory();
    let dir = scratch();
    let log = open(dir.path());
    fill_and_seal(&log, 1, 100);
    let archiver = archiver(&log, &archive);
    archiver.catch_up().await.unwrap();
    fill_and_seal(&log, 1, 200);
    fill_and_seal(&log, 1, 300);
    log.trim_before(Lsn(301)).unwrap();
    assert_eq!(log.first_lsn(), Lsn(101), "what is not archived stays");
    archiver.catch_up().await.unwrap();
    log.trim_before(Lsn(301)).unwrap();
    assert_eq!(log.first_lsn(), Lsn(301));
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=300));
}

/// Moving the pin looks at all files of the log, so it does not come with each of many small segments.
#[tokio::test]
async fn the_pin_moves_once_in_a_poll_interval_and_when_nothing_is_left_to_upload() {
    for (interval, moves) in [(Duration::from_secs(3600), 0..=0), (Duration::from_nanos(1), 2..=9)] {
        let (store, dir) = (Arc::new(InMemory::new()), scratch());
        let log = open(dir.path());
        for segment in 1..=10 {
            fill_and_seal(&log, 1, segment * 10);
        }
        let pins = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let (noted, pinned) = (Arc::clone(&pins), Arc::clone(&log));
        let hooked = Hooked::new(&store, move |call, _| {
            if matches!(call, Call::Put(key) if key.as_ref().ends_with(".seg")) {
                noted.lock().push(pinned.pins()[0].lsn);
                // The shortest interval has passed by the next one.
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let archive = Archive::new(Arc::new(hooked), "a");
        let options = options().poll_interval(interval);
        Archiver::of_log(Arc::clone(&log), archive, options).unwrap().catch_up().await.unwrap();
        let seen = pins.lock().clone();
        assert_eq!((seen.len(), seen[0]), (10, Lsn(1)));
        let moved = seen.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(moves.contains(&moved), "{interval:?}: {seen:?}");
        assert_eq!(log.pins()[0].lsn, Lsn(101));
    }
}

#[tokio::test]
async fn an_archive_has_the_keys_that_its_design_says() {
    let store = Arc::new(InMemory::new());
    let archive = Archive::new(Arc::clone(&store) as _, "a/b");
    let dir = scratch();
    let log = open(dir.path());
    fill_and_seal(&log, 1, 9);
    fill(&log, 1, 12);
    log.sync().unwrap();
    catch_up(&log, &archive).await;
    let first = log.sealed(0).unwrap().remove(0);
    let (len, sealed) = (first.bytes().len(), first.checksum());
    let prefix = log.durable_prefix().unwrap().unwrap();
    let (part_len, part) = (prefix.bytes().len(), crc32fast::hash(prefix.bytes()));
    let expected = [
        format!("a/b/0000000001/00000000000000000001-00000000000000000010-0000000001-{len:010}-{sealed:08x}.seg"),
        format!(
            "a/b/0000000001/00000000000000000010-00000000000000000013-0000000002-0000000000-{part_len:010}-{part:08x}.part"
        ),
        "a/b/0000000001/epoch.json".to_owned(),
        "a/b/0000000001/session.json".to_owned(),
    ];
    let found: Vec<String> = keys(&*store).await.into_iter().map(Into::into).collect();
    assert_eq!(found, expected);
}
