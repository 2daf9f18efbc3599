//! A small log whose bytes are changed in every way, and the rule for what must come of it.
//!
//! **The rule.** A frame is *acknowledged with later evidence* when an undamaged frame, wherever it stands, says in its
//! header that the log was durable beyond the damaged one. Let `f` be the first frame that a change damages.
//!
//! - A change in a segment's header refuses the log.
//! - If `f` is acknowledged with later evidence, the log is damaged: the open fails, or reading does after exactly the
//!   records in front of `f`. The error names the file and the offset of `f`.
//! - Otherwise `f` and what follows is a torn end: exactly the records in front of `f` are there.
//! - Changes outside of headers and frames change nothing.
//!
//! A reader that takes no lock does not search for evidence. It knows how far the log was durable from the page of
//! watermarks: what is damaged in front of that is an error, and behind it the log ends or is damaged.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use mapwal::{
    Corruption, Error, Follower, Inspection, Log, Lsn, PageId, ProvenDamage, RecoverFrom, Recovery, Result,
    SegmentState, Snapshot, VerifyOptions, VerifyReport, Visibility, Wal, Witness,
};
use tempfile::TempDir;

use super::files;
use super::stored::{self, StoredFrame};
use super::{append, payload, read_only, small, try_open};
use crate::format::spec::{CLOSE, DATA};
use crate::scratch::{open_small, scratch};
use crate::wal_support;

/// A log as it stands on disk, and what is known of it.
pub(crate) struct Specimen {
    files: BTreeMap<String, Vec<u8>>,
    pub(crate) frames: Vec<StoredFrame>,
    /// Of record 1 and so on.
    payloads: Vec<Vec<u8>>,
    /// Everything in front of this position had been acknowledged as durable.
    durable: u64,
}

impl Specimen {
    /// A log of two segments that was closed.
    pub(crate) fn closed() -> Self {
        Self::make(|log| {
            append(&log, 1..=30);
            log.rotate().unwrap();
            append(&log, 31..=45);
            log.close().unwrap();
            (45, 45)
        })
    }

    /// A log of two segments that was dropped. A part of the first was synced; neither the rest of it nor the second was.
    pub(crate) fn dropped() -> Self {
        Self::make(|log| {
            append(&log, 1..=20);
            log.sync().unwrap();
            append(&log, 21..=30);
            log.rotate().unwrap();
            append(&log, 31..=45);
            (20, 45)
        })
    }

    /// A log of two segments with transactions, open ones and a checkpoint, that was dropped.
    pub(crate) fn of_transactions() -> Self {
        let dir = scratch();
        let wal = wal_support::open(dir.path());
        let mut committed = wal.begin().unwrap();
        committed.insert(PageId(1), b"committed").unwrap();
        let mut open = wal.begin().unwrap();
        open.update(PageId(2), b"open").unwrap();
        committed.commit().unwrap();
        wal.log_checkpoint(&[], &[]).unwrap();
        wal.log().rotate().unwrap();
        open.delete(PageId(3), b"open still").unwrap();
        let mut last = wal.begin().unwrap();
        last.insert(PageId(4), b"the last").unwrap();
        last.commit().unwrap();
        std::mem::forget(open);
        let synced = wal.flushed_lsn().0;
        wal.log().append(0x8000, b"not synced").unwrap();
        drop(wal);
        Self::of_files(dir.path(), synced)
    }

    /// `run` returns the last record that it synced, if it did not close the log, and the last record.
    fn make(run: impl FnOnce(Log) -> (u64, u64)) -> Self {
        let dir = scratch();
        let (synced, last) = run(open_small(dir.path()));
        let made = Self::of_files(dir.path(), synced);
        assert!(made.payloads.iter().eq((1..=last).map(payload).collect::<Vec<_>>().iter()));
        made
    }

