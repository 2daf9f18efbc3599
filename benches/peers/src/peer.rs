//! What a log has to offer to be measured.

use std::path::Path;

use anyhow::Result;
use thiserror::Error;

/// A log. What it cannot do it leaves as it is here, or says why with [`Cannot`].
pub(crate) trait Peer: Sized + Sync {
    const FACTS: Facts;
    /// Where a record is, as the log itself says it.
    type Place: Copy;

    /// Opens, or creates, a log with its default configuration.
    fn open(directory: &Path) -> Result<Self>;

    /// As [`Self::open`], for a log that must still have all of its records when it is opened again.
    fn open_to_keep(directory: &Path) -> Result<Self> {
        Self::open(directory)
    }

    /// Appends `count` records, without waiting for the disk.
    fn append(&mut self, _payload: &[u8], _count: usize) -> Result<()> {
        Err(Cannot("every append waits for the disk").into())
    }

    /// Appends one record, which is durable on return. Each thread has a number below [`THREADS_MAX`].
    fn commit(&self, thread: usize, payload: &[u8]) -> Result<()>;

    /// Appends `count` records in whatever way is fast, so that they are all there when the log is opened again.
    fn fill(&mut self, payload: &[u8], count: usize) -> Result<Vec<Self::Place>>;

    /// Shuts down in an orderly way.
    fn close(self) -> Result<()> {
        Ok(())
    }

    /// Opens a log and shows all of its records.
    fn scan(directory: &Path, seen: &mut Seen) -> Result<()>;

    /// Shows the records at these places, one look-up for each.
    fn get(&mut self, _places: &[Self::Place], _seen: &mut Seen) -> Result<()> {
        Err(Cannot("has no look-up of a single record").into())
    }
}

/// A log under a durable stream: records are appended, made durable, and after a while let go.
pub(crate) trait Stream: Sized {
    /// How far the log has come, as its call to let go of a beginning wants it.
    type Mark: Copy;

    /// Creates a log, with files of [`SEGMENT_BYTES`] if it has more than one. Each sync will make this much durable.
    ///
    /// [`SEGMENT_BYTES`]: crate::stream::SEGMENT_BYTES
    fn open(directory: &Path, sync_bytes: usize) -> Result<Self>;

    fn append(&mut self, records: &[&[u8]]) -> Result<()>;

    /// Everything is durable on return. Returns where the next record comes.
    fn sync(&mut self) -> Result<Self::Mark>;

    /// Lets go of what came before.
    fn trim(&mut self, _before: Self::Mark) -> Result<()> {
        Err(Cannot("has no call that lets go of its beginning").into())
    }
}

/// More threads than this commit nowhere.
pub(crate) const THREADS_MAX: usize = 8;

/// What is known of a log, besides what is measured. Where from stands beside each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// The name of its package.
    pub(crate) name: &'static str,
    /// Whether a commit waits until its bytes are on the disk.
    pub(crate) syncs: bool,
    /// What a reader of its figures must know.
    pub(crate) notes: &'static [&'static str],
}

/// The interface of a log has no way to do this.
#[derive(Debug, Clone, Copy, Error)]
#[error("{0}")]
pub(crate) struct Cannot(pub(crate) &'static str);

/// Records as they are read.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) records: u64,
    /// How many had not the expected payload, if there is one.
    pub(crate) damaged: u64,
    expected: Option<Vec<u8>>,
    /// Both ends of each payload, so that each is touched.
    touched: u64,
}

impl Seen {
    /// All of them are to have this payload.
    pub(crate) fn expecting(payload: Vec<u8>) -> Self {
        Self { expected: Some(payload), ..Self::default() }
    }

    pub(crate) fn see(&mut self, payload: &[u8]) {
        self.records += 1;
        if let [first, .., last] = payload {
            self.touched = self.touched.wrapping_add(u64::from(*first) + u64::from(*last));
        }
        if let Some(expected) = &self.expected {
            self.damaged += u64::from(payload != expected.as_slice());
        }
    }

    /// For [`std::hint::black_box`].
    pub(crate) fn touched(&self) -> u64 {
        self.touched
    }
}
