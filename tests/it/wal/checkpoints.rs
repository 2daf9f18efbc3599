//! Checkpoints: where recovery starts, what a crash in the middle leaves, and what may be trimmed.

use std::collections::HashMap;
use std::thread::ScopedJoinHandle;

use mapwal::wal::{
    ActiveTransaction, DirtyPage, PageId, RecordType, RecoverFrom, TransactionId, Wal, WalError, WalOptions, WalRecord,
};
use mapwal::{Error, Lsn};

use crate::support::transactions::{
    A, B, C, PAGE, below, bulk, incomplete, list, lsns, open, recover, small, try_recover,
};

fn commit(wal: &Wal, transaction: TransactionId, data: &str) {
    wal.log_begin(transaction).unwrap();
    wal.log_insert(transaction, None, PAGE, data.as_bytes()).unwrap();
    wal.log_commit(transaction, None).unwrap().applied();
}

#[test]
fn recovery_starts_at_the_checkpoint_or_at_the_oldest_record() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    commit(&wal, A, "before");
    assert_eq!(wal.log_checkpoint(&[], &[]).unwrap(), Lsn(4));
    assert_eq!((wal.checkpoint_lsn(), wal.flushed_lsn()), (Some(Lsn(4)), Lsn(4)));
    commit(&wal, B, "after");
    drop(wal);
    let (wal, recovery) = recover(dir.path(), &small());
    assert_eq!((list(recovery.redo()), recovery.redo_lsn()), (vec![(6, "after".into())], Lsn(4)));
    assert_eq!((wal.checkpoint_lsn(), recovery.records_processed()), (Some(Lsn(4)), 4));
    drop(wal);
    let (wal, recovery) = recover(dir.path(), &small().recover_from(RecoverFrom::OldestRecord));
    assert_eq!(list(recovery.redo()), [(2, "before".into()), (6, "after".into())]);
    assert_eq!((wal.checkpoint_lsn(), recovery.redo_lsn()), (Some(Lsn(4)), Lsn(1)));
}

#[test]
fn a_checkpoint_is_read_back_as_slices() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    wal.log_begin(A).unwrap();
    wal.log_insert(A, None, PAGE, b"row").unwrap();
    wal.log_begin(B).unwrap();
    let dirty = [DirtyPage::new(PageId(9), Some(Lsn(2))), DirtyPage::new(PageId(0), Some(Lsn(3)))];
    // What the caller says of a transaction that the log knows better is not believed.
    let given = [ActiveTransaction::with_lsns(B, Some(Lsn(1)), Some(Lsn(1))), C.into(), C.into()];
    let lsn = wal.log_checkpoint(&given, &dirty).unwrap();
    drop(wal);
    let (_wal, recovery) = recover(dir.path(), &small());
    let checkpoint = recovery.checkpoint().unwrap().unwrap();
    assert_eq!((checkpoint.lsn(), checkpoint.redo_lsn(), checkpoint.dirty_pages()), (lsn, Lsn(2), &dirty[..]));
    let active: Vec<_> =
        checkpoint.active_transactions().iter().map(|a| (a.transaction(), a.first_lsn(), a.last_lsn())).collect();
    assert_eq!(active, [(A, Some(Lsn(1)), Some(Lsn(2))), (B, Some(Lsn(3)), Some(Lsn(3))), (C, None, None)]);
    assert_eq!(incomplete(&recovery), [A, B, C]);
}

