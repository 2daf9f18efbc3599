//! What a log on the disk reaches.

use std::path::{Path, PathBuf};
use std::time::Instant;

use mapwal::{Log, Lsn, Options};

use super::bare::noise;
use super::measured::Measured;
use super::{COMMIT_LEN, RECORD_LEN, Task, Until};
use crate::failure::{Explain, Result};
use crate::open;
use crate::stop::Stop;

const TAG: u16 = 1;
const SEGMENT_LEN: u64 = 16 << 20;
/// How much of a stream is kept.
const KEPT_LEN: u64 = 64 << 20;
/// Appended before a stream is measured: by then its segments have been used before.
const WARM_UP_LEN: u64 = KEPT_LEN + 3 * SEGMENT_LEN;

/// Bytes that a record takes in the log.
pub(super) fn frame_len(payload_len: usize) -> usize {
    (24 + payload_len).next_multiple_of(8)
}

/// A log with default options, to which transactions commit.
pub(super) struct Commits {
    log: Log,
    directory: PathBuf,
}

impl Commits {
    pub(super) fn new(directory: &Path) -> Result<Self> {
        let directory = directory.join("commits");
        let log = open::writer(&directory, &Options::new())?;
        Ok(Self { log, directory })
    }

    pub(super) fn by(&self, threads: u16) -> impl Task + '_ {
        Committing { target: self, threads }
    }

    /// One thread's commits.
    fn commit(&self, until: Until<'_>) -> mapwal::Result<Measured> {
        let payload = noise(COMMIT_LEN);
        let mut measured = Measured::default();
        while !until.is_over(&measured) {
            measured.time(frame_len(COMMIT_LEN), || {
                let lsn = self.log.append(TAG, &payload)?;
                self.log.wait_durable(lsn)
            })?;
        }
        Ok(measured)
    }
}

struct Committing<'a> {
    target: &'a Commits,
    threads: u16,
}

impl Task for Committing<'_> {
    fn round(&mut self, until: Until<'_>) -> Result<Measured> {
        let Commits { log, directory } = self.target;
        let begin = Instant::now();
        let mut all = Measured::default();
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads).map(|_| scope.spawn(|| self.target.commit(until))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
        });
        all.elapsed = begin.elapsed();
        for outcome in outcomes {
            all.join(outcome.about(directory)?);
        }
        log.trim_before(log.next_lsn()).about(directory)?;
        Ok(all)
    }
}

/// A log to which records stream, trimmed as it grows.
pub(super) struct Streams {
    log: Log,
    directory: PathBuf,
    record: Vec<u8>,
}

impl Streams {
    pub(super) fn new(directory: &Path, stop: &Stop) -> Result<Self> {
        let directory = directory.join("streams");
        let log = open::writer(&directory, &Options::new().segment_size_bytes(SEGMENT_LEN))?;
        let streams = Self { log, directory, record: noise(RECORD_LEN) };
        let batch = (1 << 20) / frame_len(RECORD_LEN);
        for _ in 0..WARM_UP_LEN / (batch * frame_len(RECORD_LEN)) as u64 {
            if stop.is_asked() {
                break;
            }
            streams.sync_next(batch).about(&streams.directory)?;
            streams.trim().about(&streams.directory)?;
        }
        Ok(streams)
    }

    /// A sync after each `records` records.
    pub(super) fn syncing(&self, records: usize) -> impl Task + '_ {
        Streaming { target: self, records }
    }

    fn sync_next(&self, records: usize) -> mapwal::Result<()> {
        for _ in 0..records {
            self.log.append(TAG, &self.record)?;
        }
        self.log.sync().map(drop)
    }

    fn trim(&self) -> mapwal::Result<()> {
        let kept = KEPT_LEN / frame_len(RECORD_LEN) as u64;
        let first = Lsn(self.log.next_lsn().0.saturating_sub(kept));
        self.log.trim_before(first.max(Lsn(1))).map(drop)
    }
}

struct Streaming<'a> {
    target: &'a Streams,
    records: usize,
}

impl Task for Streaming<'_> {
    fn round(&mut self, until: Until<'_>) -> Result<Measured> {
        let Streams { directory, .. } = self.target;
        let mut measured = Measured::default();
        let begin = Instant::now();
        while !until.is_over(&measured) {
            let len = self.records * frame_len(RECORD_LEN);
            measured.time(len, || self.target.sync_next(self.records)).about(directory)?;
            self.target.trim().about(directory)?;
        }
        measured.elapsed = begin.elapsed();
        Ok(measured)
    }
}
