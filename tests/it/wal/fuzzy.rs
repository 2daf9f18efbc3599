//! Checkpoints while transactions go on: what began, logged, committed and aborted between a checkpoint's begin and its
//! record, and what was logged and had not arrived in any page.

use std::sync::Arc;

use mapwal::Lsn;
use mapwal::wal::{DirtyPage, RecordType, RecoverFrom, Recovery, TransactionId, Wal, WalError, WalRecord};
use tempfile::TempDir;

use crate::support::transactions::{A, B, PAGE, Raw, below, bulk, incomplete, list, lsns, open, recover, small};

fn change(wal: &Wal, transaction: TransactionId, data: &[u8]) -> Lsn {
    wal.log_insert(transaction, None, PAGE, data).unwrap()
}

/// Changes by transactions that are over and applied, which fill some segments.
fn fill(wal: &Wal) {
    for _ in 0..4 {
        let mut transaction = wal.begin().unwrap();
        for _ in 0..50 {
            transaction.update(PAGE, &bulk()).unwrap();
        }
        transaction.commit().unwrap().applied();
    }
}

fn again(dir: &TempDir, wal: Wal) -> (Wal, Recovery) {
    drop(wal);
    recover(dir.path(), &small())
}

fn redone(recovery: &Recovery) -> Vec<(u64, String)> {
    let mut list = list(recovery.redo());
    list.retain(|(_, data)| data.len() < bulk().len());
    list
}

#[test]
fn what_was_logged_before_a_checkpoint_began_is_redone_if_it_commits_before_the_record() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    fill(&wal);
    let mut transaction = wal.begin().unwrap();
    let paid = transaction.insert(None, b"paid").unwrap();
    fill(&wal);
    // No page is dirty, and the transaction is open.
    let begun = wal.begin_checkpoint().unwrap();
    transaction.commit().unwrap().applied();
    begun.log(&[], &[]).unwrap();
    assert!(wal.truncate_before_checkpoint().unwrap() > 0);
    let (_wal, recovery) = again(&dir, wal);
    assert_eq!(redone(&recovery), [(paid.0, "paid".into())]);
    assert_eq!(incomplete(&recovery), []);
}

#[test]
fn what_begins_and_commits_between_begin_and_record_is_redone_and_what_aborts_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    wal.log_begin(A).unwrap();
    change(&wal, A, b"early");
    let begun = wal.begin_checkpoint().unwrap();
    wal.log_compensation(A, None, PAGE, Lsn(1), b"back").unwrap();
    wal.log_abort(A, None).unwrap();
    // The same number in another life.
    wal.log_begin(A).unwrap();
    change(&wal, A, b"again");
    wal.log_begin(B).unwrap();
    change(&wal, B, b"late");
    wal.log_commit(B, None).unwrap().applied();
    begun.log(&[], &[]).unwrap();
    change(&wal, A, b"last");
    wal.log_commit(A, None).unwrap().applied();
    let (_wal, recovery) = again(&dir, wal);
    assert_eq!(redone(&recovery), [(6, "again".into()), (8, "late".into()), (11, "last".into())]);
    assert_eq!(lsns(recovery.history()), [2, 3, 6, 8, 11]);
}

#[test]
fn a_commit_counts_as_applied_when_the_engine_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    wal.log_begin(A).unwrap();
    change(&wal, A, b"row");
    let committed = wal.log_commit(A, None).unwrap();
    assert_eq!(committed.lsn(), Lsn(3));
    let begun = wal.begin_checkpoint().unwrap();
    // Too late for this one: it may have looked at the page before.
    assert_eq!(committed.applied(), Lsn(3));
    begun.log(&[], &[]).unwrap();
    let (wal, recovery) = again(&dir, wal);
    assert_eq!(redone(&recovery), [(2, "row".into())]);
    recovery.redone();
    wal.log_checkpoint(&[], &[]).unwrap();
    let (_wal, recovery) = again(&dir, wal);
    assert_eq!(redone(&recovery), []);
}

