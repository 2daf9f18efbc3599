//! A file that one process at a time holds, in one place at a time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// A locked file. The system releases it when the process dies.
#[derive(Debug)]
pub(crate) struct FileLock(File);

impl FileLock {
    /// Locks `file`, which is that at `path`. Does not wait.
    pub(crate) fn take(file: File, path: &Path) -> Result<Self> {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(Errno::WOULDBLOCK) => Err(Error::Busy { path: path.to_owned() }),
            Err(error) => Err(Error::io("lock", path, error.into())),
        }
    }

    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&self.0).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes a file anew, durably.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.set_len(0)?;
        (&self.0).write_all(bytes)?;
        self.0.sync_all()
    }
}

impl Drop for FileLock {
    /// Not only closed: a child of this process has a copy of it until it becomes another program, and would hold it.
    fn drop(&mut self) {
        // What fails here is undone by the closing, at the latest when the child is gone.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}
