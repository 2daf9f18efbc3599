//! What is out of range is refused before anything is written.

use std::time::Duration;

use mapwal::{Error, Lsn, Options};

use crate::support::scratch::{open_small, scratch};
use crate::support::{append, small, try_open};

#[test]
fn the_longest_payload_fits_and_one_byte_more_is_refused() {
    let dir = scratch();
    let log = open_small(dir.path());
    let max = log.payload_len_max();
    let longest = vec![7; usize::try_from(max).unwrap()];
    for number in 1..=3 {
        assert_eq!(log.append(0, &longest).unwrap(), Lsn(number));
    }
    let longer = vec![7; longest.len() + 1];
    let refused = [log.append(0, &longer), log.append_with(0, longer.len(), |_| panic!("nothing is to be filled"))];
    for refused in refused {
        match refused {
            Err(Error::RecordTooLarge { len, max: named }) => assert_eq!((len, named), (max + 1, max)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((log.next_lsn(), log.published_lsn().unwrap()), (Lsn(4), Lsn(3)), "nothing is written");
    append(&log, 4..=5);
    assert_eq!(log.get(Lsn(2)).unwrap().unwrap().payload(), longest);
}

#[test]
fn a_hostile_length_is_refused_without_asking_for_memory() {
    let dir = scratch();
    let log = open_small(dir.path());
    for len in [1 << 32, usize::MAX - 64, usize::MAX] {
        assert!(matches!(log.append_with(0, len, |_| ()), Err(Error::RecordTooLarge { .. })), "{len}");
    }
    append(&log, 1..=1);
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let new = Options::new;
    let refused = [
        ("segment_size_bytes", new().segment_size_bytes(0)),
        ("segment_size_bytes", new().segment_size_bytes(32 << 10)),
        ("segment_size_bytes", new().segment_size_bytes((64 << 10) + 1)),
        ("segment_size_bytes", new().segment_size_bytes(100_000)),
        ("segment_size_bytes", new().segment_size_bytes(8 << 30)),
        ("segment_size_bytes", new().segment_size_bytes(u64::MAX)),
        ("first_lsn", small().first_lsn(Lsn(0))),
        ("sync_bytes", small().sync_bytes(Some(4095))),
        ("sync_interval", small().sync_interval(Some(Duration::ZERO))),
    ];
    let dir = scratch();
    let path = dir.path().join("log");
    for (name, options) in refused {
        match try_open(&path, &options) {
            Err(Error::InvalidArgument { name: option, .. }) => assert_eq!(option, name),
            other => panic!("{options:?}: {other:?}"),
        }
        assert!(!path.exists(), "nothing is created");
    }
}

#[test]
fn a_record_keeps_its_tag_and_an_empty_payload() {
    let dir = scratch();
    let log = open_small(dir.path());
    for tag in [0, 1, 255, 256, u16::MAX] {
        let lsn = log.append(tag, b"").unwrap();
        let record = log.get(lsn).unwrap().unwrap();
        assert_eq!((record.tag(), record.payload()), (tag, &b""[..]));
    }
}
