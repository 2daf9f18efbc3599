//! The named pins of a log, for programs that do not have it open for writing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::inside::check_outside;
use crate::error::{Error, Result};
use crate::format::name;
use crate::format::pin::NamedPin;
use crate::inspect::Inspection;
use crate::lsn::Lsn;
use crate::memory::Process;
use crate::read::{FrameRole, ScanItem, SegmentScan};
use crate::segment::pins::files::{PinFiles, PinLock};
use crate::segment::pins::{NamedPins, PinStatus, check_name};
use crate::segment::{Segment, Segments};
use crate::storage::Storage;

/// A truncation holds the pins for as long as it takes to sync what is kept.
const PATIENCE: Duration = Duration::from_secs(10);

/// The named pins of a log, to be changed without opening it, also while a process writes to it; that heeds them from
/// its next trim on. It needs no segment, and room only for a pin that is made; on a file system that copies what it changes, such as btrfs, also for one that is
/// changed.
///
/// Each call waits up to ten seconds for other processes that change pins, and then returns [`Error::Io`]. In a forked
/// child each returns [`Error::Forked`].
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::{Lsn, PinDirectory};
///
/// # log.append(1, b"for the replica")?;
/// let pins = PinDirectory::open(dir.path())?; // also while another process writes the log
/// pins.create("replica-1", "the machine in the cellar", Lsn(1), None)?;
/// pins.advance("replica-1", Lsn(2))?;
/// pins.rewind("replica-1", Lsn(1))?; // it has lost record 1, which the log still has
/// pins.assign("replica-1", "the machine in the attic")?;
/// pins.limit("replica-1", Some(20 << 30))?;
/// pins.replace("replica-1", "another machine", Lsn(1), None)?; // in one step, also if it was lost or damaged
/// assert_eq!(pins.list()?.len(), 1);
/// pins.remove("replica-1")?;
/// assert!(PinDirectory::check_name("replica 1").is_err()); // it would be refused as well
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PinDirectory {
    pub(super) storage: Arc<dyn Storage>,
    files: PinFiles,
    process: Process,
}

