//! A small log as it stands on disk, and what the rule says of a change to it.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use mapwal::wal::{PageId, Recovery};
use mapwal::{Error, Follower, Log, Lsn, Result, Snapshot};

use crate::format::spec::{CLOSE, DATA};
use crate::support::scratch::{open_small, scratch};
use crate::support::stored::{self, StoredFrame};
use crate::support::transactions;
use crate::support::{append, files, payload};

/// A log as it stands on disk, and what is known of it.
pub(crate) struct Specimen {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(crate) frames: Vec<StoredFrame>,
    /// Of record 1 and so on.
    pub(super) payloads: Vec<Vec<u8>>,
    /// Everything before this position had been acknowledged as durable.
    pub(super) durable: u64,
}

impl Specimen {
    /// A log of two segments that was closed.
    pub(crate) fn closed() -> Self {
        Self::make(|log| {
            append(&log, 1..=10);
            log.rotate().unwrap();
            append(&log, 11..=16);
            log.close().unwrap();
            (16, 16)
        })
    }

    /// A log of two segments that was dropped. A part of the first was synced; neither the rest of it nor the second was.
    pub(crate) fn dropped() -> Self {
        Self::make(|log| {
            append(&log, 1..=6);
            log.sync().unwrap();
            append(&log, 7..=10);
            log.rotate().unwrap();
            append(&log, 11..=16);
            (6, 16)
        })
    }

    /// A log of two segments with transactions, open ones and a checkpoint, that was dropped.
    pub(crate) fn of_transactions() -> Self {
        let dir = scratch();
        let wal = transactions::open(dir.path());
        let mut committed = wal.begin().unwrap();
        committed.insert(PageId(1), b"committed").unwrap();
        let mut open = wal.begin().unwrap();
        open.update(PageId(2), b"open").unwrap();
        committed.commit().unwrap().applied();
        wal.log_checkpoint(&[], &[]).unwrap();
        wal.log().rotate().unwrap();
        open.delete(PageId(3), b"open still").unwrap();
        let mut last = wal.begin().unwrap();
        last.insert(PageId(4), b"the last").unwrap();
        last.commit().unwrap().applied();
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
        let after_synced = frames.iter().find(|frame| frame.lsn > synced && frame.kind != CLOSE);
        let end = frames.last().map(|frame| stored::position(frame.segment, frame.end));
        let durable = after_synced.map(StoredFrame::position).or(end).unwrap();
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

    /// The byte after the last frame of segment `number`.
    pub(crate) fn end_of(&self, number: u64) -> usize {
        self.frames_of(number).last().unwrap().end
    }

    pub(super) fn is_broken(&self, frame: &StoredFrame, change: &Change) -> bool {
        let start = frame.offset.max(change.range.start);
        let end = frame.end.min(change.range.end);
        let before = self.segment(frame.segment);
        frame.segment == change.segment && (start..end).any(|at| before[at] != change.bytes[at - change.range.start])
    }

    /// Whether `change`, which is of one byte, is in a header, or in a frame of which the control page or a later one says that it
    /// was durable: found without looking at what is broken.
    pub(crate) fn is_proven(&self, change: &Change) -> bool {
        let at = change.range.start;
        let proven_end = self.frames.iter().map(|frame| frame.durable_then).max().unwrap().max(self.durable);
        let hit = |frame: &StoredFrame| (frame.offset..frame.end).contains(&at) && frame.position() < proven_end;
        at < stored::HEADER_LEN || self.frames_of(change.segment).any(hit)
    }

    pub(super) fn first_broken(&self, change: &Change) -> Option<&StoredFrame> {
        self.frames.iter().find(|frame| self.is_broken(frame, change))
    }

    /// What must come of `change`, by the rule.
    pub(super) fn expect(&self, change: &Change) -> Expected<'_> {
        let header = change.range.start.min(stored::HEADER_LEN)..change.range.end.min(stored::HEADER_LEN);
        if self.segment(change.segment)[header.clone()] != change.bytes[..header.len()] {
            return Expected::Refused;
        }
        let Some(first) = self.first_broken(change) else {
            return Expected::Records(self.payloads.len() as u64);
        };
        let sound = self.frames.iter().filter(|frame| !self.is_broken(frame, change));
        let told = sound.map(|frame| frame.durable_then).max().unwrap_or(0).max(self.durable);
        if told > first.position() { Expected::Damage(first) } else { Expected::Records(first.lsn - 1) }
    }

    /// Reads as far as it goes: how many records, each of which must be the one that was appended, and the error.
    pub(super) fn read(&self, snapshot: Result<Snapshot>) -> (u64, Option<Error>) {
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
    pub(super) fn follow(&self, mut follower: Follower) -> (u64, Option<Error>) {
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
    pub(super) fn check_recovered(&self, recovery: &Recovery) {
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
pub(super) enum Expected<'s> {
    Refused,
    Damage(&'s StoredFrame),
    /// So many records.
    Records(u64),
}
