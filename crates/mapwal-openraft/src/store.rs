//! The store: a log, and what must be known of it at each call.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mapwal::{Log, Lsn};
use parking_lot::Mutex;

use crate::claim::Claim;
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::raft::{LogIdOf, RaftTypeConfig};
use crate::stored::{self, Begin, FORMAT, FORMAT_NAME, index_of, slot};

/// Metadata slots that a log has.
const SLOTS: usize = 16;
const READ_BYTES_MAX: usize = 1 << 20;

/// A log store for openraft, in a [`Log`] of its own. A clone is another handle of the same store.
///
/// It is [`RaftLogStorage`](openraft::storage::RaftLogStorage), and its own [`RaftLogReader`](openraft::RaftLogReader). The crate's
/// documentation says what each call does and promises.
///
/// # Example
/// ```
/// use std::io::Cursor;
///
/// use bytes::Bytes;
/// use mapwal_openraft::{InPlace, LogStore};
/// use openraft::storage::RaftLogStorage;
/// use openraft::Vote;
///
/// openraft::declare_raft_types!(Types: D = Bytes, R = ());
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// # let dir = tempfile::tempdir()?;
/// // SAFETY: the directory is new and on a local file system, and only this log writes to its files.
/// let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new())? };
/// let mut store = LogStore::<Types, _>::open(log, InPlace)?.read_bytes_max(4 << 20);
///
/// store.save_vote(&Vote::new(3, 1)).await?; // durable
/// assert_eq!(store.read_vote().await?, Some(Vote::new(3, 1)));
/// store.log().close()?; // once the raft is shut down: the next open is faster
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct LogStore<C: RaftTypeConfig, K> {
    pub(crate) inner: Arc<Inner<C, K>>,
    pub(crate) read_bytes_max: usize,
}

pub(crate) struct Inner<C: RaftTypeConfig, K> {
    pub(crate) log: Log,
    _claim: Claim,
    pub(crate) codec: K,
    /// Locked for the time of each call that adds or drops entries, so that these come one after the other.
    pub(crate) bounds: Mutex<Bounds<C>>,
    /// The index of the first entry that must be there, if any is. Release: a reader that sees it sees the log as it was then.
    first: AtomicU64,
}

/// What the log begins with, and what it ends with.
pub(crate) struct Bounds<C: RaftTypeConfig> {
    /// The last entry that was purged, whether its record is still there or not.
    pub(crate) purged: Option<LogIdOf<C>>,
    /// The index of the entry after that, or of the first one if none was purged. It is there, if any is.
    pub(crate) first: u64,
    /// The last entry, if there is one that was not purged.
    pub(crate) last: Option<LogIdOf<C>>,
}

/// The last entry that was purged, and the last one, which may be the same.
pub(crate) type Ends<C> = (Option<LogIdOf<C>>, Option<LogIdOf<C>>);

impl<C: RaftTypeConfig, K: Codec<C>> LogStore<C, K> {
    /// A store in `log`, which is new, or one of a store with the same types and codec. Only the last entry is read, and of that
    /// not the data.
    ///
    /// # Errors
    /// [`Error::InUse`] when the log has a store; [`Error::Foreign`] when it is something else's; [`Error::Format`]; [`Error::Trimmed`],
    /// [`Error::NotAnEntry`] and [`Error::Missing`] when something else has changed it; [`Error::Codec`]; [`Error::Log`].
    pub fn open(log: Log, codec: K) -> Result<Self> {
        let claim = Claim::new(&log)?;
        check_format(&log)?;
        let Begin { purged, first } = Begin::decode(&codec, &log.meta(slot::PURGED).unwrap_or_default())?;
        let bounds = Mutex::new(Bounds { purged, first, last: None });
        let inner = Inner { log, _claim: claim, codec, bounds, first: first.into() };
        let mut bounds = inner.bounds.lock();
        check_begin(first, inner.log.first_lsn())?;
        bounds.last = inner.last_of(&bounds)?;
        drop(bounds);
        Ok(Self { inner: Arc::new(inner), read_bytes_max: READ_BYTES_MAX })
    }

    /// How many bytes of entries openraft is given at a time to be replicated: 1 MiB unless this says otherwise. One entry is given
    /// whatever its length.
    #[must_use]
    pub fn read_bytes_max(mut self, bytes: usize) -> Self {
        self.read_bytes_max = bytes;
        self
    }
}

