//! One record: its bytes where they lie, as a type, and owned.

use mapwal::error::LayoutMismatch;
use mapwal::{Error, Log, Lsn, RecordRef};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::support::scratch::{open_small, scratch};
use crate::support::{append, assert_record};

#[derive(Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Point {
    x: u32,
    y: u32,
    weight: u64,
}

#[derive(Debug, PartialEq, Eq, TryFromBytes, Immutable, KnownLayout)]
#[repr(u8)]
enum Colour {
    Red = 1,
    Green = 2,
}

#[derive(Debug, TryFromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Switch {
    on: bool,
    colour: Colour,
}

#[derive(Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C, align(16))]
struct Wide([u8; 16]);

fn get(log: &Log, lsn: Lsn) -> RecordRef {
    log.get(lsn).unwrap().unwrap()
}

fn mismatch<T: std::fmt::Debug>(viewed: Result<T, Error>) -> LayoutMismatch {
    match viewed {
        Err(Error::PayloadLayout { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_payload_is_viewed_in_place_as_a_type() {
    let dir = scratch();
    let log = open_small(dir.path());
    let point = Point { x: 1, y: 2, weight: 3 };
    let record = get(&log, log.append(0, point.as_bytes()).unwrap());
    let viewed = record.record().payload_as::<Point>().unwrap();
    assert_eq!(viewed, &point);
    assert!(std::ptr::eq(std::ptr::from_ref(viewed).cast(), record.payload().as_ptr()), "it is not copied");
    let words = get(&log, log.append(0, &[7; 24]).unwrap());
    assert_eq!(words.record().payload_as::<[u64]>().unwrap(), [0x0707_0707_0707_0707; 3]);
}

#[test]
fn a_payload_of_another_size_is_no_value() {
    let dir = scratch();
    let log = open_small(dir.path());
    for len in [0, 1, 15, 17, 32] {
        let record = get(&log, log.append(0, &vec![0; len]).unwrap());
        match record.record().payload_as::<Point>() {
            Err(Error::PayloadLayout { lsn, len: named, type_name, reason: LayoutMismatch::Size }) => {
                assert_eq!((lsn, named), (record.lsn(), len));
                assert!(type_name.ends_with("Point"));
            }
            other => panic!("{len}: {other:?}"),
        }
    }
    let record = get(&log, log.append(0, &[0; 12]).unwrap());
    assert_eq!(mismatch(record.record().payload_as::<[u64]>()), LayoutMismatch::Size);
}

#[test]
fn a_type_of_stricter_alignment_is_refused_where_it_does_not_fit() {
    let dir = scratch();
    let log = open_small(dir.path());
    let mut fitting = 0;
    for number in 1..=64 {
        // Frames of 40 bytes begin at every multiple of 8.
        let record = get(&log, log.append(0, &[9; 16]).unwrap());
        let viewed = record.record().payload_as::<Wide>().map(|wide| wide.0);
        if record.payload().as_ptr().addr().is_multiple_of(16) {
            assert_eq!(viewed.unwrap(), [9; 16], "record {number}");
            fitting += 1;
        } else {
            assert_eq!(mismatch(viewed), LayoutMismatch::Alignment, "record {number}");
        }
    }
    assert!((1..64).contains(&fitting), "{fitting} fit");
}

#[test]
fn bytes_that_are_no_value_are_refused() {
    let dir = scratch();
    let log = open_small(dir.path());
    let switch = get(&log, log.append(0, &[1, 2]).unwrap());
    let viewed = switch.record().payload_as::<Switch>().unwrap();
    assert!(viewed.on && viewed.colour == Colour::Green);
    let switch = get(&log, log.append(0, &[0, 1]).unwrap());
    let viewed = switch.record().payload_as::<Switch>().unwrap();
    assert!(!viewed.on && viewed.colour == Colour::Red);
    for bytes in [[2, 1], [255, 1], [0, 0], [1, 3]] {
        let record = get(&log, log.append(0, &bytes).unwrap());
        assert_eq!(mismatch(record.record().payload_as::<Switch>()), LayoutMismatch::Validity, "{bytes:?}");
    }
    let text = get(&log, log.append(0, "gr\u{fc}n".as_bytes()).unwrap());
    assert_eq!(text.record().payload_as::<str>().unwrap(), "gr\u{fc}n");
    let broken = get(&log, log.append(0, b"gr\xfcn").unwrap());
    assert_eq!(mismatch(broken.record().payload_as::<str>()), LayoutMismatch::Validity);
    assert_eq!(
        mismatch(get(&log, log.append(0, &[7]).unwrap()).record().payload_as::<Colour>()),
        LayoutMismatch::Validity
    );
}

#[test]
fn payloads_start_at_a_multiple_of_eight_whatever_is_before_them() {
    let dir = scratch();
    let log = open_small(dir.path());
    for len in 0..200 {
        let record = get(&log, log.append(0, &vec![1; len]).unwrap());
        assert_eq!(record.payload().as_ptr().addr() % 8, 0, "{len}");
        assert_eq!(record.payload().len(), len);
    }
    let snapshot = log.snapshot().unwrap();
    assert!(snapshot.iter().all(|record| record.unwrap().payload().as_ptr().addr() % 8 == 0));
}

#[test]
fn a_records_frame_is_its_header_and_its_payload() {
    let dir = scratch();
    let log = open_small(dir.path());
    let record = get(&log, log.append(0x1234, b"thirteen byte").unwrap());
    let record = record.record();
    let frame = record.frame_bytes();
    assert_eq!((frame.len(), &frame[24..]), (24 + 13, record.payload()));
    assert_eq!(frame[22..24], 0x1234_u16.to_le_bytes());
}

/// What libraries that keep bytes of others ask of their owner.
fn keep<T: AsRef<[u8]> + Send + Sync + 'static>(owner: T) -> Box<dyn AsRef<[u8]> + Send + Sync> {
    Box::new(owner)
}

#[test]
fn an_owned_record_outlives_the_log_and_its_files() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=1000);
    let records: Vec<RecordRef> = [1, 500, 1000].map(|number| get(&log, Lsn(number))).into();
    let kept = keep(get(&log, Lsn(777)));
    log.close().unwrap();
    drop(dir);
    for (record, number) in records.iter().zip([1, 500, 1000]) {
        assert_record(&record.record(), number);
        assert_eq!((record.lsn(), record.as_ref()), (Lsn(number), record.payload()));
    }
    assert_eq!((*kept).as_ref(), crate::support::payload(777));
}

#[test]
fn an_owned_record_can_be_read_by_many_threads() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=100);
    let record = get(&log, Lsn(42));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let record = record.clone();
            scope.spawn(move || (0..100).for_each(|_| assert_record(&record.record(), 42)));
        }
        append(&log, 101..=2000);
        drop(log);
    });
}
