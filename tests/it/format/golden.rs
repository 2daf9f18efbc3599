//! The golden log: what is in it, how it is made, how it is unpacked.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use mapwal::{Log, Lsn};

use super::spec::{CLOSE, DATA, LINK, META, SEAL, Segment, TRUNCATE, VOID};
use crate::support::{open, small};

/// The kinds of frames in its segments, in order, repetitions left out.
pub(super) const KINDS: [&[u8]; 3] =
    [&[LINK, DATA, VOID, META, DATA, SEAL], &[LINK, DATA, META, DATA], &[LINK, TRUNCATE, DATA, CLOSE]];
/// The frames at its start that the specification shows.
pub(super) const FRAMES_SHOWN: usize = 5;

const COUNT: u64 = 40;
const VOID_LSN: u64 = 3;
/// Two records that were appended together.
const BATCH: RangeInclusive<u64> = 4..=5;
/// The last record that was kept when those after it were truncated, and replaced.
const KEPT_LSN: u64 = 38;

/// Tag and payload of record `lsn`: small ones first, then what fills a segment and takes little room when packed.
fn record(lsn: u64) -> (u16, Vec<u8>) {
    match lsn {
        1 => (7, b"hello, log".to_vec()),
        2 => (u16::MAX, Vec::new()),
        _ => (u16::try_from(lsn).unwrap(), vec![u8::try_from(lsn).unwrap(); 2000]),
    }
}

/// Writes the log to `directory`.
pub(super) fn write(directory: &Path) {
    let log = open(directory, &small());
    append(&log, 1);
    log.sync().unwrap();
    append(&log, 2);
    super::bytes::append_void(&log, 3, 5, b"abc");
    log.put_meta(1, b"vote").unwrap();
    let batch: Vec<_> = BATCH.map(record).collect();
    let batch: Vec<_> = batch.iter().map(|(tag, payload)| (*tag, &payload[..])).collect();
    assert_eq!(log.append_batch(&batch).unwrap(), Lsn(*BATCH.start())..Lsn(BATCH.end() + 1));
    (BATCH.end() + 1..KEPT_LSN).for_each(|lsn| append(&log, lsn));
    log.put_meta(15, b"").unwrap();
    append(&log, KEPT_LSN);
    for lsn in KEPT_LSN + 1..=COUNT + 5 {
        assert_eq!(log.append(0, b"to be truncated").unwrap(), Lsn(lsn));
    }
    log.truncate_after(Lsn(KEPT_LSN)).unwrap();
    (KEPT_LSN + 1..=COUNT).for_each(|lsn| append(&log, lsn));
    log.close().unwrap();
}

fn append(log: &Log, lsn: u64) {
    let (tag, payload) = record(lsn);
    assert_eq!(log.append(tag, &payload).unwrap(), Lsn(lsn));
}

/// Checks that `log` begins with the records of the golden log.
pub(crate) fn assert_contents(log: &Log) {
    let snapshot = log.snapshot().unwrap();
    assert_eq!(snapshot.first_lsn(), Lsn(1));
    let found: Vec<_> = snapshot.range(..=Lsn(COUNT)).map(|record| record.unwrap()).collect();
    let expected: Vec<u64> = (1..=COUNT).filter(|&lsn| lsn != VOID_LSN).collect();
    assert_eq!(found.len(), expected.len());
    for (found, lsn) in found.iter().zip(expected) {
        let (tag, payload) = record(lsn);
        assert_eq!((found.lsn(), found.tag(), found.payload()), (Lsn(lsn), tag, &payload[..]));
    }
    assert!(log.get(Lsn(VOID_LSN)).unwrap().is_none());
    let meta = [1, 15, 0].map(|slot| log.meta(slot));
    assert_eq!(meta, [Some(b"vote".to_vec()), Some(Vec::new()), None]);
}

/// Names and contents of the segments of the golden log of a version.
pub(crate) fn files(version: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version);
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let unpacked = paths.iter().map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        GzDecoder::new(File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
        (name, bytes)
    });
    unpacked.collect()
}

/// Puts the segments of the golden log of a version into `directory`.
pub(crate) fn unpack(version: &str, directory: &Path) {
    for (name, bytes) in files(version) {
        fs::write(directory.join(name), bytes).unwrap();
    }
}

/// Packs the segments in `directory` into the build directory; returns where they are.
pub(super) fn pack(directory: &Path) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden");
    fs::create_dir_all(&target).unwrap();
    for number in 1..=KINDS.len() {
        let name = format!("{number:020}.seg");
        let packed = File::create(target.join(format!("{name}.gz"))).unwrap();
        let mut encoder = GzEncoder::new(packed, Compression::best());
        encoder.write_all(&fs::read(directory.join(name)).unwrap()).unwrap();
        encoder.finish().unwrap();
    }
    target
}

/// The first bytes of the log in `directory`, as the specification shows them.
pub(super) fn worked_example(directory: &Path) -> String {
    const HEADER: [(&str, usize); 10] = [
        ("magic", 8),
        ("version", 4),
        ("salt", 4),
        ("segment_size", 8),
        ("number", 8),
        ("log_id", 16),
        ("created_unix_ms", 8),
        ("incompatible", 4),
        ("read_only", 4),
        ("compatible", 4),
    ];
    const HEADER_END: [(&str, usize); 1] = [("crc", 4)];
    const FRAME: [(&str, usize); 7] =
        [("len", 4), ("crc", 4), ("lsn", 8), ("durable_lag", 4), ("kind", 1), ("flags", 1), ("tag", 2)];
    let bytes = fs::read(directory.join(format!("{:020}.seg", 1))).unwrap();
    let mut lines = show_fields(&bytes, 0, &HEADER);
    lines += "\n";
    lines += &show_fields(&bytes, 4092, &HEADER_END);
    for frame in &Segment::parse(&bytes).frames[..FRAMES_SHOWN] {
        let start = usize::try_from(frame.offset).unwrap();
        let payload = start + FRAME.iter().map(|(_, len)| len).sum::<usize>();
        let padding = payload + frame.payload.len();
        let end = usize::try_from(frame.end()).unwrap();
        lines += "\n";
        lines += &show_fields(&bytes, start, &FRAME);
        lines += &show_fields(&bytes, payload, &[("payload", padding - payload), ("padding", end - padding)]);
    }
    lines
}

/// Fields of these names and lengths, from offset `at` on: one line for up to 16 bytes of each.
fn show_fields(bytes: &[u8], mut at: usize, fields: &[(&str, usize)]) -> String {
    let mut lines = String::new();
    for &(name, len) in fields {
        let value = bytes[at..at + len].iter().rev().fold(0_u128, |value, &byte| value << 8 | u128::from(byte));
        let value = match name {
            "magic" | "payload" | "padding" | "log_id" => String::new(),
            "salt" | "crc" | "durable_lag" => format!(" = {value:#x}"),
            _ => format!(" = {value}"),
        };
        for start in (at..at + len).step_by(16) {
            let row: Vec<_> = bytes[start..(start + 16).min(at + len)].iter().map(|b| format!("{b:02x}")).collect();
            lines.extend([&format!("{start:04x}"), "  ", &row.join(" "), "  ", name, &value, "\n"]);
        }
        at += len;
    }
    lines
}
