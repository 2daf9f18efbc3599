//! Logs with what most logs of these tests do not have.

use std::fs;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use mapwal::wal::{PageId, TransactionId, Wal, WalOptions};
use mapwal::{Log, Lsn, Options};
use mapwal_archive::{Archive, Archiver, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use crate::support::{
    archiver, catch_up, expected, fill, fill_and_seal, keys, memory, open, options, reader, records, restore, restored,
    scratch, small, try_open, with_suffix,
};

/// The golden log of format 2, as `tests/golden` has it.
fn unpack(directory: &Path) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/v2");
    for entry in fs::read_dir(golden).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(fs::File::open(&path).unwrap()).read_to_end(&mut bytes).unwrap();
        fs::write(directory.join(path.file_stem().unwrap()), bytes).unwrap();
    }
}

fn tagged(log: &Log) -> Vec<(Lsn, u16, Vec<u8>)> {
    let snapshot = log.snapshot().unwrap();
    let records = snapshot.iter().map(|record| record.unwrap());
    records.map(|record| (record.lsn(), record.tag(), record.payload().to_vec())).collect()
}

#[tokio::test]
async fn a_log_of_an_older_format_is_archived_as_it_is_and_goes_on_after_a_restore() {
    let (dir, archive) = (scratch(), memory());
    unpack(dir.path());
    // First by a process that does not write, so that nothing of it has become new.
    let by_reader = Archiver::of_reader(reader(dir.path()), archive.clone(), options()).unwrap();
    by_reader.catch_up().await.unwrap();
    drop(by_reader);
    let (again, _) = restore(&archive, RestoreTo::Latest).await.unwrap();
    let log = open(dir.path());
    let original = tagged(&log);
    assert!(original.len() > 10);
    assert_eq!(tagged(&open(again.path())), original);
    let next = log.next_lsn();
    fill_and_seal(&log, 1, next.0 + 9);
    catch_up(&log, &archive).await;
    assert_eq!(archive.list().await.unwrap().epochs.len(), 1);
    let (again, report) = restore(&archive, RestoreTo::Latest).await.unwrap();
    assert_eq!(report.next_lsn, Lsn(next.0 + 10));
    let again = open(again.path());
    assert_eq!(tagged(&again), tagged(&log));
    fill(&again, 2, next.0 + 20);
}

#[tokio::test]
async fn long_segments_are_restored_at_their_size_from_what_is_in_them() {
    const SIZE: u64 = 64 << 20;
    let (dir, archive) = (scratch(), memory());
    let log = try_open(dir.path(), &Options::new().first_segment_size_bytes(SIZE)).unwrap();
    fill_and_seal(&log, 1, 100);
    fill(&log, 1, 150);
    log.sync().unwrap();
    catch_up(&log, &archive).await;
    assert!(archive.list().await.unwrap().len_bytes() < 1 << 20, "not the files' lengths");
    let (again, report) = restore(&archive, RestoreTo::Latest).await.unwrap();
    assert!(report.bytes < 1 << 20);
    let file = fs::metadata(again.path().join("00000000000000000001.seg")).unwrap();
    assert_eq!(file.len(), SIZE);
    let again = try_open(again.path(), &Options::new()).unwrap();
    assert_eq!(records(&again), expected(1, 1..=150));
}

/// Its last segment says that there is nothing before what the log had kept.
#[tokio::test]
async fn a_log_that_was_trimmed_and_closed_is_restored_with_all_that_is_archived() {
    let (dir, archive) = (scratch(), memory());
    let log = open(dir.path());
    for segment in 1..=4 {
        fill_and_seal(&log, 1, segment * 100);
    }
    catch_up(&log, &archive).await;
    log.trim_before(Lsn(401)).unwrap();
    assert_eq!(log.first_lsn(), Lsn(401));
    fill_and_seal(&log, 1, 500);
    fill(&log, 1, 520);
    log.close().unwrap();
    let archiver = Archiver::of_reader(reader(dir.path()), archive.clone(), options()).unwrap();
    archiver.catch_up().await.unwrap();
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=520));
}

