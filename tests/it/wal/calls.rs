//! The calls of a classic write-ahead log, and what they refuse.

use mapwal::wal::{Committed, PageId, RecordType, TransactionFault, TransactionId, WalError, WalOptions, WalRecord};
use mapwal::{Error, Lsn, Options, internals};
use rustix::io::Errno;

use crate::support::faulty::{Call, Faulty};
use crate::support::open_on;
use crate::support::transactions::{A, B, C, PAGE, incomplete, list, lsns, open, recover, small};
use crate::support::wait::{LONG, until};

#[test]
fn the_first_transaction_has_records_1_to_3() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    assert_eq!(wal.current_lsn(), Lsn(1));
    let begin = wal.log_begin(A).unwrap();
    let insert = wal.log_insert(A, begin, PAGE, b"row").unwrap();
    let commit = wal.log_commit(A, insert).unwrap().applied();
    assert_eq!((begin, insert, commit), (Lsn(1), Lsn(2), Lsn(3)));
    assert_eq!((wal.flushed_lsn(), wal.current_lsn()), (Lsn(3), Lsn(4)));
    drop(wal);
    let (wal, recovery) = recover(dir.path(), &small());
    assert_eq!((recovery.max_lsn(), wal.current_lsn()), (Lsn(3), Lsn(4)));
    assert_eq!(list(recovery.redo()), [(2, "row".into())]);
    assert_eq!((recovery.records_processed(), incomplete(&recovery)), (3, vec![]));
    assert_eq!(recovery.segments_scanned(), wal.log().recovery().segments);
}

#[test]
fn an_empty_log_has_nothing_to_recover() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, recovery) = recover(dir.path(), &small());
    assert_eq!((recovery.max_lsn(), recovery.redo_lsn(), recovery.records_processed()), (Lsn(0), Lsn(1), 0));
    assert!(recovery.checkpoint().unwrap().is_none() && wal.checkpoint_lsn().is_none());
    assert_eq!((recovery.redo().count(), recovery.history().count(), recovery.undo().count()), (0, 0, 0));
}

#[test]
fn an_uncommitted_insert_is_not_redone_and_its_transaction_is_incomplete() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let begin = wal.log_begin(A).unwrap();
    wal.log_insert(A, begin, PAGE, b"row").unwrap();
    assert_eq!(wal.flush().unwrap(), Lsn(2));
    drop(wal);
    let (_wal, recovery) = recover(dir.path(), &small());
    assert_eq!(recovery.redo().count(), 0);
    let [open] = recovery.incomplete_transactions() else { panic!("{recovery:?}") };
    assert_eq!((open.transaction, open.first_lsn, open.last_lsn), (A, Some(Lsn(1)), Some(Lsn(2))));
    assert!(open.has_begun);
    assert_eq!(list(recovery.undo()), [(2, "row".into())]);
}

#[test]
fn of_three_transactions_the_aborted_one_is_not_redone() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    for (transaction, data) in [(A, "first"), (B, "second"), (C, "third")] {
        let begin = wal.log_begin(transaction).unwrap();
        let insert = wal.log_insert(transaction, begin, PAGE, data.as_bytes()).unwrap();
        if transaction == B {
            let undone = wal.log_compensation(B, insert, PAGE, begin, b"undo second").unwrap();
            wal.log_abort(B, undone).unwrap();
        } else {
            wal.log_commit(transaction, insert).unwrap().applied();
        }
    }
    drop(wal);
    let (_wal, recovery) = recover(dir.path(), &small());
    assert_eq!(list(recovery.redo()), [(2, "first".into()), (9, "third".into())]);
    assert_eq!((incomplete(&recovery), recovery.undo().count()), (vec![], 0));
    assert_eq!(lsns(recovery.history()), [2, 5, 6, 9]);
}

#[test]
fn undo_takes_the_newest_record_of_all_losers_first() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    for transaction in [B, A, C] {
        wal.log_begin(transaction).unwrap();
    }
    for (transaction, data) in [(A, "a1"), (B, "b1"), (C, "c1"), (B, "b2"), (A, "a2"), (C, "c2")] {
        wal.log_insert(transaction, None, PAGE, data.as_bytes()).unwrap();
    }
    // What is undone already is passed over, and so is the compensation.
    wal.log_compensation(A, None, PAGE, Lsn(4), b"undo a2").unwrap();
    wal.log_commit(C, None).unwrap().applied();
    drop(wal);
    let (_wal, recovery) = recover(dir.path(), &small());
    assert_eq!(list(recovery.undo()), [(7, "b2".into()), (5, "b1".into()), (4, "a1".into())]);
    assert_eq!(incomplete(&recovery), [A, B]);
}

