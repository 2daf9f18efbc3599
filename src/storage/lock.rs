//! The lock that keeps a second writer out: on the lock file, and on the directory itself, so that a lock file that is removed
//! lets nobody in.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::LockGuard;

/// An open lock file, and the directory. They are only ever closed: an explicit unlock in a forked child would release the
/// parent's lock.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
    _directory: OwnedFd,
}

impl LockFile {
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl LockGuard for LockFile {
    fn sign(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
    }
}

/// Locks the directory and the file that `open` opens; `None` if somebody has locked one of them. Does not wait.
pub(super) fn take(directory: &OwnedFd, open: impl FnOnce() -> io::Result<File>) -> io::Result<Option<LockFile>> {
    let Some(directory) = flock(directory)? else { return Ok(None) };
    let file = open()?;
    match fs2::FileExt::try_lock_exclusive(&file) {
        Ok(()) => Ok(Some(LockFile { file, _directory: directory })),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// A directory that is locked for a moment.
#[derive(Debug)]
pub(super) struct Locked(OwnedFd);

impl Drop for Locked {
    fn drop(&mut self) {
        // Not only closed: a child that was forked meanwhile may hold a copy for long. Nothing could be done about a failure.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// Locks a directory for a moment; `None` if somebody has. Does not wait.
pub(super) fn take_directory(directory: &OwnedFd) -> io::Result<Option<Locked>> {
    Ok(flock(directory)?.map(Locked))
}

/// Opened once more: it is locked for as long as that lives, whoever holds the other.
fn flock(directory: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(directory, ".", flags, Mode::empty())?;
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(directory)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The number that the holder left in `file`: a courtesy, without which the lock is as busy as before.
pub(super) fn signature(file: File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
