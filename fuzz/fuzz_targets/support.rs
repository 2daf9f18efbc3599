//! The golden log with changes that the fuzzer chose, and everything that reads what comes of it.
//!
//! A change can be followed by [`Change::Mend`], which makes all checksums right again: without it hardly any change
//! would get past them.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

use flate2::read::GzDecoder;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use mapwal::{Log, LogReader, Lsn, Options, Result, Snapshot, Visibility};
use tempfile::TempDir;

use crate::spec;

/// The smallest segments.
const SEGMENT_BYTES: u64 = 64 << 10;
const FRAME_HEADER_LEN: usize = 24;
const HEADER_CRC_AT: usize = 4092;
pub const SALT_AT: usize = 12;
const KIND_AT: usize = 20;
const TALLY_LEN: usize = 24;
/// Records looked at one by one, by number.
const LOOKED_UP_MAX: u64 = 100;

/// The segments of a log, by number.
pub type Segments = Vec<(u64, Vec<u8>)>;
/// Number, tag and payload of a record.
type Contents = (Lsn, u16, Vec<u8>);

/// What the fuzzer does to a log. Segments and frames are counted from the first, over and over.
#[derive(Debug, Arbitrary)]
pub enum Change {
    /// Other bytes in a frame, or after the last one.
    Frame { segment: u8, frame: u8, at: u8, bytes: Vec<u8> },
    /// Adds to four bytes of a frame.
    Add { segment: u8, frame: u8, at: u8, value: i8 },
    /// Other bytes in a segment's header.
    Header { segment: u8, at: u8, bytes: Vec<u8> },
    /// Makes the checksums of headers and frames, those that links repeat, and what seals and closes count, what they should be.
    Mend,
    /// No file at all.
    Remove { segment: u8 },
    /// A file of another length.
    Resize { segment: u8, len: u16 },
    /// A file of the same contents under another number.
    Copy { segment: u8, number: u32 },
}

impl Change {
    fn apply(&self, segments: &mut Segments) {
        match *self {
            Self::Frame { segment, frame, at, ref bytes } => {
                with(segments, segment, |stored| {
                    let start = frame_at(stored, frame) + usize::from(at);
                    overwrite(stored, start, bytes);
                });
            }
            Self::Add { segment, frame, at, value } => with(segments, segment, |stored| {
                let start = frame_at(stored, frame) + usize::from(at);
                if let Some(bytes) = stored.get_mut(start..).and_then(<[u8]>::first_chunk_mut) {
                    *bytes = u32::from_le_bytes(*bytes).wrapping_add_signed(value.into()).to_le_bytes();
                }
            }),
            Self::Header { segment, at, ref bytes } => {
                with(segments, segment, |stored| overwrite(stored, usize::from(at), bytes));
            }
            Self::Mend => mend(segments),
            Self::Remove { segment } if !segments.is_empty() => {
                segments.remove(usize::from(segment) % segments.len());
            }
            Self::Remove { .. } => {}
            Self::Resize { segment, len } => with(segments, segment, |stored| stored.resize(usize::from(len), 0)),
            Self::Copy { segment, number } => {
                let mut copy = Vec::new();
                with(segments, segment, |stored| copy.clone_from(stored));
                segments.retain(|(other, _)| *other != u64::from(number));
                segments.push((number.into(), copy));
                segments.sort();
            }
        }
    }
}

/// The golden log as `changes` leave it.
pub fn changed(changes: &[Change]) -> Segments {
    let mut segments = golden().clone();
    changes.iter().for_each(|change| change.apply(&mut segments));
    segments
}

pub fn golden() -> &'static Segments {
    static GOLDEN: OnceLock<Segments> = OnceLock::new();
    GOLDEN.get_or_init(|| {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/v3");
        let unpack = |number: u64| {
            let packed = File::open(directory.join(format!("{number:020}.seg.gz"))).expect("it is in the repository");
            let mut bytes = Vec::new();
            GzDecoder::new(packed).read_to_end(&mut bytes).expect("it was packed");
            (number, bytes)
        };
        (1..=3).map(unpack).collect()
    })
}

fn with(segments: &mut Segments, segment: u8, change: impl FnOnce(&mut Vec<u8>)) {
    let count = segments.len().max(1);
    if let Some((_, stored)) = segments.get_mut(usize::from(segment) % count) {
        change(stored);
    }
}

fn overwrite(stored: &mut [u8], start: usize, bytes: &[u8]) {
    let after = stored.get_mut(start..).unwrap_or_default();
    let len = bytes.len().min(after.len());
    after[..len].copy_from_slice(&bytes[..len]);
}

/// Where the frames of a segment start and end, as far as their lengths can be followed.
fn frames(stored: &[u8]) -> Vec<(usize, usize)> {
    let mut frames = Vec::new();
    let mut start = spec::SEGMENT_HEADER_LEN;
    while let Some(len) = stored.get(start..).and_then(<[u8]>::first_chunk) {
        let end = start + u32::from_le_bytes(*len) as usize;
        if end < start + FRAME_HEADER_LEN || end > stored.len() {
            break;
        }
        frames.push((start, end));
        start = end.next_multiple_of(8);
    }
    frames
}

/// The start of a frame, or of the place after the last one.
pub fn frame_at(stored: &[u8], frame: u8) -> usize {
    let frames = frames(stored);
    let after = frames.last().map_or(spec::SEGMENT_HEADER_LEN, |(_, end)| end.next_multiple_of(8));
    frames.get(usize::from(frame) % (frames.len() + 1)).map_or(after, |(start, _)| *start)
}

