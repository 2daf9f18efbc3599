//! What is held of the log never changes, whatever the log does meanwhile.
//!
//! One thread makes a million changes: records appended, segments dropped by trims, and truncations are counted, one
//! each. Others take views all the time, check sum in hand, keep them while the log goes on, and look again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mapwal::{Error, Log, Lsn, RecordRef, SealedSegment, Snapshot};

use crate::support::scratch::{open_small, scratch, stamped};
use crate::support::wait::until;

const CHANGES: u64 = 1_000_000;
/// Views that a thread keeps at a time.
const HELD: usize = 24;

enum View {
    Snapshot(Snapshot),
    Record(RecordRef),
    Sealed(SealedSegment),
}

impl View {
    fn take(log: &Log, turn: usize) -> Option<Self> {
        match turn % 3 {
            0 => Some(Self::Snapshot(log.snapshot().unwrap())),
            1 => match log.get(log.published_lsn().unwrap()) {
                Ok(record) => Some(Self::Record(record.unwrap())),
                // Cut off or trimmed between the two calls.
                Err(Error::NotAppended { .. } | Error::Trimmed { .. }) => None,
                Err(error) => panic!("{error}"),
            },
            _ => match log.sealed(0) {
                Ok(mut sealed) => sealed.pop().map(Self::Sealed),
                Err(error) => panic!("{error}"),
            },
        }
    }

    fn checksum(&self) -> u32 {
        match self {
            Self::Snapshot(snapshot) => {
                let mut hasher = crc32fast::Hasher::new();
                for record in snapshot {
                    hasher.update(record.unwrap().frame_bytes());
                }
                hasher.finalize()
            }
            Self::Record(record) => crc32fast::hash(record.record().frame_bytes()),
            Self::Sealed(sealed) => sealed.checksum(),
        }
    }
}

#[test]
fn no_view_changes_over_a_million_changes_of_the_log() {
    let dir = scratch();
    let log = open_small(dir.path());
    let (done, compared, held_bytes) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (log, done, compared, held_bytes) = (&log, &done, &compared, &held_bytes);
        for _ in 0..2 {
            scope.spawn(move || {
                let mut held = std::collections::VecDeque::new();
                for turn in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    if let Some(view) = View::take(log, turn) {
                        held.push_back((view.checksum(), view));
                    }
                    if held.len() > HELD {
                        let (before, view) = held.pop_front().expect("not empty");
                        assert_eq!(view.checksum(), before);
                        compared.fetch_add(1, Ordering::Relaxed);
                    }
                    held_bytes.fetch_max(log.stats().unlinked_bytes, Ordering::Relaxed);
                    std::thread::yield_now();
                }
                for (before, view) in held {
                    assert_eq!(view.checksum(), before);
                }
            });
        }
        change(log);
        done.store(true, Ordering::Relaxed);
    });
    assert!(compared.load(Ordering::Relaxed) > 100, "{} views compared", compared.load(Ordering::Relaxed));
    assert!(held_bytes.load(Ordering::Relaxed) > 0, "no view held a dropped segment");
    // What the last appends have left is released with the next segment.
    log.rotate().unwrap();
    log.trim_before(log.next_lsn()).unwrap();
    // Threads of the log have one for a moment.
    until("nobody holds any of them", || log.stats().unlinked_bytes == 0);
}

/// Appends, trims and truncates until the changes are made.
fn change(log: &Log) {
    let payloads: Vec<_> = (0..64).map(|stamp| stamped(stamp, 40 + 8 * usize::try_from(stamp).unwrap())).collect();
    let mut changes = 0;
    for turn in 0_u64.. {
        for payload in &payloads {
            log.append(1, payload).unwrap();
        }
        changes += payloads.len() as u64;
        let next = log.next_lsn().0;
        if turn % 7 == 0 {
            log.truncate_after(Lsn(next - 1 - turn % 40)).unwrap();
            changes += 1;
        }
        if turn % 16 == 0 {
            changes += log.trim_before(Lsn(next.saturating_sub(2_000).max(1))).unwrap() as u64;
        }
        if changes >= CHANGES {
            return;
        }
    }
}
