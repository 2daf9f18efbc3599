//! Changes a log on disk, and checks what the log and its transactions come to.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use mapwal::error::{Corruption, Evidence};
use mapwal::wal::{RecoverFrom, Recovery, Wal, WalError};
use mapwal::{Error, Lsn};
use tempfile::TempDir;

use super::specimen::{Change, Expected, Specimen};
use crate::support::scratch::scratch;
use crate::support::stored::{self, StoredFrame};
use crate::support::transactions;
use crate::support::{files, small, try_open};

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Opening or reading fails.
    Refused,
    /// The log ends before it did.
    Torn,
    /// All records are there.
    Whole,
}

/// A directory with a copy of a specimen, which is changed, opened and put right again.
pub(crate) struct Bench<'s> {
    pub(super) specimen: &'s Specimen,
    pub(super) dir: TempDir,
}

impl<'s> Bench<'s> {
    pub(crate) fn new(specimen: &'s Specimen) -> Self {
        let dir = scratch();
        specimen.lay_out(dir.path());
        Self { specimen, dir }
    }

    /// Opens the changed log for writing, and checks what comes of it by the rule.
    pub(crate) fn check_log(&self, change: &Change) -> Outcome {
        self.write(change.segment, change.range.start, &change.bytes);
        let expected = self.specimen.expect(change);
        let opened = try_open(self.dir.path(), &small());
        let refused = opened.is_err();
        let outcome = match opened {
            Ok(log) => {
                let (records, error) = self.specimen.read(log.snapshot());
                if let Expected::Records(records) = expected {
                    assert_eq!(log.next_lsn(), Lsn(records + 1), "{change:?}");
                }
                self.check(change, &expected, records, error.as_ref())
            }
            Err(error) => {
                if let (Expected::Damage(frame), Error::Corrupt(corruption)) = (&expected, &error) {
                    self.check_evidence(frame, corruption);
                    self.check(change, &expected, frame.lsn - 1, Some(&error))
                } else {
                    self.check(change, &expected, 0, Some(&error))
                }
            }
        };
        let touched = self.undo(change);
        assert!(!refused || touched.is_empty(), "{change:?}: refused, and changed {touched:?}");
        outcome
    }
    /// Recovers the transactions of the changed log, and checks what comes of it by the rule.
    pub(crate) fn check_wal(&self, change: &Change) -> Outcome {
        self.write(change.segment, change.range.start, &change.bytes);
        let expected = self.specimen.expect(change);
        let options = transactions::small().recover_from(RecoverFrom::OldestRecord);
        let recovered = transactions::try_recover(self.dir.path(), &options);
        let outcome = match recovered.map(|(wal, recovery): (Wal, Recovery)| (wal.log().snapshot(), recovery)) {
            Ok((snapshot, recovery)) => {
                self.specimen.check_recovered(&recovery);
                let (records, error) = self.specimen.read(snapshot);
                self.check(change, &expected, records, error.as_ref())
            }
            // Looking for a record after the damage says which record, and only in which file.
            Err(WalError::Log(Error::Corrupt(corruption))) if matches!(expected, Expected::Damage(_)) => {
                assert_eq!(corruption.path, self.path(change.segment), "{change:?}");
                Outcome::Refused
            }
            Err(WalError::Log(error)) => self.check(change, &expected, 0, Some(&error)),
            Err(error) => panic!("{change:?}: {error}"),
        };
        self.undo(change);
        outcome
    }

    pub(super) fn check(
        &self,
        change: &Change,
        expected: &Expected<'_>,
        records: u64,
        error: Option<&Error>,
    ) -> Outcome {
        let good = match (expected, error) {
            (Expected::Refused, Some(Error::Format { path, .. })) => *path == self.path(change.segment),
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
        match error {
            Some(_) => Outcome::Refused,
            None if records < self.specimen.payloads.len() as u64 => Outcome::Torn,
            None => Outcome::Whole,
        }
    }

    /// What an error calls as a witness has to be one.
    pub(super) fn check_evidence(&self, damaged: &StoredFrame, corruption: &Corruption) {
        let proven = match *corruption.evidence.as_ref().expect("damage found by an open is proven") {
            Evidence::Frame { segment, offset, lsn } => {
                let is_witness =
                    |frame: &&StoredFrame| (frame.segment, frame.offset as u64, frame.lsn) == (segment, offset, lsn.0);
                self.specimen.frames.iter().find(is_witness).expect("the witness is a frame").durable_then
            }
            Evidence::ControlPage { segment, offset, lsn } => {
                assert!(lsn.0 + 1 >= damaged.lsn, "{corruption:?} proves nothing about {damaged:?}");
                stored::position(segment, offset as usize)
            }
            ref other => panic!("{other:?}"),
        };
        assert!(proven > damaged.position(), "{corruption:?} proves nothing about {damaged:?}");
    }

    fn path(&self, segment: u64) -> PathBuf {
        files::segment(self.dir.path(), segment)
    }

    pub(super) fn write(&self, segment: u64, offset: usize, bytes: &[u8]) {
        let file = fs::File::options().write(true).open(self.path(segment)).unwrap();
        file.write_all_at(bytes, offset as u64).unwrap();
    }

    /// Takes the change back; returns what else had been changed.
    pub(super) fn undo(&self, change: &Change) -> Vec<String> {
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