/// Each as large as a segment can hold, and one of nothing.
#[tokio::test]
async fn the_largest_records_are_archived_and_restored() {
    let (dir, archive) = (scratch(), memory());
    let log = open(dir.path());
    let largest = usize::try_from(log.payload_len_max()).unwrap();
    for (byte, len) in [(1, largest), (2, 0), (3, largest), (4, largest)] {
        log.append(byte, &vec![byte as u8; len]).unwrap();
        log.sync().unwrap();
        catch_up(&log, &archive).await;
    }
    let (again, report) = restore(&archive, RestoreTo::Latest).await.unwrap();
    assert_eq!(report.next_lsn, Lsn(5));
    let again = open(again.path());
    assert_eq!(tagged(&again), tagged(&log));
    again.append(5, &vec![5; largest]).unwrap();
}

#[tokio::test]
async fn metadata_without_a_record_is_archived_as_well() {
    let (dir, archive) = (scratch(), memory());
    let log = open(dir.path());
    let meta = async || {
        let (again, report) = restore(&archive, RestoreTo::Latest).await.unwrap();
        let again = open(again.path());
        assert_eq!((report.next_lsn, again.next_lsn()), (log.next_lsn(), log.next_lsn()));
        (again.meta(4), records(&again).len())
    };
    log.put_meta(4, b"in a log without a record").unwrap();
    log.sync().unwrap();
    catch_up(&log, &archive).await;
    assert_eq!(meta().await, (Some(b"in a log without a record".to_vec()), 0));
    log.rotate().unwrap();
    log.sync().unwrap();
    let archiver = archiver(&log, &archive);
    let status = archiver.catch_up().await.unwrap();
    assert_eq!((status.segments, status.parts, status.lag_bytes), (1, 0, 0), "what a segment begins with is no loss");
    log.put_meta(4, b"in a segment without a record").unwrap();
    log.sync().unwrap();
    assert!(archiver.status().lag_bytes > 0);
    let status = archiver.catch_up().await.unwrap();
    assert_eq!((status.segments, status.parts, status.lag_bytes), (1, 1, 0));
    assert_eq!(meta().await, (Some(b"in a segment without a record".to_vec()), 0));
    drop(archiver);
    fill_and_seal(&log, 1, 10);
    catch_up(&log, &archive).await;
    assert_eq!(meta().await, (Some(b"in a segment without a record".to_vec()), 10));
    assert_eq!(archive.list().await.unwrap().epochs.len(), 1);
}

#[tokio::test]
async fn numbers_without_a_record_stay_without_one() {
    let (dir, archive) = (scratch(), memory());
    let log = open(dir.path());
    fill(&log, 1, 10);
    let given_up = catch_unwind(AssertUnwindSafe(|| log.append_with(1, 100, |_| panic!("on purpose"))));
    assert!(given_up.is_err());
    assert_eq!(log.next_lsn(), Lsn(12));
    fill(&log, 1, 20);
    // One at the end of a segment, and one at the end of all.
    let _ = catch_unwind(AssertUnwindSafe(|| log.append_with(1, 100, |_| panic!("on purpose"))));
    log.rotate().unwrap();
    fill(&log, 1, 30);
    let _ = catch_unwind(AssertUnwindSafe(|| log.append_with(1, 100, |_| panic!("on purpose"))));
    log.sync().unwrap();
    catch_up(&log, &archive).await;
    let (again, report) = restore(&archive, RestoreTo::Latest).await.unwrap();
    assert_eq!(report.next_lsn, Lsn(32));
    let again = open(again.path());
    assert_eq!(records(&again), records(&log));
    assert_eq!(records(&again).len(), 28);
    for (to, last) in [(10, 10), (11, 10), (12, 12), (21, 20)] {
        let records = restored(&archive, RestoreTo::Lsn(Lsn(to))).await;
        assert_eq!(records.last().unwrap().0, last, "{to}");
    }
}

