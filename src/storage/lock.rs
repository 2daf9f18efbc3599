//! The lock that keeps a second writer out: on the lock file, and on the directory itself, so that no writer gets in
//! when the lock file is removed.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::LockGuard;
use crate::memory::Process;

/// An open directory, which may be locked: by the handle that everything else uses, so that an idle log has one descriptor less.
#[derive(Debug)]
pub(super) struct LockableDirectory {
    directory: Arc<OwnedFd>,
    /// By this handle, for which the system would lock it once more.
    is_locked: Arc<AtomicBool>,
}

impl LockableDirectory {
    pub(super) fn new(directory: Arc<OwnedFd>) -> Self {
        Self { directory, is_locked: Arc::default() }
    }

    /// `None` if it is locked. Does not wait.
    fn lock(&self) -> io::Result<Option<LockedDirectory>> {
        if self.is_locked.swap(true, Ordering::Relaxed) {
            return Ok(None);
        }
        let locked = rustix::fs::flock(&*self.directory, FlockOperation::NonBlockingLockExclusive);
        if let Err(error) = locked {
            self.is_locked.store(false, Ordering::Relaxed);
            return if error == Errno::WOULDBLOCK { Ok(None) } else { Err(error.into()) };
        }
        let (directory, is_locked) = (Arc::clone(&self.directory), Arc::clone(&self.is_locked));
        Ok(Some(LockedDirectory { directory, is_locked, process: Process::current() }))
    }

    /// Whether a writer holds the lock; `None` where only trying could tell, and that would keep a writer out.
    pub(super) fn is_held(&self) -> io::Result<Option<bool>> {
        if self.is_locked.load(Ordering::Relaxed) { Ok(Some(true)) } else { presence::is_shown(&self.directory) }
    }
}

#[derive(Debug)]
struct LockedDirectory {
    directory: Arc<OwnedFd>,
    is_locked: Arc<AtomicBool>,
    process: Process,
}

impl Drop for LockedDirectory {
    fn drop(&mut self) {
        if self.process.is_current() {
            presence::end(&self.directory);
            // What fails here is undone by the closing, at the latest when the children are gone.
            let _ = rustix::fs::flock(&*self.directory, FlockOperation::Unlock);
            self.is_locked.store(false, Ordering::Relaxed);
        }
    }
}

/// An open lock file, and the directory.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
    directory: LockedDirectory,
}

/// Lets go of the locks, rather than leaving that to the closing: children of this process have copies of both files until they
/// become another program, or for good. Those that drop theirs only close them.
impl Drop for LockFile {
    fn drop(&mut self) {
        if self.directory.process.is_current() {
            // As for the directory, which follows.
            let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
        }
    }
}

impl LockFile {
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl LockGuard for LockFile {
    fn write_pid(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
    }
}

/// Locks the directory and the file that `open` opens; `None` if one of them is locked. Does not wait.
pub(super) fn take(
    directory: &LockableDirectory,
    open: impl FnOnce() -> io::Result<File>,
) -> io::Result<Option<LockFile>> {
    let Some(directory) = directory.lock()? else { return Ok(None) };
    let file = open()?;
    match fs2::FileExt::try_lock_exclusive(&file) {
        Ok(()) => {
            presence::begin(&directory.directory)?;
            Ok(Some(LockFile { file, directory }))
        }
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

/// Locks a directory for a moment; `None` if it is locked. Does not wait.
pub(super) fn take_directory(directory: &OwnedFd) -> io::Result<Option<Locked>> {
    Ok(flock(directory)?.map(Locked))
}

/// Opened once more: it is locked for as long as this lives, whatever happens to the other handle.
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
    text.trim().parse().ok().filter(|&pid| is_running(pid))
}

/// Whether there is a process of this number. If not, it is that of an earlier holder: what has the lock writes none, or has not yet.
fn is_running(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH))
}

/// How a writer shows that it holds the lock to processes that only look. A `flock` cannot be queried, only taken. So a
/// writer also has a lock on one otherwise unused byte of the directory, which belongs to the open directory as the
/// `flock` does: it can be queried, on every local file system, across the borders of containers, and when `LOCK` is
/// gone. A directory cannot be opened for writing, so it is a read lock; only the `flock` keeps other writers out.
#[cfg(target_os = "linux")]
mod presence {
    use std::io;
    use std::os::fd::OwnedFd;

    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc::{self, c_int, flock};

    /// The byte.
    const OFFSET: libc::off_t = 1 << 62;

    fn lock(kind: c_int) -> flock {
        flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: OFFSET,
            l_len: 1,
            l_pid: 0,
        }
    }

    pub(super) fn begin(directory: &OwnedFd) -> io::Result<()> {
        match fcntl(directory, FcntlArg::F_OFD_SETLK(&lock(libc::F_RDLCK))) {
            // No process can ask for it either.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::ENOLCK) => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    pub(super) fn end(directory: &OwnedFd) {
        // As for the other locks: the closing does it, later.
        let _ = fcntl(directory, FcntlArg::F_OFD_SETLK(&lock(libc::F_UNLCK)));
    }

    pub(super) fn is_shown(directory: &OwnedFd) -> io::Result<Option<bool>> {
        let mut lock = lock(libc::F_WRLCK);
        match fcntl(directory, FcntlArg::F_OFD_GETLK(&mut lock)) {
            Ok(_) => Ok(Some(c_int::from(lock.l_type) != libc::F_UNLCK)),
            Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::ENOLCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod presence {
    use std::io;
    use std::os::fd::OwnedFd;

    pub(super) fn begin(_: &OwnedFd) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn end(_: &OwnedFd) {}

    pub(super) fn is_shown(_: &OwnedFd) -> io::Result<Option<bool>> {
        Ok(None)
    }
}
