//! Reading the log of another process, or of none: without the lock, and writing nothing but the word that asks for
//! a wake-up.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::directory_source::DirectorySource;
use super::displaced;
use super::follower::Follower;
use super::look_up::get_ref;
use super::record::RecordRef;
use super::snapshot::Snapshot;
use super::source::{POLL_INTERVAL, Source};
use super::visibility::Visibility;
use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::segment::check_there_or_next;
use crate::storage::{Disk, Storage};

/// A read-only view of a log that another process may be writing. It changes no record, and its writer waits for nothing.
/// For each file that it reads it holds a shared lock on a byte of the directory, which keeps the file from being used
/// again, and a follower that waits says so in the log's `control` file, to be woken.
///
/// Segments stay mapped for later calls, up to 16,000 of them. Those that are trimmed meanwhile take their disk space until the
/// reader's next call, or until it and its views are dropped: an application that keeps an idle reader calls
/// [`first_lsn`](Self::first_lsn) now and then.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use std::time::Duration;
///
/// use mapwal::{LogReader, Lsn, Visibility};
///
/// log.append_batch(&[(1, b"a".as_slice()), (1, b"b")])?;
/// log.sync()?;
///
/// // In this process or another:
/// // SAFETY: only the library writes to the files of the directory, which is on a local file system.
/// let reader = unsafe { LogReader::open_timeout(dir.path(), Duration::from_secs(5)) }?; // `open` if the log is there
/// assert_eq!((reader.first_lsn()?, reader.published_lsn()?, reader.durable_lsn()), (Lsn(1), Lsn(2), Lsn(2)));
/// assert_eq!(reader.get(Lsn(2))?.expect("a record").payload(), b"b");
/// assert_eq!(reader.snapshot()?.iter().count(), 2);
/// let mut follower = reader.follow(Lsn(2), Visibility::Durable)?;
/// assert_eq!(follower.next()?.expect("a record").payload(), b"b");
/// assert!(reader.next_sealed(0)?.is_none()); // the segment still takes appends
/// let prefix = reader.durable_prefix()?.expect("what is durable of it");
/// println!("{} bytes of {}", prefix.bytes().len(), reader.directory().display());
/// # // SAFETY: as above.
/// # unsafe { LogReader::open(dir.path()) }?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct LogReader(pub(super) Arc<DirectorySource>);

impl LogReader {
    /// Opens the log in directory `path` for reading.
    ///
    /// # Errors
    /// [`Error::NoLog`] when there is none yet, [`Error::NotALog`], [`Error::NotARegularFile`], [`Error::Format`], [`Error::Io`];
    /// [`Error::Corrupt`] when a segment's header is damaged, when a segment or what was durable at the end is missing, and when
    /// the control page is damaged and could have said that what looks like a torn end was durable. From then on each call of
    /// the reader may return these too, and [`Error::Displaced`] once another log has taken the place of this one, or
    /// [`Error::Forked`] in a forked child.
    ///
    /// # Safety
    /// For as long as this value, or anything read from it, lives:
    ///
    /// - nothing but this library writes to the files of the directory or makes them shorter;
    /// - the directory is on a local file system, whose mappings and writes are coherent.
    #[expect(unsafe_code, reason = "what is borrowed from a mapping depends on what others do to the files")]
    pub unsafe fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_directory(path.as_ref(), false)
    }

    /// As [`Self::open`], of a directory that holds copies of [sealed segments](crate::Log::sealed), made one by one: the segment that
    /// the last of them names need not be there, as with [`Options::archive`](crate::Options::archive).
    ///
    /// # Errors
    /// As [`Self::open`].
    ///
    /// # Safety
    /// As [`Self::open`].
    #[expect(unsafe_code, reason = "as for `open`")]
    pub unsafe fn open_archive(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_directory(path.as_ref(), true)
    }

    fn open_directory(path: &Path, is_archive: bool) -> Result<Self> {
        let disk = Disk::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::NoLog { path: path.to_owned() },
            _ => Error::io("open", path, source),
        })?;
        displaced::report_file_system(&disk)?;
        Self::open_storage(Arc::new(disk), is_archive)
    }

    /// As [`Self::open`]; waits up to `timeout` for the log to be created.
    ///
    /// # Errors
    /// As [`Self::open`]; [`Error::NoLog`] when there is none by then.
    ///
    /// # Safety
    /// As [`Self::open`].
    #[expect(unsafe_code, reason = "as for `open`")]
    pub unsafe fn open_timeout(path: impl AsRef<Path>, timeout: Duration) -> Result<Self> {
        let began = Instant::now();
        loop {
            match Self::open_directory(path.as_ref(), false) {
                Err(Error::NoLog { .. }) if began.elapsed() < timeout => std::thread::sleep(POLL_INTERVAL),
                opened => return opened,
            }
        }
    }

    /// As [`Self::open`], on any storage whose files obey the contract.
    pub(crate) fn open_storage(storage: Arc<dyn Storage>, is_archive: bool) -> Result<Self> {
        Ok(Self(Arc::new(DirectorySource::open(storage, is_archive)?)))
    }

    /// The first record kept, or the next one's number if there is none.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn first_lsn(&self) -> Result<Lsn> {
        self.0.refresh(false)?;
        Ok(self.0.segments().first_lsn())
    }

    /// The last record that can be read, or the number before the first if there is none.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn published_lsn(&self) -> Result<Lsn> {
        Ok(self.0.view()?.1.previous())
    }

    /// The last record that the writer has called durable, as far as it has said so; 0 in a forked child.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.0.durable().0
    }

    /// A fixed view of what is published now. It does not keep what it has not read yet from being trimmed: see [`Snapshot`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        let (segments, next) = self.0.view()?;
        Ok(Snapshot::new(segments, next, Arc::clone(&self.0.ahead)))
    }

    /// Record `lsn`, with a share in its mapping; `None` if it was given up while it was written.
    ///
    /// # Errors
    /// [`Error::Trimmed`], [`Error::NotAppended`], [`Error::Corrupt`], [`Error::Io`].
    pub fn get(&self, lsn: Lsn) -> Result<Option<RecordRef>> {
        let (segments, next) = self.0.view()?;
        get_ref(&segments, next, lsn)
    }

    /// A follower that begins with record `from`, which may be the next one to come.
    ///
    /// # Errors
    /// [`Error::Trimmed`] or [`Error::NotAppended`] when `from` is not in the log nor next.
    pub fn follow(&self, from: Lsn, visibility: Visibility) -> Result<Follower> {
        let (segments, next) = self.0.view()?;
        check_there_or_next(from, segments.first_lsn(), next)?;
        Ok(Follower::new(Arc::clone(&self.0) as Arc<dyn Source>, from, visibility))
    }
}
