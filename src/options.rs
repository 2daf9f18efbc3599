//! How a log is opened.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::format;
use crate::lsn::Lsn;

/// More would be a mistake.
const SPARE_SEGMENTS_MAX: usize = 1024;
/// The size of the first segments, unless the options say otherwise.
const FIRST_SIZE_BYTES: u64 = 256 << 10;

/// Options of [`Log::open`](crate::Log::open). They are checked there.
///
/// # Example
/// ```
/// use std::time::Duration;
///
/// use mapwal::{Log, Lsn, Options};
///
/// # let dir = tempfile::tempdir()?;
/// let options = Options::new()
///     .segment_size_bytes(16 << 20)
///     .first_segment_size_bytes(1 << 20)
///     .spare_segments(4)
///     .first_lsn(Lsn(1000)) // of a log that is created
///     .sync_interval(Some(Duration::from_millis(10)))
///     .sync_bytes(Some(1 << 20))
///     .file_mode(0o640)
///     .keep_page_cache(false)
///     .trim_on_request(true)
///     .create(true)
///     .archive(false)
///     .allow_unsupported_file_system(false);
/// // SAFETY: the directory is new, and only this log writes to its files.
/// let log = unsafe { Log::open(dir.path(), &options) }?;
/// assert_eq!(log.append(1, b"a thousand")?, Lsn(1000));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is true or not by itself")]
#[must_use]
pub struct Options {
    pub(crate) segment_size_bytes: u64,
    pub(crate) first_segment_size_bytes: Option<u64>,
    pub(crate) first_lsn: Lsn,
    pub(crate) create: bool,
    pub(crate) archive: bool,
    pub(crate) sync_interval: Option<Duration>,
    pub(crate) sync_bytes: Option<u64>,
    pub(crate) file_mode: u32,
    pub(crate) allow_unsupported_file_system: bool,
    pub(crate) spare_segments: usize,
    pub(crate) keep_page_cache: bool,
    /// Up to which record requests may trim at first; `None` if none are taken.
    pub(crate) requests_up_to: Option<Lsn>,
    /// A file that keeps other logs from opening in the directory.
    pub(crate) beside: Option<&'static str>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_size_bytes: 64 << 20,
            first_segment_size_bytes: None,
            first_lsn: Lsn::FIRST,
            create: true,
            archive: false,
            sync_interval: None,
            sync_bytes: None,
            file_mode: 0o600,
            allow_unsupported_file_system: false,
            spare_segments: 0,
            keep_page_cache: true,
            requests_up_to: None,
            beside: None,
        }
    }
}

impl Options {
    /// The defaults: segments that grow from 256 KiB to 64 MiB, a log that is created if there is none, whose first record is 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// The size of segments in bytes once the log has grown: a power of two from 64 KiB to 4 GiB. The largest payload is a little
    /// less than one segment.
    ///
    /// Segments begin with [`Self::first_segment_size_bytes`]. Each further one is made as long as all frames that the log holds, or
    /// shorter, but never shorter than the one before. A record that needs a longer one gets it. What a segment that takes no more
    /// records leaves unused is given back to the file system by the next sync, if it is a quarter or more. So a log of *n* bytes of
    /// frames, which are records with their headers of 24 bytes and padding to 8, takes no more than 1 MiB, or 1.5 *n* and one segment
    /// of the size reached. Besides,
    ///
    /// - each segment has a header of 4 KiB, and the rest of its last page;
    /// - what is unused of a segment stays if it is less than a quarter;
    /// - a spare stays that is from before a trim, a truncation or a reset, and records that a truncation has cut off stay until their
    ///   segment goes;
    /// - a `Wal` has two segments of the size reached, and so has a log whose segments do not grow;
    /// - files of trimmed segments are kept for further ones.
    pub fn segment_size_bytes(mut self, size: u64) -> Self {
        self.segment_size_bytes = size;
        self
    }