fn mend(segments: &mut Segments) {
    // Ends and checksums of the frames of the segment before.
    let mut before: Vec<(u64, [u8; 4])> = Vec::new();
    for (_, stored) in segments {
        if stored.len() < spec::SEGMENT_HEADER_LEN {
            continue;
        }
        let crc = crc32fast::hash(&stored[..HEADER_CRC_AT]);
        stored[HEADER_CRC_AT..HEADER_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        let frames = frames(stored);
        if let Some(&(start, end)) = frames.first() {
            tie(&mut stored[start..end], &before);
        }
        let mut counted = (0_u64, 0_u64);
        before = frames
            .into_iter()
            .map(|(start, end)| {
                tally(&mut stored[start..end], start as u64, counted);
                let crc = sum(stored, start, end);
                let word = spec::u64_at(stored, start);
                let is_record = stored[start + KIND_AT] == spec::DATA;
                counted = (
                    counted.0.wrapping_add(word).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                    counted.1 + u64::from(is_record),
                );
                (end.next_multiple_of(8) as u64, crc)
            })
            .collect();
    }
}

/// Gives a link the checksum of the frame that it names.
fn tie(frame: &mut [u8], before: &[(u64, [u8; 4])]) {
    let payload = &mut frame[FRAME_HEADER_LEN..];
    if payload.len() < 20 {
        return;
    }
    let previous_end = spec::u64_at(payload, 8);
    if let Some((_, crc)) = before.iter().find(|(end, _)| *end == previous_end) {
        payload[16..20].copy_from_slice(crc);
    }
}

/// Gives a seal or a close what the frames up to it, at `offset`, come to: sum and records.
fn tally(frame: &mut [u8], offset: u64, (sum, records): (u64, u64)) {
    let at = match frame[KIND_AT] {
        spec::SEAL => FRAME_HEADER_LEN + 8,
        spec::CLOSE => FRAME_HEADER_LEN,
        _ => return,
    };
    if let Some(stored) = frame.get_mut(at..at + TALLY_LEN) {
        let words = [offset, sum, records].map(u64::to_le_bytes);
        stored.copy_from_slice(words.as_flattened());
    }
}

/// Makes the checksum of a frame right, and returns it.
fn sum(stored: &mut [u8], start: usize, end: usize) -> [u8; 4] {
    let word = |at: usize| u32::from_le_bytes(stored[at..at + 4].try_into().expect("four bytes"));
    let [lsn, rest] = [start + 8, start + 16].map(|at| spec::u64_at(stored, at));
    let header = lsn.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(rest.wrapping_mul(0xc2b2_ae3d_27d4_eb4f)) >> 32;
    let payload = crc32fast::hash(&stored[start + FRAME_HEADER_LEN..end]);
    let crc = (payload ^ header as u32 ^ word(SALT_AT) ^ word(start)).to_le_bytes();
    stored[start + 4..start + 8].copy_from_slice(&crc);
    crc
}

pub fn options() -> Options {
    Options::new().segment_size_bytes(SEGMENT_BYTES)
}

/// The segments may be copies of sealed ones, of which the newest are not there.
fn open_any(path: &Path) -> Result<Log> {
    // SAFETY: as in `open`.
    open(path).or_else(|_| unsafe { Log::open(path, &options().archive(true)) })
}

/// A directory in memory, where there is a file system for that.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary directory can be made")
}

pub fn open(path: &Path) -> Result<Log> {
    // SAFETY: the directory is this process's, which changes its files only while no log is open.
    unsafe { Log::open(path, &options()) }
}

/// Writes `segments` into a directory of their own.
pub fn lay_out(segments: &Segments) -> TempDir {
    let dir = scratch();
    for (number, bytes) in segments {
        fs::write(dir.path().join(format!("{number:020}.seg")), bytes).expect("there is room");
    }
    dir
}

/// Reads and follows the log without a writer, and opens it. What was opened goes on, and is the same when it is opened
/// again.
pub fn read_all(path: &Path) {
    // SAFETY: as in `open`.
    if let Ok(reader) = unsafe { LogReader::open(path) } {
        let _ = reader.snapshot().map(|snapshot| contents(&snapshot));
        for visibility in [Visibility::Published, Visibility::Durable] {
            let Ok(mut follower) = reader.follow(reader.first_lsn().unwrap_or(Lsn(1)), visibility) else { continue };
            while let Ok(Some(record)) = follower.next() {
                std::hint::black_box(record.payload());
            }
        }
    }
    let Ok(log) = open_any(path) else { return };
    let meta = |log: &Log| (0..16).map(|slot| log.meta(slot)).collect::<Vec<_>>();
    let Ok(found) = log.snapshot().map(|snapshot| contents(&snapshot)) else { return };
    let found_meta = meta(&log);
    let Ok(lsn) = log.append(1, b"appended") else { return };
    log.sync().expect("nothing fails");
    drop(log);
    let log = open(path).expect("what was opened opens again");
    let appended = log.get(lsn).expect("nothing is damaged").expect("an acknowledged record is there");
    assert_eq!(appended.payload(), b"appended");
    let again = log.snapshot().map(|snapshot| contents(&snapshot)).expect("as before");
    assert!(again.starts_with(&found), "found {} records, then {}", found.len(), again.len());
    assert_eq!(meta(&log), found_meta);
}

/// All records up to the first that is damaged.
fn contents(snapshot: &Snapshot) -> Vec<Contents> {
    let (first, next) = (snapshot.first_lsn().0, snapshot.next_lsn().0);
    for lsn in first..next.min(first.saturating_add(LOOKED_UP_MAX)) {
        let _ = snapshot.get(Lsn(lsn)).map(|record| std::hint::black_box(record.map(|record| record.payload().len())));
    }
    let records = snapshot.iter().map_while(Result::ok);
    records.map(|record| (record.lsn(), record.tag(), record.payload().to_vec())).collect()
}