#[test]
fn the_transactions_of_a_checkpoint_are_incomplete_unless_they_end_later() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    for transaction in [A, B, C] {
        wal.log_begin(transaction).unwrap();
        wal.log_insert(transaction, None, PAGE, b"early").unwrap();
    }
    let unused = TransactionId(500);
    wal.log_checkpoint(&[unused.into()], &[]).unwrap();
    wal.log_update(A, None, PAGE, b"late").unwrap();
    wal.log_commit(A, None).unwrap().applied();
    wal.log_abort(B, None).unwrap();
    drop(wal);
    let (wal, recovery) = recover(dir.path(), &small());
    // Nobody has said that their changes were in any page.
    assert_eq!(recovery.redo_lsn(), Lsn(2));
    assert_eq!(incomplete(&recovery), [C, unused]);
    // An engine that waits for the commit has applied nothing of the first transaction before the checkpoint.
    assert_eq!(list(recovery.redo()), [(2, "early".into()), (8, "late".into())]);
    assert_eq!((lsns(recovery.history()), lsns(recovery.undo())), (vec![2, 4, 6, 8], vec![6]));
    // The one that has logged nothing can begin, or be given up.
    wal.log_begin(unused).unwrap();
    wal.log_abort(unused, None).unwrap();
    wal.log_compensation(C, Lsn(6), PAGE, Lsn(5), b"").unwrap();
    wal.log_abort(C, None).unwrap();
    drop(wal);
    let (_wal, recovery) = recover(dir.path(), &small());
    assert!(recovery.incomplete_transactions().is_empty());
}

#[test]
fn transactions_that_span_the_redo_point_are_known_whether_the_checkpoint_lists_them_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    for (transaction, data) in [(A, "a1"), (B, "b1"), (C, "c1")] {
        wal.log_begin(transaction).unwrap();
        wal.log_insert(transaction, None, PAGE, data.as_bytes()).unwrap();
    }
    // Two have records after the redo point and before the checkpoint; one of them ends there.
    for transaction in [A, B, C] {
        wal.resume(transaction).unwrap().applied();
    }
    let begun = wal.begin_checkpoint().unwrap();
    let begin = begun.begin_lsn();
    wal.log_update(A, None, PAGE, b"a2").unwrap();
    wal.log_update(B, None, PAGE, b"b2").unwrap();
    wal.log_commit(A, None).unwrap().applied();
    begun.log(&[], &[]).unwrap();
    wal.log_commit(C, None).unwrap().applied();
    drop(wal);
    let (_wal, recovery) = recover(dir.path(), &small());
    assert_eq!((recovery.redo_lsn(), incomplete(&recovery)), (begin, vec![B]));
    // Those that were open when the checkpoint began are redone from their first records on.
    assert_eq!(list(recovery.redo()), [(2, "a1".into()), (6, "c1".into()), (7, "a2".into())]);
    assert_eq!(lsns(recovery.history()), [7, 8]);
    assert_eq!(list(recovery.undo()), [(8, "b2".into()), (4, "b1".into())]);
}

#[test]
fn a_page_without_a_recovery_lsn_keeps_the_redo_point_of_the_checkpoint_before() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let redo_lsn = |wal: mapwal::wal::Wal| {
        drop(wal);
        let (wal, recovery) = recover(dir.path(), &small());
        recovery.redone();
        (wal, recovery.redo_lsn())
    };
    commit(&wal, A, "one");
    wal.log_checkpoint(&[], &[PageId(1).into()]).unwrap();
    let (wal, redo) = redo_lsn(wal);
    assert_eq!(redo, Lsn(1));
    wal.log_checkpoint(&[], &[]).unwrap();
    let (wal, redo) = redo_lsn(wal);
    assert_eq!(redo, Lsn(5));
    commit(&wal, A, "two");
    wal.log_checkpoint(&[], &[PageId(1).into(), DirtyPage::new(PageId(2), Some(Lsn(7)))]).unwrap();
    let (_wal, redo) = redo_lsn(wal);
    assert_eq!(redo, Lsn(5));
}

