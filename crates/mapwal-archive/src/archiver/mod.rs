//! Following a log, and uploading what will not change any more.

mod attach;
mod audit;
mod lock;
mod options;
mod pin;
mod place;
mod session;
mod source;
mod status;
mod step;
mod turn;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use mapwal::{Log, LogReader, PinDirectory};
use parking_lot::Mutex;
use tokio::sync::MutexGuard;

use crate::archive::Archive;
use crate::backoff::Backoff;
use crate::epoch::Owner;
use crate::error::{Error, ObjectDamage, Result};
use crate::frames::known_before;
use crate::gaps::MissingRecords;
use lock::PinLock;
pub use options::ArchiverOptions;
use pin::Pinned;
use session::Session;
use source::{Source, blocking};
use status::Progress;
pub use status::Status;
use step::Step;
use turn::Turns;

/// Uploads a log's segments, and keeps the log from trimming what is not confirmed.
///
/// The writer never waits for it. A future of [`Self::run`] or [`Self::catch_up`] may be dropped at any time: what was not confirmed
/// is uploaded again by the next call, or by the next archiver.
///
/// Frames are checked before each upload, and what is damaged is not archived: that is an error with file, offset and record, which
/// is tried again.
///
/// An archiver in the writer's process shares its mappings. One in another process needs the right to write to the log's directory, for the pin, and cannot rotate segments. Of a
/// writer that has died, both go on with what is durable.
///
/// # Example
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use std::sync::Arc;
///
/// use mapwal::{Log, LogReader, Lsn, Options};
/// use mapwal_archive::{Archive, Archiver, ArchiverOptions, Status};
/// use object_store::local::LocalFileSystem;
///
/// let (dir, shelf) = (tempfile::tempdir()?, tempfile::tempdir()?);
/// // SAFETY: the directory is new and on a local file system, and only this log writes to its files.
/// let log = unsafe { Log::open(dir.path(), &Options::new()) }?;
/// log.append(1, b"a record")?;
/// log.rotate()?;
/// log.sync()?;
///
/// let store = LocalFileSystem::new_with_prefix(shelf.path())?.with_fsync(true);
/// // SAFETY: as above. The reader may be in another process.
/// let reader = unsafe { LogReader::open(dir.path()) }?;
/// let archiver = Archiver::of_reader(reader, Archive::new(Arc::new(store), "a"), ArchiverOptions::new())?;
/// let Status { sealed_lsn, lag_records, .. } = archiver.catch_up().await?;
/// assert_eq!((sealed_lsn, lag_records), (Lsn(2), 0));
/// assert_eq!(log.pins()[0].lsn, Lsn(2)); // what is archived may be trimmed
/// tokio::select! {
///     error = archiver.run() => return Err(error.unwrap_err().into()),
///     () = tokio::time::sleep(std::time::Duration::from_millis(1)) => {} // until it shall stop
/// }
/// println!("{:?}", archiver.status());
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Debug)]
pub struct Archiver {
    source: Source,
    archive: Archive,
    options: ArchiverOptions,
    progress: Mutex<Progress>,
    /// One call at a time works.
    session: tokio::sync::Mutex<Option<Session>>,
    turns: Turns,
    _lock: PinLock,
}

impl Archiver {
    /// Of a log that this process writes, or of a [`Wal`](mapwal::wal::Wal) over one. Changes nothing yet.
    ///
    /// # Errors
    /// [`Error::Busy`] when there is one for this log and pin already; [`Error::Io`]; [`Error::Log`] when a pin may not have the name.
    pub fn of_log<L>(log: Arc<L>, archive: Archive, options: ArchiverOptions) -> Result<Self>
    where
        L: AsRef<Log> + Send + Sync + 'static,
    {
        Self::new(Source::Writer(log), archive, options)
    }