    /// What is in `directory`, where the records up to `synced` are durable.
    fn of_files(directory: &Path, synced: u64) -> Self {
        // The spare that a drop leaves holds nothing.
        let _ = fs::remove_file(files::segment(directory, 3));
        let read = |name: String| (name.clone(), fs::read(directory.join(name)).unwrap());
        let files: BTreeMap<String, Vec<u8>> = files::names(directory).into_iter().map(read).collect();
        let frames = stored::all_frames(directory);
        assert_eq!((frames.first().unwrap().segment, frames.last().unwrap().segment), (1, 2));
        let behind_synced = frames.iter().find(|frame| frame.lsn > synced && frame.kind != CLOSE);
        let end = frames.last().map(|frame| stored::position(frame.segment, frame.end));
        let durable = behind_synced.map(StoredFrame::position).or(end).unwrap();
        let payload = |frame: &StoredFrame| {
            let bytes: &Vec<u8> = &files[&format!("{:020}.seg", frame.segment)];
            bytes[frame.offset + stored::FRAME_HEADER_LEN..frame.offset + frame.len].to_vec()
        };
        let payloads = frames.iter().filter(|frame| frame.kind == DATA).map(payload).collect();
        Self { files, frames, payloads, durable }
    }

    /// Writes its files into `directory`.
    pub(crate) fn lay_out(&self, directory: &Path) {
        for (name, bytes) in &self.files {
            fs::write(directory.join(name), bytes).unwrap();
        }
    }

    /// The bytes of segment `number`.
    pub(crate) fn segment(&self, number: u64) -> &[u8] {
        &self.files[&format!("{number:020}.seg")]
    }

    /// The frames of segment `number`.
    pub(crate) fn frames_of(&self, number: u64) -> impl Iterator<Item = &StoredFrame> {
        self.frames.iter().filter(move |frame| frame.segment == number)
    }

    /// The byte behind the last frame of segment `number`.
    pub(crate) fn end_of(&self, number: u64) -> usize {
        self.frames_of(number).last().unwrap().end
    }

    fn is_broken(&self, frame: &StoredFrame, change: &Change) -> bool {
        let start = frame.offset.max(change.range.start);
        let end = frame.end.min(change.range.end);
        let before = self.segment(frame.segment);
        frame.segment == change.segment && (start..end).any(|at| before[at] != change.bytes[at - change.range.start])
    }

    fn first_broken(&self, change: &Change) -> Option<&StoredFrame> {
        self.frames.iter().find(|frame| self.is_broken(frame, change))
    }

    /// What must come of `change`, by the rule.
    fn expect(&self, change: &Change) -> Expected<'_> {
        let header = change.range.start.min(stored::HEADER_LEN)..change.range.end.min(stored::HEADER_LEN);
        if self.segment(change.segment)[header.clone()] != change.bytes[..header.len()] {
            return Expected::Refused;
        }
        let Some(first) = self.first_broken(change) else {
            return Expected::Records(self.payloads.len() as u64);
        };
        let sound = self.frames.iter().filter(|frame| !self.is_broken(frame, change));
        if sound.map(|frame| frame.durable_then).max() > Some(first.position()) {
            Expected::Damage(first)
        } else {
            Expected::Records(first.lsn - 1)
        }
    }

    /// Reads as far as it goes: how many records, each of which must be the one that was appended, and the error.
    fn read(&self, snapshot: Result<Snapshot>) -> (u64, Option<Error>) {
        let snapshot = match snapshot {
            Ok(snapshot) => snapshot,
            Err(error) => return (0, Some(error)),
        };
        let (records, error) = self.iterate(&snapshot);
        if error.is_some() {
            assert_eq!(self.iterate(&snapshot).0, records, "what was read once is read again");
            assert!(records == 0 || snapshot.get(Lsn(records)).is_ok(), "record {records}");
        }
        (records, error)
    }

    /// Follows as far as it goes, as [`Self::read`] reads.
    fn follow(&self, mut follower: Follower) -> (u64, Option<Error>) {
        for (lsn, payload) in (1..).zip(&self.payloads) {
            match follower.next() {
                Ok(Some(record)) => assert!(record.lsn() == Lsn(lsn) && record.payload() == payload, "{record:?}"),
                Ok(None) => return (lsn - 1, None),
                Err(error) => return (lsn - 1, Some(error)),
            }
        }
        match follower.next() {
            Ok(record) => assert!(record.is_none(), "a record was made up"),
            Err(error) => return (self.payloads.len() as u64, Some(error)),
        }
        (self.payloads.len() as u64, None)
    }

    /// Looks at all records that recovery hands out: each is one that was logged.
    fn check_recovered(&self, recovery: &Recovery) {
        for record in recovery.redo().chain(recovery.history()).chain(recovery.undo()) {
            let record = record.expect("analysis has read it");
            assert!(self.payloads[record.lsn().0 as usize - 1].ends_with(record.data()), "{record:?}");
        }
    }

    fn iterate(&self, snapshot: &Snapshot) -> (u64, Option<Error>) {
        for (record, (lsn, payload)) in snapshot.iter().zip((1..).zip(&self.payloads)) {
            match record {
                Ok(record) => {
                    assert_eq!(record.lsn(), Lsn(lsn));
                    assert!(record.payload() == payload, "{record:?} is not as it was");
                }
                Err(error) => return (lsn - 1, Some(error)),
            }
        }
        assert!(snapshot.next_lsn().0 <= self.payloads.len() as u64 + 1, "a record was made up");
        (snapshot.next_lsn().0 - 1, None)
    }
}

