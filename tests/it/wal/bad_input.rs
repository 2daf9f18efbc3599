//! Records that no wal writes: each is an error of its own that names the record, and nothing panics.

use mapwal::wal::{ChainFault, RecordFault, RecordType, WalError};
use mapwal::{Log, Lsn};

use crate::support::transactions::{A, B, Raw, below, recover, small, try_recover};

/// The error of opening a wal over what `write` appends.
fn refusal(write: impl FnOnce(&Log)) -> WalError {
    let dir = tempfile::tempdir().unwrap();
    let log = below(dir.path());
    write(&log);
    log.sync().unwrap();
    drop(log);
    try_recover(dir.path(), &small()).map(drop).expect_err("bad input is refused")
}

fn begin(log: &Log) {
    Raw::of(A, None).append(log, RecordType::Begin);
}

#[test]
fn an_unknown_record_type_is_refused() {
    for code in [0, 9, 0x7fff] {
        let error = refusal(|log| {
            begin(log);
            log.append(code, &Raw::of(A, 1).bytes()).unwrap();
        });
        assert!(
            matches!(error, WalError::Record { lsn: Lsn(2), fault: RecordFault::UnknownType { code: found } } if found == code),
            "{error}"
        );
    }
}

#[test]
fn a_payload_shorter_than_the_header_is_refused() {
    for len in [0, 1, 39] {
        let error = refusal(|log| {
            begin(log);
            log.append(RecordType::Insert.code(), &Raw::of(A, 1).bytes()[..len]).unwrap();
        });
        assert!(
            matches!(error, WalError::Record { lsn: Lsn(2), fault: RecordFault::TooShort { len: found, needed: 40 } } if found == len),
            "{error}"
        );
    }
}

#[test]
fn a_header_that_contradicts_itself_is_refused() {
    for (at, reason) in [
        (16, RecordFault::AbsentField),
        (24, RecordFault::AbsentField),
        (35, RecordFault::UnknownFlag),
        (36, RecordFault::Reserved),
    ] {
        let error = refusal(|log| {
            let mut bytes = Raw::of(A, None).bytes();
            bytes[at] = 1;
            log.append(RecordType::Begin.code(), &bytes).unwrap();
        });
        let expected = matches!(error, WalError::Record { lsn: Lsn(1), fault: found } if found == reason);
        assert!(expected, "byte {at}: {error}");
    }
    let error = refusal(|log| {
        begin(log);
        Raw { undo_next: Some(1), ..Raw::of(A, 1) }.append(log, RecordType::Update);
    });
    assert!(matches!(error, WalError::Record { lsn: Lsn(2), fault: RecordFault::UndoNext }), "{error}");
}

#[test]
fn a_chain_that_leads_nowhere_is_refused() {
    let cases = [
        (Some(3), ChainFault::Forward),
        (Some(4), ChainFault::Forward),
        (Some(u64::MAX), ChainFault::Forward),
        (Some(2), ChainFault::OtherTransaction),
        (Some(0), ChainFault::Missing),
        (None, ChainFault::NotLast),
    ];
    for record_type in [RecordType::Insert, RecordType::Compensation, RecordType::Commit, RecordType::Abort] {
        for (prev, expected) in cases {
            let error = refusal(|log| {
                begin(log);
                Raw::of(B, None).append(log, RecordType::Begin);
                Raw::of(A, prev).append(log, record_type);
            });
            assert!(
                matches!(error, WalError::Record { lsn: Lsn(3), fault: RecordFault::Chain { target, fault } }
                    if fault == expected && target == prev.map(Lsn)),
                "{record_type:?} with {prev:?}: {error:?}"
            );
        }
    }
    // Of a transaction that is not open.
    for (prev, expected) in [(2, ChainFault::Forward), (1, ChainFault::OtherTransaction), (0, ChainFault::Missing)] {
        for record_type in [RecordType::Insert, RecordType::Compensation, RecordType::Commit, RecordType::Abort] {
            let error = refusal(|log| {
                begin(log);
                Raw::of(B, prev).append(log, record_type);
            });
            assert!(
                matches!(error, WalError::Record { lsn: Lsn(2), fault: RecordFault::Chain { fault, .. } } if fault == expected),
                "{error:?}"
            );
        }
    }
}

#[test]
fn a_chain_that_leaves_out_a_record_is_refused() {
    let error = refusal(|log| {
        begin(log);
        Raw::of(A, 1).append(log, RecordType::Insert);
        Raw::of(A, 1).append(log, RecordType::Insert);
    });
    let expected = WalError::Record {
        lsn: Lsn(3),
        fault: RecordFault::Chain { target: Some(Lsn(1)), fault: ChainFault::NotLast },
    };
    assert_eq!(error.to_string(), expected.to_string());
}

