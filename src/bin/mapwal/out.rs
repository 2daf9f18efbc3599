//! The directory that a copy is made in.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use mapwal::Error;
use mapwal::inspect::Inspection;

use crate::failure::{BACKUP_GUARD, Failure, REPAIR_GUARD, Result, describe};

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

/// An error if `out` is inside a log, on whatever way it is named: it would be among the log's files.
pub(crate) fn check_outside(out: &Path, log: &Path) -> Result<()> {
    let failed = |error| Failure::new("cannot copy", describe(&error), out);
    let real = resolved(out).map_err(failed)?;
    for around in real.ancestors() {
        if is_same_directory(around, log) {
            return Err(Failure::new("cannot copy", "the copy would be inside the log", out));
        }
        if around != real && is_log(around) {
            let why = format!("the copy would be inside another log, {}", around.display());
            return Err(Failure::new("cannot copy", why, out));
        }
    }
    if out.is_symlink() && !out.exists() {
        return Err(Failure::new("cannot copy", "this is a link to what is not there", out));
    }
    Ok(())
}

/// An error if `place`, which is there, is the directory of a log, or inside one, where nothing but the log may be.
pub(crate) fn check_outside_of_logs(place: &Path) -> Result<()> {
    let failed = |error| Failure::new("cannot look at", describe(&error), place);
    let real = place.canonicalize().map_err(failed)?;
    match real.ancestors().find(|around| is_log(around)) {
        Some(log) => Err(Failure::new("refused", format!("there is a log in {}", log.display()), place)),
        None => Ok(()),
    }
}

/// Whether it is the directory of a log, in whatever state that is.
fn is_log(directory: &Path) -> bool {
    match Inspection::open(directory) {
        Ok(_) | Err(Error::Corrupt(_) | Error::Format { .. }) => true,
        // A log, or a copy of one, that is being made.
        Err(Error::NotALog { path }) => path.ends_with(BACKUP_GUARD) || path.ends_with(REPAIR_GUARD),
        Err(_) => false,
    }
}

/// Whether both are there, and the same.
pub(crate) fn is_same_directory(a: &Path, b: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    matches!((identity(a), identity(b)), (Ok(a), Ok(b)) if a == b)
}

/// Where `path` leads, or will once what is missing of it has been made.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut real = PathBuf::new();
    for component in std::path::absolute(path)?.components() {
        if component == Component::ParentDir {
            real.pop();
            continue;
        }
        real.push(component);
        match real.canonicalize() {
            // A link to what is not there leads on all the same.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Ok(target) = fs::read_link(&real) {
                    real.pop();
                    real = resolved(&real.join(target))?;
                }
            }
            found => real = found?,
        }
    }
    Ok(real)
}

pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| Failure::new("cannot sync", describe(&error), path))
}
