//! What of the control page is more than a hint: written durably, or the page loses its name.

use std::io;
use std::sync::atomic::Ordering;

use super::ControlPage;
use super::making::{is_on_device, open_for_device};
use super::words::{LEN, Word};
use crate::error::{Error, Result};
use crate::events::report;
use crate::format::name;
use crate::storage::{self, Displaced, FileIdentity, Storage};

impl ControlPage {
    /// Durably notes that older segments are gone. Returns false if the page had to be removed instead: without one, no
    /// segment that is gone is missed. Before the page loses its name, `remove_trimmed` is called, since only the page
    /// says what was trimmed before. If that fails, so does this, and the page keeps its name.
    pub(crate) fn retain_from(
        &self,
        storage: &dyn Storage,
        number: u64,
        remove_trimmed: impl FnOnce() -> Result<()>,
    ) -> Result<bool> {
        self.set_durably(storage, Word::OldestSegment, [self.signed(Word::OldestSegment, number)], remove_trimmed)
    }

    /// Durably clears the position of the close, so that frames may follow it. Returns false if the page had to be
    /// removed instead.
    pub(super) fn take_back_close(&self, storage: &dyn Storage) -> Result<bool> {
        // Also if it does not: one that died while it did this may have done it to the page cache alone.
        // What was trimmed before has been removed.
        self.set_durably(storage, Word::Closed, self.closed_at(0), || Ok(()))
    }

    /// On return the device has `words` from `first` on, or, if this is false, the page has no name. If it fails, the page says what it
    /// said before, to readers elsewhere too.
    fn set_durably<const N: usize>(
        &self,
        storage: &dyn Storage,
        first: Word,
        words: [u64; N],
        before_removal: impl FnOnce() -> Result<()>,
    ) -> Result<bool> {
        let before = std::array::from_fn::<_, N, _>(|at| self.words.load(first as usize + at));
        self.try_durably(storage, first, words, before_removal).inspect_err(|_| {
            let _ = self.write(first, before);
        })
    }

    /// As [`Self::set_durably`]; if it fails, the page may say either.
    ///
    /// What a failed write-back leaves may never reach the device, however well later syncs go, also those of a later run.
    /// So the device is asked, and a page that it does not hold loses its name: without one nothing is missed.
    fn try_durably<const N: usize>(
        &self,
        storage: &dyn Storage,
        first: Word,
        words: [u64; N],
        before_removal: impl FnOnce() -> Result<()>,
    ) -> Result<bool> {
        let failed = |source| sync_error(storage, source);
        let Some(file) = self.file.as_ref().filter(|_| self.has_name()) else {
            // As far as it goes: what it says does not survive.
            let _ = self.write(first, words);
            return Ok(false);
        };
        // Before anything is written: a process may have no more descriptors.
        let device = open_for_device(storage).map_err(failed)?;
        let written = self.write(first, words);
        let _ = file.touch();
        let synced = written.and_then(|()| file.sync_mapping(self.words.mapping(), 0..LEN as usize));
        if synced.is_ok() && is_on_device(device.as_deref(), first, &words).is_ok_and(|is_there| is_there) {
            return Ok(true);
        }
        before_removal()?;
        // Before it loses its name: a look for it does not take it for one that others have removed.
        self.is_removed.store(true, Ordering::Release);
        match storage.remove(name::CONTROL) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.is_removed.store(false, Ordering::Release);
                return Err(failed(error));
            }
            _ => {}
        }
        let path = storage.path().to_owned();
        report!(warn, path = %path.display(), "control page cannot be written, and is removed");
        storage.sync_directory().map(|()| false).map_err(failed)
    }

    /// An error if its name leads to another file by now, or nowhere: what is written to the page is lost with the process. Not if
    /// that cannot be found out.
    pub(crate) fn check_place(&self, storage: &dyn Storage) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let is_displaced = match storage.find(name::CONTROL) {
            Ok(Some(found)) => file.as_file().and_then(FileIdentity::of).is_some_and(|open| open != found),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(None) => false,
        };
        // Read after the look: the log says so before it removes the page.
        if is_displaced && self.has_name() { Err(Displaced::error(storage.path().join(name::CONTROL))) } else { Ok(()) }
    }
}

/// The error for a page of which it is not known what is durable.
fn sync_error(storage: &dyn Storage, source: io::Error) -> Error {
    storage::failed(storage, "sync", &storage.path().join(name::CONTROL), LEN, source)
}