#[test]
fn a_commit_can_be_said_to_be_applied_by_another_thread() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Arc::new(open(dir.path()));
    wal.log_begin(A).unwrap();
    change(&wal, A, b"row");
    let (transaction, commit) = wal.log_commit(A, None).unwrap().defer();
    let redo_lsn = || {
        let lsn = wal.log_checkpoint(&[], &[]).unwrap();
        let record = wal.log().get(lsn).unwrap().unwrap();
        WalRecord::parse(&record.record()).unwrap().checkpoint().unwrap().redo_lsn()
    };
    assert_eq!(redo_lsn(), Lsn(2));
    wal.commit_applied(transaction, commit.next());
    assert_eq!(redo_lsn(), Lsn(2), "that is no commit");
    let applier = Arc::clone(&wal);
    std::thread::spawn(move || applier.commit_applied(transaction, commit)).join().unwrap();
    assert_eq!(redo_lsn(), wal.current_lsn().previous());
}

#[test]
fn a_commit_that_is_dropped_instead_stays_to_be_redone() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    wal.log_begin(A).unwrap();
    change(&wal, A, b"row");
    drop(wal.log_commit_unsynced(A, None).unwrap());
    fill(&wal);
    for _ in 0..2 {
        wal.log_checkpoint(&[], &[]).unwrap();
        assert_eq!(wal.truncate_before_checkpoint().unwrap(), 0);
    }
    let (wal, recovery) = again(&dir, wal);
    assert_eq!(redone(&recovery), [(2, "row".into())]);
    recovery.redone();
    wal.log_checkpoint(&[], &[]).unwrap();
    assert!(wal.truncate_before_checkpoint().unwrap() > 0);
}

#[test]
fn a_change_that_has_not_arrived_in_its_page_is_part_of_history() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let mut transaction = wal.begin().unwrap();
    transaction.insert(PAGE, b"made").unwrap();
    transaction.applied();
    let logged = transaction.insert(PAGE, b"only logged").unwrap();
    transaction.update(PAGE, b"also only logged").unwrap();
    let begun = wal.begin_checkpoint().unwrap();
    begun.log(&[], &[]).unwrap();
    transaction.applied();
    drop(transaction);
    let (wal, recovery) = again(&dir, wal);
    assert_eq!((recovery.redo_lsn(), lsns(recovery.history())), (logged, vec![3, 4]));
    assert_eq!(lsns(recovery.undo()), [4, 3, 2]);
    recovery.redone();
    let mut transaction = wal.resume(recovery.incomplete_transactions()[0].transaction).unwrap();
    transaction.applied();
    let checkpoint = wal.log_checkpoint(&[], &[]).unwrap();
    drop(transaction);
    let (_wal, recovery) = again(&dir, wal);
    assert_eq!((recovery.redo_lsn(), lsns(recovery.undo())), (checkpoint, vec![4, 3, 2]));
}

#[test]
fn a_checkpoint_within_an_abort_keeps_what_is_being_undone() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let mut transaction = wal.begin().unwrap();
    transaction.insert(PAGE, b"one").unwrap();
    transaction.insert(PAGE, b"two").unwrap();
    transaction.applied();
    let mut compensations = Vec::new();
    let aborted = transaction.abort(|undoing| {
        let compensated = undoing.compensate(b"back")?;
        compensations.push(compensated.lsn().0);
        // Logged, and not yet undone in the page.
        wal.log_checkpoint(&[], &[])?;
        Ok::<_, WalError>(compensated)
    });
    assert_eq!(aborted.unwrap(), Lsn(8));
    let (wal, recovery) = again(&dir, wal);
    assert_eq!((lsns(recovery.history()), compensations), (vec![4, 6], vec![4, 6]));
    recovery.redone();
    let checkpoint = wal.log_checkpoint(&[], &[]).unwrap();
    let (_wal, recovery) = again(&dir, wal);
    assert_eq!((recovery.redo_lsn(), recovery.history().count()), (checkpoint, 0));
}

#[test]
fn of_checkpoints_at_the_same_time_the_one_that_began_last_stays() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    fill(&wal);
    let first = wal.begin_checkpoint().unwrap();
    let same = wal.begin_checkpoint().unwrap();
    fill(&wal);
    let second = wal.begin_checkpoint().unwrap();
    let begin = second.begin_lsn();
    let counts = second.log(&[], &[]).unwrap();
    let dropped = wal.truncate_before_checkpoint().unwrap();
    assert!(dropped > 0);
    let next = wal.current_lsn();
    assert_eq!(first.log(&[], &[DirtyPage::new(PAGE, Some(Lsn(2)))]).unwrap(), counts);
    drop(same);
    assert_eq!((wal.checkpoint_lsn(), wal.current_lsn()), (Some(counts), next));
    let (_wal, recovery) = again(&dir, wal);
    assert_eq!(recovery.redo_lsn(), begin);
}

