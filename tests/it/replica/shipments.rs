//! Runs of frames: where they begin and end, and that a replica takes them.

use std::collections::BTreeSet;

use mapwal::{Lsn, Visibility};

use crate::support::scratch::{open_small, scratch};
use crate::support::{append, assert_records, followers, payload};

#[test]
fn a_batch_that_was_truncated_in_its_middle_is_shipped_as_far_as_it_was_kept() {
    let dir = scratch();
    let log = open_small(dir.path());
    let payloads: Vec<_> = (1..=9).map(payload).collect();
    let batch: Vec<_> = payloads.iter().map(|payload| (1, &payload[..])).collect();
    log.append_batch(&batch).unwrap();
    log.truncate_after(Lsn(5)).unwrap();
    append(&log, 6..=8);
    for mut follower in followers(&log, 1, Visibility::Published) {
        let replicated = scratch();
        let replica = open_small(replicated.path());
        while let Some(frames) = follower.next_batch(1 << 20).unwrap() {
            replica.append_frames(&[&frames.header()[..], frames.bytes()].concat()).unwrap();
        }
        assert_records(&replica.snapshot().unwrap(), 1, 8);
        drop(replica);
        assert_records(&open_small(replicated.path()).snapshot().unwrap(), 1, 8);
    }
}

#[test]
fn notes_between_records_do_not_hide_what_comes_after_them() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=1);
    for mut follower in followers(&log, 2, Visibility::Published) {
        let first = follower.next_lsn().0;
        for _ in 0..400 {
            log.put_meta(0, &[7; 100]).unwrap();
        }
        let next = log.append(1, b"after").unwrap();
        let frames = follower.next_batch(64).unwrap();
        let range = frames.map(|frames| (frames.first_lsn(), frames.next_lsn()));
        assert_eq!(range, Some((Lsn(first), Lsn(first + 1))), "{next}");
        log.truncate_after(Lsn(1)).unwrap();
    }
}

#[test]
fn batches_cover_exactly_the_records_and_cut_no_batch() {
    let dir = scratch();
    let log = open_small(dir.path());
    let mut random = fastrand::Rng::with_seed(5);
    // The numbers after which a batch ends.
    let mut ends = BTreeSet::from([1]);
    while log.next_lsn() < Lsn(4000) {
        let next = log.next_lsn().0;
        match random.u32(..10) {
            0 => {
                let failed = std::panic::AssertUnwindSafe(|| {
                    log.append_with(1, 30, |_| std::panic::resume_unwind(Box::new(())))
                });
                assert!(std::panic::catch_unwind(failed).is_err());
            }
            1 => log.put_meta(2, &next.to_le_bytes()).map(|_| ()).unwrap(),
            2..5 => {
                let payloads: Vec<_> = (next..next + random.u64(1..60)).map(payload).collect();
                let batch: Vec<_> = payloads.iter().map(|payload| (1, &payload[..])).collect();
                log.append_batch(&batch).unwrap();
            }
            _ => append(&log, next..=next),
        }
        ends.insert(log.next_lsn().0);
    }
    for mut follower in followers(&log, 1, Visibility::Published) {
        let mut next = 1;
        loop {
            let max_bytes = random.usize(..20_000);
            let Some(frames) = follower.next_batch(max_bytes).unwrap() else { break };
            assert_eq!(frames.first_lsn(), Lsn(next));
            let first_end = *ends.range(next + 1..).next().unwrap();
            let fits = frames.bytes().len() <= max_bytes || frames.next_lsn() <= Lsn(first_end);
            assert!(fits, "{} bytes of at most {max_bytes}, {frames:?}", frames.bytes().len());
            next = frames.next_lsn().0;
            assert!(ends.contains(&next), "a batch is cut before record {next}");
        }
        assert_eq!(Lsn(next), log.next_lsn());
    }
}
