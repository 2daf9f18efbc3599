//! Archived, destroyed, restored: over each kind of store the log is the same, record by record.

use std::fs;
use std::sync::Arc;

use mapwal::Lsn;
use mapwal_archive::{DirectoryStore, RestoreTo};
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::logs::{append_up_to, check, open};
use crate::s3::Server;
use crate::tools::{archive, archiver, restore, wait_for};

const LAST: u64 = 1500;

/// Archives a log while it grows, destroys it, restores it, and lets it go on.
fn there_and_back(store: Arc<dyn ObjectStore>) {
    let scratch = tempfile::tempdir().unwrap();
    let (lost, restored) = (scratch.path().join("lost"), scratch.path().join("restored"));
    let archive = archive(store);
    wait_for(async {
        let log = Arc::new(open(&lost));
        let archiver = archiver(&log, &archive);
        for last in [200, 700, LAST] {
            append_up_to(&log, 1, last);
            log.put_meta(3, &last.to_le_bytes()).unwrap();
            log.sync().unwrap();
            archiver.catch_up().await.unwrap();
        }
        // What is archived may be trimmed: all but the segment that takes appends.
        assert!(log.trim_before(Lsn(LAST)).unwrap() > 5);
        // Not synced, so it need not be there.
        append_up_to(&log, 1, LAST + 10);
        drop((archiver, log));
        fs::remove_dir_all(&lost).unwrap();

        let report = restore(&archive, &restored, RestoreTo::Latest).await.unwrap();
        assert_eq!((report.first_lsn, report.next_lsn), (Lsn(1), Lsn(LAST + 1)));
        assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
    });
    check(&restored, 1, LAST, |_| 1);
    let log = open(&restored);
    assert_eq!(log.meta(3), Some(LAST.to_le_bytes().to_vec()));
    append_up_to(&log, 2, LAST + 500);
    log.close().unwrap();
    check(&restored, 1, LAST + 500, |lsn| if lsn <= Lsn(LAST) { 1 } else { 2 });
}

#[test]
fn over_s3() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).unwrap();
    there_and_back(Arc::new(server.store()));
    let seen = server.seen();
    let overwritten = seen.stored.iter().filter(|(_, stored)| stored.len() > 1).map(|(key, _)| key);
    assert!(
        overwritten.clone().all(|key| key.ends_with("/session.json") || key.ends_with("/synced")),
        "{:?}",
        overwritten.collect::<Vec<_>>()
    );
}

#[test]
fn over_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    there_and_back(Arc::new(DirectoryStore::open(directory.path().join("a b/archive")).unwrap()));
}

#[test]
fn over_memory() {
    there_and_back(Arc::new(InMemory::new()));
}

/// To each of some records: no more, no less, and it goes on from there.
#[test]
fn to_any_record() {
    let scratch = tempfile::tempdir().unwrap();
    let archive = archive(Arc::new(InMemory::new()));
    wait_for(async {
        let log = Arc::new(open(&scratch.path().join("log")));
        append_up_to(&log, 1, LAST);
        log.sync().unwrap();
        archiver(&log, &archive).catch_up().await.unwrap();
        let bounds = log.sealed(0).unwrap().iter().map(|segment| segment.next_lsn().0).collect::<Vec<_>>();
        // First and last records of segments, and some between.
        let ends = bounds.iter().flat_map(|&next| [next - 2, next - 1, next, next + 7]).chain([1, 2, LAST]);
        for to in ends.filter(|&to| to <= LAST) {
            let directory = scratch.path().join(format!("to-{to}"));
            let report = restore(&archive, &directory, RestoreTo::Lsn(Lsn(to))).await.unwrap();
            assert_eq!(report.next_lsn, Lsn(to + 1));
            let restored = open(&directory);
            assert_eq!(restored.next_lsn(), Lsn(to + 1));
            append_up_to(&restored, 2, to + 3);
            restored.close().unwrap();
            check(&directory, 1, to + 3, |lsn| if lsn <= Lsn(to) { 1 } else { 2 });
            fs::remove_dir_all(directory).unwrap();
        }
        let beyond = restore(&archive, &scratch.path().join("b"), RestoreTo::Lsn(Lsn(LAST + 1))).await;
        assert!(matches!(beyond, Err(mapwal_archive::Error::NotArchived { .. })), "{beyond:?}");
    });
}

/// What is paid for: that of each further segment and part is as the guide says.
#[test]
fn each_segment_and_each_part_costs_four_requests() {
    let scratch = tempfile::tempdir().unwrap();
    let server = Server::start(&scratch.path().join("objects")).unwrap();
    let archive = archive(Arc::new(server.store()));
    let log = Arc::new(open(&scratch.path().join("log")));
    let asked = |work: &dyn Fn()| {
        server.seen().requests.clear();
        work();
        let requests = server.seen().requests.clone();
        ["put", "head", "get", "delete", "list"].map(|name| requests.get(name).copied().unwrap_or(0))
    };
    let catch_up = || wait_for(archiver(&log, &archive).catch_up()).map(drop).unwrap();
    let seal = |count: u64| {
        for _ in 0..count {
            append_up_to(&log, 1, log.next_lsn().0 + 5);
            log.rotate().unwrap();
        }
        log.sync().unwrap();
    };
    seal(1);
    catch_up();
    // It takes a few requests to find where it was.
    let begun = asked(&catch_up);
    assert!(begun.iter().sum::<u64>() < 10, "{begun:?}");
    let beyond = |asked: [u64; 5]| std::array::from_fn(|at| asked[at] - begun[at]);
    seal(12);
    assert_eq!(beyond(asked(&catch_up)), [12, 12, 24, 0, 0]);
    append_up_to(&log, 1, log.next_lsn().0 + 5);
    log.sync().unwrap();
    assert_eq!(beyond(asked(&catch_up)), [1, 1, 2, 0, 0]);
    seal(1);
    assert_eq!(beyond(asked(&catch_up)), [1, 1, 2, 1, 0]);
    let restoring = || wait_for(restore(&archive, &scratch.path().join("again"), RestoreTo::Latest)).map(drop).unwrap();
    // Each of 14 segments, and the note of the one epoch.
    assert_eq!(asked(&restoring), [0, 0, 14 + 1, 0, 1]);
    assert_eq!(
        asked(&|| assert!(wait_for(archive.verify(None, &mut |_| {})).unwrap().is_sound())),
        [0, 0, 14 + 1, 0, 1]
    );
    assert_eq!(asked(&|| assert_eq!(wait_for(archive.list()).unwrap().epochs.len(), 1)), [0, 0, 1, 0, 1]);
}
