//! Metadata slots.

use mapwal::error::MetaFault;
use mapwal::{Error, Lsn};
use rustix::io::Errno;

use crate::support::faulty::Call;
use crate::support::scratch::{append_stamped, open_small, scratch};
use crate::support::{open, open_faulty, small, try_open};

#[test]
fn a_slot_holds_what_was_put_last_and_no_more_than_fits() {
    let dir = scratch();
    let log = open_small(dir.path());
    assert_eq!(log.meta(0), None);
    log.put_meta(0, b"first").unwrap();
    log.put_meta(0, b"").unwrap();
    log.put_meta(15, &[7; 256]).unwrap();
    let before = log.stats().bytes_appended;
    assert!(matches!(log.put_meta(16, b"x"), Err(Error::Meta { slot: 16, fault: MetaFault::NoSlot { slots: 16 } })));
    // A quarter of a segment, less what the others take, and eight bytes for each.
    let room = 16_384 - 8 - 8 - 256 - 8;
    let too_long = log.put_meta(1, &vec![0; room + 1]).unwrap_err();
    assert!(
        matches!(too_long, Error::Meta { fault: MetaFault::TooLong { len_max, .. }, .. } if len_max == room),
        "{too_long}"
    );
    assert_eq!(log.stats().bytes_appended, before);
    assert_eq!((log.meta(0).as_deref(), log.meta(1), log.meta(15)), (Some(&[][..]), None, Some(vec![7; 256])));
    assert_eq!(log.meta(99), None);
}

#[test]
fn values_outlive_trim_truncation_and_reset_without_a_segment_that_holds_them() {
    let dir = scratch();
    let mut log = open_small(dir.path());
    log.put_meta(1, b"put once, long ago").unwrap();
    for round in 0..40_u64 {
        append_stamped(&log, 1, 2_000, 3);
        log.put_meta(2, &round.to_le_bytes()).unwrap();
        match round % 4 {
            0 => log.rotate().map(|_| ()).unwrap(),
            1 => log.truncate_after(log.next_lsn().previous().previous()).unwrap(),
            2 => log.reset_to(Lsn(round + 1)).unwrap(),
            _ => {
                log.rotate().unwrap();
                log.trim_before(log.next_lsn()).unwrap();
            }
        }
        drop(log);
        log = open_small(dir.path());
        assert_eq!(log.meta(1).as_deref(), Some(&b"put once, long ago"[..]), "round {round}");
        assert_eq!(log.meta(2).unwrap(), round.to_le_bytes());
    }
}

#[test]
fn full_slots_leave_room_for_the_largest_record() {
    let dir = scratch();
    let log = open_small(dir.path());
    (0..16).for_each(|slot| assert!(log.put_meta(slot, &[slot as u8; 256]).is_ok()));
    let max = usize::try_from(log.payload_len_max()).unwrap();
    for _ in 0..3 {
        log.append(1, &vec![3; max]).unwrap();
    }
    log.truncate_after(Lsn(2)).unwrap();
    log.append(1, &vec![4; max]).unwrap();
    drop(log);
    let log = open_small(dir.path());
    assert_eq!((log.next_lsn(), log.get(Lsn(3)).unwrap().unwrap().payload()), (Lsn(4), &vec![4; max][..]));
    (0..16).for_each(|slot| assert_eq!(log.meta(slot), Some(vec![slot as u8; 256])));
}

#[test]
fn a_value_may_be_as_long_as_a_quarter_of_a_segment() {
    let dir = scratch();
    let log = open_small(dir.path());
    let without = log.payload_len_max();
    let long: Vec<u8> = (0..16_376_u32).map(|at| at as u8).collect();
    for round in 0..3_u8 {
        log.put_meta(4, &vec![round; long.len()]).unwrap();
    }
    log.put_meta(4, &long).unwrap();
    let max = usize::try_from(log.payload_len_max()).unwrap();
    assert!((max as u64) < without && max > 40_000, "{max}, {without}");
    assert!(matches!(log.append(1, &vec![0; max + 1]), Err(Error::RecordTooLarge { .. })));
    for lsn in 1..=4 {
        assert_eq!(log.append(1, &vec![3; max]).unwrap(), Lsn(lsn));
    }
    log.truncate_after(Lsn(2)).unwrap();
    log.append(1, &vec![4; max]).unwrap();
    log.close().unwrap();
    for _ in 0..3 {
        let log = open_small(dir.path());
        assert!(log.recovery().clean);
        assert_eq!(
            (log.meta(4).as_ref(), log.get(Lsn(3)).unwrap().unwrap().payload()),
            (Some(&long), &vec![4; max][..])
        );
        log.close().unwrap();
    }
    let log = open_small(dir.path());
    log.rotate().unwrap();
    log.put_meta(4, b"").unwrap();
    assert_eq!(log.payload_len_max(), without, "it takes its room no more");
    drop(log);
    assert_eq!(open_small(dir.path()).meta(4).as_deref(), Some(&b""[..]));
}

