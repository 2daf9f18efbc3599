//! Opening a log of many segments.

use std::time::Instant;

use mapwal::{Lsn, Options};

use crate::bench::Bench;
use crate::directory::{fresh, open};
use crate::report::Row;
use crate::samples::Samples;

const SEGMENTS: usize = 2_000;
/// The smallest segments, since it is their number that counts here.
const SEGMENT_SIZE_BYTES: u64 = 64 << 10;
/// Three of them and what the log keeps for itself fill a segment.
const PAYLOAD_LEN: usize = 16 << 10;
const RECORDS_OF_A_SEGMENT: usize = 3;

pub(crate) fn run(bench: &mut Bench) {
    let name = "open after a close, many segments";
    if !bench.wants(name) {
        return;
    }
    let options = Options::new().segment_size_bytes(SEGMENT_SIZE_BYTES);
    let segments = bench.amount(SEGMENTS);
    let directory = fresh(bench.directory());
    let log = open(directory.path(), &options);
    let payload = vec![0x5a; PAYLOAD_LEN];
    for _ in 0..segments * RECORDS_OF_A_SEGMENT {
        log.append(1, &payload).expect("there is room");
    }
    log.close().expect("the disk works");
    let mut opens = Samples::default();
    for _ in 0..bench.rounds() {
        let began = Instant::now();
        let log = open(directory.path(), &options);
        opens.push(began.elapsed().as_secs_f64() * 1e6 / segments as f64);
        assert_eq!((log.recovery().segments, log.first_lsn()), (segments, Lsn(1)));
        log.close().expect("the disk works");
    }
    bench.push(Row::new(name, "us/segment", opens).value_at_most(50.0));
}