    /// Of a log that another process writes, or none.
    ///
    /// # Errors
    /// As [`Self::of_log`]; [`Error::NotTheWriter`] when the options have a largest age; [`Error::Log`].
    pub fn of_reader(reader: LogReader, archive: Archive, options: ArchiverOptions) -> Result<Self> {
        if options.max_age.is_some() {
            return Err(Error::NotTheWriter);
        }
        let pins = Arc::new(PinDirectory::open(reader.directory())?);
        Self::new(Source::Reader(reader, pins), archive, options)
    }

    /// The epoch in which the log was archived under this pin, as the pin says, also if it has been lost since. An archive that lacks
    /// the epoch is another one, or is not there, such as where a disk is not mounted.
    ///
    /// # Errors
    /// [`Error::Log`] when the pins cannot be read.
    pub fn epoch_of(log: &LogReader, pin: &str) -> Result<Option<u64>> {
        let pins = PinDirectory::open(log.directory())?.list()?;
        let owner = pins.into_iter().find(|found| found.name == pin).and_then(|pin| Owner::parse(&pin.owner));
        Ok(if let Some(Owner::Of { epoch, .. }) = owner { Some(epoch) } else { None })
    }

    fn new(source: Source, archive: Archive, options: ArchiverOptions) -> Result<Self> {
        PinDirectory::check_name(&options.pin)?;
        let lock = PinLock::take(source.directory(), &options.pin)?;
        let session = tokio::sync::Mutex::default();
        // Nothing is known to be archived.
        let progress = Mutex::new(Progress::from(source.first_lsn()?));
        let archive = archive.alone();
        Ok(Self { source, archive, options, progress, session, turns: Turns::default(), _lock: lock })
    }

    /// Archives until it is told to stop, by dropping the future, or until going on would do harm. Whatever may pass is
    /// tried again, for ever, and is in [`Self::status`] meanwhile.
    ///
    /// # Errors
    /// [`Error::Conflict`], [`Error::Superseded`], [`Error::OtherLog`], [`Error::ArchivedAlready`], [`Error::OtherArchive`], [`Error::OtherEpoch`], [`Error::Pruned`], [`Error::Forgotten`], [`Error::PinTaken`]; [`Error::Store`] for
    /// what the store will never do; [`Error::Log`] with [`mapwal::Error::Displaced`] when the log's directory was removed, renamed or
    /// replaced: what is there by then needs another archiver.
    pub async fn run(&self) -> Result<Infallible> {
        let mut session = self.begin_turn().await?;
        let mut backoff = self.backoff();
        loop {
            match self.try_step(&mut session, false).await {
                Ok(Step::Done) => backoff.reset(),
                Ok(Step::Idle) => {
                    backoff.reset();
                    tokio::time::sleep(self.options.poll_interval).await;
                }
                Err(error) => self.after_failure(error, &mut backoff).await?,
            }
        }
    }

    /// Archives what is durable now, sealed or not, and returns. Whatever may pass is tried again, as by [`Self::run`].
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn catch_up(&self) -> Result<Status> {
        let mut session = self.begin_turn().await?;
        let mut backoff = self.backoff();
        loop {
            match self.try_step(&mut session, true).await {
                Ok(Step::Done) => backoff.reset(),
                Ok(Step::Idle) => return Ok(self.status()),
                Err(error) => self.after_failure(error, &mut backoff).await?,
            }
        }
    }

    /// Why it is trying something again, if it is, or what is wrong with the archive: what [`Self::status`] says as well, without a look at any file.
    pub fn last_error(&self) -> Option<String> {
        self.progress.lock().trouble(self.archive.store.1.overdue())
    }

    /// Which records are missing for good, if any are: what [`Self::status`] says as well, without a look at any file.
    pub fn missing(&self) -> Vec<MissingRecords> {
        self.progress.lock().missing.clone()
    }

    /// Which objects are damaged, if any are known to be: what [`Self::status`] says as well, without a look at any file.
    pub fn damaged(&self) -> Vec<(String, ObjectDamage)> {
        self.progress.lock().damaged.clone()
    }

    /// How far it has come. Looks at all of the log's files, which takes a millisecond for every few segments.
    pub fn status(&self) -> Status {
        status_of(&self.source, &self.progress, self.archive.store.1.overdue())
    }

