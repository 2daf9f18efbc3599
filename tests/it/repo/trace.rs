//! The trace that the examples append is what its description says, and a log gives it back.

#[path = "../../../examples/common/trace.rs"]
mod bundled;

use bundled::Trace;
use mapwal::Lsn;

use crate::support::{open, small};

#[test]
fn the_trace_has_the_records_that_its_description_counts() {
    let trace = Trace::bundled().unwrap();
    let records: Vec<_> = (0..trace.len()).map(|number| trace.record(number)).collect();
    assert_eq!(records.len(), 22_400);
    assert_eq!(records.iter().map(|record| record.len).sum::<usize>(), 1_965_314);
    assert_eq!(records.iter().map(|record| record.len).max(), Some(3368));
    assert_eq!(records.iter().map(|record| record.len).min(), Some(34));
    let mut counts = vec![0; 16];
    for record in &records {
        counts[usize::from(record.tag)] += 1;
    }
    counts.sort_unstable();
    assert_eq!(counts, [0, 2, 2, 2, 2, 8, 18, 104, 145, 323, 480, 1312, 3077, 3256, 6515, 7154]);
}

#[test]
fn a_record_of_the_trace_is_told_from_every_other_and_from_a_damaged_one() {
    let trace = Trace::bundled().unwrap();
    for number in [0, 1, 22_399, 22_400, 50_000] {
        let record = trace.record(number);
        let mut payload = vec![0; record.len];
        record.fill(&mut payload);
        assert!(record.matches(record.tag, &payload));
        assert!(!record.matches(record.tag + 1, &payload));
        assert!(!record.matches(record.tag, &payload[1..]));
        let same_line = trace.record(number + trace.len());
        assert_eq!((same_line.tag, same_line.len), (record.tag, record.len));
        assert!(!same_line.matches(record.tag, &payload));
        for at in 0..payload.len() {
            payload[at] ^= 0x80;
            assert!(!record.matches(record.tag, &payload), "byte {at}");
            payload[at] ^= 0x80;
        }
    }
}

#[test]
fn a_log_gives_the_trace_back() {
    let dir = tempfile::tempdir().unwrap();
    let trace = Trace::bundled().unwrap();
    let log = open(dir.path(), &small());
    for number in 0..trace.len() {
        let record = trace.record(number);
        let lsn = log.append_with(record.tag, record.len, |bytes| record.fill(bytes)).unwrap();
        assert_eq!(lsn, Lsn(number + 1));
    }
    log.close().unwrap();
    let log = open(dir.path(), &small());
    let snapshot = log.snapshot().unwrap();
    let mut read = 0;
    for (record, number) in snapshot.iter().zip(0..) {
        let record = record.unwrap();
        assert_eq!(record.lsn(), Lsn(number + 1));
        assert!(trace.record(number).matches(record.tag(), record.payload()), "record {number}");
        read += 1;
    }
    assert_eq!(read, trace.len());
}