#[test]
fn a_checkpoint_record_that_the_metadata_does_not_name_yet_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    commit(&wal, A, "one");
    wal.log_checkpoint(&[], &[]).unwrap();
    commit(&wal, B, "two");
    wal.log_checkpoint(&[], &[]).unwrap();
    drop(wal);
    // As a crash leaves it after the record was written and before the slot was.
    let log = below(dir.path());
    assert_eq!(log.meta(15).unwrap(), 8_u64.to_le_bytes());
    log.put_meta(15, &4_u64.to_le_bytes()).unwrap();
    log.sync().unwrap();
    drop(log);
    let (wal, recovery) = recover(dir.path(), &small());
    assert_eq!((wal.checkpoint_lsn(), list(recovery.redo())), (Some(Lsn(4)), vec![(6, "two".into())]));
}

#[test]
fn the_slot_follows_its_checkpoint_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    commit(&wal, A, "one");
    let checkpoint = wal.log_checkpoint(&[], &[DirtyPage::new(PageId(77), Some(Lsn(2)))]).unwrap();
    wal.log().rotate().unwrap();
    wal.flush().unwrap();
    let sealed = wal.log().sealed(0).unwrap();
    let bytes = sealed[0].bytes();
    let record = wal.log().get(checkpoint).unwrap().unwrap();
    let find = |needle: &[u8]| bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    // As a metadata frame holds it: slot, three zeros, the value's length, the value.
    let slot = [&[15, 0, 0, 0, 8, 0, 0, 0], &checkpoint.0.to_le_bytes()[..]].concat();
    assert!(find(record.payload()) < find(&slot));
}

#[test]
fn trimming_keeps_what_recovery_needs() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let fill = |transaction| {
        wal.log_begin(transaction).unwrap();
        for _ in 0..200 {
            wal.log_update(transaction, None, PAGE, &bulk()).unwrap();
        }
        wal.log_commit(transaction, None).unwrap().applied();
    };
    assert_eq!(wal.truncate_before_checkpoint().unwrap(), 0, "there is no checkpoint");
    fill(A);
    let begin = wal.log_begin(B).unwrap();
    fill(A);
    let dirtied = wal.current_lsn();
    fill(A);
    let checkpoint = wal.log_checkpoint(&[], &[DirtyPage::new(PAGE, Some(dirtied))]).unwrap();
    let whole_below = |lsn| wal.log().sealed(0).unwrap().iter().filter(|segment| segment.next_lsn() <= lsn).count();

    // The transaction that is open keeps more than the dirty page does.
    let expected = whole_below(begin);
    assert!(expected > 0 && expected < whole_below(dirtied));
    assert_eq!(wal.truncate_before_checkpoint().unwrap(), expected);
    assert!(wal.log().first_lsn() <= begin);

    // Its end changes nothing before the next checkpoint: recovery from this one would look at its records.
    wal.log_commit(B, None).unwrap().applied();
    assert_eq!(wal.truncate_before_checkpoint().unwrap(), 0);
    let second = wal.log_checkpoint(&[], &[DirtyPage::new(PAGE, Some(dirtied))]).unwrap();
    let expected = whole_below(dirtied);
    assert!(expected > 0);
    assert_eq!(wal.truncate_before_checkpoint().unwrap(), expected);

    // Without a dirty page only a pin keeps anything.
    let pin = wal.log().pin(checkpoint).unwrap();
    fill(A);
    assert!(second < wal.log_checkpoint(&[], &[]).unwrap());
    wal.truncate_before_checkpoint().unwrap();
    assert!(wal.log().first_lsn() <= checkpoint && wal.log().first_lsn() > dirtied);
    drop(pin);
    assert!(wal.truncate_before_checkpoint().unwrap() > 0);
    let last = wal.checkpoint_lsn();
    drop(wal);

    let (wal, recovery) = recover(dir.path(), &small());
    assert_eq!((wal.checkpoint_lsn(), recovery.redo().count(), incomplete(&recovery).len()), (last, 0, 0));
    drop(wal);
    let (_wal, recovery) = recover(dir.path(), &small().recover_from(RecoverFrom::OldestRecord));
    assert!(recovery.redo().count() > 0 && incomplete(&recovery).is_empty());
}