    /// How things stand where there is no archiver, since the archive is waited for: no epoch is known, and what has not been archived is counted from
    /// where the `pin` says that all was confirmed. [`Status::lag`] is zero: the caller knows for how long it has waited.
    ///
    /// # Errors
    /// [`Error::Log`] when the log, or its pins, cannot be read.
    pub fn status_without(log: &LogReader, pin: &str) -> Result<Status> {
        let source = Source::Reader(log.clone(), Arc::new(PinDirectory::open(log.directory())?));
        let mut progress = Progress::from(source.first_lsn()?);
        if let Some(pin) = source.pin(pin)?.and_then(|found| Pinned::of(&found)) {
            (progress.sealed, progress.archived) = (pin.from, pin.confirmed());
            progress.place = (source.look()?.last_before(progress.archived), 0);
        }
        Ok(status_of(&source, &Mutex::new(progress), None))
    }

    /// Nothing that an earlier call has left undone is done from here on.
    async fn begin_turn(&self) -> Result<MutexGuard<'_, Option<Session>>> {
        let session = self.session.lock().await;
        let turns = self.turns.clone();
        blocking(move || {
            turns.next();
            Ok(())
        })
        .await?;
        Ok(session)
    }

    /// Changes something in the log's directory.
    async fn change<T: Send + 'static>(&self, change: impl FnOnce(&Source) -> Result<T> + Send + 'static) -> Result<T> {
        let (source, turn) = (self.source.clone(), self.turns.current());
        blocking(move || turn.change(|| change(&source))).await
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(self.options.retry.0, self.options.retry.1)
    }

    fn note(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock());
    }

    async fn after_failure(&self, error: Error, backoff: &mut Backoff) -> Result<()> {
        let told = error.in_one_line();
        self.note(|progress| {
            progress.failures += 1;
            progress.last_error = Some(told.clone());
        });
        if !error.is_transient() {
            tracing::error!(error = told, "archiver stopped");
            return Err(error);
        }
        tracing::warn!(error = told, "will be tried again");
        tokio::time::sleep(backoff.pause()).await;
        Ok(())
    }
}

fn status_of(source: &Source, progress: &Mutex<Progress>, overdue: Option<(String, Duration)>) -> Status {
    let (first, next) = (source.first_lsn().unwrap_or_default(), source.next_lsn());
    let place = progress.lock().place;
    let lag_bytes = lag_bytes(source, place).unwrap_or(0);
    let mut progress = progress.lock();
    // Where the log is damaged, the records before that at least.
    let next = next.unwrap_or_else(|error| known_before(&error).unwrap_or_default().max(progress.next_seen()));
    progress.status((first, next), lag_bytes, overdue)
}

/// The bytes of segments after number `after`, of the first of which `archived` bytes are in the archive.
fn lag_bytes(source: &Source, (after, archived): (u64, u64)) -> Result<u64> {
    let (number, active_len) = match source.durable_prefix() {
        Ok(Some(prefix)) if !prefix.is_bare => (prefix.number, prefix.bytes.len() as u64),
        Ok(_) => (0, 0),
        // Of a damaged one, what comes before the damage.
        Err(Error::Log(mapwal::Error::Corrupt(corruption))) => {
            let stem = corruption.path.file_stem().and_then(|stem| stem.to_str());
            (stem.and_then(|stem| stem.parse().ok()).unwrap_or(0), corruption.offset)
        }
        Err(error) => return Err(error),
    };
    let look = source.look()?;
    let later = look.segments.iter().filter(|segment| segment.number > after);
    let len = later.map(|segment| match segment.end {
        Some(end) => end,
        None if number == segment.number => active_len,
        None => 0,
    });
    Ok(len.sum::<u64>().saturating_sub(archived))
}

impl Drop for Archiver {
    /// Waits for a change of the pin that a dropped future has left under way: the next archiver finds it made, or not made for good.
    fn drop(&mut self) {
        self.turns.next();
    }
}
