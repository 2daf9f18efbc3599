//! What opening a log found.

use std::path::Path;
use std::time::Duration;

use crate::events::report;
use crate::lsn::Lsn;

/// What [`Log::open`](crate::Log::open) found and did.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::{Log, Lsn, Options, RecoveryReport};
///
/// log.append(1, b"left by a crash")?;
/// drop(log); // as the death of the process would
/// // SAFETY: as before.
/// let log = unsafe { Log::open(dir.path(), &Options::new()) }?;
/// let report: &RecoveryReport = log.recovery();
/// assert!(!report.clean);
/// assert_eq!((report.first_lsn, report.records(), report.torn_bytes), (Lsn(1), 1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Whether the log had been closed, and nothing followed.
    pub clean: bool,
    /// The first record kept, or the next one's number if there is none.
    pub first_lsn: Lsn,
    /// The number of the next record.
    pub next_lsn: Lsn,
    /// Segments kept.
    pub segments: usize,
    /// Bytes read to find out what was durable.
    pub bytes_scanned: u64,
    /// Bytes of a torn end (torn tail): after the last good frame, never acknowledged as durable, and dropped.
    pub torn_bytes: u64,
    /// How long it took.
    pub duration: Duration,
}

impl RecoveryReport {
    /// How many numbers the log goes on with: those of records, and those without one, which were given up or lost.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.next_lsn.0 - self.first_lsn.0
    }

    /// Reports it as events.
    pub(crate) fn tell(&self, path: &Path) {
        let directory = path.display().to_string();
        let Self { clean, torn_bytes, segments, .. } = *self;
        let (first, next) = (self.first_lsn.0, self.next_lsn.0);
        if torn_bytes > 0 {
            let directory = directory.clone();
            report!(warn, directory, torn_bytes, next_lsn = next, "torn end dropped");
        }
        report!(info, directory, clean, segments, first_lsn = first, next_lsn = next, "log opened");
    }
}