/// Other bytes in a range of a segment.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) segment: u64,
    pub(crate) range: Range<usize>,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug)]
enum Expected<'s> {
    Refused,
    Damage(&'s StoredFrame),
    /// So many records.
    Records(u64),
}

/// A directory with a copy of a specimen, which is changed, opened and put right again.
pub(crate) struct Bench<'s> {
    specimen: &'s Specimen,
    dir: TempDir,
}

impl<'s> Bench<'s> {
    pub(crate) fn new(specimen: &'s Specimen) -> Self {
        let dir = scratch();
        specimen.lay_out(dir.path());
        Self { specimen, dir }
    }

    /// Opens the changed log for writing, and checks what comes of it by the rule.
    pub(crate) fn check_log(&self, change: &Change) {
        self.write(change.segment, change.range.start, &change.bytes);
        let expected = self.specimen.expect(change);
        let opened = try_open(self.dir.path(), &small());
        let refused = opened.is_err();
        match opened {
            Ok(log) => {
                let (records, error) = self.specimen.read(log.snapshot());
                self.check(change, &expected, records, error.as_ref());
                if let Expected::Records(records) = expected {
                    assert_eq!(log.next_lsn(), Lsn(records + 1), "{change:?}");
                }
            }
            Err(error) => {
                if let (Expected::Damage(frame), Error::Corrupt(corruption)) = (&expected, &error) {
                    self.check_evidence(frame, corruption);
                    self.check(change, &expected, frame.lsn - 1, Some(&error));
                } else {
                    self.check(change, &expected, 0, Some(&error));
                }
            }
        }
        let touched = self.undo(change);
        assert!(!refused || touched.is_empty(), "{change:?}: refused, and changed {touched:?}");
    }

    /// Opens the changed log for reading, and checks what comes of it by the rule for readers.
    pub(crate) fn check_reader(&self, change: &Change) {
        self.write(change.segment, change.range.start, &change.bytes);
        let snapshot = read_only(self.dir.path()).and_then(|reader| reader.snapshot());
        let opened = snapshot.is_ok();
        let (records, error) = self.specimen.read(snapshot);
        self.check_read(change, opened, records, error.as_ref());
    }

    /// Follows the changed log from its first record on, and checks what comes of it by the rule for readers.
    pub(crate) fn check_follower(&self, change: &Change) {
        self.write(change.segment, change.range.start, &change.bytes);
        let reader = read_only(self.dir.path());
        let follower = reader.and_then(|reader| reader.follow(Lsn(1), Visibility::Published));
        let opened = follower.is_ok();
        let (records, error) = match follower {
            Ok(follower) => self.specimen.follow(follower),
            Err(error) => (0, Some(error)),
        };
        self.check_read(change, opened, records, error.as_ref());
    }

