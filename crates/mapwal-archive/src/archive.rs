//! The handle: an object store, and the prefix of one log's archive in it.

use std::path::Path as Directory;
use std::sync::Arc;

use mapwal::Lsn;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::backoff::patiently;
use crate::conflict::{judge, judge_faults};
use crate::error::{Error, Result};
use crate::history::History;
use crate::listing::Listing;
use crate::prune::{PruneGaps, PruneLimits, PruneReport, prune, prune_limits};
use crate::rebuild::{forget_epoch, rebuild_note};
use crate::restore::{Restorable, RestoreOptions, RestoreProgress, RestoreReport, RestoreTo, restorable, restore};
use crate::store::Store;
use crate::verify::{VerifyProgress, VerifyReport, verify};
use crate::waiting::Waiting;

/// The archive of one log, at a prefix of an object store. Cheap to clone.
///
/// A directory is a store as well: `LocalFileSystem`, always with `with_fsync(true)`, since without it an upload that
/// has been confirmed can be lost by a power cut.
///
/// # Example
/// ```
/// use std::sync::Arc;
///
/// use mapwal::{Log, Lsn, Options};
/// use mapwal_archive::{Archive, Archiver, ArchiverOptions, PruneGaps, RestoreOptions, RestoreTo};
/// use object_store::memory::InMemory;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let (dir, elsewhere) = (tempfile::tempdir()?, tempfile::tempdir()?);
/// // SAFETY: the directory is new and on a local file system, and only this log writes to its files.
/// let log = Arc::new(unsafe { Log::open(dir.path(), &Options::new()) }?);
/// log.append(1, b"debit 7")?;
/// log.sync()?;
///
/// let archive = Archive::new(Arc::new(InMemory::new()), "logs/a");
/// let archiver = Archiver::of_log(log, archive.clone(), ArchiverOptions::new())?;
/// archiver.catch_up().await?; // or `run`, for ever
///
/// let list = archive.list().await?;
/// assert_eq!(list.epochs[0].next_lsn, Lsn(2));
/// let report = archive.verify(None, &mut |_| {}).await?;
/// assert!(report.is_sound());
///
/// let restored = archive.restore(elsewhere.path(), RestoreTo::Latest, &RestoreOptions::new(), &mut |_| {}).await?;
/// assert_eq!(restored.next_lsn, Lsn(2));
/// archive.prune(Lsn(1), PruneGaps::Refuse).await?; // nothing is older
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Archive {
    pub(crate) store: Store,
    pub(crate) prefix: Path,
}