#[test]
fn undo_reaches_before_the_redo_point_after_a_trim() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    for transaction in [A, B] {
        wal.log_begin(transaction).unwrap();
        for _ in 0..100 {
            wal.log_update(transaction, None, PAGE, &bulk()).unwrap();
        }
        if transaction == A {
            wal.log_commit(A, None).unwrap().applied();
        }
    }
    wal.resume(B).unwrap().applied();
    wal.log_checkpoint(&[], &[]).unwrap();
    assert!(wal.truncate_before_checkpoint().unwrap() > 0);
    drop(wal);
    for _ in 0..2 {
        let (wal, recovery) = recover(dir.path(), &small());
        assert_eq!(lsns(recovery.undo()), (104..=203).rev().collect::<Vec<_>>());
        assert_eq!(recovery.records_processed(), 1);
        // Recovery itself may be cut short and begun again.
        wal.truncate_before_checkpoint().unwrap();
    }
}

#[test]
fn a_checkpoint_that_does_not_fit_or_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    commit(&wal, A, "one");
    let many = vec![DirtyPage::new(PAGE, None); 8000];
    let refused = wal.log_checkpoint(&[], &many);
    assert!(matches!(refused, Err(WalError::CheckpointTooLarge { active: 0, dirty: 8000, .. })), "{refused:?}");
    assert_eq!((wal.checkpoint_lsn(), wal.current_lsn()), (None, Lsn(4)));
    wal.log_checkpoint(&[], &[]).unwrap();
    wal.log().rotate().unwrap();
    wal.log_begin(A).unwrap();
    assert!(wal.log().trim_before(Lsn(5)).unwrap() > 0);
    let refused = wal.log_checkpoint(&[], &[DirtyPage::new(PAGE, Some(Lsn(2)))]);
    assert!(matches!(refused, Err(WalError::Log(Error::Trimmed { lsn: Lsn(2), first: Lsn(5) }))), "{refused:?}");
    assert_eq!(wal.checkpoint_lsn(), Some(Lsn(4)));
    drop(wal);
    // Trimmed without the wal's knowledge.
    let refused = try_recover(dir.path(), &small());
    assert!(matches!(refused, Err(WalError::NoCheckpoint { lsn: Lsn(4) })), "{refused:?}");
}

#[test]
fn a_checkpoint_of_too_many_open_transactions_says_what_helps_and_that_helps() {
    let open_many = |wal: &Wal| (0..4000).map(|_| wal.begin().unwrap().id()).collect::<Vec<_>>();
    let too_large = |wal: &Wal| {
        let refused = wal.log_checkpoint(&[], &[]).unwrap_err();
        let WalError::CheckpointTooLarge { active: 4000, dirty: 0, len, max } = refused else { panic!("{refused:?}") };
        assert_eq!((len, max), (40 + 16 + 32 * 4000, wal.log().payload_len_max()));
        assert!(refused.to_string().contains("end transactions, write pages, or open the log with larger segments"));
    };
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let ids = open_many(&wal);
    too_large(&wal);
    // As many as fit.
    let max = usize::try_from((wal.log().payload_len_max() - 40 - 16) / 32).unwrap();
    for &id in &ids[max..] {
        wal.log_abort(id, None).unwrap();
    }
    wal.log_checkpoint(&[], &[]).unwrap();
    let ids = (max..4000).map(|_| wal.begin().unwrap().id()).fold(None, |_, id| Some(id));
    too_large(&wal);
    drop(wal);
    let (wal, recovery) =
        recover(dir.path(), &WalOptions::new().log(crate::support::small().segment_size_bytes(1 << 20)));
    assert_eq!(incomplete(&recovery).last().copied(), ids);
    recovery.redone();
    wal.log_checkpoint(&[], &[]).unwrap();
}

