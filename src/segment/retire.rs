//! The file of a segment that is out of the log: kept for another segment, or removed.

use std::io;

use crate::events::report;
use crate::format::{Version, name};
use crate::segment::Segment;
use crate::storage::{Access, Storage, Users, is_full};

/// A file that is no segment any more: its name says so, durably.
#[derive(Debug)]
pub(crate) struct Retired {
    name: String,
    size: u64,
    /// It can be made another segment: every reader of it says so, and all that was ever written to it reached the device, or
    /// the log would not go on.
    is_known: bool,
    /// None of its blocks has been given back.
    is_whole: bool,
    /// How long the pages are in which the page cache holds it; 0 if that is not known.
    page_len: usize,
}

/// Whether a file can be made another segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fitness {
    /// No reader sees it, and none can any more.
    Free,
    /// A reader still sees it.
    InUse,
    /// It never can.
    Unfit,
}

/// Takes the name of `segment` away, durably. The file has a temporary one then. If an earlier run has made it, it is not known
/// to be sound: a write of it may have failed, and a page that could not be written once may never be.
///
/// A file system that copies what it changes may have no room for that, and have some once a file is gone: then it goes at once.
pub(crate) fn retire(storage: &dyn Storage, segment: &Segment) -> io::Result<Retired> {
    let info = segment.info();
    let temporary = name::temporary_segment(info.number);
    match storage.rename(&name::segment(info.number), &temporary) {
        Err(error) if is_full(&error) => storage.remove(&name::segment(info.number))?,
        // An earlier attempt has come this far, or another process has removed it.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    storage.sync_directory().or_else(|error| {
        let is_gone = is_full(&error) && storage.remove(&temporary).is_ok();
        if is_gone { storage.sync_directory() } else { Err(error) }
    })?;
    // Programs of the time of version 2 read without a word.
    let is_known = segment.is_of_this_run() && info.layout.version == Version::V3;
    let (is_whole, page_len) = (segment.is_whole(), segment.page_len());
    Ok(Retired { name: temporary, size: info.size, is_known, is_whole, page_len })
}

/// Makes a file of `size` zeros under the temporary name of segment `number`, all of whose blocks have been written.
pub(crate) fn stock(storage: &dyn Storage, number: u64, size: u64) -> io::Result<Retired> {
    static ZEROS: [u8; 256 << 10] = [0; 256 << 10];
    let name = name::temporary_segment(number);
    let file = storage.create(&name)?;
    let write = || -> io::Result<()> {
        file.allocate(size)?;
        for offset in (0..size).step_by(ZEROS.len()) {
            file.write_at(&ZEROS[..ZEROS.len().min((size - offset) as usize)], offset)?;
        }
        file.sync()?;
        // It comes back in pages that suit the syncs. If it stays, those of the first records write more.
        let _ = file.drop_cache(0..size);
        Ok(())
    };
    write().inspect_err(|_| drop(storage.remove(&name)))?;
    Ok(Retired { name, size, is_known: true, is_whole: true, page_len: 0 })
}

impl Retired {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(crate) fn page_len(&self) -> usize {
        self.page_len
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Whether it can be made a segment of its size now. What cannot be found out counts as a no.
    pub(crate) fn fitness(&self, storage: &dyn Storage) -> Fitness {
        let Ok(file) = storage.open(&self.name, Access::Write) else { return Fitness::Unfit };
        if !self.is_known || file.len_bytes().ok() != Some(self.size) {
            return Fitness::Unfit;
        }
        let Ok(Users { is_linked, here, elsewhere }) = file.users() else { return Fitness::Unfit };
        if is_linked {
            // A backup: what it holds is its own.
            return Fitness::Unfit;
        }
        if here || elsewhere { Fitness::InUse } else { Fitness::Free }
    }

    /// Removes it. If it stays, the next open finds it.
    pub(crate) fn remove(self, storage: &dyn Storage) {
        match storage.remove(&self.name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let file = self.name;
                report!(warn, error = &error as &dyn std::error::Error, file, "cannot remove a file");
            }
            _ => {}
        }
    }
}