impl Archive {
    /// The archive at `prefix`, which need not be there yet.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: impl Into<Path>) -> Self {
        Self { store: Store(store, Waiting::default()), prefix: prefix.into() }
    }

    /// The same, for an archiver: what else is asked of the store is none of its requests.
    pub(crate) fn alone(self) -> Self {
        Self { store: Store(self.store.0, Waiting::default()), ..self }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store.0
    }

    /// The prefix.
    #[must_use]
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// What the archive holds. What is wrong with an epoch is in its [`EpochListing::fault`](crate::EpochListing::fault).
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn list(&self) -> Result<Listing> {
        let history = self.look().await?;
        let mut listing = Listing::of(&history);
        judge_faults(self, &history, &mut listing.faults).await?;
        for epoch in &mut listing.epochs {
            if let Some(error) = epoch.fault.take() {
                epoch.fault = Some(judge(self, &history, error).await);
            }
        }
        Ok(listing)
    }

    /// Reads all objects, checks their frames, and compares them with their keys and each other. Those that have not changed since an
    /// `earlier` report found them sound are not read again. `progress` hears of each.
    ///
    /// # Errors
    /// [`Error::Store`]. Damage is not an error, and is in the report.
    pub async fn verify(
        &self,
        earlier: Option<&VerifyReport>,
        progress: &mut (dyn FnMut(VerifyProgress) + Send),
    ) -> Result<VerifyReport> {
        verify(self, earlier, progress).await
    }

    /// Deletes what no restore to record `before`, or to a later one, needs, the oldest first; and parts that a segment has
    /// superseded. The last segment of the newest epoch stays in any case, and so does all of an epoch that cannot be
    /// followed, such as one whose note is damaged, and of those that continue it. `gaps` says what to do where records are missing before `before`.
    /// Several may be called at once, and an archiver may run meanwhile.
    ///
    /// # Errors
    /// [`Error::Gap`] when records are missing before `before`, and `gaps` says to refuse that, or `before` is one of them: nothing
    /// was deleted then. [`Error::Damaged`] in the same way, where the list shows that the object that has such records is damaged.
    /// [`Error::NotArchived`] when the newest epoch that can be followed ends before `before`. [`Error::Empty`]; [`Error::Conflict`], [`Error::Damaged`] when no epoch can be followed; [`Error::Store`].
    pub async fn prune(&self, before: Lsn, gaps: PruneGaps) -> Result<PruneReport> {
        prune(self, before, gaps).await
    }

    /// What [`Self::prune`] would accept where it refuses a prune before record `before`, as far as a list shows it.
    ///
    /// # Errors
    /// [`Error::Damaged`] when no epoch can be followed; [`Error::Empty`]; [`Error::Store`].
    pub async fn prune_limits(&self, before: Lsn) -> Result<PruneLimits> {
        prune_limits(self, before).await
    }

    /// Makes the note of `epoch` again, which is missing or damaged, from the epoch's objects: the first one has the identity of the log,
    /// and names the segment before it, which is in the epoch that this one continues. Where it names none, the log began with it; where the mark of
    /// a prune says that what was before it may have been deleted, the epoch begins with it.
    /// A note that can be used is made again if it is of another log than the objects, or, with `begins`, if nothing is left of the epoch that it
    /// names.
    /// `begins` says that nothing came before the first object, where that cannot be proven; records between the end of an earlier epoch and that
    /// object are noted as lost. An archiver whose pin names the epoch goes on in
    /// it.
    ///
    /// # Errors
    /// [`Error::Unproven`] when the first object names a segment that is not there, and `begins` is not set; [`Error::MayContinue`] when an
    /// earlier epoch has no note either, which may be the one that it continues, and [`Error::Disproven`] when a later one says that it had earlier objects; [`Error::Noted`] when there is
    /// a note; [`Error::NoEpoch`], [`Error::Empty`]; [`Error::Damaged`] when the first object, or one that the epoch may continue, is; [`Error::Store`].
    pub async fn rebuild_note(&self, epoch: u64, begins: bool) -> Result<()> {
        rebuild_note(self, epoch, begins).await
    }

    /// Deletes all of `epoch`, which cannot be followed since its note is missing or cannot be used: what only that epoch had is lost. Or of
    /// one that has no record which an older, longer one does not have, such as that of an old copy of the log's directory; or of one in whose
    /// place its log has begun another ([`ArchiverOptions::abandon_epoch`](crate::ArchiverOptions::abandon_epoch)). Its
    /// number stays taken, and [`PruneReport::lost`] has the records that no other epoch has: the others are not said to lack them. An archiver whose pin names it ends with [`Error::Forgotten`].
    /// To be called by one program at a time, and beside no prune; an archiver may run meanwhile. The report is empty where another call has deleted the
    /// epoch meanwhile.
    ///
    /// # Errors
    /// [`Error::Noted`] when it has a note that can be used, and records of its own; [`Error::Continued`] when a later epoch continues it, and [`Error::MayBeContinued`] when one without a note may;
    /// nothing was deleted then. [`Error::NoEpoch`], [`Error::Empty`];
    /// [`Error::Damaged`] when its note is a later version's, another log's, or a copy of one that does not have all of its records;
    /// [`Error::Store`].
    pub async fn forget_epoch(&self, epoch: u64) -> Result<PruneReport> {
        forget_epoch(self, epoch).await
    }

    /// Makes a log in `directory`, which is empty or not there, of what is archived up to a record; or goes on with a
    /// restore of the same records that was interrupted. The log opens as any other, and goes on under the same numbers. To archive
    /// it begins a new epoch. `progress` hears of each segment that is there.
    ///
    /// # Errors
    /// [`Error::Gap`] when records are missing before that one; [`Error::NotArchived`], [`Error::Empty`], [`Error::NoEpoch`]; [`Error::NotEmpty`], [`Error::OtherRestore`],
    /// [`Error::Io`]; [`Error::Damaged`], [`Error::Conflict`]; [`Error::Store`]. The directory then holds no log, and a restore into
    /// it can be tried again.
    pub async fn restore(
        &self,
        directory: impl AsRef<Directory>,
        to: RestoreTo,
        options: &RestoreOptions,
        progress: &mut (dyn FnMut(RestoreProgress) + Send),
    ) -> Result<RestoreReport> {
        restore(self, directory.as_ref(), to, options, progress).await
    }

    /// What can be restored of each epoch in spite of what is `wrong`, the error of a restore with `options`, and of what a list shows. Objects are
    /// not read, but for those that have the same records.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn restorable(&self, options: &RestoreOptions, wrong: Option<&Error>) -> Result<Vec<Restorable>> {
        restorable(self, options, wrong).await
    }

    /// As [`Self::history`], though a note cannot be read: for what changes nothing.
    pub(crate) async fn look(&self) -> Result<History> {
        let look = || patiently(|| History::look(&self.store, &self.prefix));
        let (history, unread) = look().await?;
        Ok(if unread.is_some() || history.is_whole() { history } else { look().await?.0 })
    }

    /// As it is listed now.
    pub(crate) async fn history(&self) -> Result<History> {
        let list = || patiently(|| History::load(&self.store, &self.prefix));
        let history = list().await?;
        // A list of what grows may have a segment, and lack the one before, which was made after its place in the list was passed.
        if history.is_whole() { Ok(history) } else { list().await }
    }

    pub(crate) fn empty(&self) -> Error {
        Error::Empty { prefix: self.prefix.to_string() }
    }
}
