//! A wal that has been closed.

use mapwal::wal::{ActiveTransaction, RecordType, TransactionId, WalError};
use mapwal::{Error, Lsn};

use crate::support::transactions::open;

#[test]
fn each_call_by_a_closed_wal_says_so_whatever_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let mut transaction = wal.begin().unwrap();
    let (mut another, empty) = (wal.begin().unwrap(), wal.begin().unwrap());
    another.insert(None, b"late").unwrap();
    let (own, foreign) = (another.savepoint(), transaction.savepoint());
    let (id, none) = (transaction.id(), TransactionId(99));
    let (long, prev) = (vec![0; 1 << 20], Lsn(999));
    wal.clone().close().unwrap();
    let outcomes = [
        wal.log_begin(id).err(),
        wal.log_begin(TransactionId(u64::MAX)).err(),
        wal.log_insert(id, prev, None, &long).err(),
        wal.log_update(none, prev, None, b"late").err(),
        wal.log_delete(TransactionId(u64::MAX), prev, None, b"late").err(),
        wal.log_compensation(none, prev, None, prev, b"late").err(),
        wal.log_abort(none, prev).err(),
        wal.log_commit(none, prev).map(drop).err(),
        wal.log_commit_unsynced(none, prev).map(drop).err(),
        wal.append(RecordType::Commit, id, None, None, b"late").err(),
        wal.append(RecordType::Insert, TransactionId(u64::MAX), None, None, b"late").err(),
        wal.append_plain(1, b"late").err(),
        wal.append_plain(0x8000, &long).err(),
        wal.resume(none).map(drop).err(),
        wal.begin().map(drop).err(),
        wal.flush().err(),
        wal.begin_checkpoint().map(drop).err(),
        wal.log_checkpoint(&[ActiveTransaction::new(TransactionId(u64::MAX))], &[]).err(),
        wal.truncate_before_checkpoint().err(),
        wal.close().err(),
        another.roll_back_to(own, |undoing| undoing.compensate(b"late")).err(),
        another.roll_back_to(foreign, |undoing| undoing.compensate(b"late")).err(),
        transaction.roll_back_to(foreign, |undoing| undoing.compensate(b"late")).err(),
        empty.abort(|undoing| undoing.compensate(b"late")).err(),
        another.insert(None, &long).err(),
        transaction.commit().map(drop).err(),
    ];
    for (number, outcome) in outcomes.into_iter().enumerate() {
        assert!(matches!(outcome, Some(WalError::Log(Error::Closed))), "{number}: {outcome:?}");
    }
}
