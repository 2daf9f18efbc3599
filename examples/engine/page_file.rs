//! The file of pages.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use parking_lot::Mutex;
use zerocopy::IntoBytes;

use crate::Failure;
use crate::page::{PAGE_LEN, Page};

/// Pages by number. A page is written by one call to a place of its own size: the page cache takes it as a whole or not
/// at all, also from a process that is being killed.
pub(crate) struct PageFile {
    file: File,
    /// With a simulated power loss: the writes since the last sync, which reach the file by the next sync only. The loss
    /// of the process is the loss of these, then.
    unsynced: Option<Mutex<HashMap<u64, Vec<u8>>>>,
}

impl PageFile {
    /// Opens the file, and makes it if there is none. Pages that were never written are empty.
    pub(crate) fn open(path: &Path, page_count: u64, loses_unsynced: bool) -> Result<Self, Failure> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len(page_count * PAGE_LEN as u64)?;
        Ok(Self { file, unsynced: loses_unsynced.then(Mutex::default) })
    }

    pub(crate) fn read(&self, number: u64) -> Result<Box<Page>, Failure> {
        let mut page = Page::empty(number)?;
        let unsynced = self.unsynced.as_ref().map(Mutex::lock);
        match unsynced.as_ref().and_then(|unsynced| unsynced.get(&number)) {
            Some(bytes) => page.as_mut_bytes().copy_from_slice(bytes),
            None => self.file.read_exact_at(page.as_mut_bytes(), place(number))?,
        }
        page.check(number)?;
        Ok(page)
    }

    /// Writes a page. The log must be durable up to the page's LSN. The page is durable after the next [`Self::sync`].
    pub(crate) fn write(&self, number: u64, page: &mut Page) -> Result<(), Failure> {
        page.seal();
        match &self.unsynced {
            Some(unsynced) => {
                unsynced.lock().insert(number, page.as_bytes().to_vec());
            }
            None => self.file.write_all_at(page.as_bytes(), place(number))?,
        }
        Ok(())
    }

    /// Makes durable what was written before the call.
    pub(crate) fn sync(&self) -> Result<(), Failure> {
        if let Some(unsynced) = &self.unsynced {
            // Locked throughout: a page that is read meanwhile is in the one place or the other.
            let mut unsynced = unsynced.lock();
            for (number, bytes) in unsynced.drain() {
                self.file.write_all_at(&bytes, place(number))?;
            }
        }
        Ok(self.file.sync_data()?)
    }
}

fn place(number: u64) -> u64 {
    number * PAGE_LEN as u64
}
