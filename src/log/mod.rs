//! The log: append, sync, recover, retain.

mod append;
mod batch;
mod close;
mod durability;
mod histogram;
mod housekeeping;
mod in_place;
mod inside;
mod mark;
mod meta;
#[cfg(feature = "metrics")]
mod meter;
mod named_pins;
mod open;
mod owner;
mod page_cache;
mod pin_directory;
mod pin_table;
mod pins;
mod preparer;
mod printed;
mod recovery;
mod replica;
mod request_task;
mod request_trim;
mod requests;
mod rotate;
mod sealed;
mod shared;
mod stats;
mod sync;
mod trim;
mod truncate;
mod unused;

use std::path::Path;
use std::sync::Arc;

pub(crate) use durability::copying::CopyWait;
pub use durability::future::Durable;
pub use in_place::PayloadWriter;
pub use mark::Mark;
pub use pin_directory::PinDirectory;
pub use pins::Pin;
pub(crate) use preparer::Need;
pub use recovery::report::RecoveryReport;
pub use request_trim::{RequestedTrim, request_trim, request_trim_while};
pub use stats::Stats;

#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::options::Options;
use crate::read::{Follower, RecordRef, Snapshot, Source, Visibility, get_known_ref, get_ref};
use crate::segment::{Segments, check_there_or_next};
use crate::storage::LockGuard;
use owner::Owner;
use shared::{Rotation, Shared};

/// A write-ahead log in a directory, open for reading and writing.
///
/// All methods take `&self` and may be called from any number of threads. A clone is another handle of the same log, and costs
/// two reference counts.
///
/// A log whose last handle is dropped is left as a crash of the process would leave it: what was published stays published, what
/// was durable stays durable, and the next open has to look for the end. [`Log::close`], by any handle, writes that down instead.
///
/// # Forks
///
/// A log belongs to the process that has opened it. In a child that was forked from it every call that can fail returns
/// [`Error::Forked`], and so do snapshots, followers, streams, readers and directories of pins that were made before; a
/// drop there does nothing. A call that cannot fail returns there what it knows without a lock, which a thread of the
/// parent may have held, and otherwise `None`, or 0. Records borrowed before the fork must not be looked at there.
/// Children that become another program are no concern.
///
/// # Events
///
/// Reported through `tracing`; nothing for each record or sync. What changes is told once: a full disk is one warning, however many
/// appends it refuses.
///
/// - *error*: the log is poisoned.
/// - *warn*: a torn end (torn tail) is dropped; a segment or a spare, or all of its room, cannot be prepared, or there is no room for
///   one at the open; a file cannot be removed, or the directory not be synced; the control page cannot be made, written or synced;
///   `LOCK` cannot be signed; the pins cannot be locked, or one is damaged or lost, or stays changed by a call that failed; a requested trim fails; the file system is
///   unsupported, and allowed; a transaction of a [`Wal`](crate::wal::Wal) is dropped in progress, or a commit before it is said to be
///   applied.
/// - *info*: a log is opened, trimmed, truncated or closed; a segment is opened; segments can be prepared, or removed, again; a `Wal`
///   has analysed its log, or taken a checkpoint.
/// - *debug*: a spare, or all of a segment, is ready; the unused end of a segment cannot be given back; small syncs write large pages.
///
/// A subscriber may use the log. It is called with nothing locked, by the thread whose call it is about when that call
/// is over, or by a thread that nothing waits for.
///
/// # Metrics
///
/// With the feature `metrics` the log tells the recorder of the crate `metrics`, if one is installed when the log is opened:
/// counters `mapwal_syncs_total`, `mapwal_synced_records_total`, `mapwal_synced_bytes_total`, `mapwal_stalls_total`,
/// `mapwal_zeros_written_bytes_total`, `mapwal_recycled_segments_total`, `mapwal_removed_segments_total`; gauges
/// `mapwal_first_lsn`, `mapwal_next_lsn`, `mapwal_durable_lsn`, `mapwal_disk_bytes`, `mapwal_spare_bytes`, `mapwal_pins`,
/// `mapwal_pinned_lsn` (the oldest, or 0; pins of other processes as of the last trim), `mapwal_unlinked_bytes`, `mapwal_torn_bytes`,
/// `mapwal_poisoned`; histograms `mapwal_sync_seconds` and `mapwal_sync_records`; all with the label `directory`. They are
/// told at the open and after each sync, and never by an append. The recorder is called as a subscriber is.
///
/// # Example
/// ```
/// use mapwal::{Log, Lsn, Options};
///
/// # let dir = tempfile::tempdir()?;
/// // SAFETY: the directory is new and on a local file system, and only this log writes to its files.
/// let log = unsafe { Log::open(dir.path(), &Options::new()) }?;
/// println!("{} has {} records", log.directory().display(), log.recovery().records());
///
/// assert_eq!(log.append(1, b"one piece")?, Lsn(1));
/// log.append_vectored(1, &[b"in ", b"parts"])?;
/// log.append_with(2, 8, |payload| payload.copy_from_slice(&7_u64.to_le_bytes()))?; // written in place
/// assert_eq!(log.append_batch(&[(3, b"all".as_slice()), (3, b"or none")])?, Lsn(4)..Lsn(6));
/// log.append_void()?; // a number without a record
/// assert_eq!((log.first_lsn(), log.next_lsn(), log.published_lsn()?), (Lsn(1), Lsn(7), Lsn(6)));
/// assert!(log.payload_len_max() > 1 << 20);
///
/// log.wait_durable(Lsn(2))?; // with all that was appended before it
/// log.sync()?; // everything
/// assert_eq!(log.durable_lsn(), Lsn(6));
///
/// assert_eq!(log.get(Lsn(2))?.expect("a record").payload(), b"in parts");
/// assert!(log.get(Lsn(6))?.is_none());
/// assert_eq!(log.get_many(&[Lsn(6), Lsn(2)])?.iter().flatten().count(), 1);
/// log.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
    owner: Arc<Owner>,
}