#[test]
fn checkpoints_while_transactions_go_on_miss_none_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let mut checkpoints = Vec::new();
    let committed = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let wal = &wal;
                scope.spawn(move || {
                    for round in 0..300_u64 {
                        let id = TransactionId(worker * 1000 + round);
                        wal.log_begin(id).unwrap();
                        for _ in 0..round % 4 {
                            wal.log_insert(id, None, PAGE, b"row").unwrap();
                        }
                        wal.log_commit_unsynced(id, None).unwrap().applied();
                    }
                    300
                })
            })
            .collect();
        while !workers.iter().all(ScopedJoinHandle::is_finished) {
            let begun = wal.begin_checkpoint().unwrap();
            let begin = begun.begin_lsn();
            checkpoints.push((begin, begun.log(&[], &[]).unwrap()));
        }
        workers.into_iter().map(|worker| worker.join().unwrap()).sum::<u64>()
    });
    assert_eq!(committed, 1200);
    wal.flush().unwrap();
    let (mut inserts, mut commits) = (HashMap::new(), Vec::new());
    for record in &wal.log().snapshot().unwrap() {
        let record = WalRecord::parse(&record.unwrap()).unwrap();
        match record.record_type() {
            RecordType::Insert => *inserts.entry(record.transaction()).or_insert(0) += 1,
            RecordType::Commit => commits.push((record.lsn(), record.transaction())),
            _ => {}
        }
    }
    drop(wal);
    // Recovery can start at each of them, and redoes as a whole what was not over when it began.
    for (begin, lsn) in checkpoints.iter().step_by(checkpoints.len().div_ceil(8)) {
        let log = below(dir.path());
        log.put_meta(15, &lsn.0.to_le_bytes()).unwrap();
        log.sync().unwrap();
        drop(log);
        let (_wal, recovery) = recover(dir.path(), &small());
        assert_eq!(incomplete(&recovery), []);
        let mut redone = HashMap::new();
        for record in recovery.redo() {
            *redone.entry(record.unwrap().transaction()).or_insert(0) += 1;
        }
        for (_, transaction) in commits.iter().filter(|(commit, _)| commit >= begin) {
            let count = |counts: &HashMap<_, i32>| counts.get(transaction).copied();
            assert_eq!(count(&redone), count(&inserts), "transaction {transaction} at checkpoint {lsn}");
        }
    }
}

#[test]
fn a_checkpoint_brings_back_what_the_engine_gave_it() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let id = wal.begin().unwrap().id();
    let dirty = [DirtyPage::from(PageId(7))];
    let max = usize::try_from(wal.log().payload_len_max()).unwrap();
    let refused = wal.begin_checkpoint().unwrap().log_with_data(&[], &dirty, &vec![1; max - 40 - 16 - 32 - 16 + 1]);
    assert!(matches!(refused, Err(WalError::CheckpointTooLarge { active: 1, dirty: 1, .. })), "{refused:?}");
    for data in [&b"root: page 7"[..], &[], &vec![7; max - 40 - 16 - 32 - 16]] {
        let lsn = wal.begin_checkpoint().unwrap().log_with_data(&[], &dirty, data).unwrap();
        drop(wal.clone());
        let snapshot = wal.log().snapshot().unwrap();
        let record = WalRecord::parse(&snapshot.get(lsn).unwrap().unwrap()).unwrap();
        assert_eq!(record.checkpoint().unwrap().data(), data);
    }
    wal.begin_checkpoint().unwrap().log_with_data(&[], &dirty, b"root: page 8").unwrap();
    drop(wal);
    let (_wal, recovery) = recover(dir.path(), &small());
    let checkpoint = recovery.checkpoint().unwrap().unwrap();
    assert_eq!((checkpoint.data(), checkpoint.dirty_pages()), (&b"root: page 8"[..], &dirty[..]));
    assert_eq!(checkpoint.active_transactions()[0].transaction(), id);
}