#[test]
fn a_page_that_another_checkpoint_found_on_disk_meanwhile_asks_for_no_record() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    fill(&wal);
    let first = wal.begin_checkpoint().unwrap();
    let redo = first.begin_lsn();
    fill(&wal);
    let second = wal.begin_checkpoint().unwrap();
    // The second finds the page dirty, which is written before the first gets there.
    let dirty = [DirtyPage::new(PAGE, Some(Lsn(2)))];
    first.log(&[], &[]).unwrap();
    assert!(wal.truncate_before_checkpoint().unwrap() > 0);
    let counts = second.log(&[], &dirty).unwrap();
    let (wal, recovery) = again(&dir, wal);
    assert_eq!((wal.checkpoint_lsn(), recovery.redo_lsn()), (Some(counts), redo));
}

#[test]
fn no_checkpoint_is_taken_before_what_recovery_found_is_redone() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _recovery) = recover(dir.path(), &small());
    wal.log_checkpoint(&[], &[]).expect("there is nothing to be redone in a new log");
    wal.log_begin(A).unwrap();
    change(&wal, A, b"row");
    wal.log_commit(A, None).unwrap().applied();
    let (wal, recovery) = again(&dir, wal);
    for _ in 0..2 {
        let refused = wal.log_checkpoint(&[], &[]);
        assert!(matches!(refused, Err(WalError::NotRedone { from: Lsn(1) })), "{refused:?}");
        assert!(matches!(wal.begin_checkpoint(), Err(WalError::NotRedone { .. })));
    }
    assert_eq!((wal.current_lsn(), wal.checkpoint_lsn()), (Lsn(5), Some(Lsn(1))));
    recovery.redone();
    drop(recovery);
    wal.log_checkpoint(&[], &[]).unwrap();
    wal.append_plain(0x8000, b"own").unwrap();
    let (wal, recovery) = again(&dir, wal);
    assert!(matches!(wal.begin_checkpoint(), Err(WalError::NotRedone { .. })), "a plain record may tell of a change");
    drop(recovery);
    drop(wal);
    // Opened in this way, there is nothing to redo.
    open(dir.path()).log_checkpoint(&[], &[]).unwrap();
}

#[test]
fn a_loser_that_goes_on_and_commits_is_redone_from_its_first_record_on() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    wal.log_begin(A).unwrap();
    change(&wal, A, b"before the crash");
    wal.flush().unwrap();
    let (wal, recovery) = again(&dir, wal);
    recovery.redone();
    let mut transaction = wal.resume(A).unwrap();
    transaction.insert(PAGE, b"after").unwrap();
    let committed = transaction.commit().unwrap();
    wal.log_checkpoint(&[], &[]).unwrap();
    committed.applied();
    let (_wal, recovery) = again(&dir, wal);
    assert_eq!(redone(&recovery), [(2, "before the crash".into()), (3, "after".into())]);
}

#[test]
fn a_checkpoint_that_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let counts = wal.log_checkpoint(&[], &[]).unwrap();
    fill(&wal);
    let next = wal.current_lsn();
    drop(wal.begin_checkpoint().unwrap());
    assert_eq!((wal.current_lsn(), wal.checkpoint_lsn()), (next, Some(counts)));
    wal.log_checkpoint(&[], &[]).unwrap();
    assert!(wal.truncate_before_checkpoint().unwrap() > 0);
}

#[test]
fn a_list_that_is_out_of_date_keeps_no_log_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    wal.log_begin(A).unwrap();
    change(&wal, A, b"one");
    let begin = change(&wal, A, b"two");
    wal.log_commit(A, None).unwrap().applied();
    // It is over, and has records on both sides of the redo point.
    wal.log_checkpoint(&[A.into()], &[DirtyPage::new(PAGE, Some(begin))]).unwrap();
    let (wal, recovery) = again(&dir, wal);
    assert_eq!((redone(&recovery), incomplete(&recovery)), (vec![(3, "two".into())], vec![]));
    wal.log_begin(A).expect("it is over");
}