#[test]
fn records_are_read_back_as_they_were_logged() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    wal.log_begin(A).unwrap();
    wal.log_update(A, None, PageId(0), b"zero").unwrap();
    wal.log_delete(A, Lsn(2), None, b"").unwrap();
    wal.log_compensation(A, Lsn(3), PageId(u64::MAX), Lsn(2), b"back").unwrap();
    wal.append(RecordType::Abort, A, Lsn(4), PageId(5), b"note").unwrap();
    let snapshot = wal.log().snapshot().unwrap();
    let mut seen = Vec::new();
    for record in &snapshot {
        let record = WalRecord::parse(&record.unwrap()).unwrap();
        assert_eq!(record.transaction(), A);
        assert_eq!(record.data().as_ptr() as usize % 8, 0, "data of {record:?} is aligned");
        seen.push((record.record_type(), record.prev_lsn(), record.page(), record.undo_next(), record.data()));
    }
    let expected: [(_, _, _, _, &[u8]); 5] = [
        (RecordType::Begin, None, None, None, b""),
        (RecordType::Update, Some(Lsn(1)), Some(PageId(0)), None, b"zero"),
        (RecordType::Delete, Some(Lsn(2)), None, None, b""),
        (RecordType::Compensation, Some(Lsn(3)), Some(PageId(u64::MAX)), Some(Lsn(2)), b"back"),
        (RecordType::Abort, Some(Lsn(4)), Some(PageId(5)), None, b"note"),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn calls_out_of_order_are_refused_and_log_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let unknown =
        |result| matches!(result, Err(WalError::Transaction { transaction: A, fault: TransactionFault::NotOpen }));
    assert!(unknown(wal.log_commit(A, None).map(Committed::applied)) && unknown(wal.log_abort(A, None)));
    assert!(
        unknown(wal.log_compensation(A, None, None, None, b""))
            && unknown(wal.resume(A).map(|t| t.last_lsn().unwrap()))
    );
    assert!(matches!(
        wal.log_insert(A, Lsn(1), PAGE, b""),
        Err(WalError::Transaction { fault: TransactionFault::NotLast { last: None, .. }, .. })
    ));
    let begin = wal.log_begin(A).unwrap();
    assert!(matches!(
        wal.log_begin(A),
        Err(WalError::Transaction { transaction: A, fault: TransactionFault::AlreadyBegun })
    ));
    let insert = wal.log_insert(A, begin, PAGE, b"").unwrap();
    for prev in [begin, insert.next(), Lsn(0)] {
        let refused = wal.log_commit(A, prev);
        assert!(
            matches!(
                refused,
                Err(WalError::Transaction { fault: TransactionFault::NotLast { last: Some(Lsn(2)), .. }, .. })
            ),
            "{refused:?}"
        );
    }
    for undo_next in [Lsn(0), insert.next()] {
        let refused = wal.log_compensation(A, None, PAGE, undo_next, b"");
        assert!(
            matches!(
                refused,
                Err(WalError::Transaction {
                    fault: TransactionFault::UndoNextOutside { first: Lsn(1), last: Lsn(2), .. },
                    ..
                })
            ),
            "{refused:?}"
        );
    }
    for record_type in [RecordType::Commit, RecordType::Checkpoint, RecordType::Compensation] {
        let refused = wal.append(record_type, A, None, None, b"");
        assert!(matches!(refused, Err(WalError::RecordTypeNotAllowed { .. })), "{refused:?}");
    }
    assert!(matches!(wal.append_plain(0x7fff, b""), Err(WalError::RecordTypeNotAllowed { code: 0x7fff })));
    let refused = wal.append_plain(7, b"").unwrap_err().to_string();
    assert!(refused.ends_with("an application's own have tags from 0x8000 on"), "{refused}");
    assert_eq!(wal.current_lsn(), Lsn(3));
    wal.log_commit(A, insert).unwrap().applied();
    assert!(unknown(wal.log_commit(A, None).map(Committed::applied)));
}

#[test]
fn a_transaction_that_never_began_cannot_commit_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    wal.log_insert(A, None, PAGE, b"stray").unwrap();
    assert!(matches!(wal.log_commit(A, None), Err(WalError::Transaction { fault: TransactionFault::NotOpen, .. })));
    assert!(matches!(wal.log_begin(A), Err(WalError::Transaction { fault: TransactionFault::AlreadyBegun, .. })));
    wal.log_checkpoint(&[], &[]).unwrap();
    drop(wal);
    for _ in 0..2 {
        let (wal, recovery) = recover(dir.path(), &small());
        let [open] = recovery.incomplete_transactions() else { panic!("{recovery:?}") };
        assert_eq!((open.transaction, open.has_begun), (A, false));
        assert_eq!((recovery.redo().count(), lsns(recovery.undo())), (0, vec![1]));
        assert!(matches!(wal.log_commit(A, None), Err(WalError::Transaction { fault: TransactionFault::NotOpen, .. })));
    }
    let wal = open(dir.path());
    wal.log_compensation(A, None, PAGE, None, b"").unwrap();
    wal.log_abort(A, None).unwrap();
    drop(wal);
    assert!(recover(dir.path(), &small()).1.incomplete_transactions().is_empty());
}