    /// Recovers the transactions of the changed log, and checks what comes of it by the rule.
    pub(crate) fn check_wal(&self, change: &Change) {
        self.write(change.segment, change.range.start, &change.bytes);
        let expected = self.specimen.expect(change);
        let options = wal_support::small().recover_from(RecoverFrom::OldestRecord);
        let recovered = wal_support::try_recover(self.dir.path(), &options);
        match recovered.map(|(wal, recovery): (Wal, Recovery)| (wal.log().snapshot(), recovery)) {
            Ok((snapshot, recovery)) => {
                self.specimen.check_recovered(&recovery);
                let (records, error) = self.specimen.read(snapshot);
                self.check(change, &expected, records, error.as_ref());
            }
            // Looking for a record behind the damage says which record, and only in which file.
            Err(Error::Corrupt(corruption)) if matches!(expected, Expected::Damage(_)) => {
                assert_eq!(corruption.path, self.path(change.segment), "{change:?}");
            }
            Err(error) => self.check(change, &expected, 0, Some(&error)),
        }
        self.undo(change);
    }

    fn check_read(&self, change: &Change, opened: bool, records: u64, error: Option<&Error>) {
        let expected = match (self.specimen.expect(change), self.specimen.first_broken(change)) {
            (Expected::Refused, _) => Expected::Refused,
            (_, Some(first)) if first.position() < self.specimen.durable || error.is_some() => Expected::Damage(first),
            (_, Some(first)) => Expected::Records(first.lsn - 1),
            (_, None) => Expected::Records(self.specimen.payloads.len() as u64),
        };
        let records = match &expected {
            Expected::Damage(first) if !opened => first.lsn - 1,
            _ => records,
        };
        self.check(change, &expected, records, error);
        assert_eq!(self.undo(change), Vec::<String>::new(), "{change:?}: a reader changes nothing");
    }

    /// Inspects the changed log, and checks the report by the rule: by that of the log, except that the page of watermarks
    /// is a witness as well.
    pub(crate) fn check_inspection(&self, change: &Change) {
        self.write(change.segment, change.range.start, &change.bytes);
        let report = Inspection::open(self.dir.path()).map(|inspection| {
            inspection.verify(VerifyOptions::default(), &mut |_| {}).expect("the files are readable")
        });
        let expected = match (self.specimen.expect(change), self.specimen.first_broken(change)) {
            (Expected::Records(_), Some(first)) if first.position() < self.specimen.durable => Expected::Damage(first),
            (expected, _) => expected,
        };
        match report {
            Err(error) => self.check(change, &expected, 0, Some(&error)),
            Ok(report) => self.check_report(change, &expected, &report),
        }
        assert_eq!(self.undo(change), Vec::<String>::new(), "{change:?}: an inspection changes nothing");
    }

    fn check_report(&self, change: &Change, expected: &Expected<'_>, report: &VerifyReport) {
        let states: Vec<SegmentState> = report.segments.iter().map(|segment| segment.state).collect();
        let Some(ProvenDamage { corruption, witness, .. }) = report.damage.first() else {
            assert!(!states.contains(&SegmentState::Damaged), "{change:?}: {report:?}");
            self.check(change, expected, report.records(), None);
            let beyond = |frame: &&StoredFrame| frame.lsn > report.records() && frame.kind == DATA;
            let lost = self.specimen.frames.iter().any(|frame| beyond(&frame));
            assert!(!lost || report.torn_bytes() > 0 || self.lost_all(change), "{change:?}: {report:?}");
            return;
        };
        assert!(states.contains(&SegmentState::Damaged), "{change:?}: {report:?}");
        let error = Error::from(corruption.clone());
        match (expected, witness) {
            (Expected::Damage(frame), Witness::Frame(_)) => {
                self.check_evidence(frame, corruption);
                self.check(change, expected, frame.lsn - 1, Some(&error));
            }
            (Expected::Damage(frame), Witness::ControlPage(durable)) => {
                assert!(durable.0 >= frame.lsn - 1 && frame.position() < self.specimen.durable, "{change:?}");
                self.check(change, expected, frame.lsn - 1, Some(&error));
            }
            (Expected::Refused, Witness::Structure) => self.check(change, expected, 0, Some(&error)),
            other => panic!("{change:?}: {other:?}: {report:?}"),
        }
    }

