//! One archiver for each pin of a log.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{Error, Result};

/// Held for as long as an archiver lives; the system releases it when the process dies.
#[derive(Debug)]
pub(crate) struct PinLock(#[expect(dead_code, reason = "it is held")] File);

impl PinLock {
    pub(crate) fn take(directory: &Path, pin: &str) -> Result<Self> {
        let path = directory.join(format!("mapwal-archive.{pin}.lock"));
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.map_err(|source| Error::io("open", &path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(Error::Busy { path }),
            Err(TryLockError::Error(source)) => Err(Error::io("lock", &path, source)),
        }
    }
}