#[test]
fn a_void_record_is_no_record_to_point_to() {
    let error = refusal(|log| {
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            log.append_with(1, 40, |_| panic!("gives the record up")).unwrap()
        }));
        assert!(panicked.is_err());
        Raw::of(A, 1).append(log, RecordType::Insert);
    });
    let missing =
        matches!(error, WalError::Record { lsn: Lsn(2), fault: RecordFault::Chain { fault: ChainFault::Missing, .. } });
    assert!(missing, "{error:?}");
}

#[test]
fn an_end_without_a_begin_is_refused() {
    for record_type in [RecordType::Commit, RecordType::Abort, RecordType::Compensation] {
        let error = refusal(|log| {
            Raw::of(A, None).append(log, record_type);
        });
        assert!(
            matches!(error, WalError::Record { lsn: Lsn(1), fault: RecordFault::NotOpen { transaction: A } }),
            "{error:?}"
        );
    }
    let error = refusal(|log| {
        Raw::of(A, None).append(log, RecordType::Insert);
        Raw::of(A, 1).append(log, RecordType::Commit);
    });
    assert!(
        matches!(error, WalError::Record { lsn: Lsn(2), fault: RecordFault::NotOpen { transaction: A } }),
        "{error:?}"
    );
    let error = refusal(|log| {
        begin(log);
        Raw::of(A, 1).append(log, RecordType::Commit);
        Raw::of(A, 2).append(log, RecordType::Commit);
    });
    assert!(
        matches!(error, WalError::Record { lsn: Lsn(3), fault: RecordFault::NotOpen { transaction: A } }),
        "{error:?}"
    );
}

#[test]
fn a_second_begin_is_refused() {
    let error = refusal(|log| {
        begin(log);
        begin(log);
    });
    assert!(
        matches!(error, WalError::Record { lsn: Lsn(2), fault: RecordFault::AlreadyBegun { transaction: A } }),
        "{error:?}"
    );
    let error = refusal(|log| {
        Raw::of(A, 1).append(log, RecordType::Begin);
    });
    assert!(
        matches!(error, WalError::Record { lsn: Lsn(1), fault: RecordFault::Chain { fault: ChainFault::Forward, .. } }),
        "{error:?}"
    );
}

#[test]
fn a_compensation_that_points_forward_or_nowhere_is_refused() {
    for (undo_next, expected) in [(3, ChainFault::Forward), (u64::MAX, ChainFault::Forward), (0, ChainFault::Missing)] {
        let error = refusal(|log| {
            begin(log);
            Raw::of(A, 1).append(log, RecordType::Insert);
            Raw { undo_next: Some(undo_next), ..Raw::of(A, 2) }.append(log, RecordType::Compensation);
        });
        let broken = matches!(error, WalError::Record { lsn: Lsn(3), fault: RecordFault::Chain { fault, .. } } if fault == expected);
        assert!(broken, "{error:?}");
    }
}

#[test]
fn undo_reports_a_compensation_that_points_elsewhere_and_ends() {
    for (undo_next, expected) in
        [(1, Some(ChainFault::OtherTransaction)), (2, None), (3, None), (5, Some(ChainFault::Ended))]
    {
        let dir = tempfile::tempdir().unwrap();
        let log = below(dir.path());
        Raw::of(B, None).append(&log, RecordType::Insert);
        begin(&log);
        Raw::of(A, 2).append(&log, RecordType::Insert);
        // An earlier life of the same number.
        Raw::of(A, 3).append(&log, RecordType::Insert);
        Raw::of(A, 4).append(&log, RecordType::Abort);
        begin(&log);
        Raw { undo_next: Some(undo_next), ..Raw::of(A, 6) }.append(&log, RecordType::Compensation);
        drop(log);
        let (_wal, recovery) = recover(dir.path(), &small());
        let undone: Vec<_> = recovery.undo().collect();
        assert!(undone.len() <= 2, "{undone:?}");
        let fault = undone.iter().find_map(|record| match record {
            Err(WalError::Record { lsn: Lsn(7), fault: RecordFault::Chain { fault, .. } }) => Some(*fault),
            _ => None,
        });
        assert_eq!(fault, expected, "undo_next {undo_next}: {undone:?}");
        assert!(fault.is_none() || undone.last().unwrap().is_err());
    }
}

