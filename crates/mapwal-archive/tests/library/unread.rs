//! An object that may not be read, or whose disk has failed there, is named, and keeps nothing else from being done.

use std::sync::Arc;
use std::time::Duration;

use mapwal::Lsn;
use mapwal_archive::{Archive, Archiver, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use crate::hooked::Hooked;
use crate::support::{
    bytes_of, catch_up, expected, fill, fill_and_seal, open, options, restore, restored, scratch, with_suffix,
};

/// Such as where a disk has failed in one place: the others are read all the same.
#[tokio::test]
async fn an_object_that_cannot_be_read_is_named_and_the_others_are_verified() {
    let (dir, store) = (scratch(), Arc::new(InMemory::new()));
    let log = open(dir.path());
    for last in [100, 200, 300] {
        fill_and_seal(&log, 1, last);
    }
    catch_up(&log, &Archive::new(Arc::clone(&store) as _, "a")).await;
    let keys = with_suffix(&*store, ".seg").await;
    store.put(&keys[2], b"other".as_slice().into()).await.unwrap();
    let hooked = Hooked::new(&store, |_, _| {});
    *hooked.denied.lock().unwrap() = Some(keys[0].clone());
    let archive = Archive::new(Arc::new(hooked), "a");
    let report = archive.verify(None, &mut |_| {}).await.unwrap();
    let unread: Vec<_> = report.unread.iter().map(|(key, _)| key.as_str()).collect();
    let damaged: Vec<_> = report.damaged.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!((unread, damaged, report.is_sound()), (vec![keys[0].as_ref()], vec![keys[2].as_ref()], false));
    assert!(report.unread[0].1.contains("not for this one"), "{report:?}");
    assert_eq!(report.read, 2, "what could not be read was not read");
    // It is not known to be sound the next time.
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let again = archive.verify(Some(&report), &mut |_| {}).await.unwrap();
    assert_eq!((again.unread.len(), again.unchanged), (0, 1));
}

#[tokio::test]
async fn a_damaged_object_that_cannot_be_read_later_is_still_named() {
    let (dir, store) = (scratch(), Arc::new(InMemory::new()));
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let log = open(dir.path());
    fill_and_seal(&log, 1, 100);
    fill_and_seal(&log, 1, 200);
    catch_up(&log, &archive).await;
    let last = with_suffix(&*store, ".seg").await.remove(1);
    let mut bytes = bytes_of(&*store, &last).await;
    bytes[9000] ^= 1;
    store.put(&last, bytes.into()).await.unwrap();
    let hooked = Hooked::new(&store, |_, _| {});
    let denied = Arc::clone(&hooked.denied);
    let often = options().check_interval(Some(Duration::ZERO));
    let archiver = Archiver::of_log(Arc::clone(&log), Archive::new(Arc::new(hooked), "a"), often).unwrap();
    for why_not in [None, Some(last.clone()), Some(last.clone()), None] {
        *denied.lock().unwrap() = why_not;
        fill(&log, 1, log.next_lsn().0);
        log.sync().unwrap();
        let status = archiver.catch_up().await.unwrap();
        let named: Vec<_> = status.damaged.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(named, [last.to_string()]);
        assert!(status.last_error.is_some());
    }
}

#[tokio::test]
async fn an_object_of_an_older_epoch_that_may_not_be_read_keeps_the_newest_from_nothing() {
    let (dir, store) = (scratch(), Arc::new(InMemory::new()));
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let log = open(dir.path());
    for last in [100, 200, 300] {
        fill_and_seal(&log, 1, last);
    }
    catch_up(&log, &archive).await;
    let (copy, _) = restore(&archive, RestoreTo::Lsn(Lsn(200))).await.unwrap();
    let second = open(copy.path());
    fill_and_seal(&second, 2, 250);
    catch_up(&second, &archive).await;
    let hooked = Hooked::new(&store, |_, _| {});
    *hooked.denied.lock().unwrap() = Some(with_suffix(&*store, ".seg").await.remove(2));
    let all = restored(&Archive::new(Arc::new(hooked), "a"), RestoreTo::Latest).await;
    assert_eq!(all, [expected(1, 1..=200), expected(2, 201..=250)].concat());
}
