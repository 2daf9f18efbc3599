//! What a crash leaves, and what the next open makes of it.

use mapwal::Lsn;

use crate::support::{open, small};

#[test]
fn a_log_that_was_trimmed_to_nothing_survives_crashes_in_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &small());
    log.append(1, b"gone").unwrap();
    log.rotate().unwrap();
    assert_eq!(log.trim_before(Lsn(2)).unwrap(), 1);
    drop(log);
    for _ in 0..3 {
        let log = open(dir.path(), &small());
        assert_eq!((log.first_lsn(), log.next_lsn()), (Lsn(2), Lsn(2)));
    }
}
