//! One archiver for each pin of a log.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::file_lock::FileLock;

/// Held for as long as an archiver lives.
#[derive(Debug)]
pub(crate) struct PinLock(#[expect(dead_code, reason = "it is held")] FileLock);

impl PinLock {
    pub(crate) fn take(directory: &Path, pin: &str) -> Result<Self> {
        let path = directory.join(format!("mapwal-archive.{pin}.lock"));
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.map_err(|source| Error::io("open", &path, source))?;
        FileLock::take(file, &path).map(Self)
    }
}