#[tokio::test]
async fn a_transaction_that_the_last_record_is_in_the_middle_of_is_incomplete() {
    let (dir, archive) = (scratch(), memory());
    let wal_options = WalOptions::new().log(small());
    // SAFETY: only this test has the directory, and writes to its files by logs alone.
    let (wal, _) = unsafe { Wal::open_and_recover(dir.path(), &wal_options) }.unwrap();
    let wal = Arc::new(wal);
    let mut ends = Vec::new();
    for transaction in [TransactionId(1), TransactionId(2)] {
        let begun = wal.log_begin(transaction).unwrap();
        let inserted = wal.log_insert(transaction, begun, PageId(7), b"a row").unwrap();
        ends.push((inserted, wal.log_commit(transaction, inserted).unwrap().lsn()));
    }
    let archiver = Archiver::of_log(Arc::clone(&wal), archive.clone(), options()).unwrap();
    archiver.catch_up().await.unwrap();
    let (inserted, committed) = ends[1];
    for (to, incomplete, redone) in [(committed, 0, 2), (inserted, 1, 1)] {
        let (again, _) = restore(&archive, RestoreTo::Lsn(to)).await.unwrap();
        // SAFETY: as above.
        let (wal, recovery) = unsafe { Wal::open_and_recover(again.path(), &wal_options) }.unwrap();
        assert_eq!(recovery.incomplete_transactions().len(), incomplete, "{to}");
        assert_eq!((recovery.redo().count(), recovery.max_lsn()), (redone, to));
        drop((wal, recovery));
    }
}

/// Which epoch is the newest is said by its number: the times in notes are for people.
#[tokio::test]
async fn a_clock_that_goes_back_changes_nothing() {
    let store = Arc::new(InMemory::new());
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let dir = scratch();
    let log = open(dir.path());
    fill_and_seal(&log, 1, 100);
    catch_up(&log, &archive).await;
    let (again, _) = restore(&archive, RestoreTo::Lsn(Lsn(50))).await.unwrap();
    let log = open(again.path());
    fill_and_seal(&log, 2, 80);
    catch_up(&log, &archive).await;
    // As it would be, had the second been begun long before the first.
    for key in with_suffix(&*store, "0000000002/epoch.json").await {
        let note = crate::support::changed_note(&crate::support::bytes_of(&*store, &key).await, |note| {
            let (before, after) = note.split_once("\"created_unix_ms\": ").unwrap();
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}\"created_unix_ms\": 1{after}")
        });
        store.put(&key, note.into()).await.unwrap();
    }
    let list = archive.list().await.unwrap();
    assert!(list.epochs[0].created_unix_ms > list.epochs[1].created_unix_ms);
    let both = [expected(1, 1..=50), expected(2, 51..=80)].concat();
    assert_eq!(restored(&archive, RestoreTo::Latest).await, both);
    fill_and_seal(&log, 2, 90);
    catch_up(&log, &archive).await;
    assert_eq!(archive.list().await.unwrap().epochs.len(), 2);
    assert!(!keys(&*store).await.is_empty());
}

#[tokio::test]
async fn the_status_says_what_would_be_lost() {
    let (dir, archive) = (scratch(), memory());
    let log = open(dir.path());
    let archiver = archiver(&log, &archive);
    let durable_bytes = || log.durable_prefix().unwrap().unwrap().bytes().len() as u64;
    fill(&log, 1, 10);
    log.sync().unwrap();
    fill(&log, 1, 15);
    let status = archiver.status();
    assert_eq!((status.lag_records, status.lag_bytes, status.next_lsn), (15, durable_bytes(), Lsn(16)));
    let status = archiver.catch_up().await.unwrap();
    assert_eq!((status.lag_records, status.lag_bytes, status.parts, status.segments), (5, 0, 1, 0));
    let archived = durable_bytes();
    log.sync().unwrap();
    assert_eq!(archiver.status().lag_bytes, durable_bytes() - archived);
    log.rotate().unwrap();
    fill(&log, 1, 20);
    log.sync().unwrap();
    let sealed = log.sealed(0).unwrap()[0].bytes().len() as u64;
    assert_eq!(archiver.status().lag_bytes, sealed - archived + durable_bytes());
    assert!(archiver.status().lag > std::time::Duration::ZERO);
    let status = archiver.catch_up().await.unwrap();
    assert_eq!((status.lag_records, status.lag_bytes, status.parts, status.segments), (0, 0, 2, 1));
    assert_eq!((status.bytes, status.lag), (sealed + archived + durable_bytes(), std::time::Duration::ZERO));
}
