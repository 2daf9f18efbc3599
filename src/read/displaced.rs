//! Whether what is read is what is there: files that were removed or replaced under a reader, and file systems on which that
//! cannot be told.

use super::scan::{ScanItem, SegmentScan};
use crate::error::{Corruption, Damage, Error, Result};
use crate::events::{calling, report};
use crate::format::name;
use crate::storage::{FileIdentity, Storage};

/// Reports a file system on which a reader may miss what a writer does. What does not change any more can be read there.
pub(super) fn report_file_system(storage: &dyn Storage) -> Result<()> {
    let _calling = calling();
    let path = storage.path();
    let unsupported = storage.unsupported();
    let unsupported = unsupported.map_err(|source| Error::io("look at the file system of", path, source))?;
    if let Some((file_system, reason)) = unsupported {
        let path = path.to_owned();
        report!(warn, directory = %path.display(), file_system, %reason, "file system unsupported");
    }
    Ok(())
}

/// An error if the directory has been removed or replaced.
pub(super) fn check_place(storage: &dyn Storage) -> Result<()> {
    storage.check_place().map_err(|source| Error::displaced_or_io("look for", storage.path(), source))
}

/// An error if segment `number`, the newest, is another file than it was `before`: then what is mapped of it is not what a
/// writer writes to.
pub(super) fn check_newest(storage: &dyn Storage, before: &mut Option<(u64, FileIdentity)>, number: u64) -> Result<()> {
    // What cannot be looked at may have been trimmed by now, with a newer one there: seen the next time.
    let Ok(Some(found)) = storage.find(&name::segment(number)) else { return Ok(()) };
    if before.is_some_and(|(newest, identity)| newest == number && identity != found) {
        return Err(Error::Displaced { path: storage.path().join(name::segment(number)) });
    }
    *before = Some((number, found));
    Ok(())
}

/// The cause of `error`: damage, or files that are not those that were opened.
pub(super) fn explain(storage: &dyn Storage, error: Error) -> Error {
    let Error::Corrupt(corruption) = error else { return error };
    match check_place(storage) {
        Err(displaced @ Error::Displaced { .. }) => displaced,
        _ if is_elsewhere(storage, &corruption) => Error::Displaced { path: corruption.path },
        _ => Error::Corrupt(corruption),
    }
}

/// Whether the file has a sound frame, or a whole batch, where the mapping has none, so that the mapping is not of the file that is there: on an
/// overlay a file becomes another one when it is first opened for writing.
fn is_elsewhere(storage: &dyn Storage, corruption: &Corruption) -> bool {
    let name = corruption.path.file_name().and_then(|name| name.to_str());
    if corruption.damage != Damage::MissingFrame {
        return false;
    }
    let Some(mut scan) = name.and_then(|name| SegmentScan::open_in(storage, name, &corruption.path).ok()) else {
        return false;
    };
    while scan.offset() < corruption.offset {
        if !matches!(scan.next(), Ok(Some(_))) {
            return false;
        }
    }
    while let Ok(Some(ScanItem::Frame(_))) = scan.next() {
        if scan.whole_up_to().0 > corruption.offset {
            return true;
        }
    }
    false
}
