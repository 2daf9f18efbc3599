//! Logs of known contents, before they are damaged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mapwal::inspect::{Inspection, ScanItem, SegmentScan};
use mapwal::{Log, LogReader, Lsn, Options};
use tempfile::TempDir;

use crate::logs::{closed, frames, line, scratch, segments};
use crate::program::{Running, run};

const SEGMENT_LEN: u64 = 64 << 10;
const HEADER_LEN: usize = 4096;

pub(super) type Records = BTreeMap<u64, Vec<u8>>;

/// A log before it is damaged.
pub(super) struct Original {
    pub(super) name: &'static str,
    pub(super) directory: TempDir,
    pub(super) records: Records,
    /// What a truncation has dropped, whose bytes may still be there: what shows that may be damaged.
    pub(super) dropped: Records,
    pub(super) segments: BTreeMap<u64, Segment>,
    pub(super) control: Vec<u8>,
    pub(super) durable: u64,
}

pub(super) struct Segment {
    pub(super) bytes: Vec<u8>,
    pub(super) frames: Vec<Frame>,
}

pub(super) struct Frame {
    pub(super) at: usize,
    pub(super) end: usize,
    pub(super) kind: u8,
    pub(super) lsn: u64,
}

pub(super) fn number_of(path: &Path) -> u64 {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

pub(super) fn path_of(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.seg"))
}

/// The records of a log that opens.
pub(super) fn records(directory: &Path) -> Records {
    // SAFETY: the directory is one of this test.
    let reader = unsafe { LogReader::open(directory) }.unwrap();
    let snapshot = reader.snapshot().unwrap();
    let record =
        |record: mapwal::Result<mapwal::Record<'_>>| record.map(|it| (it.lsn().0, it.payload().to_vec())).unwrap();
    snapshot.iter().map(record).collect()
}

impl Original {
    pub(super) fn new(name: &'static str, directory: TempDir, dropped: Records) -> Self {
        let records = records(directory.path());
        let files = segments(directory.path());
        let read: Vec<(u64, Segment)> = files.iter().map(|path| (number_of(path), Segment::read(path))).collect();
        let counted = read.into_iter().map(|(number, segment)| (number, segment.counted(&records))).collect();
        let control = fs::read(directory.path().join("control")).unwrap();
        let durable = Inspection::open(directory.path()).unwrap().durable_lsn().unwrap().0;
        Self { name, directory, records, dropped, segments: counted, control, durable }
    }

    /// The segments of which a file holds what passes for their header, with the files.
    pub(super) fn sources(&self, directory: &Path) -> Vec<(u64, Vec<u8>)> {
        let files = segments(directory).into_iter().map(|path| fs::read(path).unwrap());
        let of = |bytes: &Vec<u8>| {
            let header = bytes.get(..HEADER_LEN)?;
            self.segments.iter().find(|(_, segment)| segment.bytes[..HEADER_LEN] == *header).map(|(&number, _)| number)
        };
        files.filter_map(|bytes| Some((of(&bytes)?, bytes))).collect()
    }
}

impl Segment {
    pub(super) fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let number =
            |at: usize, len: usize| bytes[at..at + len].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        let starts = if bytes[56] == 0 { frames(path) } else { intact_frames(path) };
        let frame = |at: usize| {
            let end = at + (number(at, 4) as usize).next_multiple_of(8);
            Frame { at, end, kind: bytes[at + 20], lsn: number(at + 8, 8) }
        };
        Self { frames: starts.into_iter().map(frame).collect(), bytes }
    }

    /// Without frames that do not count: those from the first record on that is another.
    pub(super) fn counted(mut self, records: &Records) -> Self {
        let is_other = |frame: &Frame| {
            let len = u32::from_le_bytes(self.bytes[frame.at..frame.at + 4].try_into().unwrap()) as usize;
            frame.kind == 1
                && records.get(&frame.lsn).map(Vec::as_slice) != self.bytes.get(frame.at + 24..frame.at + len)
        };
        let count = self.frames.iter().position(is_other).unwrap_or(self.frames.len());
        self.frames.truncate(count);
        self
    }
}

/// The offsets of the frames of a segment whose file was another one before.
pub(super) fn intact_frames(path: &Path) -> Vec<usize> {
    let mut scan = SegmentScan::open(path).unwrap();
    let mut found = Vec::new();
    while let Some(ScanItem::Frame(frame)) = scan.next().unwrap() {
        found.push(frame.offset() as usize);
    }
    found
}

/// One whose writer was killed, after two trims beside it.
pub(super) fn killed_after_trims() -> TempDir {
    let log = scratch();
    let mut writer = Running::start(log.path(), "append DIR --segment-size 64KiB");
    let mut said = 0;
    for (count, then) in
        [(1400, "trim DIR --before 700"), (2400, "trim DIR --before 1322"), (2700, "pins DIR add p 1400")]
    {
        (said + 1..=count).for_each(|number| writer.say(&line(number)));
        (said + 1..=count).for_each(|number| assert_eq!(writer.line(), Some(number.to_string())));
        said = count;
        run(log.path(), then).done();
    }
    log
}

/// One with metadata, of which a truncation has dropped a part, closed twice.
pub(super) fn truncated() -> (TempDir, Records) {
    let log = scratch();
    // SAFETY: the directory is one of this test.
    let open = || unsafe { Log::open(log.path(), &Options::new().segment_size_bytes(SEGMENT_LEN)) }.unwrap();
    let append = |log: &Log, number: u64, what: &str| {
        drop(log.append(0, format!("{what} {}", line(number)).as_bytes()).unwrap().0.to_string())
    };
    let writer = open();
    (1..=700).for_each(|number| append(&writer, number, "old"));
    writer.put_meta(3, b"a vote").unwrap();
    writer.sync().unwrap();
    writer.truncate_after(Lsn(500)).unwrap();
    (501..=900).for_each(|number| append(&writer, number, "new"));
    writer.close().unwrap();
    let writer = open();
    (901..=1200).for_each(|number| append(&writer, number, "newer"));
    writer.close().unwrap();
    let dropped = (501..=700).map(|number| (number, format!("old {}", line(number)).into_bytes()));
    (log, dropped.collect())
}

pub(super) fn originals() -> Vec<Original> {
    let (truncated, dropped) = truncated();
    let killed = killed_after_trims();
    let backed_up = scratch();
    run(killed.path(), &format!("backup DIR {} --no-pin", backed_up.path().display())).done();
    vec![
        Original::new("closed", closed(1200), Records::new()),
        Original::new("killed", killed, Records::new()),
        Original::new("truncated", truncated, dropped),
        Original::new("backup", backed_up, Records::new()),
    ]
}