#[test]
fn a_checkpoint_whose_counts_do_not_fit_is_refused() {
    for (active, dirty, lists) in [(1_u32, 0_u32, 0), (0, 1, 0), (0, 0, 1), (u32::MAX, u32::MAX, 64), (1, 1, 47)] {
        let error = refusal(|log| {
            let mut data = 1_u64.to_le_bytes().to_vec();
            data.extend(active.to_le_bytes());
            data.extend(dirty.to_le_bytes());
            data.extend(vec![0; lists]);
            let payload = Raw { transaction: 0, data, ..Raw::of(A, None) }.bytes();
            log.append(RecordType::Checkpoint.code(), &payload).unwrap();
        });
        let expected = 16 + 32 * u64::from(active) + 16 * u64::from(dirty);
        assert!(
            matches!(error, WalError::Record { lsn: Lsn(1), fault: RecordFault::CheckpointLayout { len, needed } }
                if len == 16 + lists as u64 && needed == expected),
            "{error:?}"
        );
    }
}

/// A checkpoint that lists one transaction as open at its begin, as the last one of the log.
fn checkpoint(log: &Log, redo: u64, transaction: u64, first: u64, last: u64) {
    let mut data = redo.to_le_bytes().to_vec();
    data.extend(1_u32.to_le_bytes());
    data.extend(0_u32.to_le_bytes());
    for field in [transaction, first, last, 1] {
        data.extend(field.to_le_bytes());
    }
    let mut payload = Raw { transaction: 0, data, ..Raw::of(A, None) }.bytes();
    payload[32] |= 1 << 3;
    let lsn = log.append(RecordType::Checkpoint.code(), &payload).unwrap();
    log.put_meta(15, &lsn.0.to_le_bytes()).unwrap();
}

#[test]
fn a_checkpoint_that_lies_is_refused() {
    let ahead = refusal(|log| {
        begin(log);
        checkpoint(log, 3, A.0, 1, 1);
        begin(log);
    });
    assert!(
        matches!(ahead, WalError::Record { lsn: Lsn(2), fault: RecordFault::Chain { target: Some(Lsn(3)), .. } }),
        "{ahead:?}"
    );
    let lost = refusal(|log| {
        begin(log);
        checkpoint(log, 2, A.0, 1, 7);
    });
    let expected = matches!(
        lost,
        WalError::Record {
            lsn: Lsn(2),
            fault: RecordFault::Chain { target: Some(Lsn(7)), fault: ChainFault::Missing }
        }
    );
    assert!(expected, "{lost:?}");
    let other = refusal(|log| {
        begin(log);
        Raw::of(B, None).append(log, RecordType::Begin);
        checkpoint(log, 3, A.0, 1, 1);
        Raw::of(A, 2).append(log, RecordType::Insert);
    });
    let expected = matches!(
        other,
        WalError::Record { lsn: Lsn(4), fault: RecordFault::Chain { fault: ChainFault::OtherTransaction, .. } }
    );
    assert!(expected, "{other:?}");
}

#[test]
fn a_cycle_before_the_window_ends_undo_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let log = below(dir.path());
    for prev in [3, 1, 2] {
        Raw::of(A, prev).append(&log, RecordType::Insert);
    }
    checkpoint(&log, 4, A.0, 1, 3);
    log.sync().unwrap();
    drop(log);
    let (_wal, recovery) = recover(dir.path(), &small());
    let mut undo = recovery.undo();
    assert_eq!(undo.by_ref().take(2).map(|record| record.unwrap().lsn()).collect::<Vec<_>>(), [Lsn(3), Lsn(2)]);
    let forward = WalError::Record {
        lsn: Lsn(1),
        fault: RecordFault::Chain { target: Some(Lsn(3)), fault: ChainFault::Forward },
    };
    assert_eq!(undo.next().unwrap().unwrap_err().to_string(), forward.to_string());
    assert!(undo.next().is_none());
}

#[test]
fn metadata_that_leads_to_no_checkpoint_is_refused() {
    for lsn in [0, 1, 2, u64::MAX] {
        let error = refusal(|log| {
            begin(log);
            log.put_meta(15, &u64::to_le_bytes(lsn)).unwrap();
        });
        assert!(matches!(error, WalError::NoCheckpoint { lsn: found } if found == Lsn(lsn)), "{error:?}");
    }
    for slot in [14, 15] {
        let error = refusal(|log| log.put_meta(slot, b"vote").map(|_| ()).unwrap());
        assert!(matches!(error, WalError::Metadata { slot: found, len: 4, .. } if found == slot), "{error:?}");
    }
}
