//! The log: append, sync, recover, retain.

mod append;
mod durability;
mod evidence;
mod open;
mod recover;
mod report;
mod shared;
mod spare;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use report::RecoveryReport;

use crate::error::{Error, Result};
use crate::format::frame::{self, FrameHead, FrameKind};
use crate::format::name;
use crate::lsn::Lsn;
use crate::options::Options;
use crate::read::{Follower, RecordRef, Snapshot, Source, Visibility, get_ref};
use crate::storage::LockGuard;
use shared::{Rotation, Shared};

/// A write-ahead log in a directory, open for reading and writing.
///
/// All methods take `&self` and may be called from any number of threads.
///
/// A log that is dropped is left as a crash of the process would leave it: what was published stays published, what was
/// durable stays durable, and the next open has to look for the end. [`Log::close`] writes that down instead.
///
/// # Events
///
/// Reported through `tracing`: *error* when a failed sync poisons the log; *warn* when a torn end is dropped, a
/// segment cannot be prepared or a leftover not be removed; *info* when a log or a segment is opened and when a log is
/// closed; *debug* when a spare is ready. Nothing for each record or sync.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    /// Dropped behind the drop of this value, which stops what may still write.
    lock: Box<dyn LockGuard>,
}

impl Log {
    /// Opens the log in directory `path`, recovers it, and creates it if there is none.
    ///
    /// On return, everything that can be read is durable.
    ///
    /// # Errors
    /// [`Error::InvalidOption`]; [`Error::Locked`] when it is open already, in this process or another;
    /// [`Error::NotALog`], [`Error::NotARegularFile`], [`Error::Version`] or [`Error::Corrupt`] when the directory holds
    /// something else or a damaged log, of which nothing is changed then; [`Error::NoSpace`]; [`Error::Io`];
    /// [`Error::NoLog`] when there is none and the options say not to create it.
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

    fn assemble(shared: Shared, rotation: Rotation, lock: Box<dyn LockGuard>) -> Self {
        *shared.rotation.lock() = Some(rotation);
        Self { shared: Arc::new(shared), lock }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.shared.storage.path()
    }

    /// What opening it found.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.shared.report
    }

    /// The largest payload, in bytes.
    #[must_use]
    pub fn payload_len_max(&self) -> u64 {
        self.shared.payload_len_max
    }

    /// Makes durable everything that was appended before the call. Returns the last durable record's number.
    ///
    /// Threads that call it at the same time share one `msync`: while one runs, the next group gathers.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when this sync or an earlier one failed: from then on no call reports success, and only
    /// dropping the log and opening it again finds out what is durable. [`Error::InsideAppend`].
    pub fn sync(&self) -> Result<Lsn> {
        append::check_outside()?;
        self.shared.wait_position(self.shared.reserved_end())?;
        Ok(self.durable_lsn())
    }

    /// Returns once record `lsn` and all before it are durable, and makes them so if nobody else does.
    ///
    /// # Errors
    /// [`Error::NotAppended`], and as [`Log::sync`].
    pub fn wait_durable(&self, lsn: Lsn) -> Result<()> {
        append::check_outside()?;
        let shared = &*self.shared;
        let next = shared.next_lsn();
        if lsn >= next {
            return Err(Error::NotAppended { lsn, next });
        }
        shared.durability.wait(|durable, _| durable >= lsn, || shared.sync_all())
    }

    /// The first record kept, or [`Log::next_lsn`] if there is none.
    #[must_use]
    pub fn first_lsn(&self) -> Lsn {
        self.shared.segments.with(|segments| segments.first_lsn())
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
        Ok(self.shared.next_published()?.previous())
    }

    /// The last record known to be durable, or the number before the first.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.shared.durability.lsn()
    }

    /// Record `lsn`, with a share in its mapping; `None` if it was given up while it was written.
    ///
    /// # Errors
    /// [`Error::Trimmed`], [`Error::NotAppended`] when it is not published, [`Error::Corrupt`], [`Error::Io`].
    pub fn get(&self, lsn: Lsn) -> Result<Option<RecordRef>> {
        let shared = &*self.shared;
        // Relaxed: the segment's own frontier orders the bytes; this only spares looking for the end.
        let mut next = Lsn(shared.published_hint.load(Ordering::Relaxed));
        if lsn >= next {
            next = shared.next_published()?;
            shared.published_hint.fetch_max(next.0, Ordering::Relaxed);
        }
        get_ref(&shared.segments.load(), next, lsn)
    }

    /// A fixed view of what is published now.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Io`] when a segment cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let segments = self.shared.segments.load();
        let next = segments.next_published(self.shared.durability.position())?;
        Ok(Snapshot::new(segments, next))
    }

    /// A follower that begins with record `from`, which may be the next one to come.
    ///
    /// # Errors
    /// [`Error::Trimmed`] or [`Error::NotAppended`] when `from` is not in the log nor next.
    pub fn follow(&self, from: Lsn, visibility: Visibility) -> Result<Follower> {
        let (first, next) = (self.first_lsn(), self.next_lsn());
        if from > next {
            return Err(Error::NotAppended { lsn: from, next });
        }
        if from < first {
            return Err(Error::Trimmed { lsn: from, first });
        }
        Ok(Follower::new(Arc::clone(&self.shared) as Arc<dyn Source>, from, visibility))
    }

    /// Makes everything durable and shuts the log down cleanly: the next open goes on where this one ended.
    ///
    /// # Errors
    /// As [`Log::sync`]; the log is then left as a drop leaves it.
    pub fn close(self) -> Result<()> {
        let shared = &*self.shared;
        shared.wait_position(shared.reserved_end())?;
        let end = {
            let mut rotation = shared.rotation.lock();
            let rotation = rotation.as_mut().expect("set when the log was opened");
            let (segment, _) = shared.reserved();
            let closed = rotation.rotor.close(frame::HEADER_LEN);
            let Some((offset, ordinal, Some(place))) = closed else { return shared.durability.check() };
            let next_lsn = Lsn(segment.base_lsn().0 + u64::from(ordinal));
            shared.publish(place, FrameHead::note(FrameKind::Close, next_lsn, 0), &[]);
            segment.position(offset + frame::HEADER_LEN)
        };
        shared.wait_position(end)?;
        if let Some(spare) = shared.spares.stop() {
            let name = name::segment(spare.number);
            let removed = shared.storage.remove(&name).and_then(|()| shared.storage.sync_directory());
            // A spare that stays is removed at the next open.
            if let Err(error) = removed {
                tracing::warn!(error = &error as &dyn std::error::Error, file = name, "cannot remove a spare");
            }
        }
        shared.control.set_closed();
        tracing::info!(directory = %self.directory().display(), next_lsn = shared.next_lsn().0, "log closed");
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.spares.stop();
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