impl<C: RaftTypeConfig, K> LogStore<C, K> {
    /// The log: to close it, to look at its [`Stats`](mapwal::Stats), to archive it. Its records, and its metadata slots 0 to 3, are
    /// the store's: something else that appends, trims or truncates takes entries from it. The other slots are free.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.inner.log
    }
}

/// Sees to it that `log` says that it is a store's, in this format.
fn check_format(log: &Log) -> Result<()> {
    check_readable(log)?;
    let path = || log.directory().to_owned();
    let is_new = || log.first_lsn() == log.next_lsn() && (0..SLOTS).all(|slot| log.meta(slot).is_none());
    match log.meta(slot::FORMAT) {
        // Before all else in the stream, so that nothing is durable without it.
        None if is_new() => {
            let name = [FORMAT_NAME, &[FORMAT]].concat();
            Ok(log.put_meta(slot::FORMAT, &name).map(drop)?)
        }
        None => Err(Error::Foreign { path: path() }),
        Some(name) => match name.strip_prefix(FORMAT_NAME) {
            Some(&[FORMAT]) => Ok(()),
            Some(&[found]) => Err(Error::Format { path: path(), found }),
            _ => Err(Error::Foreign { path: path() }),
        },
    }
}

/// An error where a log does not tell what its slots hold: in a forked child, also for one that is closed.
fn check_readable(log: &Log) -> Result<()> {
    Ok(log.snapshot().map(drop)?)
}

/// An error if a log that begins with record `lsn` lacks entry `first`.
pub(crate) fn check_begin(first: u64, lsn: Lsn) -> Result<()> {
    if lsn > stored::lsn_of(first) { Err(Error::Trimmed { index: first, lsn }) } else { Ok(()) }
}

impl<C: RaftTypeConfig, K: Codec<C>> Inner<C, K> {
    /// What metadata slot `slot` holds, if it was ever set.
    pub(crate) fn meta(&self, slot: usize) -> Result<Option<Vec<u8>>> {
        let value = self.log.meta(slot);
        if value.is_none() {
            check_readable(&self.log)?;
        }
        Ok(value)
    }

    /// The index that the log gives to the next entry.
    pub(crate) fn next_index(&self) -> u64 {
        index_of(self.log.next_lsn())
    }

    /// What is purged, and what is there.
    pub(crate) fn state(&self) -> Result<Ends<C>> {
        let bounds = self.bounds.lock();
        check_begin(bounds.first, self.log.first_lsn())?;
        Ok((bounds.purged.clone(), bounds.last.as_ref().or(bounds.purged.as_ref()).cloned()))
    }

    /// Goes by the slot for where the log begins, which now holds `begin`, unless the call that was to set it has failed before that.
    pub(crate) fn begin_with(&self, bounds: &mut Bounds<C>, begin: &[u8], purged: Option<LogIdOf<C>>, first: u64) {
        if self.log.meta(slot::PURGED).as_deref() != Some(begin) {
            return;
        }
        bounds.last.take_if(|last| last.index < first);
        bounds.purged = purged;
        bounds.first = first;
        // Entries before it are not read any more.
        self.first.store(first, Ordering::Release);
    }

    /// See [`Self::first`].
    pub(crate) fn first(&self) -> u64 {
        self.first.load(Ordering::Acquire)
    }

    /// The last entry of the log after what is purged.
    fn last_of(&self, bounds: &Bounds<C>) -> Result<Option<LogIdOf<C>>> {
        let next = self.next_index();
        if bounds.first > next {
            // What is purged beyond the end is noted together with a reset, which makes this the next one.
            return Err(Error::Missing { index: next });
        }
        let is_empty = self.log.first_lsn() == self.log.next_lsn() || bounds.first == next;
        if is_empty { Ok(None) } else { self.id_of(next - 1).map(Some) }
    }

    /// The log id of entry `index`.
    pub(crate) fn id_of(&self, index: u64) -> Result<LogIdOf<C>> {
        let record = self.log.get(stored::lsn_of(index))?.ok_or(Error::Missing { index })?;
        stored::decode_id(&self.codec, &record.record())
    }
}

impl<C: RaftTypeConfig, K> Clone for LogStore<C, K> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), read_bytes_max: self.read_bytes_max }
    }
}

impl<C: RaftTypeConfig, K> fmt::Debug for LogStore<C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStore").field("log", &self.inner.log).finish_non_exhaustive()
    }
}