#[test]
fn a_number_that_is_used_again_is_another_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    for data in ["committed", "aborted", "committed too", "open"] {
        wal.log_begin(A).unwrap();
        wal.log_insert(A, None, PAGE, data.as_bytes()).unwrap();
        let ended = match data {
            "aborted" => wal.log_abort(A, None),
            "open" => Ok(Lsn::ZERO),
            _ => wal.log_commit(A, None).map(Committed::applied),
        };
        ended.unwrap();
    }
    drop(wal);
    let (_wal, recovery) = recover(dir.path(), &small());
    assert_eq!(list(recovery.redo()), [(2, "committed".into()), (8, "committed too".into())]);
    assert_eq!(list(recovery.undo()), [(11, "open".into())]);
}

#[test]
fn plain_records_are_passed_over_and_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    wal.log_begin(A).unwrap();
    wal.append_plain(0x8000, b"plain").unwrap();
    wal.log_insert(A, None, PAGE, b"row").unwrap();
    wal.append_plain(u16::MAX, b"").unwrap();
    wal.log_commit(A, None).unwrap().applied();
    drop(wal);
    let (_wal, recovery) = recover(dir.path(), &small());
    let plain: Vec<_> = recovery.plain_records().map(|record| record.unwrap()).collect();
    assert_eq!(plain.iter().map(|r| (r.lsn(), r.tag())).collect::<Vec<_>>(), [(Lsn(2), 0x8000), (Lsn(4), u16::MAX)]);
    assert_eq!((lsns(recovery.redo()), lsns(recovery.history())), (vec![3], vec![3]));
    assert_eq!(recovery.records_processed(), 5);
}

#[test]
fn without_sync_on_commit_nothing_is_durable_until_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = recover(dir.path(), &small().sync_on_commit(false));
    wal.log_begin(A).unwrap();
    wal.log_commit(A, None).unwrap().applied();
    assert_eq!(wal.flushed_lsn(), Lsn(0));
    assert_eq!(wal.flush().unwrap(), Lsn(2));
    assert_eq!(wal.flushed_lsn(), Lsn(2));
    wal.close().unwrap();
    assert!(recover(dir.path(), &small()).0.log().recovery().clean);
}

#[test]
fn handed_out_numbers_are_never_handed_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = TransactionId(0);
    for run in 0..4 {
        let wal = open(dir.path());
        for _ in 0..1500 {
            let transaction = wal.begin().unwrap();
            assert!(transaction.id() > last, "{} after {last}", transaction.id());
            last = transaction.id();
            transaction.abort(|undoing| undoing.compensate(b"")).unwrap();
        }
        // One that the caller chose counts as well, whichever of its records comes first.
        let chosen = TransactionId(last.0 + 5000);
        match run {
            0 => last = wal.log_begin(chosen).map(|_| chosen).unwrap(),
            1 => last = wal.log_insert(chosen, None, PAGE, b"").map(|_| chosen).unwrap(),
            _ => {}
        }
        wal.log_checkpoint(&[], &[]).unwrap();
        wal.truncate_before_checkpoint().unwrap();
    }
}

#[test]
fn a_number_that_would_leave_none_to_be_handed_out_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let max = TransactionId::MAX_CHOSEN;
    for large in [max.0 + 1, u64::MAX - 1024, u64::MAX].map(TransactionId) {
        let refused = |result: mapwal::wal::Result<Lsn>| {
            let told = matches!(&result, Err(WalError::Transaction { transaction, fault: TransactionFault::NumberTooLarge { max: named } })
                if (*transaction, *named) == (large, max));
            assert!(told, "{result:?}");
        };
        refused(wal.log_begin(large));
        refused(wal.log_insert(large, None, PAGE, b"row"));
        refused(wal.log_update(large, None, PAGE, b"row"));
        refused(wal.log_delete(large, None, PAGE, b"row"));
        refused(wal.append(RecordType::Insert, large, None, PAGE, b"row"));
        refused(wal.log_checkpoint(&[large.into()], &[]));
    }
    assert_eq!(wal.current_lsn(), Lsn(1), "nothing is logged");
    wal.log_checkpoint(&[max.into()], &[]).unwrap();
    wal.log_begin(max).unwrap();
    let handed_out = wal.begin().unwrap();
    assert!(handed_out.id() > max);
    // It is as good as any other, also for those who name it.
    let id = handed_out.id();
    drop(handed_out);
    wal.log_insert(id, None, PAGE, b"row").unwrap();
    wal.log_checkpoint(&[id.into()], &[]).unwrap();
    drop(wal);
    let wal = open(dir.path());
    wal.log_update(id, None, PAGE, b"row").unwrap();
    assert!(wal.begin().unwrap().id() > id);
}