impl PinDirectory {
    /// The pins of the log in directory `path`.
    ///
    /// # Errors
    /// As [`Inspection::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let inspection = Inspection::open(path)?;
        let newest = inspection.files.last().map(|file| name::segment(file.number));
        let like: Vec<String> = std::iter::once(name::LOCK.to_owned()).chain(newest).collect();
        let storage = inspection.storage;
        let pattern = storage.create_like(&like, 0o600);
        pattern.map_err(|source| Error::io("read the owner of", storage.path(), source))?;
        let files = PinFiles::new(Arc::clone(&storage), PATIENCE);
        Ok(Self { storage, files, process: Process::current() })
    }

    /// Whether a pin may have the name.
    ///
    /// # Errors
    /// [`Error::Pin`] with [`PinFault::InvalidName`](crate::error::PinFault::InvalidName).
    pub fn check_name(name: &str) -> Result<()> {
        check_name(name)
    }

    /// The pins, by name.
    ///
    /// # Errors
    /// As [`Inspection::pins`].
    pub fn list(&self) -> Result<Vec<PinStatus>> {
        self.check_process()?;
        Inspection::look(&self.storage)?.pins()
    }

    /// As [`Log::create_pin`](crate::Log::create_pin).
    ///
    /// # Errors
    /// As there.
    pub fn create(&self, name: &str, owner: &str, lsn: Lsn, limit_bytes: Option<u64>) -> Result<()> {
        let (lock, mut pins) = self.lock_to_make(name, lsn)?;
        pins.create(&lock, name, NamedPin { owner: owner.to_owned(), lsn, limit_bytes, lost: false })
    }

    /// As [`Log::replace_pin`](crate::Log::replace_pin).
    ///
    /// # Errors
    /// As there.
    pub fn replace(&self, name: &str, owner: &str, lsn: Lsn, limit_bytes: Option<u64>) -> Result<()> {
        let (lock, mut pins) = self.lock_to_make(name, lsn)?;
        pins.replace(&lock, name, NamedPin { owner: owner.to_owned(), lsn, limit_bytes, lost: false })
    }

    /// As [`Log::advance_pin`](crate::Log::advance_pin).
    ///
    /// # Errors
    /// As there.
    pub fn advance(&self, name: &str, lsn: Lsn) -> Result<()> {
        let (lock, mut pins, segments) = self.lock()?;
        pins.advance(&lock, name, lsn, segments.first_lsn(), || self.check_not_beyond(lsn, &segments))
    }

    /// As [`Log::rewind_pin`](crate::Log::rewind_pin).
    ///
    /// # Errors
    /// As there.
    pub fn rewind(&self, name: &str, lsn: Lsn) -> Result<()> {
        let (lock, mut pins, segments) = self.lock()?;
        pins.rewind(&lock, name, lsn, &segments)
    }

    /// As [`Log::assign_pin`](crate::Log::assign_pin).
    ///
    /// # Errors
    /// As there.
    pub fn assign(&self, name: &str, owner: &str) -> Result<()> {
        self.check_call()?;
        let lock = self.files.lock()?;
        NamedPins::read(&lock)?.assign(&lock, name, owner)
    }

    /// As [`Log::limit_pin`](crate::Log::limit_pin).
    ///
    /// # Errors
    /// As there.
    pub fn limit(&self, name: &str, limit_bytes: Option<u64>) -> Result<()> {
        let (lock, mut pins, segments) = self.lock()?;
        pins.limit(&lock, name, limit_bytes, segments.first_lsn())
    }

    /// As [`Log::drop_pin`](crate::Log::drop_pin).
    ///
    /// # Errors
    /// As there.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.check_call()?;
        let lock = self.files.lock()?;
        NamedPins::read(&lock)?.remove(&lock, name)
    }

    /// An error in a child that was forked after this was opened, where a lock of its parent's threads is never
    /// released.
    fn check_process(&self) -> Result<()> {
        if self.process.is_current() { Ok(()) } else { Err(Error::Forked) }
    }

    /// As [`Self::check_process`]; also an error inside of an `append_with` closure, for which a truncation that has the pins
    /// locked may wait.
    fn check_call(&self) -> Result<()> {
        self.check_process()?;
        check_outside()
    }

    /// The log as it is while no trim decides.
    fn lock(&self) -> Result<(PinLock<'_>, NamedPins, Arc<Segments>)> {
        self.check_call()?;
        let lock = self.files.lock()?;
        let pins = NamedPins::read(&lock)?;
        let segments = Inspection::look(&self.storage)?.counting();
        if segments.as_slice().is_empty() {
            return Err(Error::NoLog { path: self.storage.path().to_owned() });
        }
        Ok((lock, pins, segments))
    }

    /// As [`Self::lock`], if a pin of this name can be made at record `lsn`.
    fn lock_to_make(&self, name: &str, lsn: Lsn) -> Result<(PinLock<'_>, NamedPins)> {
        check_name(name)?;
        let (lock, pins, segments) = self.lock()?;
        let first = segments.first_lsn();
        if lsn < first {
            return Err(Error::Trimmed { lsn, first });
        }
        self.check_not_beyond(lsn, &segments)?;
        Ok((lock, pins))
    }

    /// An error if record `lsn` is neither there nor next. What is in the newest segment is read, up to it.
    fn check_not_beyond(&self, lsn: Lsn, segments: &Segments) -> Result<()> {
        let newest: &Segment = segments.as_slice().last().expect("looked at before");
        let mut next = newest.base_lsn();
        let mut scan = SegmentScan::open_in(&*self.storage, &name::segment(newest.number()), &newest.path())?;
        while next < lsn {
            match scan.next()? {
                Some(ScanItem::Frame(frame)) if frame.role() == FrameRole::Control => next = frame.lsn(),
                Some(ScanItem::Frame(frame)) => next = frame.lsn().next(),
                _ => return Err(Error::NotAppended { lsn, next }),
            }
        }
        Ok(())
    }
}