#[test]
fn segments_too_small_for_the_metadata_are_refused() {
    let dir = scratch();
    let log = open(dir.path(), &small().segment_size_bytes(1 << 20));
    log.put_meta(0, &[1; 100_000]).unwrap();
    log.close().unwrap();
    let refused = try_open(dir.path(), &small()).unwrap_err();
    assert!(matches!(refused, Error::InvalidArgument { name: "segment_size_bytes", value: 65_536, .. }), "{refused}");
    assert_eq!(open(dir.path(), &small().segment_size_bytes(1 << 20)).meta(0), Some(vec![1; 100_000]));
}

#[test]
fn one_sync_covers_a_record_and_the_value_put_after_it() {
    let dir = scratch();
    let log = open_small(dir.path());
    append_stamped(&log, 1, 10, 1);
    log.put_meta(0, b"v").unwrap();
    log.sync().unwrap();
    assert_eq!(log.stats().syncs, 2, "one by opening, and this one");
}

#[test]
fn values_are_set_with_a_trim_a_truncation_and_a_reset() {
    let dir = scratch();
    let log = open_small(dir.path());
    append_stamped(&log, 1, 2_000, 100);
    assert!(log.trim_before_with(Lsn(60), &[(0, b"purged 59"), (1, b"a vote")]).unwrap() > 0);
    assert_eq!(log.meta(0).unwrap(), b"purged 59");
    log.truncate_after_with(Lsn(80), &[(0, b"cut 80")]).unwrap();
    let too_long = vec![0; 20_000];
    for refused in [
        log.reset_to_with(Lsn(500), &[(2, b"set"), (16, b"no slot")]),
        log.truncate_after_with(Lsn(70), &[(2, b"set"), (3, &too_long)]),
        log.trim_before_with(log.next_lsn().next(), &[(2, b"set")]).map(drop),
    ] {
        refused.unwrap_err();
        assert_eq!((log.meta(2), log.next_lsn()), (None, Lsn(81)), "nothing has been done");
    }
    drop(log);
    let log = open_small(dir.path());
    assert_eq!((log.meta(0).unwrap(), log.meta(1).unwrap()), (b"cut 80".to_vec(), b"a vote".to_vec()));
    let large = vec![7; 9_000];
    log.reset_to_with(Lsn(500), &[(0, b"reset"), (5, &large)]).unwrap();
    let max = log.payload_len_max();
    append_stamped(&log, 1, usize::try_from(max).unwrap(), 3);
    // What drops nothing sets them all the same, durably.
    let before = log.stats().syncs;
    log.trim_before_with(Lsn(500), &[(6, b"kept")]).unwrap();
    log.truncate_after_with(Lsn(900), &[(7, b"kept")]).unwrap();
    assert!(log.stats().syncs >= before + 2);
    drop(log);
    let log = open_small(dir.path());
    assert_eq!((log.first_lsn(), log.next_lsn(), log.payload_len_max()), (Lsn(500), Lsn(503), max - 24));
    assert_eq!(
        (log.meta(5).unwrap(), log.meta(6).unwrap(), log.meta(7).unwrap()),
        (large, b"kept".to_vec(), b"kept".to_vec())
    );
}

#[test]
fn nothing_is_trimmed_before_the_values_are_durable() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    append_stamped(&log, 1, 2_000, 100);
    log.sync().unwrap();
    faults.fail(Call::SyncMapping, Errno::IO);
    let first = log.first_lsn();
    assert!(matches!(log.trim_before_with(Lsn(60), &[(0, b"purged 59")]), Err(Error::Poisoned { .. })));
    assert_eq!(log.first_lsn(), first, "the values were not durable");
}
