//! Dropping a suffix, or everything. `docs/design/truncation.md` names these tests where it makes its claims.

mod followers;
mod meanwhile;
mod refused;

use followers::drain;
use mapwal::{Error, Log, Lsn, Visibility};
use rustix::io::Errno;

use crate::support::faulty::Call;
use crate::support::scratch::{
    append_stamped, await_spare, contents, open_small, owned, scratch, segment_names, stamped,
};
use crate::support::{open_faulty, read_only};

/// Three segments of ten records of 100 bytes each, with their numbers for stamps.
fn fill(log: &Log) {
    for segment in 0..3 {
        append_stamped(log, segment * 10 + 1, 100, 10);
        if segment < 2 {
            log.rotate().unwrap();
        }
    }
}

/// Records 1 up to `kept` as [`fill`] makes them, and `more` after, with stamps from 1000 on.
fn expected(kept: u64, more: u64) -> Vec<(u64, Vec<u8>)> {
    let old = (1..=kept).map(|number| (number, stamped(number, 100)));
    let new = (0..more).map(|at| (kept + 1 + at, stamped(1_000 + at, 100)));
    old.chain(new).collect()
}

#[test]
fn a_truncation_is_durable_on_return_wherever_it_cuts() {
    // Everything, inside of a segment, at the end of one, at the start of one, and the last record.
    for kept in [0, 1, 5, 9, 10, 11, 20, 21, 29] {
        for appended in [0, 4] {
            let dir = scratch();
            let log = open_small(dir.path());
            fill(&log);
            log.truncate_after(Lsn(kept)).unwrap();
            assert_eq!((log.next_lsn(), log.durable_lsn()), (Lsn(kept + 1), Lsn(kept)));
            assert_eq!(contents(&log), expected(kept, 0));
            assert!(matches!(log.get(Lsn(kept + 1)), Err(Error::NotAppended { .. })));
            append_stamped(&log, 1_000, 100, appended);
            drop(log);
            let log = open_small(dir.path());
            assert_eq!(contents(&log), expected(kept, appended), "{kept} kept");
            let copy = copy_of(dir.path());
            assert_eq!(contents(&open_small(copy.path())), expected(kept, appended));
        }
    }
}

/// A copy of the segments of a log.
fn copy_of(path: &std::path::Path) -> tempfile::TempDir {
    let copy = scratch();
    for name in segment_names(path) {
        std::fs::copy(path.join(&name), copy.path().join(&name)).unwrap();
    }
    copy
}

#[test]
fn a_view_from_before_keeps_a_segment_that_is_cut_and_then_trimmed() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log);
    log.sync().unwrap();
    let (snapshot, old) = (log.snapshot().unwrap(), expected(30, 0));
    log.truncate_after(Lsn(15)).unwrap();
    append_stamped(&log, 1_000, 100, 1);
    assert_eq!(log.trim_before(Lsn(16)).unwrap(), 2);
    assert!(snapshot.iter().map(|record| owned(&record.unwrap())).eq(old));
}

#[test]
fn a_crash_before_the_link_is_durable_leaves_the_log_as_it_was() {
    for kept in [0, 5, 10, 25] {
        let dir = scratch();
        let log = open_small(dir.path());
        fill(&log);
        log.sync().unwrap();
        let crashed = copy_of(dir.path());
        log.truncate_after(Lsn(kept)).unwrap();
        drop(log);
        // The fresh segment was prepared, and nothing written to it arrived.
        let fresh = "00000000000000000004.seg";
        let mut bytes = std::fs::read(dir.path().join(fresh)).unwrap();
        bytes[4096..].fill(0);
        std::fs::write(crashed.path().join(fresh), bytes).unwrap();
        assert_eq!(contents(&open_small(crashed.path())), expected(30, 0), "{kept} kept");
    }
}

