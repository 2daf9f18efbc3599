//! What keeps writers out while a log is repaired.

use std::fs::File;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::failure::{Failure, Result, describe};

/// The locks that a writer takes, of the directory and of the file `LOCK`, held until this is dropped.
pub(super) struct Lock {
    _held: Vec<File>,
}

impl Lock {
    pub(super) fn take(directory: &Path) -> Result<Self> {
        let mut held = Vec::new();
        for path in [directory.to_owned(), directory.join("LOCK")] {
            let file = match File::open(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && path != directory => continue,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(Failure::new("no log", "nothing is there", directory));
                }
                opened => opened.map_err(|error| Failure::new("cannot open", describe(&error), &path))?,
            };
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => held.push(file),
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(Failure::new("cannot repair", "a process has the log open", &path));
                }
                Err(error) => return Err(Failure::new("cannot lock", describe(&error.into()), &path)),
            }
        }
        Ok(Self { _held: held })
    }
}
