//! The transaction handle: savepoints, roll-back, and being dropped.

use mapwal::wal::{Compensated, PageId, RecordType, TransactionFault, Undoing, WalError, WalRecord};
use mapwal::{Error, Lsn};

use crate::support::transactions::{PAGE, incomplete, list, lsns, open, recover, small};

fn undo<'u>(undoing: Undoing<'u, '_>) -> Result<Compensated<'u>, WalError> {
    let data = [b"undo ", undoing.record().data()].concat();
    undoing.compensate(data)
}

/// Undoes a record and adds its number to `undone`.
fn note<'u>(undone: &mut Vec<u64>, undoing: Undoing<'u, '_>) -> Result<Compensated<'u>, WalError> {
    undone.push(undoing.record().lsn().0);
    undo(undoing)
}

#[test]
fn a_handle_keeps_its_chain() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let (mut first, mut second) = (wal.begin().unwrap(), wal.begin().unwrap());
    first.insert(PAGE, b"a").unwrap();
    second.insert(PAGE, b"b").unwrap();
    first.update(PageId(4), b"c").unwrap();
    second.delete(None, b"d").unwrap();
    assert_eq!((first.last_lsn(), second.last_lsn()), (Some(Lsn(5)), Some(Lsn(6))));
    assert_eq!(second.commit().unwrap().applied(), Lsn(7));
    assert_eq!(first.commit().unwrap().applied(), Lsn(8));
    let snapshot = wal.log().snapshot().unwrap();
    let prevs = snapshot.iter().map(|record| WalRecord::parse(&record.unwrap()).unwrap().prev_lsn().map(|lsn| lsn.0));
    assert_eq!(prevs.collect::<Vec<_>>(), [None, None, Some(1), Some(2), Some(3), Some(4), Some(6), Some(5)]);
}

#[test]
fn an_abort_hands_over_the_records_newest_first_and_compensates_each() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let mut transaction = wal.begin().unwrap();
    transaction.insert(PageId(1), b"a").unwrap();
    transaction.update(PageId(2), b"b").unwrap();
    transaction.delete(None, b"c").unwrap();
    let mut undone = Vec::new();
    let abort = transaction.abort(|undoing| {
        let record = undoing.record();
        undone.push((record.lsn().0, record.page().map(|page| page.0)));
        let undoing = undo(undoing)?;
        assert_eq!(undoing.lsn(), wal.current_lsn().previous());
        Ok::<_, WalError>(undoing)
    });
    assert_eq!(abort.unwrap(), Lsn(8));
    assert_eq!(undone, [(4, None), (3, Some(2)), (2, Some(1))]);
    let snapshot = wal.log().snapshot().unwrap();
    let records = snapshot.range(Lsn(5)..).map(|record| WalRecord::parse(&record.unwrap()).unwrap());
    let shown: Vec<_> = records.map(|r| (r.record_type(), r.page(), r.undo_next(), r.prev_lsn(), r.data())).collect();
    let compensation = RecordType::Compensation;
    let expected: [(_, _, _, _, &[u8]); 4] = [
        (compensation, None, Some(Lsn(3)), Some(Lsn(4)), b"undo c"),
        (compensation, Some(PageId(2)), Some(Lsn(2)), Some(Lsn(5)), b"undo b"),
        (compensation, Some(PageId(1)), Some(Lsn(1)), Some(Lsn(6)), b"undo a"),
        (RecordType::Abort, None, None, Some(Lsn(7)), b""),
    ];
    assert_eq!(shown, expected);
    drop(wal);
    let (_wal, recovery) = recover(dir.path(), &small());
    assert_eq!((incomplete(&recovery), recovery.redo().count(), recovery.undo().count()), (vec![], 0, 0));
}

#[test]
fn a_roll_back_to_a_savepoint_undoes_what_came_later_once() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let mut transaction = wal.begin().unwrap();
    let start = transaction.savepoint();
    transaction.insert(PAGE, b"a").unwrap();
    let outer = transaction.savepoint();
    transaction.insert(PAGE, b"b").unwrap();
    let inner = transaction.savepoint();
    transaction.insert(PAGE, b"c").unwrap();
    let mut undone = Vec::new();

    transaction.roll_back_to(outer, |undoing| note(&mut undone, undoing)).unwrap();
    transaction.roll_back_to(outer, |undoing| note(&mut undone, undoing)).unwrap();
    transaction.roll_back_to(inner, |undoing| note(&mut undone, undoing)).unwrap();
    transaction.insert(PAGE, b"d").unwrap();
    let second = wal.begin().unwrap();
    let foreign = transaction.roll_back_to(second.savepoint(), |undoing| note(&mut undone, undoing));
    assert!(
        matches!(foreign, Err(WalError::Transaction { fault: TransactionFault::ForeignSavepoint { .. }, .. })),
        "{foreign:?}"
    );
    assert_eq!(undone, [4, 3]);
    let last = transaction.commit().unwrap().applied();
    drop(second);
    drop(wal);
    let (wal, recovery) = recover(dir.path(), &small());
    let redone = [(2, "a"), (3, "b"), (4, "c"), (5, "undo c"), (6, "undo b"), (7, "d")];
    assert_eq!(list(recovery.redo()), redone.map(|(lsn, data)| (lsn, data.to_owned())));
    assert_eq!(last, Lsn(9));
    // From the start, with a savepoint before everything but the begin.
    let mut third = wal.begin().unwrap();
    let own = third.savepoint();
    assert_ne!(own, start);
    third.insert(PAGE, b"e").unwrap();
    third.roll_back_to(own, undo).unwrap();
    assert_eq!(third.abort(|_| -> Result<_, WalError> { panic!("nothing is left") }).unwrap(), Lsn(13));
}

