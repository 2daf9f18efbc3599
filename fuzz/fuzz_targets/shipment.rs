//! Frames that another log is said to have shipped are appended: nothing panics, and what was taken is
//! there when the log is opened again.

#![no_main]

#[allow(dead_code, clippy::unwrap_used, reason = "shared with the tests, which use other parts of it")]
#[path = "../../tests/it/format/spec.rs"]
mod spec;
#[allow(dead_code, reason = "shared by the targets, which use different parts of it")]
mod support;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use mapwal::Log;
use support::Change;

/// Frames of a changed segment, under a header of their own.
#[derive(Debug, Arbitrary)]
struct Shipment {
    segment: u8,
    /// The frames that are shipped, by their place in the segment.
    first: u8,
    last: u8,
    /// Added to what the header says.
    lsn: i8,
    len: i8,
}

impl Shipment {
    fn encode(&self, segments: &[(u64, Vec<u8>)]) -> Option<Vec<u8>> {
        let (_, stored) = segments.get(usize::from(self.segment) % segments.len().max(1))?;
        let (first, last) = (support::frame_at(stored, self.first), support::frame_at(stored, self.last));
        let frames = stored.get(first..last)?;
        let salt = u32::from_le_bytes(*stored.get(support::SALT_AT..)?.first_chunk()?);
        let lsn = u64::from_le_bytes(*frames.get(8..)?.first_chunk()?);
        let len = (frames.len() as u64).wrapping_add_signed(self.len.into());
        let header = spec::encode_shipment_header(salt, lsn.wrapping_add_signed(self.lsn.into()), len);
        Some([&header[..], frames].concat())
    }
}

fn ship(log: &Log, shipped: &[u8]) {
    let next = log.next_lsn();
    match log.append_frames(shipped) {
        Ok(added) => assert_eq!((added.start, added.end), (next, log.next_lsn())),
        // Batches before one that is refused stay.
        Err(_) => assert!(log.next_lsn() >= next),
    }
}

fuzz_target!(|input: (Vec<Change>, Vec<Shipment>, Vec<u8>)| {
    let (changes, shipments, bytes) = input;
    let segments = support::changed(&changes);
    let dir = support::scratch();
    let log = support::open(dir.path()).expect("a new log opens");
    ship(&log, &bytes);
    for shipment in &shipments {
        if let Some(shipped) = shipment.encode(&segments) {
            ship(&log, &shipped);
        }
    }
    log.sync().expect("nothing fails");
    drop(log);
    support::read_all(dir.path());
});
