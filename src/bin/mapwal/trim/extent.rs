//! What stays of a log that is trimmed.

use mapwal::inspect::{FrameRole, Inspection, ScanItem, SegmentFile, SegmentScan};
use mapwal::{Lsn, Snapshot};

use crate::arguments::Extent;

/// The first record that is asked to stay.
pub(super) fn first_to_keep(extent: &Extent, found: &Inspection, snapshot: &Snapshot) -> Lsn {
    match (extent.before, extent.keep_records, extent.keep_bytes) {
        (Some(before), ..) => Lsn(before),
        (_, Some(0), _) => snapshot.next_lsn(),
        (_, Some(records), _) => first_with(found, snapshot, records),
        (.., bytes) => first_within(found, snapshot, bytes.unwrap_or(u64::MAX)),
    }
}

/// The first record of the last segment that has one, which stays whatever is asked; `None` if there is none. After a crash an open
/// begins another segment.
pub(super) fn first_of_last(found: &Inspection, snapshot: &Snapshot) -> Option<Lsn> {
    segments(found).find(|file| records_in(file, snapshot.next_lsn(), 1) > 0)?.first_lsn
}

/// Those of the log, newest first.
fn segments(found: &Inspection) -> impl Iterator<Item = &SegmentFile> {
    found.segments().iter().rev().filter(|file| file.counts)
}

/// The first record of the newest segments that together hold `records`.
fn first_with(found: &Inspection, snapshot: &Snapshot, records: u64) -> Lsn {
    let mut left = records;
    for file in segments(found) {
        left = left.saturating_sub(records_in(file, snapshot.next_lsn(), left));
        if left == 0 {
            return file.first_lsn.unwrap_or(snapshot.first_lsn());
        }
    }
    snapshot.first_lsn()
}

/// How many records a segment holds of those before `next`, or `enough`: numbers without a record do not count, nor does what is
/// damaged.
fn records_in(file: &SegmentFile, next: Lsn, enough: u64) -> u64 {
    let Ok(mut scan) = SegmentScan::open(&file.path) else { return 0 };
    if let Some(end) = file.end {
        scan.stop_at(end);
    }
    let mut records = 0;
    // With less than there is, more is kept.
    while records < enough
        && let Ok(Some(item)) = scan.next()
    {
        if let ScanItem::Frame(frame) = item {
            records += u64::from(frame.role() == FrameRole::Record && frame.lsn() < next);
        }
    }
    records
}

/// The first record of the newest segments that take no more than `bytes` together, the one that takes appends included.
fn first_within(found: &Inspection, snapshot: &Snapshot, bytes: u64) -> Lsn {
    let others = found.segments().iter().filter(|file| !file.counts);
    let mut kept: u64 = others.map(|file| file.file_len_bytes).sum();
    let mut first = snapshot.next_lsn();
    for (at, file) in segments(found).enumerate() {
        kept += file.file_len_bytes;
        if at > 0 && kept > bytes {
            break;
        }
        first = file.first_lsn.unwrap_or(first);
    }
    first
}
