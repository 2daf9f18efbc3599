//! What somebody sees for longer than a step, and that must not change.

use std::sync::Arc;

use mapwal::internals::{SimDisk, open_reader};
use mapwal::{SealedSegment, Snapshot};

/// What somebody sees for longer than a step.
pub(super) enum View {
    Snapshot {
        snapshot: Snapshot,
        records: Records,
        is_elsewhere: bool,
    },
    /// A file that has another name as well.
    Backup {
        file: usize,
        contents: Vec<u8>,
    },
}

type Records = Vec<(u64, Vec<u8>)>;

impl View {
    pub(super) fn of(snapshot: Snapshot) -> Option<Self> {
        let records = records(&snapshot)?;
        Some(Self::Snapshot { snapshot, records, is_elsewhere: false })
    }

    /// Of another process. None if it meets a failure that was meant for somebody else.
    pub(super) fn elsewhere(disk: &SimDisk) -> Option<Self> {
        // SAFETY: as for the log.
        #[expect(unsafe_code, reason = "opening a log is unsafe")]
        let reader = unsafe { open_reader(Arc::new(disk.elsewhere())) };
        let snapshot = reader.ok()?.snapshot().ok()?;
        let records = records(&snapshot)?;
        Some(Self::Snapshot { snapshot, records, is_elsewhere: true })
    }

    /// What does not count beyond its end may change as long as the segment is the log's.
    pub(super) fn backup(disk: &SimDisk, sealed: &SealedSegment) -> Option<Self> {
        let (file, mut contents) = disk.back_up(sealed.path().file_name()?.to_str()?)?;
        contents.truncate(sealed.bytes().len());
        Some(Self::Backup { file, contents })
    }

    pub(super) fn is_unchanged(&self, disk: &SimDisk) -> bool {
        match self {
            Self::Snapshot { snapshot, records, .. } => self::records(snapshot).as_ref() == Some(records),
            Self::Backup { file, contents } => disk.contents(*file).starts_with(contents),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Snapshot { is_elsewhere: false, .. } => "a snapshot",
            Self::Snapshot { is_elsewhere: true, .. } => "another process",
            Self::Backup { .. } => "a backup",
        }
    }
}

fn records(snapshot: &Snapshot) -> Option<Records> {
    snapshot.iter().map(|record| record.map(|record| (record.lsn().0, record.payload().to_vec())).ok()).collect()
}
