//! The log: append, sync, recover, retain.

mod append;
mod background;
mod durability;
mod evidence;
mod meta;
mod open;
mod pins;
mod recover;
mod report;
mod sealed;
mod shared;
mod spare;
mod stats;
mod trim;
mod truncate;

use std::path::Path;
use std::sync::Arc;

pub use pins::Pin;
pub use report::RecoveryReport;
pub use sealed::SealedSegment;
pub use stats::Stats;

use crate::error::{Error, Result};
use crate::format::frame::{self, FrameHead, FrameKind};
use crate::format::name;
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::options::Options;
use crate::read::{Follower, RecordRef, Snapshot, Source, Visibility, get_ref};
use crate::segment::Segments;
use crate::storage::LockGuard;
use durability::Goal;
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

    fn assemble(shared: Shared, rotation: Rotation, lock: Box<dyn LockGuard>) -> Result<Self> {
        *shared.rotation.lock() = Some(rotation);
        let log = Self { shared: Arc::new(shared), lock };
        if log.shared.background.has_policy() {
            log.shared.background.start(&log.shared)?;
        }
        Ok(log)
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
    /// dropping the log and opening it again finds out what is durable. [`Error::Truncated`] when some of the records were
    /// truncated meanwhile; [`Error::InsideAppend`].
    pub fn sync(&self) -> Result<Lsn> {
        append::check_outside()?;
        self.shared.wait(self.shared.everything())?;
        Ok(self.durable_lsn())
    }

    /// Returns once record `lsn` and all before it are durable, and makes them so if nobody else does.
    ///
    /// # Errors
    /// [`Error::NotAppended`]; [`Error::Truncated`] when it is truncated meanwhile; and as [`Log::sync`].
    pub fn wait_durable(&self, lsn: Lsn) -> Result<()> {
        append::check_outside()?;
        self.check_appended(lsn)?;
        self.shared.wait(Goal { lsn, position: Position::ZERO })
    }

    /// Has `callback` called once, with `Ok` when record `lsn` and all before it are durable, or with the error that
    /// keeps them from it: [`Error::Poisoned`], [`Error::Truncated`], or [`Error::Closed`] when the log is dropped
    /// before. Does not wait. The callback runs on a thread of the log, which syncs for it if nobody else does; the next
    /// callbacks wait for it. Should it panic, the log goes on.
    ///
    /// # Errors
    /// [`Error::NotAppended`]; [`Error::Io`] when the thread cannot be started. The callback is not called then.
    pub fn on_durable(&self, lsn: Lsn, callback: impl FnOnce(Result<()>) + Send + 'static) -> Result<()> {
        self.check_appended(lsn)?;
        self.shared.background.add(&self.shared, lsn, Box::new(callback))
    }

    fn check_appended(&self, lsn: Lsn) -> Result<()> {
        let next = self.shared.next_lsn();
        if lsn < next { Ok(()) } else { Err(Error::NotAppended { lsn, next }) }
    }

    /// The first record kept, or [`Log::next_lsn`] if there is none.
    #[must_use]
    pub fn first_lsn(&self) -> Lsn {
        self.shared.segments.with(Segments::first_lsn)
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
        let segments = self.shared.segments.load();
        // A segment is walked when those before it are complete, so what has been walked is published.
        let walked = segments.find(lsn).map(|index| &segments.as_slice()[index]);
        let next = match walked.map(|segment| segment.lsn_at(segment.frontier())) {
            Some(next) if lsn < next => next,
            _ => segments.next_published(self.shared.durability.position())?,
        };
        get_ref(&segments, next, lsn)
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
        shared.wait(shared.everything())?;
        let end = {
            let mut rotation = shared.lock_rotation();
            let (segment, _) = shared.reserved();
            let closed = rotation.rotor.close(frame::HEADER_LEN);
            let Some((offset, ordinal, Some(place))) = closed else { return shared.durability.check() };
            let next_lsn = Lsn(segment.base_lsn().0 + u64::from(ordinal));
            shared.publish(place, FrameHead::note(FrameKind::Close, next_lsn, 0), &[]);
            segment.position(offset + frame::HEADER_LEN)
        };
        shared.wait(Goal { lsn: Lsn::ZERO, position: end })?;
        shared.background.stop();
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
        self.shared.background.stop();
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
