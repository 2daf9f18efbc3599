//! A log below a wal that was changed by hand: trimmed, truncated or started anew past what the last checkpoint names.

use mapwal::wal::{RecoverFrom, Wal, WalError, WalOptions};
use mapwal::{Error, Lsn, Visibility};

use crate::support::transactions::{A, PAGE, below, bulk, incomplete, list, open, recover, small, try_recover};

fn from_oldest() -> WalOptions {
    small().recover_from(RecoverFrom::OldestRecord)
}

/// Transactions that are over and applied, which fill some segments.
fn fill(wal: &Wal) {
    for _ in 0..4 {
        let mut transaction = wal.begin().unwrap();
        for _ in 0..50 {
            transaction.update(PAGE, &bulk()).unwrap();
        }
        transaction.commit().unwrap().applied();
    }
}

#[test]
fn a_wal_over_a_replica_hands_out_no_number_again() {
    let directories = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let leader = open(directories[0].path());
    fill(&leader);
    let replica = below(directories[1].path());
    let mut frames = leader.log().follow(Lsn(1), Visibility::Published).unwrap();
    while let Some(frames) = frames.next_batch(1 << 20).unwrap() {
        replica.append_frames(&[&frames.header()[..], frames.bytes()].concat()).unwrap();
    }
    replica.close().unwrap();
    let largest = leader.begin().unwrap().id();
    let promoted = open(directories[1].path());
    assert_eq!(promoted.begin().unwrap().id(), largest);
}

#[test]
fn a_log_whose_checkpoint_is_gone_opens_from_its_oldest_record_and_goes_on() {
    let trim = |wal: &Wal| assert!(wal.log().trim_before(wal.current_lsn()).unwrap() > 0);
    let truncate = |wal: &Wal| wal.log().truncate_after(Lsn(2)).unwrap();
    let replace = |wal: &Wal| {
        wal.log().truncate_after(Lsn(2)).unwrap();
        fill(wal);
    };
    let start_anew = |wal: &Wal| wal.log().reset_to(Lsn(1000)).unwrap();
    for by_hand in [&trim as &dyn Fn(&Wal), &truncate, &replace, &start_anew] {
        let dir = tempfile::tempdir().unwrap();
        let wal = open(dir.path());
        wal.log_begin(A).unwrap();
        wal.log_insert(A, None, PAGE, b"row").unwrap();
        wal.log_commit(A, None).unwrap().applied();
        let lsn = wal.log_checkpoint(&[], &[]).unwrap();
        fill(&wal);
        by_hand(&wal);
        drop(wal);
        let refused = try_recover(dir.path(), &small()).unwrap_err();
        assert!(matches!(refused, WalError::NoCheckpoint { lsn: named } if named == lsn), "{refused:?}");
        assert!(refused.to_string().contains("`RecoverFrom::OldestRecord`"), "{refused}");
        let (wal, recovery) = recover(dir.path(), &from_oldest());
        assert_eq!((wal.checkpoint_lsn(), recovery.redo_lsn()), (None, wal.log().first_lsn()));
        recovery.redone();
        fill(&wal);
        let lsn = wal.log_checkpoint(&[], &[]).unwrap();
        drop(wal);
        let (wal, _) = recover(dir.path(), &small());
        assert_eq!(wal.checkpoint_lsn(), Some(lsn));
    }
}

#[test]
fn what_is_kept_of_a_transaction_is_recovered_from_the_oldest_record() {
    for is_committed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let wal = open(dir.path());
        wal.log_begin(A).unwrap();
        wal.log_insert(A, None, PAGE, b"early").unwrap();
        fill(&wal);
        wal.log_checkpoint(&[], &[]).unwrap();
        wal.log_insert(A, None, PAGE, b"late").unwrap();
        if is_committed {
            wal.log_commit(A, None).unwrap().applied();
        }
        assert!(wal.log().trim_before(wal.current_lsn()).unwrap() > 0);
        wal.flush().unwrap();
        drop(wal);
        let refused = try_recover(dir.path(), &small()).unwrap_err();
        assert!(matches!(refused, WalError::Log(Error::Trimmed { .. })), "{refused:?}");
        let (_wal, recovery) = recover(dir.path(), &from_oldest());
        assert_eq!(incomplete(&recovery).contains(&A), !is_committed);
        let late = list(recovery.redo()).iter().any(|(_, data)| data == "late");
        assert_eq!(late, is_committed);
    }
}
