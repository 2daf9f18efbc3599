//! The file of a segment that is out of the log.

use std::io;

use crate::events::report;
use crate::format::name;
use crate::sabotage::{Break, is};
use crate::storage::Storage;

/// A file that is no segment any more: its name says so, durably.
#[derive(Debug)]
pub(crate) struct Retired {
    name: String,
}

/// Takes the name of segment `number` away, durably. The file has a temporary one then, which the next open removes.
///
/// A file system that copies what it changes may have no room for that, and have some once a file is gone: then it goes at once.
pub(crate) fn retire(storage: &dyn Storage, number: u64) -> io::Result<Retired> {
    let temporary = name::temporary_segment(number);
    match storage.rename(&name::segment(number), &temporary) {
        Err(error) if is_full(&error) => storage.remove(&name::segment(number))?,
        // An earlier attempt has come as far as that, or somebody else has removed it.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if !is(Break::UnlinkWithoutDirectorySync) {
        storage.sync_directory().or_else(|error| {
            let is_gone = is_full(&error) && storage.remove(&temporary).is_ok();
            if is_gone { storage.sync_directory() } else { Err(error) }
        })?;
    }
    Ok(Retired { name: temporary })
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Retired {
    /// Removes it. If it stays, the next open removes it.
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
