//! Metadata slots.

use mapwal::{Error, Lsn};

use crate::scratch::{append_stamped, open_small, scratch};

#[test]
fn a_slot_holds_what_was_put_last_and_no_more_than_fits() {
    let dir = scratch();
    let log = open_small(dir.path());
    assert_eq!(log.meta(0), None);
    log.put_meta(0, b"first").unwrap();
    log.put_meta(0, b"").unwrap();
    log.put_meta(15, &[7; 256]).unwrap();
    let before = log.stats().bytes_appended;
    assert!(matches!(log.put_meta(16, b"x"), Err(Error::MetaTooLarge { slot: 16, slots: 16, .. })));
    assert!(matches!(log.put_meta(1, &[0; 257]), Err(Error::MetaTooLarge { len: 257, len_max: 256, .. })));
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
            0 => log.rotate().unwrap(),
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
    (0..16).for_each(|slot| log.put_meta(slot, &[slot as u8; 256]).unwrap());
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
fn one_sync_covers_a_record_and_the_value_put_behind_it() {
    let dir = scratch();
    let log = open_small(dir.path());
    append_stamped(&log, 1, 10, 1);
    log.put_meta(0, b"v").unwrap();
    log.sync().unwrap();
    assert_eq!(log.stats().syncs, 2, "one by opening, and this one");
}