#[test]
fn a_link_that_arrives_before_the_records_it_follows_ends_the_log_before_what_is_missing() {
    for arrived in 0..=5 {
        let dir = scratch();
        let log = open_small(dir.path());
        append_stamped(&log, 1, 100, 10);
        log.truncate_after(Lsn(5)).unwrap();
        drop(log);
        let crashed = copy_of(dir.path());
        let first = crashed.path().join("00000000000000000001.seg");
        let mut bytes = std::fs::read(&first).unwrap();
        // Each frame of 100 bytes takes 128.
        let end = bytes.iter().rposition(|&byte| byte != 0).unwrap().next_multiple_of(8);
        bytes[end - (10 - arrived) * 128..].fill(0);
        std::fs::write(&first, bytes).unwrap();
        let log = open_small(crashed.path());
        assert_eq!(contents(&log), expected(arrived as u64, 0));
        assert_eq!(append_stamped(&log, 1_000, 100, 1), Lsn(arrived as u64 + 1));
    }
}

#[test]
fn nothing_happens_at_or_after_the_last_record_and_below_the_first_it_is_refused() {
    let dir = scratch();
    let log = open_small(dir.path());
    fill(&log);
    let segments = log.stats().sealed_segments;
    for lsn in [30, 31, 1_000, u64::MAX] {
        log.truncate_after(Lsn(lsn)).unwrap();
    }
    assert_eq!((log.stats().sealed_segments, log.durable_lsn()), (segments, Lsn(0)));
    log.trim_before(Lsn(11)).unwrap();
    assert!(matches!(log.truncate_after(Lsn(9)), Err(Error::Trimmed { lsn: Lsn(9), first: Lsn(11) })));
    log.truncate_after(Lsn(10)).unwrap();
    assert_eq!((log.first_lsn(), log.next_lsn()), (Lsn(11), Lsn(11)));
}

#[test]
fn a_batch_can_be_cut_in_two() {
    for sync in [true, false] {
        let dir = scratch();
        let log = open_small(dir.path());
        let payloads: Vec<_> = (1..=6).map(|number| stamped(number, 100)).collect();
        let batch: Vec<(u16, &[u8])> = payloads.iter().map(|payload| (7, &payload[..])).collect();
        log.append_batch(&batch).unwrap();
        if sync {
            log.sync().unwrap();
        }
        log.truncate_after(Lsn(4)).unwrap();
        assert_eq!(contents(&log), expected(4, 0));
        append_stamped(&log, 1_000, 100, 3);
        assert_eq!(contents(&log), expected(4, 3));
        let mut follower = log.follow(Lsn(1), Visibility::Published).unwrap();
        assert_eq!(drain(&mut follower).len(), 7);
        drop((follower, log));
        let reader = read_only(dir.path()).unwrap();
        assert_eq!(reader.published_lsn().unwrap(), Lsn(7));
        let log = open_small(dir.path());
        assert_eq!(contents(&log), expected(4, 3));
    }
}

