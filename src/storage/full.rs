//! What is said of a disk that is full.

use std::io;
use std::path::Path;

use super::Storage;
use crate::error::Error;

/// The error for an `operation` on `path` that would have taken `needed_bytes`, and met `source`.
pub(crate) fn failed(
    storage: &dyn Storage,
    operation: &'static str,
    path: &Path,
    needed_bytes: u64,
    source: io::Error,
) -> Error {
    if is_full(&source) {
        Error::NoSpace { path: storage.path().to_owned(), needed_bytes, left: storage.space_left() }
    } else {
        Error::io(operation, path, source)
    }
}

/// Whether there was no room: on the disk, or in the user's share of it.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