#[test]
fn a_checkpoint_that_lists_the_transactions_of_its_own_place_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let log = below(dir.path());
    Raw::of(A, None).append(&log, RecordType::Begin);
    Raw::of(A, 1).append(&log, RecordType::Insert);
    log.rotate().unwrap();
    Raw::of(A, 2).append(&log, RecordType::Commit);
    // Begun before the commit: its header does not have the flag that says whose list this is.
    let begun_before = [3_u64.to_le_bytes(), 0_u64.to_le_bytes()].concat();
    let checkpoint = Raw { transaction: 0, prev: None, undo_next: None, data: begun_before };
    assert_eq!(checkpoint.append(&log, RecordType::Checkpoint), Lsn(4));
    log.put_meta(15, &4_u64.to_le_bytes()).unwrap();
    log.close().unwrap();
    let (wal, recovery) = recover(dir.path(), &small());
    assert_eq!((wal.checkpoint_lsn(), recovery.redo_lsn()), (Some(Lsn(4)), Lsn(1)));
    assert_eq!(redone(&recovery), [(2, "data".into())]);
    assert_eq!(wal.truncate_before_checkpoint().unwrap(), 0, "its records are needed still");
    recovery.redone();
    wal.log_checkpoint(&[], &[]).unwrap();
    wal.truncate_before_checkpoint().unwrap();
    assert_eq!(wal.log().first_lsn(), Lsn(3));
}

#[test]
fn pages_that_were_lost_are_redone_from_the_oldest_record_on_until_a_checkpoint_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    wal.log_begin(A).unwrap();
    change(&wal, A, b"row");
    wal.log_commit(A, None).unwrap().applied();
    fill(&wal);
    // All pages are on disk, and then lost.
    wal.log_checkpoint(&[], &[]).unwrap();
    drop(wal);
    let (wal, recovery) = recover(dir.path(), &small().recover_from(RecoverFrom::OldestRecord));
    assert_eq!(redone(&recovery), [(2, "row".into())]);
    assert_eq!(wal.truncate_before_checkpoint().unwrap(), 0, "what that checkpoint says of the pages is over");
    recovery.redone();
    assert_eq!(wal.truncate_before_checkpoint().unwrap(), 0, "the pages are in memory only");
    wal.log_checkpoint(&[], &[PAGE.into()]).unwrap();
    let (wal, recovery) = again(&dir, wal);
    assert_eq!(redone(&recovery), [(2, "row".into())]);
    recovery.redone();
    wal.log_checkpoint(&[], &[]).unwrap();
    assert!(wal.truncate_before_checkpoint().unwrap() > 0);
}

#[test]
fn a_transaction_without_records_that_ends_keeps_no_log_from_opening() {
    let end = |wal: &Wal| wal.log_abort(B, None).map(drop);
    let end_by_handle = |wal: &Wal| wal.resume(B)?.abort(|_| -> Result<_, WalError> { unreachable!("none") }).map(drop);
    let undo = |wal: &Wal| wal.log_compensation(B, None, PAGE, None, b"").map(drop);
    for end in [&end as &dyn Fn(&Wal) -> Result<(), WalError>, &end_by_handle, &undo] {
        let dir = tempfile::tempdir().unwrap();
        let wal = open(dir.path());
        // The engine knows of it, or does not know that it is over.
        wal.log_checkpoint(&[B.into()], &[]).unwrap();
        let (wal, recovery) = again(&dir, wal);
        assert_eq!(incomplete(&recovery), [B]);
        wal.log_begin(A).unwrap();
        change(&wal, A, b"row");
        end(&wal).unwrap();
        // Its redo point is between the two checkpoints.
        wal.log_checkpoint(&[], &[]).unwrap();
        let (_wal, recovery) = again(&dir, wal);
        assert!(incomplete(&recovery).contains(&A));
    }
}

#[test]
fn a_commit_is_applied_only_if_that_is_said_of_its_own_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    wal.log_begin(A).unwrap();
    let row = change(&wal, A, b"row");
    let (transaction, commit) = wal.log_commit(A, None).unwrap().defer();
    // As an engine that has kept the end of an earlier log, which a power cut took back, says of a commit with that
    // number.
    for other in (0..1000).map(TransactionId).filter(|&other| other != transaction) {
        wal.commit_applied(other, commit);
    }
    let redo_lsn = || {
        let lsn = wal.log_checkpoint(&[], &[]).unwrap();
        let record = wal.log().get(lsn).unwrap().unwrap();
        WalRecord::parse(&record.record()).unwrap().checkpoint().unwrap().redo_lsn()
    };
    assert_eq!(redo_lsn(), row);
    wal.commit_applied(transaction, commit);
    assert!(redo_lsn() > row);
}
