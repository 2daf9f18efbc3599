//! The page on the format, read by `verdict.rs`, and the library come to the same of logs in every state: how many records, whether the
//! log is sound, torn or damaged, and whether it was closed.
//!
//! Logs are the one of version 2 that is kept, or made from a seed: records of many lengths, batches, voids, metadata, syncs, rotations and truncations, in small segments; then
//! they are closed, or dropped as a process that is killed leaves them. To a copy of each, one of these is done: nothing; a bit is flipped; a
//! sector, or all from some place on, is zero, or noise; a segment is removed, or the control page; files become recycled ones; a frame
//! becomes one of another kind, flags or contents, with the checksum that is right for it.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use fastrand::Rng;
use mapwal::inspect::{Inspection, SegmentState, VerifyOptions};
use mapwal::{Error, Lsn};
use tempfile::TempDir;

use super::verdict::{self, Verdict};
use crate::format::upgrade;
use crate::support::files::{self, segment, segment_numbers};
use crate::support::scratch::{open_small, scratch};
use crate::support::stored::{FLAGS, KIND};
use crate::support::{open, small, stored};

/// Unless `AGREEMENT_LOGS` says how many.
const LOGS: u64 = 10;
const CHANGES: usize = 60;
const SECTOR: usize = 512;

/// A log, and whether it was closed. Some are of version 2.
fn original(seed: u64, random: &mut Rng) -> (TempDir, bool) {
    if seed % 5 == 4 {
        let is_closed = random.bool();
        return (upgrade::old(is_closed), is_closed);
    }
    let dir = scratch();
    let is_closed = make(dir.path(), random);
    (dir, is_closed)
}

/// Makes a log in `directory`. Returns whether it was closed.
fn make(directory: &Path, random: &mut Rng) -> bool {
    let log = open_small(directory);
    let mut next = 1;
    for _ in 0..random.usize(5..40) {
        let payload = vec![random.u8(1..); random.usize(..4000)];
        match random.u32(..20) {
            0 => log.rotate().map(|_| ()).unwrap(),
            1 if next > 3 => {
                next = random.u64(next - 3..next);
                log.truncate_after(Lsn(next - 1)).unwrap();
            }
            2 => log.put_meta(random.usize(..3), &payload[..payload.len() / 2]).map(|_| ()).unwrap(),
            3..=5 => drop(log.sync().unwrap()),
            6..=9 => {
                let records = vec![(1, &payload[..]); random.usize(1..5)];
                next = log.append_batch(&records).unwrap().end.0;
            }
            10 => {
                let give_up = AssertUnwindSafe(|| log.append_with(2, 100, |_| resume_unwind(Box::new(()))));
                assert!(catch_unwind(give_up).is_err());
                next = log.next_lsn().0;
            }
            _ => next = log.append(3, &payload).unwrap().0 + 1,
        }
    }
    let is_closed = random.bool();
    if is_closed {
        log.close().unwrap();
    }
    is_closed
}

