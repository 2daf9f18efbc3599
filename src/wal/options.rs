//! How a transactional log is opened.

use crate::options::Options;

/// Options of [`Wal::open`](super::Wal::open).
///
/// # Example
/// ```
/// use mapwal::Options;
/// use mapwal::wal::{RecoverFrom, Wal, WalOptions};
///
/// # let dir = tempfile::tempdir()?;
/// let options = WalOptions::new()
///     .log(Options::new().segment_size_bytes(16 << 20))
///     .sync_on_commit(false) // `Wal::flush` says when commits are durable
///     .recover_from(RecoverFrom::OldestRecord); // the pages are lost
/// // SAFETY: the directory is new, and only this log writes to its files.
/// let wal = unsafe { Wal::open(dir.path(), &options) }?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct WalOptions {
    pub(crate) log: Options,
    pub(super) sync_on_commit: bool,
    pub(super) recover_from: RecoverFrom,
}

/// Where recovery starts to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RecoverFrom {
    /// At the redo point of the last checkpoint, or at the oldest record kept if there is none.
    #[default]
    Checkpoint,
    /// At the oldest record kept, whatever checkpoints there are, also if the one that the log names is gone
    /// ([`WalError::NoCheckpoint`](super::WalError::NoCheckpoint)): for an engine whose pages are lost or were never written, and for a
    /// log that was trimmed or truncated by hand. Nothing is trimmed then before the next checkpoint, whether
    /// [`Recovery::redone`](super::Recovery::redone) has been called or not; and a run that ends without one, after pages were
    /// lost, is followed by another that recovers like this, since the log still names the checkpoint of before.
    OldestRecord,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self { log: Options::default(), sync_on_commit: true, recover_from: RecoverFrom::default() }
    }
}

impl WalOptions {
    /// The defaults: those of [`Options`], commits that are durable, recovery from the last checkpoint.
    pub fn new() -> Self {
        Self::default()
    }

    /// The options of the log below.
    pub fn log(mut self, options: Options) -> Self {
        self.log = options;
        self
    }

    /// Whether a commit returns only when it is durable. Without it, a crash of the system may take back transactions
    /// that committed since the last [`Wal::flush`](super::Wal::flush): the last ones, each as a whole.
    pub fn sync_on_commit(mut self, sync: bool) -> Self {
        self.sync_on_commit = sync;
        self
    }

    /// Where recovery starts to read.
    pub fn recover_from(mut self, from: RecoverFrom) -> Self {
        self.recover_from = from;
        self
    }
}
