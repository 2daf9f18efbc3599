//! Metadata of every length with every way to a new segment: each begins with all of it.
//!
//! | planted | noticed by |
//! |---|---|
//! | a segment is ready up to the end of its first frames, with no room for what ends it | `metadata_of_every_length_goes_with_every_call_that_begins_a_segment` |

use mapwal::testing::SimulatedDisk;
use mapwal::{Log, Lsn, Options};

use crate::support::scratch::{contents, scratch};
use crate::support::{open, small};

/// Goes on in a new segment, with `value` in slot 0: there already, or set by this.
fn begin_in_each_way(log: &Log, value: &[u8]) {
    let two_records = || {
        log.append(1, b"kept").unwrap();
        log.append(1, b"dropped").unwrap().previous()
    };
    two_records();
    log.rotate().unwrap();
    log.truncate_after(two_records()).unwrap();
    log.truncate_after_with(two_records(), &[(0, value)]).unwrap();
    log.trim_before_with(two_records(), &[(0, value)]).unwrap();
    log.reset_to(two_records()).unwrap();
    log.reset_to_with(two_records(), &[(0, value)]).unwrap();
}

fn assert_goes_on(log: &Log, value: &[u8]) {
    assert_eq!(log.meta(0).as_deref(), Some(value));
    let lsn = log.append(1, b"the last").unwrap();
    log.wait_durable(lsn).unwrap();
    assert_eq!(contents(log).last(), Some(&(lsn.0, b"the last".to_vec())), "{} bytes", value.len());
}

/// Lengths with which the first frames of a segment end near the end of a page.
fn near_page_ends(len_max: usize) -> impl Iterator<Item = usize> {
    (4096..=len_max).step_by(4096).flat_map(|page| (page - 200..page - 100).step_by(8))
}

#[test]
fn metadata_of_every_length_goes_with_every_call_that_begins_a_segment() {
    let value = [7; 16_376];
    let log = SimulatedDisk::new(1).open(&small()).unwrap();
    for len in (0..=value.len()).step_by(8) {
        let value = &value[..len];
        log.put_meta(0, value).unwrap();
        begin_in_each_way(&log, value);
        assert_goes_on(&log, value);
    }
}

#[test]
fn metadata_that_ends_near_a_page_goes_with_segments_of_every_size() {
    let value = vec![7; 128 << 10];
    let of_size = |size| Options::new().segment_size_bytes(size);
    let cases = [
        (small().spare_segments(2), 16_376),
        (of_size(128 << 10), 32_000),
        (of_size(512 << 10).spare_segments(2), 64 << 10),
        (of_size(4 << 20), 32 << 10),
    ];
    for (options, len_max) in cases {
        let dir = scratch();
        let log = open(dir.path(), &options);
        for value in near_page_ends(len_max).map(|len| &value[..len]) {
            log.put_meta(0, value).unwrap();
            begin_in_each_way(&log, value);
            assert_goes_on(&log, value);
        }
    }
}

#[test]
fn metadata_of_every_length_is_there_after_a_restart() {
    let value = [7; 16_376];
    for value in near_page_ends(value.len()).map(|len| &value[..len]) {
        let disk = SimulatedDisk::new(value.len() as u64);
        let log = disk.open(&small()).unwrap();
        log.append(1, b"a record").unwrap();
        log.put_meta(0, value).unwrap();
        log.sync().unwrap();
        for left in [disk.restart(), disk.kill()] {
            let log = left.open(&small()).unwrap();
            assert_goes_on(&log, value);
            log.close().unwrap();
            drop(log);
            let log = left.open(&small()).unwrap();
            assert_goes_on(&log, value);
            log.reset_to(Lsn(100)).unwrap();
            drop(log);
            assert_goes_on(&left.restart().open(&small()).unwrap(), value);
        }
    }
}