    /// The size of the first segments in bytes: a power of two from 64 KiB to [`Self::segment_size_bytes`]. Without it they have 256 KiB,
    /// or `segment_size_bytes` if that is less. If it is `segment_size_bytes`, all segments have that size: the log takes two of them from
    /// the start, and one that is written to without a sync meets no pause in its first hundred megabytes, in which segments would grow.
    pub fn first_segment_size_bytes(mut self, size: u64) -> Self {
        self.first_segment_size_bytes = Some(size);
        self
    }

    /// The number of the first record, if the log is created: at least 1.
    pub fn first_lsn(mut self, lsn: Lsn) -> Self {
        self.first_lsn = lsn;
        self
    }

    /// Whether to create the log if there is none, and its directory, with the parents that are missing.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Whether the directory holds copies of [sealed segments](crate::Log::sealed), made one by one. The last of them names the segment that
    /// came next, and without this a log that lacks it is refused as damaged: its newest segments have been lost.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
    /// use mapwal::{Log, LogReader, Lsn, Options};
    ///
    /// log.append(1, b"to be archived")?;
    /// log.rotate()?;
    /// log.sync()?; // what is sealed counts as such once it is durable
    /// let archive = tempfile::tempdir()?;
    /// for segment in log.sealed(0)? {
    ///     let name = segment.path().file_name().expect("a file");
    ///     std::fs::copy(segment.path(), archive.path().join(name))?;
    /// }
    /// // SAFETY: nothing writes to the copies.
    /// let reader = unsafe { LogReader::open_archive(archive.path()) }?;
    /// assert_eq!(reader.get(Lsn(1))?.expect("a record").payload(), b"to be archived");
    /// // SAFETY: only this log writes to the files of the directory.
    /// let restored = unsafe { Log::open(archive.path(), &Options::new().archive(true)) }?;
    /// assert_eq!(restored.append(1, b"goes on")?, Lsn(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn archive(mut self, archive: bool) -> Self {
        self.archive = archive;
        self
    }

    /// Syncs in the background each time this interval has passed and something has been appended. Without it, and
    /// without [`Self::sync_bytes`], only what a caller asks for is made durable. A thread looks once in each interval, also while the
    /// log is idle. An interval of zero is refused.
    pub fn sync_interval(mut self, interval: Option<Duration>) -> Self {
        self.sync_interval = interval;
        self
    }

    /// Syncs in the background whenever about this many bytes have been appended since the last sync, of any kind, the last record
    /// included, or a segment has been filled. At least 4096.
    pub fn sync_bytes(mut self, bytes: Option<u64>) -> Self {
        self.sync_bytes = bytes;
        self
    }

    /// The permission bits of the files of a log that is created, such as `0o640` for a group that follows the log or
    /// makes backups of it. Users that may read the files may search the directory. By default `0o600`. The mask of the
    /// process makes no difference. The owner has to be able to read and write, and nobody to execute: else an open fails with
    /// [`Error::InvalidArgument`].
    ///
    /// It has no effect on an existing log: new files get mode, owner and group of the file `LOCK`, or, if there is
    /// none, of the newest segment.
    pub fn file_mode(mut self, mode: u32) -> Self {
        self.file_mode = mode;
        self
    }

    /// Opens the log even where [`Error::UnsupportedFileSystem`] says that its promises do not hold, if the caller
    /// knows better.
    pub fn allow_unsupported_file_system(mut self, allow: bool) -> Self {
        self.allow_unsupported_file_system = allow;
        self
    }

    /// Opens a directory although it has this file, which keeps every other log from opening there since its name ends as that of a
    /// segment: for what makes a log of copies, and is not done yet.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// std::fs::write(dir.path().join("under-way.seg"), "")?;
    /// let options = mapwal::Options::new().segment_size_bytes(64 << 10);
    /// // SAFETY: the directory is new, and only these logs write to it.
    /// assert!(unsafe { mapwal::Log::open(dir.path(), &options) }.is_err());
    /// // SAFETY: as above.
    /// let log = unsafe { mapwal::Log::open(dir.path(), &options.clone().beside("under-way.seg")) }?;
    /// log.append(1, b"order 7")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(hidden)]
    pub fn beside(mut self, name: &'static str) -> Self {
        self.beside = Some(name);
        self
    }

    /// How many files for further segments are kept at least, 0 to 1024, while the log is open: a log that is trimmed as it grows then
    /// writes as fast from the first byte on as it does later, in files of trimmed segments. Each open writes all of them, with zeros,
    /// and takes as long as that takes, since a close or drop removes them. On a full disk an open goes on with fewer, and records get
    /// their room. All new segments have [`Self::segment_size_bytes`] then. Without it, and beyond it, one
    /// more is kept than the log has used between its last trims, at most a gigabyte or one file, and those that readers still see.
    pub fn spare_segments(mut self, count: usize) -> Self {
        self.spare_segments = count;
        self
    }

    /// Whether what is durable stays in the page cache, as it does by default. Where it does not, the log lets it go: some ten megabytes
    /// before the durable end stay of the segment that takes appends, and nothing of those before it. Then a log that is written and
    /// seldom read does not take the place of what the application reads from its own files. Followers, archivers and look-ups of what
    /// has been let go read it from the device, and what they read is in the page cache again until the system wants the memory.
    ///
    /// It has an effect on Linux, and not on tmpfs, which has no other place. Nothing is let go before it is durable: of a log that
    /// nobody syncs ([`Self::sync_bytes`]) nothing, nor what another process has mapped just then.
    pub fn keep_page_cache(mut self, keep: bool) -> Self {
        self.keep_page_cache = keep;
        self
    }

    /// Whether the log trims itself when another process asks for that: an operator by `mapwal trim`, or
    /// [`request_trim`](crate::request_trim). It drops what [`Log::trim_before`](crate::Log::trim_before) would drop, so nothing that a
    /// pin keeps, and, below a [`Wal`](crate::wal::Wal), nothing that recovery needs. The log looks for requests every half second, also
    /// when it is idle.
    ///
    /// By default it does not: only the application knows what it needs of its log beside its pins, such as what is after its last
    /// snapshot. Allow it where pins and checkpoints tell all of that.
    pub fn trim_on_request(mut self, allow: bool) -> Self {
        self.requests_up_to = allow.then_some(Lsn(u64::MAX));
        self
    }

    /// Takes requests, if it does, and grants nothing before the layer above says what it needs.
    pub(crate) fn without_trims_at_first(mut self) -> Self {
        self.requests_up_to = self.requests_up_to.map(|_| Lsn::ZERO);
        self
    }

    pub(crate) fn first_size_bytes(&self) -> u64 {
        self.first_segment_size_bytes.unwrap_or(FIRST_SIZE_BYTES.min(self.segment_size_bytes))
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if !format::segment_size_is_valid(self.segment_size_bytes) {
            return Err(Error::InvalidArgument {
                name: "segment_size_bytes",
                value: self.segment_size_bytes,
                expected: "a power of two from 64 KiB to 4 GiB",
            });
        }
        let first = self.first_size_bytes();
        if !format::segment_size_is_valid(first) || first > self.segment_size_bytes {
            return Err(Error::InvalidArgument {
                name: "first_segment_size_bytes",
                value: first,
                expected: "a power of two from 64 KiB to segment_size_bytes",
            });
        }
        if self.spare_segments > SPARE_SEGMENTS_MAX {
            return Err(Error::InvalidArgument {
                name: "spare_segments",
                value: self.spare_segments as u64,
                expected: "at most 1024",
            });
        }
        if self.first_lsn == Lsn::ZERO {
            return Err(Error::InvalidArgument { name: "first_lsn", value: 0, expected: "at least 1" });
        }
        if let Some(bytes) = self.sync_bytes.filter(|&bytes| bytes < 4096) {
            return Err(Error::InvalidArgument { name: "sync_bytes", value: bytes, expected: "at least 4096" });
        }
        if self.file_mode & !0o666 != 0 || self.file_mode & 0o600 != 0o600 {
            return Err(Error::InvalidArgument {
                name: "file_mode",
                value: self.file_mode.into(),
                expected: "permission bits for reading and writing, the owner's both among them; execute bits are not allowed",
            });
        }
        if self.sync_interval.is_some_and(|interval| interval.is_zero()) {
            return Err(Error::InvalidArgument { name: "sync_interval", value: 0, expected: "more than zero" });
        }
        Ok(())
    }
}
