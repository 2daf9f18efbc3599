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
pub(crate) fn retire(storage: &dyn Storage, number: u64) -> io::Result<Retired> {
    let temporary = name::temporary_segment(number);
    match storage.rename(&name::segment(number), &temporary) {
        // An earlier attempt has come as far as that, or somebody else has removed it.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if !is(Break::UnlinkWithoutDirectorySync) {
        storage.sync_directory()?;
    }
    Ok(Retired { name: temporary })
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
