//! The directory that a copy is made in.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use mapwal::Error;
use mapwal::inspect::{Inspection, SegmentFile};

use crate::failure::{BACKUP_GUARD, Failure, REPAIR_GUARD, RESTORE_GUARD, Result, describe};

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
        Err(Error::NotALog { path }) => {
            [BACKUP_GUARD, REPAIR_GUARD, RESTORE_GUARD].iter().any(|guard| path.ends_with(guard))
        }
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

/// Directories that were made for a copy, outermost first.
pub(crate) struct Made(Vec<PathBuf>);

impl Made {
    /// Makes `out`, with the owner and the mode of `like`, unless it is there, and what is missing above it. Their names are
    /// durable.
    pub(crate) fn directory(out: &Path, like: &Path) -> Result<Self> {
        let like = &looked_at(like)?;
        let missing = out.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        let missing: Vec<&Path> = missing.collect();
        let mut made = Self(Vec::new());
        for path in missing.into_iter().rev() {
            if let Err(failure) = made.add(path, (path == out).then_some(like)) {
                made.remove();
                return Err(failure);
            }
        }
        Ok(made)
    }

    fn add(&mut self, path: &Path, like: Option<&Metadata>) -> Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            // As `a/b/..` is, once there is `a/b`.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            created => created.map_err(|error| Failure::new("cannot create", describe(&error), path))?,
        }
        self.0.push(path.to_owned());
        like.map_or(Ok(()), |like| give(path, like))?;
        sync_directory(parent_of(path))
    }

    /// Removes those in which nothing is.
    pub(crate) fn remove(&self) {
        for path in self.0.iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }
}

/// The directory that has the name of `path`.
pub(crate) fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whose the files of a log are, by the first of these that is there. A writer may remove some at any moment.
pub(crate) fn owner_of<'f>(files: impl IntoIterator<Item = &'f SegmentFile>, log: &Path) -> Result<Metadata> {
    let found = files.into_iter().find_map(|file| fs::metadata(&file.path).ok());
    found.map_or_else(|| looked_at(&log.join("LOCK")), Ok)
}

/// What `path` is.
pub(crate) fn looked_at(path: &Path) -> Result<Metadata> {
    fs::metadata(path).map_err(|error| Failure::new("cannot look at", describe(&error), path))
}

/// Gives `path`, which this process has made, the owner `found` of another file, and then its mode. Only root may give files away: a copy that
/// another user makes is for that user alone.
pub(crate) fn give(path: &Path, found: &Metadata) -> Result<()> {
    let made = fs::metadata(path).map_err(|error| Failure::new("cannot set the owner", describe(&error), path))?;
    if found.uid() != made.uid() && !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let is_given = std::os::unix::fs::chown(path, Some(found.uid()), Some(found.gid())).is_ok();
    // What the group of the log may do, another one may not.
    let rights = if is_given { found.mode() } else { found.mode() & !0o070 };
    // A file system without modes is no worse off.
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(rights & 0o7777));
    Ok(())
}

pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| Failure::new("cannot sync", describe(&error), path))
}