/// Commits from many threads at once while the device is busy: transactions with the numbers that `id` makes of 1, 2,
/// 3, ..
fn commit_while_a_sync_waits(id: impl Fn(u64) -> TransactionId + Sync) {
    const COMMITTERS: u64 = 16;
    let dir = tempfile::tempdir().unwrap();
    let storage = Faulty::new(dir.path());
    let (wal, _) = internals::recover_over(open_on(&storage), &small()).unwrap();
    let before = wal.log().stats().syncs;
    let commit = |number| {
        let transaction = id(number);
        wal.log_begin(transaction).unwrap();
        wal.log_insert(transaction, None, PAGE, b"row").unwrap();
        let commit = wal.log_commit(transaction, None).unwrap().applied();
        assert!(wal.flushed_lsn() >= commit);
    };
    storage.hold(Call::SyncMapping);
    std::thread::scope(|scope| {
        scope.spawn(|| commit(COMMITTERS));
        storage.wait_until_held();
        for number in 1..COMMITTERS {
            scope.spawn(move || commit(number));
        }
        // All of them log their commits though none of those is durable.
        until("no commit waits for another one's sync", || wal.current_lsn() >= Lsn(3 * COMMITTERS + 1));
        storage.release();
    });
    let stats = wal.log().stats();
    let syncs = stats.syncs - before;
    assert!((1..=2).contains(&syncs), "{COMMITTERS} commits took {syncs} syncs");
    assert_eq!((stats.durable_lsn, stats.next_lsn), (Lsn(3 * COMMITTERS), Lsn(3 * COMMITTERS + 1)));
    drop(wal);
    let (_wal, recovery) = recover(dir.path(), &small());
    assert_eq!(recovery.redo().count() as u64, COMMITTERS);
}

#[test]
fn many_committers_share_a_sync() {
    commit_while_a_sync_waits(TransactionId);
}

#[test]
fn committers_whose_transactions_share_a_lock_share_a_sync_too() {
    // Transactions are spread over locks by the top bits of their number times this; so these all have the same.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    const INVERSE: u64 = 0xf1de_83e1_9937_733d;
    assert_eq!(SPREAD.wrapping_mul(INVERSE), 1);
    let chosen = (0_u64..).map(|number| TransactionId(number.wrapping_mul(INVERSE)));
    let mut chosen = chosen.filter(|&id| id <= TransactionId::MAX_CHOSEN);
    let ids: Vec<_> = chosen.by_ref().take(17).collect();
    commit_while_a_sync_waits(|number| ids[usize::try_from(number).unwrap()]);
}

#[test]
fn a_commit_whose_sync_fails_is_an_error_and_so_is_everything_after() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Faulty::new(dir.path());
    let (wal, _) = internals::recover_over(open_on(&storage), &small()).unwrap();
    wal.log_begin(A).unwrap();
    let checkpoint = wal.log_checkpoint(&[], &[]).unwrap();
    storage.fail(Call::SyncMapping, Errno::IO);
    assert!(matches!(wal.log_commit(A, None), Err(WalError::Log(Error::Poisoned { .. }))));
    assert!(matches!(wal.log_begin(B), Err(WalError::Log(Error::Poisoned { .. }))));
    assert!(matches!(wal.log_checkpoint(&[], &[]), Err(WalError::Log(Error::Poisoned { .. }))));
    assert!(matches!(wal.flush(), Err(WalError::Log(Error::Poisoned { .. }))));
    assert_eq!((wal.flushed_lsn(), wal.checkpoint_lsn()), (checkpoint, Some(checkpoint)));
}

#[test]
fn a_load_in_bulk_goes_on_while_its_spare_is_made_ready() {
    let directory = tempfile::tempdir().unwrap();
    let options = WalOptions::new().log(Options::new().segment_size_bytes(8 << 20));
    let (wal, recovery) = recover(directory.path(), &options);
    drop(recovery);
    let (loaded, is_loaded) = std::sync::mpsc::channel();
    let load = std::thread::spawn(move || {
        let mut transaction = wal.begin().unwrap();
        for _ in 0..1000 {
            transaction.insert(PAGE, &[1; 64 << 10]).unwrap();
        }
        loaded.send(()).unwrap();
    });
    is_loaded.recv_timeout(5 * LONG).expect("no rotation waits for a spare that nobody makes");
    load.join().unwrap();
}
