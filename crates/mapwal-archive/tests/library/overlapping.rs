//! Parts that have bytes of one segment twice: the same, or those of two logs.

use std::sync::Arc;

use mapwal::Lsn;
use mapwal_archive::{Archive, Archiver, EpochFault, Error, RestoreOptions, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use crate::other_archivers::copy_all;
use crate::support::{
    bytes_of, catch_up, expected, fill, keys, memory, open, options, reader, records, restore, restored, scratch,
    with_suffix,
};

/// The first one uploads a part before it finds out that the epoch was taken over: then the epoch has records of both logs.
#[tokio::test]
async fn parts_of_two_logs_in_one_epoch_are_a_conflict_until_one_is_removed() {
    // A copy of a log that is not closed goes on in another segment.
    let cases = [(false, 80), (false, 120), (true, 80), (true, 120)];
    for (is_closed, (is_sealed, last)) in cases.into_iter().flat_map(|case| [(true, case), (false, case)]) {
        let (dir, copy, archive) = (scratch(), scratch(), memory());
        let mut log = open(dir.path());
        fill(&log, 1, 50);
        log.sync().unwrap();
        let first = Archiver::of_reader(reader(dir.path()), archive.clone(), options()).unwrap();
        first.catch_up().await.unwrap();
        if is_closed {
            log.close().unwrap();
        }
        copy_all(dir.path(), copy.path());
        if is_closed {
            log = open(dir.path());
        }
        let other = open(copy.path());
        fill(&other, 2, 100);
        if is_sealed {
            other.rotate().unwrap();
        }
        other.sync().unwrap();
        catch_up(&other, &archive).await;
        assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
        let before = keys(&**archive.store()).await;
        fill(&log, 1, last);
        log.sync().unwrap();
        let stopped = first.catch_up().await.unwrap_err();
        assert!(matches!(stopped, Error::Superseded { epoch: 1, .. }), "{stopped}");
        drop(first);
        let stray = keys(&**archive.store()).await.into_iter().find(|key| !before.contains(key)).expect("a part");
        let refused = restore(&archive, RestoreTo::Latest).await.unwrap_err();
        let Error::Conflict { key, other: named, lsn } = &refused else { panic!("{refused}") };
        assert!([key, named].iter().any(|key| **key == stray.as_ref()) && key != named, "{refused}");
        assert_eq!(*lsn, Lsn(51));
        assert_eq!(restored(&archive, RestoreTo::Lsn(Lsn(50))).await, expected(1, 1..=50), "what is before it");
        let report = archive.verify(None, &mut |_| {}).await.unwrap();
        for report in [archive.verify(Some(&report), &mut |_| {}).await.unwrap(), report] {
            let [EpochFault::Broken { epoch: 1, why }] = &report.faults[..] else { panic!("{report:?}") };
            assert_eq!(*why, refused.to_string());
        }
        // The way out.
        catch_up(&log, &archive).await;
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=last), "in an epoch of its own");
        archive.store().delete(&stray).await.unwrap();
        assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
        let (dir, of_other) = (scratch(), RestoreOptions::new().epoch(Some(1)));
        archive.restore(dir.path(), RestoreTo::Latest, &of_other, &mut |_| {}).await.unwrap();
        let both = [expected(1, 1..=50), expected(2, 51..=100)].concat();
        assert_eq!(records(&open(dir.path())), both);
    }
}

/// As where a list was late, or a part was missing for a while.
#[tokio::test]
async fn parts_that_have_the_same_bytes_twice_are_sound() {
    let (dir, store) = (scratch(), Arc::new(InMemory::new()));
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let log = open(dir.path());
    for last in [50, 80, 110] {
        fill(&log, 1, last);
        log.sync().unwrap();
        catch_up(&log, &archive).await;
    }
    let parts = with_suffix(&*store, ".part").await;
    assert_eq!(parts.len(), 3);
    for (from, to, lsns) in [(0, 3, (1, 111)), (1, 3, (51, 111)), (0, 2, (1, 81))] {
        let mut begin = 0;
        for part in &parts[..from] {
            begin += bytes_of(&*store, part).await.len();
        }
        let mut bytes = Vec::new();
        for part in &parts[from..to] {
            bytes.extend(bytes_of(&*store, part).await);
        }
        let (len, sum) = (bytes.len(), crc32fast::hash(&bytes));
        let name = format!("{:020}-{:020}-{:010}-{begin:010}-{len:010}-{sum:08x}.part", lsns.0, lsns.1, 1);
        store.put(&format!("a/0000000001/{name}").into(), bytes.into()).await.unwrap();
        let report = archive.verify(None, &mut |_| {}).await.unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=110));
    }
    assert_eq!(with_suffix(&*store, ".part").await.len(), 6);
}