impl Log {
    /// Opens the log in directory `path`, recovers it, and creates it if there is none.
    ///
    /// On return, everything that can be read is durable. Segments that a later one proves durable, and those of a log
    /// that was closed, are not read here but checked when they are first read. To find all damage, ask
    /// [`Inspection::verify`](crate::inspect::Inspection::verify) before.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]; [`Error::Locked`] when it is open already, in this process or another;
    /// [`Error::NotALog`], [`Error::NotARegularFile`], [`Error::Format`] or [`Error::Corrupt`] when the directory holds
    /// something else or a damaged log, of which nothing is changed then; [`Error::NoSpace`]; [`Error::Io`];
    /// [`Error::NoLog`] when there is none and the options say not to create it; [`Error::UnsupportedFileSystem`];
    /// [`Error::Exhausted`] when fewer than 2^33 numbers of records, or no number of a segment, are left: then only a
    /// [`LogReader`](crate::LogReader) opens it.
    ///
    /// # Safety
    /// For as long as the log, or anything read from it, lives:
    ///
    /// - nothing but this library writes to the files of the directory or makes them shorter;
    /// - the directory is on a local file system, whose mappings and writes are coherent.
    #[expect(unsafe_code, reason = "what is borrowed from a mapping depends on what others do to the files")]
    pub unsafe fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        open::open_directory(path.as_ref(), options)
    }

    /// As [`Shared::check_process`], for layers over this log.
    pub(crate) fn check_process(&self) -> Result<()> {
        self.shared.check_process()
    }

    /// As [`Shared::check_open`], for layers over this log.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.shared.check_open()
    }

    fn assemble(shared: Shared, rotation: Rotation, lock: Box<dyn LockGuard>) -> Result<Self> {
        *shared.rotation.lock() = Some(rotation);
        let shared = Arc::new(shared);
        let log = Self { owner: Arc::new(Owner::new(Arc::clone(&shared), lock)), shared };
        if log.shared.background.has_policy() {
            log.shared.start_syncing()?;
        }
        Ok(log)
    }

    /// The directory, by its absolute path. The log goes by the directory that it has opened, wherever that is by now.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.shared.storage.absolute_path()
    }

    /// A number that its clones have as well, and no other log that this process opens.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
    /// assert_eq!(log.instance(), log.clone().instance());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn instance(&self) -> u64 {
        self.shared.number
    }

    /// What opening it found.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.shared.report
    }

    /// The largest payload, in bytes. Metadata of more than about 4 KiB makes it smaller, since each segment begins with it.
    #[must_use]
    pub fn payload_len_max(&self) -> u64 {
        self.shared.payload_len_max()
    }

    /// The first record kept, or [`Log::next_lsn`] if there is none.
    #[must_use]
    pub fn first_lsn(&self) -> Lsn {
        self.shared.with_segments(Segments::first_lsn).unwrap_or(Lsn::ZERO)
    }

    /// The number that the next record appended will get.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.shared.next_lsn()
    }

    /// The last record that readers can see: it and all before it are completely written.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Io`] when a segment cannot be read.
    pub fn published_lsn(&self) -> Result<Lsn> {
        self.shared.check_open()?;
        Ok(self.shared.next_published()?.previous())
    }

    /// The last record known to be durable, or the number before the first.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.shared.durability.lsn()
    }

    /// Record `lsn`, with a share in its mapping; `None` if it was voided: given up while it was written.
    ///
    /// # Errors
    /// [`Error::Trimmed`], [`Error::NotAppended`] when it is not published, [`Error::Corrupt`], [`Error::Io`].
    pub fn get(&self, lsn: Lsn) -> Result<Option<RecordRef>> {
        self.shared.check_open()?;
        if let Some(record) = self.shared.segments.with(|segments| get_known_ref(segments, lsn)) {
            return Ok(Some(record));
        }
        // Read before the list. Read after it, the watermark could belong to a newer list, and an old segment would
        // look torn.
        let durable = self.shared.durability.reached();
        let segments = self.shared.segments.load();
        let next = segments.next_published_for(lsn, durable)?;
        get_ref(&segments, next, lsn)
    }

    /// Records of these numbers, in their order: of each what [`Self::get`] returns. Where they are far apart, the processor
    /// fetches several of them from memory at once, which takes a fraction of the time of one after the other. Without need
    /// of a share in its mapping for each, [`Snapshot::get_many`] does it for less.
    ///
    /// # Errors
    /// As [`Self::snapshot`], also for no numbers; as [`Self::get`], of the first number for which that fails.
    pub fn get_many(&self, lsns: &[Lsn]) -> Result<Vec<Option<RecordRef>>> {
        self.snapshot()?.get_many_refs(lsns)
    }

    /// A fixed view of what is published now.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Io`] when a segment cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.shared.check_open()?;
        // Read before the list, as in `get`.
        let durable = self.shared.durability.reached();
        let segments = self.shared.segments.load();
        let next = segments.next_published(durable)?;
        Ok(Snapshot::new(segments, next, Arc::clone(&self.shared.ahead)))
    }

    /// A follower that begins with record `from`, which may be the next one to come.
    ///
    /// # Errors
    /// [`Error::Trimmed`] or [`Error::NotAppended`] when `from` is not in the log nor next.
    pub fn follow(&self, from: Lsn, visibility: Visibility) -> Result<Follower> {
        self.shared.check_open()?;
        check_there_or_next(from, self.first_lsn(), self.next_lsn())?;
        Ok(Follower::new(Arc::clone(&self.shared) as Arc<dyn Source>, from, visibility))
    }
}

/// Opening a log on another storage than a directory.
#[cfg(feature = "testing")]
pub(crate) mod testing {
    use std::sync::Arc;

    use super::{Log, open};
    use crate::error::Result;
    use crate::options::Options;
    use crate::storage::Storage;

    /// As [`open_log`], on a storage whose mappings nothing else can change.
    pub(crate) fn open_alone(storage: Arc<dyn Storage>, options: &Options) -> Result<Log> {
        open::open_storage(storage, options)
    }

    /// As [`Log::open`], on `storage`.
    ///
    /// # Errors
    /// As [`Log::open`].
    ///
    /// # Safety
    /// As [`Log::open`], for whatever the storage's mappings show.
    #[expect(unsafe_code, reason = "as for `Log::open`")]
    pub unsafe fn open_log(storage: Arc<dyn Storage>, options: &Options) -> Result<Log> {
        open::open_storage(storage, options)
    }
}

/// For functions that take a log, or a layer over one.
impl AsRef<Log> for Log {
    fn as_ref(&self) -> &Log {
        self
    }
}