    /// Whether the change leaves nothing but zeros from the first frame that it breaks on.
    fn lost_all(&self, change: &Change) -> bool {
        let first = self.specimen.first_broken(change).expect("records are lost");
        let behind = self.specimen.frames.iter().filter(|frame| frame.position() >= first.position());
        let is_zeroed = |frame: &StoredFrame| {
            frame.segment == change.segment && change.range.contains(&frame.offset) && change.range.end >= frame.end
        };
        change.bytes.iter().all(|&byte| byte == 0) && behind.into_iter().all(is_zeroed)
    }

    fn check(&self, change: &Change, expected: &Expected<'_>, records: u64, error: Option<&Error>) {
        let good = match (expected, error) {
            (Expected::Refused, Some(Error::Version { path, .. })) => *path == self.path(change.segment),
            (Expected::Refused, Some(Error::Corrupt(corruption))) => {
                corruption.path == self.path(change.segment) && corruption.offset < stored::HEADER_LEN as u64
            }
            (Expected::Damage(frame), Some(Error::Corrupt(corruption))) => {
                let Corruption { path, offset, .. } = &**corruption;
                *path == self.path(frame.segment) && *offset == frame.offset as u64 && records == frame.lsn - 1
            }
            (Expected::Records(expected), None) => records == *expected,
            _ => false,
        };
        assert!(good, "{change:?}: expected {expected:?}, got {records} records and {error:?}");
    }

    /// The frame that an error calls as a witness has to be one.
    fn check_evidence(&self, damaged: &StoredFrame, corruption: &Corruption) {
        let evidence = corruption.evidence.as_ref().expect("damage found by an open is proven");
        let is_witness = |frame: &&StoredFrame| {
            (frame.segment, frame.offset as u64, frame.lsn) == (evidence.segment, evidence.offset, evidence.lsn.0)
        };
        let witness = self.specimen.frames.iter().find(is_witness).expect("the witness is a frame");
        assert!(witness.durable_then > damaged.position(), "{evidence:?} proves nothing about {damaged:?}");
    }

    fn path(&self, segment: u64) -> PathBuf {
        files::segment(self.dir.path(), segment)
    }

    fn write(&self, segment: u64, offset: usize, bytes: &[u8]) {
        let file = fs::File::options().write(true).open(self.path(segment)).unwrap();
        file.write_all_at(bytes, offset as u64).unwrap();
    }

    /// Takes the change back; returns what else had been changed.
    fn undo(&self, change: &Change) -> Vec<String> {
        if self.path(change.segment).exists() {
            let original = &self.specimen.segment(change.segment)[change.range.clone()];
            self.write(change.segment, change.range.start, original);
        }
        self.put_right()
    }

    /// Makes the directory as the specimen is; returns the names of files that say what the log holds and were not.
    fn put_right(&self) -> Vec<String> {
        let mut touched = Vec::new();
        let mut names = files::names(self.dir.path());
        names.retain(|name| !self.specimen.files.contains_key(name));
        for name in &names {
            fs::remove_file(self.dir.path().join(name)).unwrap();
        }
        touched.append(&mut names);
        for (name, bytes) in &self.specimen.files {
            let path = self.dir.path().join(name);
            if !same(&path, bytes) {
                fs::write(&path, bytes).unwrap();
                touched.push(name.clone());
            }
        }
        touched.retain(|name| name.ends_with(".seg") || name.ends_with(".tmp"));
        touched
    }
}

fn same(path: &Path, bytes: &[u8]) -> bool {
    fs::read(path).is_ok_and(|found| found == bytes)
}
