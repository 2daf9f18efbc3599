//! A copy that was made before: what of it can be used again, and whether the log has gone another way since.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use mapwal::Lsn;
use mapwal::inspect::{FrameRole, Inspection, ScanItem, SegmentFile, SegmentScan};

use super::check::damaged;
use super::files::{CheckStop, FRAMES_BETWEEN_LOOKS};
use crate::failure::{Explain, Failure, Result};
use crate::out;

/// Bytes that are compared at a time.
const CHUNK_LEN: usize = 256 << 10;

/// An earlier copy of a log.
pub(super) struct Earlier {
    pub(super) path: PathBuf,
    log_id: u128,
    /// By number.
    files: BTreeMap<u64, SegmentFile>,
}

impl Earlier {
    pub(super) fn open(path: &Path, log: &Path) -> Result<Self> {
        if out::is_same_directory(path, log) {
            return Err(Failure::new("cannot copy", "the log is no copy of itself", path));
        }
        let inspection = Inspection::open(path).about(path)?;
        for fault in inspection.faults() {
            tell(Failure::of_log(&fault.clone().into(), path));
        }
        let files = inspection.segments().iter().filter(|file| file.counts).cloned();
        let files = files.map(|file| (file.number, file)).collect();
        Ok(Self { path: path.to_owned(), log_id: inspection.log_id(), files })
    }

    /// An error if it is of another log than `log_id`.
    pub(super) fn check(&self, log_id: u128) -> Result<()> {
        if self.log_id == log_id {
            return Ok(());
        }
        let why =
            format!("it is of the log {:032x}, and this is {log_id:032x}: copy it without --against", self.log_id);
        Err(Failure::new("no earlier copy of this log", why, &self.path))
    }

    /// The file that holds what `file` holds, a segment that has a successor, and how many records that are. All that it holds is
    /// checked, unless `check_stop` says to stop.
    pub(super) fn same_as(&self, file: &SegmentFile, check_stop: CheckStop<'_>) -> Result<Option<(&Path, u64)>> {
        let (Some(end), Some(checksum)) = (file.end, file.end_checksum) else { return Ok(None) };
        // Of its newest segment a log that was made of the copy has the file.
        let Some(earlier) = self.files.get(&file.number).filter(|earlier| earlier.end.is_some()) else {
            return Ok(None);
        };
        let Some(walked) = walk(&earlier.path, end, check_stop)? else { return Ok(None) };
        let same = match walked {
            Walked { last, .. } if last != checksum => false,
            Walked { sums_up: true, .. } => true,
            // What the last frame says is of itself alone.
            Walked { .. } => are_bytes_equal(&earlier.path, &file.path, end, check_stop)?,
        };
        Ok(same.then_some((&*earlier.path, walked.records)))
    }

    /// The first record that is in this copy, and has been truncated or replaced in the log `files` since. Of segments `same` it is
    /// known that they are.
    pub(super) fn parting(&self, files: &[SegmentFile], same: &BTreeSet<u64>) -> Result<Option<Lsn>> {
        let oldest = files.first().map_or(0, |file| file.number);
        for earlier in self.files.values().filter(|earlier| earlier.number >= oldest) {
            let Some(file) = files.iter().find(|file| file.number == earlier.number) else {
                return Ok(earlier.first_lsn);
            };
            // The log may have been cut in what both have.
            let is_same = same.contains(&file.number) && earlier.end == file.end;
            if let Some(lsn) = if is_same { None } else { first_difference(earlier, file)? } {
                return Ok(Some(lsn));
            }
        }
        Ok(None)
    }
}

/// What a walk to the end of a segment comes to.
struct Walked {
    /// The checksum of the last frame.
    last: u32,
    /// Whether that is one of all frames.
    sums_up: bool,
    records: u64,
}

/// Tells what is wrong with the earlier copy: nothing depends on it.
fn tell(failure: Failure) {
    failure.and("that is not taken from the earlier copy").tell();
}

/// `None` if there is anything but sound frames up to `end`, and one of them ends there.
fn walk(path: &Path, end: u64, check_stop: CheckStop<'_>) -> Result<Option<Walked>> {
    let Ok(mut scan) = SegmentScan::open(path) else { return Ok(None) };
    scan.stop_at(end);
    let mut walked = Walked { last: 0, sums_up: false, records: 0 };
    for frames in 1_u64.. {
        if frames.is_multiple_of(FRAMES_BETWEEN_LOOKS) {
            check_stop()?;
        }
        let frame = match scan.next() {
            Ok(Some(ScanItem::Frame(frame))) => frame,
            Ok(None) => break,
            Ok(Some(ScanItem::Gap { range, lsn, damage })) => {
                tell(damaged(path, (range.start, lsn.unwrap_or(Lsn::ZERO)), damage));
                return Ok(None);
            }
            Ok(Some(_)) => return Ok(None),
            Err(error) => {
                tell(Failure::of_log(&error, path));
                return Ok(None);
            }
        };
        let records = walked.records + u64::from(frame.role() == FrameRole::Record);
        walked = Walked { last: frame.checksum(), sums_up: frame.sums_up(), records };
    }
    Ok((scan.offset() == end).then_some(walked))
}

/// What cannot be read counts as different.
fn are_bytes_equal(a: &Path, b: &Path, end: u64, check_stop: CheckStop<'_>) -> Result<bool> {
    let (Ok(a), Ok(b)) = (File::open(a), File::open(b)) else { return Ok(false) };
    let (mut of_a, mut of_b) = (vec![0; CHUNK_LEN], vec![0; CHUNK_LEN]);
    let mut offset = 0;
    while offset < end {
        check_stop()?;
        let len = CHUNK_LEN.min(usize::try_from(end - offset).unwrap_or(CHUNK_LEN));
        let read = |file: &File, bytes: &mut [u8]| file.read_exact_at(&mut bytes[..len], offset).is_ok();
        if !read(&a, &mut of_a) || !read(&b, &mut of_b) || of_a[..len] != of_b[..len] {
            return Ok(false);
        }
        offset += len as u64;
    }
    Ok(true)
}

/// The record at the first frame of `earlier` that `file` does not have at the same place. Where `earlier` cannot be read, that is
/// told: nothing depends on it.
fn first_difference(earlier: &SegmentFile, file: &SegmentFile) -> Result<Option<Lsn>> {
    let told = |failure: Failure| {
        failure.and("it was not compared with the log, and nothing was taken from it").tell();
        None
    };
    let (before, mut now) = (open(earlier), open(file)?);
    let mut before = match before {
        Ok(before) => before,
        Err(failure) => return Ok(told(failure)),
    };
    loop {
        let frame = match before.next() {
            Ok(Some(ScanItem::Frame(frame))) => frame,
            Ok(_) => return Ok(None),
            Err(error) => return Ok(told(Failure::of_log(&error, &earlier.path))),
        };
        let (lsn, place) = (frame.lsn(), (frame.offset(), frame.checksum()));
        let is_there = match now.next().about(&file.path)? {
            Some(ScanItem::Frame(frame)) => (frame.offset(), frame.checksum()) == place,
            _ => false,
        };
        if !is_there {
            return Ok(Some(lsn));
        }
    }
}

fn open(file: &SegmentFile) -> Result<SegmentScan> {
    let mut scan = SegmentScan::open(&file.path).about(&file.path)?;
    if let Some(end) = file.end {
        scan.stop_at(end);
    }
    Ok(scan)
}
