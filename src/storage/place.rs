//! Whether names still lead to the files that are open.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;

use crate::error::Error;

/// Which file it is, as long as it exists: its device, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity(u64, u64);

impl FileIdentity {
    /// That of an open file; `None` if the system does not tell.
    pub(crate) fn of(file: impl AsFd) -> Option<Self> {
        rustix::fs::fstat(file).ok().as_ref().map(identity)
    }
}

/// A name that led to an open file leads to another one, or nowhere.
#[derive(Debug, thiserror::Error)]
#[error("{} has been removed or replaced while the log is open", path.display())]
pub(crate) struct Displaced {
    pub(crate) path: PathBuf,
}

impl Error {
    /// `source` by what it is if a file is not where it was, and as that of an `operation` on `path` otherwise.
    pub(crate) fn displaced_or_io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        match source.get_ref().and_then(|inner| inner.downcast_ref::<Displaced>()) {
            Some(Displaced { path }) => Self::Displaced { path: path.clone() },
            None => Self::io(operation, path, source),
        }
    }
}

impl Displaced {
    pub(crate) fn error(path: PathBuf) -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, Self { path })
    }
}

/// Where a directory was when it was opened.
#[derive(Debug)]
pub(super) struct Place {
    /// Without symbolic links: one that leads elsewhere by now makes no difference to the files. `None` if it is not known.
    path: Option<PathBuf>,
    directory: FileIdentity,
    /// Of `/`: a process that has another one by now sees other files under the same path.
    root: Option<FileIdentity>,
    /// The name and the identity of the lock file, once it is held.
    lock: OnceLock<(String, FileIdentity)>,
}

impl Place {
    pub(super) fn of(path: &Path, directory: &OwnedFd) -> io::Result<Self> {
        Ok(Self {
            path: std::fs::canonicalize(path).ok(),
            directory: identity(&rustix::fs::fstat(directory)?),
            root: root(),
            lock: OnceLock::new(),
        })
    }

    pub(super) fn note_lock(&self, name: &str, lock: impl AsFd) -> io::Result<()> {
        let identity = identity(&rustix::fs::fstat(lock)?);
        self.lock.get_or_init(|| (name.to_owned(), identity));
        Ok(())
    }

    /// An error if the directory or the lock file is not where it was. Not if that cannot be found out.
    pub(super) fn check(&self, directory: &OwnedFd) -> io::Result<()> {
        if let Some(path) = self.path.as_ref().filter(|_| self.root == root()) {
            match rustix::fs::stat(path) {
                Ok(stat) if identity(&stat) == self.directory => {}
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => return Err(Displaced::error(path.clone())),
                Err(_) => {}
            }
        }
        match self.lock.get() {
            Some((name, held)) if !find(directory, name).is_ok_and(|found| found == *held) => {
                Err(Displaced::error(self.path.as_deref().unwrap_or(Path::new("")).join(name)))
            }
            _ => Ok(()),
        }
    }
}

/// Which file `name` leads to.
pub(super) fn find(directory: &OwnedFd, name: &str) -> io::Result<FileIdentity> {
    Ok(identity(&rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

fn identity(stat: &Stat) -> FileIdentity {
    // The types of the fields differ between systems.
    #[allow(clippy::unnecessary_cast, reason = "not of the same type everywhere")]
    FileIdentity(stat.st_dev as u64, stat.st_ino as u64)
}

fn root() -> Option<FileIdentity> {
    rustix::fs::stat("/").ok().as_ref().map(identity)
}