#[test]
fn a_reset_goes_on_at_any_number_and_keeps_the_metadata() {
    for to in [1, 5, 31, 32, 1_000_000] {
        let dir = scratch();
        let log = open_small(dir.path());
        fill(&log);
        log.put_meta(3, b"vote").unwrap();
        log.sync().unwrap();
        let (_, reader) = (log.pin(Lsn(7)).unwrap(), read_only(dir.path()).unwrap());
        let mut followers =
            [log.follow(Lsn(1), Visibility::Published).unwrap(), reader.follow(Lsn(1), Visibility::Published).unwrap()];
        for follower in &mut followers {
            assert_eq!(drain(follower).len(), 30);
        }
        let snapshot = log.snapshot().unwrap();
        log.reset_to(Lsn(to)).unwrap();
        assert_eq!((log.first_lsn(), log.next_lsn(), log.durable_lsn()), (Lsn(to), Lsn(to), Lsn(to - 1)));
        assert_eq!((contents(&log), log.meta(3).as_deref()), (Vec::new(), Some(&b"vote"[..])));
        assert_eq!(snapshot.iter().count(), 30, "views keep what they have");
        assert_eq!(append_stamped(&log, 1_000, 100, 2), Lsn(to));
        let new = [Ok((to, stamped(1_000, 100))), Ok((to + 1, stamped(1_001, 100)))];
        for follower in &mut followers {
            match to {
                1 | 5 => assert_eq!(drain(follower)[..], [&[Err(to)], &new[..]].concat()),
                31 => assert_eq!(drain(follower), new),
                _ => {
                    assert!(matches!(follower.next(), Err(Error::Trimmed { lsn: Lsn(31), first }) if first == Lsn(to)));
                }
            }
        }
        drop((followers, log));
        let log = open_small(dir.path());
        assert_eq!((log.first_lsn(), log.next_lsn()), (Lsn(to), Lsn(to + 2)));
        assert_eq!(log.meta(3).as_deref(), Some(&b"vote"[..]));
    }
    let dir = scratch();
    let log = open_small(dir.path());
    assert!(matches!(log.reset_to(Lsn(0)), Err(Error::InvalidArgument { name: "lsn", .. })));
    assert!(matches!(log.reset_to(Lsn(u64::MAX - 1)), Err(Error::Exhausted(_))));
}

#[test]
fn a_failing_sync_poisons_a_truncation_and_the_log_opens_as_it_was_or_as_it_should_be() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    fill(&log);
    log.sync().unwrap();
    faults.fail(Call::SyncMapping, Errno::IO);
    assert!(matches!(log.truncate_after(Lsn(15)), Err(Error::Poisoned { .. })));
    assert!(matches!(log.append(1, b"x"), Err(Error::Poisoned { .. })));
    assert!(matches!(log.sync(), Err(Error::Poisoned { .. })));
    assert!(matches!(log.truncate_after(Lsn(5)), Err(Error::Poisoned { .. })));
    assert!(matches!(log.trim_before(Lsn(5)), Err(Error::Poisoned { .. })));
    assert!(log.durable_lsn() <= Lsn(15), "nothing is called durable that the truncation took");
    drop(log);
    let found = contents(&open_small(dir.path()));
    assert!(found == expected(15, 0) || found == expected(30, 0), "{} records", found.len());
}

#[test]
fn a_full_disk_leaves_everything_as_it_was() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    fill(&log);
    await_spare(&log);
    faults.fail(Call::Allocate, Errno::NOSPC);
    // The spare that is there already is used up.
    log.rotate().unwrap();
    append_stamped(&log, 31, 100, 1);
    let before = (contents(&log), log.next_lsn(), log.stats().sealed_segments);
    assert!(matches!(log.truncate_after(Lsn(5)), Err(Error::NoSpace { .. })));
    assert!(matches!(log.reset_to(Lsn(5)), Err(Error::NoSpace { .. })));
    assert_eq!((contents(&log), log.next_lsn(), log.stats().sealed_segments), before);
    append_stamped(&log, 32, 100, 1);
    log.sync().unwrap();
    faults.heal();
    log.truncate_after(Lsn(5)).unwrap();
    assert_eq!(contents(&log), expected(5, 0));
}

#[test]
fn files_that_cannot_be_removed_do_not_fail_a_truncation_that_is_done() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    fill(&log);
    faults.fail(Call::Remove, Errno::IO);
    log.truncate_after(Lsn(5)).unwrap();
    append_stamped(&log, 1_000, 100, 2);
    faults.heal();
    // What is left over is no hole, even if all before it is trimmed.
    log.rotate().unwrap();
    assert_eq!(log.trim_before(Lsn(8)).unwrap(), 2);
    drop(log);
    let log = open_small(dir.path());
    assert_eq!((log.first_lsn(), log.next_lsn()), (Lsn(8), Lsn(8)));
    assert_eq!(segment_names(dir.path()).len(), 1);
}
