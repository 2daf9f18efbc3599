//! The directory that a copy is made in.

use std::fs::File;
use std::path::Path;

use mapwal::Error;
use mapwal::inspect::Inspection;

use crate::failure::{Failure, Result, describe};

/// A copy is made where nothing is.
pub(crate) fn check_empty(out: &Path) -> Result<()> {
    match Inspection::open(out) {
        Err(Error::NoLog { .. }) => Ok(()),
        Ok(_)
        | Err(Error::NotALog { .. } | Error::NotARegularFile { .. } | Error::Format { .. } | Error::Corrupt(_)) => {
            Err(Failure::new("cannot copy", "the directory is not empty", out))
        }
        Err(error) => Err(Failure::of_log(&error, out)),
    }
}

pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| Failure::new("cannot sync", describe(&error), path))
}
