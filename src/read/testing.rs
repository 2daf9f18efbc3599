//! Reading a log on another storage than a directory.

use std::sync::Arc;

use super::LogReader;
use crate::error::Result;
use crate::storage::Storage;

/// As [`LogReader::open`], on `storage`.
///
/// # Errors
/// As [`LogReader::open`].
///
/// # Safety
/// As [`LogReader::open`], for whatever the storage's mappings show.
#[expect(unsafe_code, reason = "as for `LogReader::open`")]
pub unsafe fn open_reader(storage: Arc<dyn Storage>) -> Result<LogReader> {
    LogReader::open_storage(storage, false)
}