/// Changes the log in `directory`; says how.
fn change(directory: &Path, random: &mut Rng) -> String {
    let numbers = segment_numbers(directory);
    let number = numbers[random.usize(..numbers.len())];
    let path = segment(directory, number);
    let bytes = fs::read(&path).unwrap();
    let used = bytes.iter().rposition(|&b| b != 0).unwrap();
    let at = match random.u32(..8) {
        0 => random.usize(..4096),
        1 => random.usize(..bytes.len()),
        _ => random.usize(4096..(used + 64).max(4097)),
    };
    let sector = at - at % SECTOR..at - at % SECTOR + SECTOR;
    let mut noise = Rng::with_seed(random.u64(..));
    let what = random.u32(..19);
    match what {
        0 => {}
        1 => fs::remove_file(&path).unwrap(),
        2 | 3 => files::edit(&path, |bytes| bytes[sector].fill(0)),
        4 => files::edit(&path, |bytes| bytes[sector].iter_mut().for_each(|byte| *byte = noise.u8(..))),
        5..=7 => files::edit(&path, |bytes| bytes[at.max(4096)..].fill(0)),
        8 => files::edit(&path, |bytes| {
            stored::recycle(bytes);
            bytes[at.max(used)..].iter_mut().for_each(|byte| *byte = noise.u8(..));
        }),
        9 => files::edit(&path, |bytes| {
            stored::recycle(bytes);
            bytes[at] ^= 1;
        }),
        10..=12 => {
            let frames = stored::frames(directory, number);
            let frame = (!frames.is_empty()).then(|| &frames[noise.usize(..frames.len())]);
            files::edit(&path, |bytes| {
                let Some(frame) = frame else { return };
                match what {
                    10 => bytes[frame.offset + KIND] = noise.u8(1..8),
                    11 => bytes[frame.offset + FLAGS] ^= 1,
                    _ => bytes[frame.offset + 24.min(frame.len - 1)] ^= 1,
                }
                stored::seal_frame(bytes, frame.offset);
            });
        }
        _ => files::edit(&path, |bytes| bytes[at] ^= 1 << noise.u8(..8)),
    }
    format!("{what} to segment {number} at {at} of {used}")
}

/// What the library comes to.
fn by_library(directory: &Path, archive: bool) -> (Verdict, bool, u64) {
    let inspection = match Inspection::open(directory) {
        Ok(inspection) => inspection,
        Err(Error::NoLog { .. } | Error::Format { .. }) => {
            return (Verdict::Refused, false, 0);
        }
        Err(Error::Corrupt(_)) => return (Verdict::Damaged, false, 0),
        Err(error) => panic!("{error}"),
    };
    let report = inspection.verify(VerifyOptions::new().archive(archive), &mut |_| {}).unwrap();
    let is_torn = report.segments.iter().any(|segment| segment.state == SegmentState::Torn || segment.torn_bytes > 0);
    let verdict = match (report.damage.is_empty(), is_torn) {
        (false, _) => Verdict::Damaged,
        (true, true) => Verdict::Torn,
        (true, false) => Verdict::Sound,
    };
    (verdict, report.closed, report.records())
}

#[test]
fn the_page_and_the_library_come_to_the_same_verdict() {
    let mut counts = [0; 4];
    let logs = std::env::var("AGREEMENT_LOGS").map_or(LOGS, |logs| logs.parse().expect("a number"));
    for seed in 0..logs {
        let mut random = Rng::with_seed(seed);
        let (original, was_closed) = original(seed, &mut random);
        for round in 0..CHANGES {
            let dir = scratch();
            files::copy(original.path(), dir.path());
            if random.u32(..3) == 0 {
                let _ = fs::remove_file(dir.path().join("control"));
            }
            let what = if round == 0 { "nothing".to_owned() } else { change(dir.path(), &mut random) };
            let what = format!("seed {seed}, round {round}, closed: {was_closed}; {what}");
            let archive = random.u32(..4) == 0;
            let by_page = verdict::read(dir.path(), archive);
            let found = (by_page.verdict, by_page.is_closed, by_page.records.len() as u64);
            assert_eq!(found, by_library(dir.path(), archive), "{what}");
            counts[by_page.verdict as usize] += 1;
            if by_page.verdict == Verdict::Sound || by_page.verdict == Verdict::Torn {
                let log = open(dir.path(), &small().archive(archive));
                let snapshot = log.snapshot().unwrap();
                let by_log =
                    snapshot.iter().map(|record| record.map(|record| (record.lsn().0, record.payload().to_vec())));
                assert_eq!(by_log.collect::<Result<Vec<_>, _>>().unwrap(), by_page.records, "{what}");
            }
        }
    }
    eprintln!("sound, torn, damaged, refused: {counts:?}");
    assert!(counts[..3].iter().all(|&count| count > 50), "{counts:?}");
}
