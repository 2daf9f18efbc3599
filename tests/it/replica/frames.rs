//! Shipping frames from one log and appending them to another.

use mapwal::error::ReplicaFault;
use mapwal::{Error, Frames, Log, Lsn, Visibility};

use crate::support::{SMALL, assert_records, open, payload, small};

/// Everything that `from` holds from record `first` on, as it would arrive.
fn shipped(from: &Log, first: u64, max_bytes: usize) -> Vec<Vec<u8>> {
    let mut follower = from.follow(Lsn(first), Visibility::Published).unwrap();
    let mut shipments = Vec::new();
    while let Some(frames) = follower.next_batch(max_bytes).unwrap() {
        let header = frames.header();
        assert_eq!(Frames::len_after(&header), Some(frames.bytes().len() as u64));
        shipments.push([&header[..], frames.bytes()].concat());
    }
    shipments
}

fn leader(dir: &std::path::Path, records: u64) -> Log {
    let log = open(dir, &small());
    let mut number = 1;
    while number <= records {
        if number % 7 == 0 && number + 3 <= records {
            let payloads: Vec<_> = (number..number + 3).map(payload).collect();
            let batch: Vec<_> = payloads.iter().map(|payload| (1, &payload[..])).collect();
            log.append_batch(&batch).unwrap();
            number += 3;
        } else {
            log.append(1, &payload(number)).unwrap();
            number += 1;
        }
        if number % 50 == 0 {
            log.put_meta(0, &number.to_le_bytes()).unwrap();
        }
    }
    log
}

#[test]
fn a_replica_holds_the_same_records_under_the_same_numbers() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let from = leader(dirs[0].path(), 3000);
    let to = open(dirs[1].path(), &small());
    for shipment in shipped(&from, 1, 4000) {
        to.append_frames(&shipment).unwrap();
    }
    assert_records(&to.snapshot().unwrap(), 1, 3000);
    drop(to);
    assert_records(&open(dirs[1].path(), &small()).snapshot().unwrap(), 1, 3000);
}

#[test]
fn a_record_that_no_segment_of_the_replica_holds_is_refused_with_its_length() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let from = open(dirs[0].path(), &small().segment_size_bytes(2 * SMALL));
    let to = open(dirs[1].path(), &small());
    let max = to.payload_len_max();
    from.append(1, &vec![7; usize::try_from(max).unwrap() + 8]).unwrap();
    let refused = to.append_frames(&shipped(&from, 1, 1)[0]);
    assert!(matches!(refused, Err(Error::RecordTooLarge { len, max: m }) if (len, m) == (max + 8, max)), "{refused:?}");
}

#[test]
fn what_is_there_already_is_compared_and_a_gap_is_refused() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let from = leader(dirs[0].path(), 300);
    let to = open(dirs[1].path(), &small());
    let all = shipped(&from, 1, 2000);
    assert!(matches!(
        to.append_frames(&all[1]),
        Err(Error::Replica { lsn: Some(found), fault: ReplicaFault::Gap { next: Lsn(1) } }) if found > Lsn(1)
    ));
    for shipment in &all[..3] {
        assert!(!to.append_frames(shipment).unwrap().is_empty());
        assert!(to.append_frames(shipment).unwrap().is_empty(), "a repeat adds nothing");
    }
    let other = open(dirs[2].path(), &small());
    other.append(1, b"something else").unwrap();
    assert!(matches!(
        other.append_frames(&all[0]),
        Err(Error::Replica { lsn: Some(Lsn(1)), fault: ReplicaFault::Conflict })
    ));
    assert_eq!(other.next_lsn(), Lsn(2));
}

#[test]
fn every_flipped_byte_of_a_shipment_is_refused() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let from = leader(dirs[0].path(), 20);
    let to = open(dirs[1].path(), &small());
    let good = shipped(&from, 1, 1 << 20).concat();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        assert!(
            matches!(to.append_frames(&bad), Err(Error::Replica { fault: ReplicaFault::Damaged { .. }, .. })),
            "byte {at}"
        );
    }
    assert_eq!(to.next_lsn(), Lsn(1));
    to.append_frames(&good).unwrap();
    assert_records(&to.snapshot().unwrap(), 1, 20);
}