#[test]
fn an_undo_that_fails_can_go_on_later() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let mut transaction = wal.begin().unwrap();
    let id = transaction.id();
    for data in [b"a", b"b", b"c"] {
        transaction.insert(PAGE, data).unwrap();
    }
    let failed = transaction.abort(|undoing| {
        if undoing.record().data() == b"b" { Err(WalError::Log(Error::Closed)) } else { undo(undoing) }
    });
    assert!(matches!(failed, Err(WalError::Log(Error::Closed))));
    wal.flush().unwrap();
    drop(wal);
    let (wal, recovery) = recover(dir.path(), &small());
    assert_eq!(list(recovery.undo()), [(3, "b".into()), (2, "a".into())]);
    let mut undone = Vec::new();
    let resumed = wal.resume(id).unwrap();
    assert_eq!(resumed.last_lsn(), Some(Lsn(5)));
    resumed.abort(|undoing| note(&mut undone, undoing)).unwrap();
    assert_eq!(undone, [3, 2]);
    assert!(matches!(wal.resume(id), Err(WalError::Transaction { fault: TransactionFault::NotOpen, .. })));
}

#[test]
fn a_dropped_handle_logs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let mut transaction = wal.begin().unwrap();
    transaction.insert(PAGE, b"row").unwrap();
    let id = transaction.id();
    drop(transaction);
    assert_eq!(wal.current_lsn(), Lsn(3));
    drop(wal);
    let (_wal, recovery) = recover(dir.path(), &small());
    assert_eq!((incomplete(&recovery), lsns(recovery.undo())), (vec![id], vec![2]));
}

#[test]
fn a_handle_whose_transaction_was_ended_by_another_call_logs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let mut transaction = wal.begin().unwrap();
    wal.log_commit(transaction.id(), None).unwrap().applied();
    assert!(matches!(
        transaction.insert(PAGE, b"row"),
        Err(WalError::Transaction { fault: TransactionFault::NotLast { last: None, .. }, .. })
    ));
    assert!(matches!(transaction.commit(), Err(WalError::Transaction { fault: TransactionFault::NotOpen, .. })));
    assert_eq!(wal.current_lsn(), Lsn(3));
}

#[test]
fn what_is_discarded_is_logged_as_aborted_and_not_undone() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let mut given_up = wal.begin().unwrap();
    let last = given_up.insert(PAGE, b"in no page").unwrap();
    let id = given_up.id();
    let mut goes_on = wal.begin().unwrap();
    goes_on.insert(PAGE, b"open").unwrap();
    let numbers =
        |wal: &mapwal::wal::Wal| wal.open_transactions().iter().map(|open| open.transaction()).collect::<Vec<_>>();
    assert_eq!(numbers(&wal), [id, goes_on.id()]);
    assert_eq!(wal.open_transactions()[0].last_lsn(), Some(last));
    let abort = given_up.discard().unwrap();
    assert_eq!(numbers(&wal), [goes_on.id()]);
    let snapshot = wal.log().snapshot().unwrap();
    assert_eq!(snapshot.next_lsn(), abort.next(), "one record, no compensation");
    let record = WalRecord::parse(&snapshot.get(abort).unwrap().unwrap()).unwrap();
    assert_eq!((record.record_type(), record.prev_lsn()), (RecordType::Abort, Some(last)));
    assert!(matches!(wal.resume(id), Err(WalError::Transaction { fault: TransactionFault::NotOpen, .. })));
    wal.flush().unwrap();
    let still = goes_on.id();
    drop(goes_on);
    drop(wal);
    let (wal, recovery) = recover(dir.path(), &small());
    assert_eq!(incomplete(&recovery).len(), 1);
    assert_eq!(list(recovery.redo()), []);
    assert_eq!(list(recovery.undo()), [(4, "open".into())]);
    assert_eq!(numbers(&wal), [still]);
    wal.resume(still).unwrap().discard().unwrap();
    assert_eq!(numbers(&wal), []);
}
