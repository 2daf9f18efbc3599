//! The simulated disk, for engines.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use super::disk::{Crash, SimDisk};
use super::fault::{Failure, Fault};
use super::image::AfterEffect;
use crate::error::Result;
use crate::log::{Log, testing as logs};
use crate::options::Options;
use crate::read::LogReader;
use crate::wal::{self, Recovery, Wal, WalOptions};

/// A directory for one log, on a disk in memory. A clone is another handle of the same disk.
///
/// # Example
/// ```
/// use mapwal::testing::{DiskFailure, SimulatedDisk};
/// use mapwal::wal::WalOptions;
/// use mapwal::{Error, Options};
///
/// let options = Options::new().segment_size_bytes(64 << 10);
/// let disk = SimulatedDisk::new(7);
/// let log = disk.open(&options)?;
/// log.append(1, b"synced")?;
/// log.sync()?;
/// log.append(1, b"not synced")?;
/// assert_eq!(disk.reader()?.snapshot()?.iter().count(), 2);
///
/// // The process dies, and its page cache stays; or the power goes.
/// assert_eq!(disk.kill().open(&options)?.recovery().records(), 2);
/// assert!(disk.restart().open(&options)?.recovery().records() >= 1);
///
/// // A full disk, found by one operation; and a device that fails.
/// let before = disk.operations();
/// disk.fail_after(0, DiskFailure::Io);
/// assert!(matches!(log.sync(), Err(Error::Poisoned { .. })));
/// println!("after {} more operations", disk.operations() - before);
///
/// let (wal, recovery) = SimulatedDisk::new(8).open_and_recover(&WalOptions::new().log(options))?;
/// recovery.redone();
/// wal.begin()?.commit()?.applied();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SimulatedDisk {
    disk: SimDisk,
}

/// What an operation of a disk fails with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskFailure {
    /// An input/output error. A sync that fails with it has not written all, and later ones will not: the log is poisoned.
    Io,
    /// There is no room.
    Full,
}

impl SimulatedDisk {
    /// An empty disk, whose decisions follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { disk: SimDisk::new(seed) }
    }

    /// Opens the log on it, and creates it if there is none.
    ///
    /// # Errors
    /// As [`Log::open`]: [`Error::Locked`](crate::Error::Locked) while another one is open.
    pub fn open(&self, options: &Options) -> Result<Log> {
        // The contract of `Log::open` holds: nothing but the log has its files.
        logs::open_alone(Arc::new(self.disk.clone()), options)
    }

    /// As [`Wal::open_and_recover`], on it.
    ///
    /// # Errors
    /// As there.
    pub fn open_and_recover(&self, options: &WalOptions) -> wal::Result<(Wal, Recovery)> {
        wal::testing::recover_over(self.open(&options.log)?, options)
    }

    /// A reader of the log, as another process has it.
    ///
    /// # Errors
    /// As [`LogReader::open`].
    pub fn reader(&self) -> Result<LogReader> {
        LogReader::open_storage(Arc::new(self.disk.elsewhere()), false)
    }

    /// The power goes once `operations` more are carried out: from then on every operation fails, so that nothing more is acknowledged, and the
    /// log is poisoned by its next sync. [`Self::restart`] has what is left.
    pub fn end_power_after(&self, operations: u64) {
        self.disk.end_power_after(operations);
    }

    /// The disk when the power is back: as it was when that went, by [`Self::end_power_after`], or else as a power cut right now
    /// leaves it. It is a disk of its own: what is open on this one goes on, and each call of this while there is power is another
    /// way in which it might have gone.
    #[must_use]
    pub fn restart(&self) -> Self {
        Self { disk: self.disk.left().unwrap_or_else(|| self.disk.crash(Crash::Power)) }
    }

    /// The disk as the death of the process leaves it right now: nothing that was published is lost. It is a disk of its own, as with
    /// [`Self::restart`].
    #[must_use]
    pub fn kill(&self) -> Self {
        Self { disk: self.disk.crash(Crash::Kill) }
    }

    /// One operation fails, once `operations` more have succeeded. It takes the place of a failure that has not happened yet.
    pub fn fail_after(&self, operations: u64, failure: DiskFailure) {
        let failure = match failure {
            DiskFailure::Io => Failure::Io,
            DiskFailure::Full => Failure::DiskFull,
        };
        self.disk.plan_fault(Some(Fault { after: operations, only: None, failure, effect: AfterEffect::Clean }));
    }

    /// How long each sync takes from now on, before it has any effect: a device that takes its time has what was acknowledged too early be lost.
    pub fn sync_takes(&self, time: Duration) {
        self.disk.sync_takes(time);
    }

    /// Its files, as processes see them, in `directory`, which is created: for another process, which opens the log there, or has it on
    /// a simulated disk again ([`Self::read_from`]). Of a disk that [`Self::restart`] has returned, it is what the power cut has left.
    ///
    /// # Errors
    /// What the file system says: [`io::ErrorKind::AlreadyExists`] if there is such a directory.
    pub fn write_to(&self, directory: impl AsRef<Path>) -> io::Result<()> {
        self.disk.write_to(directory.as_ref())
    }

    /// A disk with the files of `directory`, as if all of it had been synced. Nothing may write to them meanwhile.
    ///
    /// # Errors
    /// What the file system says; [`io::ErrorKind::InvalidData`] for a name that is not UTF-8.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    ///
    /// use mapwal::Options;
    /// use mapwal::testing::SimulatedDisk;
    ///
    /// let options = Options::new().segment_size_bytes(64 << 10);
    /// let disk = SimulatedDisk::new(7);
    /// disk.sync_takes(Duration::from_millis(1));
    /// let log = disk.open(&options)?;
    /// let lsn = log.append(1, b"synced")?;
    /// log.wait_durable(lsn)?;
    ///
    /// // The power goes, and another process has the log on a real disk; and then on one that fails, once more.
    /// # let home = tempfile::tempdir()?;
    /// let directory = home.path().join("log");
    /// disk.restart().write_to(&directory)?;
    /// // SAFETY: the directory is on a local file system, and only this log writes to its files.
    /// let again = unsafe { mapwal::Log::open(&directory, &options)? };
    /// assert_eq!(again.get(lsn)?.expect("durable").payload(), b"synced");
    /// again.close()?;
    /// let again = SimulatedDisk::read_from(8, &directory)?.open(&options)?;
    /// assert_eq!(again.get(lsn)?.expect("durable").payload(), b"synced");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_from(seed: u64, directory: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { disk: SimDisk::read_from(seed, directory.as_ref())? })
    }

    /// Operations so far: a run without a failure tells how many there are to fail.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.disk.operations()
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedDisk").field("operations", &self.operations()).finish_non_exhaustive()
    }
}
