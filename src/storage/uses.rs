//! Which files of a directory are open or mapped, in this process or in another.
//!
//! Within a directory handle they are counted. For others to see, a process that opens a file for reading holds a
//! shared lock on one byte of the directory, at the offset of the file's inode number, until the last handle and the
//! last mapping of it are gone. The lock belongs to the open directory, so that the system releases it when the process
//! dies; a directory is always there, and a process that can list it can lock it.
//!
//! *No file counts as unused while it is read.* A reader opens the file by its name, takes the lock, and then checks
//! that the file still has that name. A writer removes the name first, and looks for locks second. Either it sees the
//! lock, or the lock came later than its look: then the name was gone, and the reader takes the file for gone.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::memory::Process;

/// The uses of the files of one open directory.
#[derive(Debug)]
pub(super) struct Uses {
    directory: Arc<OwnedFd>,
    /// By inode number.
    counts: Mutex<BTreeMap<u64, Count>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    all: usize,
    /// Those for reading, for which the lock is held.
    reading: usize,
}

/// A handle or a mapping, until it is dropped.
#[derive(Debug)]
pub(super) struct Use {
    uses: Arc<Uses>,
    inode: u64,
    is_reading: bool,
    process: Process,
}

impl Uses {
    pub(super) fn new(directory: Arc<OwnedFd>) -> Arc<Self> {
        Arc::new(Self { directory, counts: Mutex::default() })
    }

    /// The file `inode` is in use from now on. On return others see it, if `is_reading`.
    pub(super) fn begin(self: &Arc<Self>, inode: u64, is_reading: bool) -> io::Result<Use> {
        let mut counts = self.counts.lock();
        let mut count = counts.get(&inode).copied().unwrap_or_default();
        count.all += 1;
        if is_reading {
            if count.reading == 0 {
                locks::share(&self.directory, inode)?;
            }
            count.reading += 1;
        }
        counts.insert(inode, count);
        Ok(Use { uses: Arc::clone(self), inode, is_reading, process: Process::current() })
    }

    /// How many uses of the file there are in this process, by this directory handle.
    pub(super) fn count(&self, inode: u64) -> usize {
        self.counts.lock().get(&inode).map_or(0, |count| count.all)
    }

    /// Whether another directory handle, of this process or another, has it open for reading.
    pub(super) fn is_read_elsewhere(&self, inode: u64) -> io::Result<bool> {
        locks::is_shared_by_others(&self.directory, inode)
    }
}

impl Use {
    pub(super) fn uses(&self) -> &Uses {
        &self.uses
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        // A forked child shares the lock with its parent, and another thread may have held the mutex when it was made.
        if !self.process.is_current() {
            return;
        }
        let mut counts = self.uses.counts.lock();
        let Some(count) = counts.get_mut(&self.inode) else { return };
        count.all -= 1;
        count.reading -= usize::from(self.is_reading);
        if self.is_reading && count.reading == 0 {
            locks::release(&self.uses.directory, self.inode);
        }
        if count.all == 0 {
            counts.remove(&self.inode);
        }
    }
}

/// Locks of an open file description, on one byte.
#[cfg(target_os = "linux")]
mod locks {
    use std::io;
    use std::os::fd::OwnedFd;

    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc::{self, c_int, flock};

    /// An offset is signed, and the byte after it must have one as well. Two files with one byte are in use together.
    const OFFSETS: u64 = 1 << 62;

    fn lock_on(inode: u64, kind: c_int) -> flock {
        flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: (inode % OFFSETS).cast_signed(),
            l_len: 1,
            l_pid: 0,
        }
    }

    pub(super) fn share(directory: &OwnedFd, inode: u64) -> io::Result<()> {
        match fcntl(directory, FcntlArg::F_OFD_SETLK(&lock_on(inode, libc::F_RDLCK))) {
            // No process can look for locks there either.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
            // Or there is no memory for one more.
            Err(Errno::ENOLCK) if is_shared_by_others(directory, inode).is_err() => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    pub(super) fn release(directory: &OwnedFd, inode: u64) {
        // What stays locked is not used again for anything else, and nothing is wrong.
        let _ = fcntl(directory, FcntlArg::F_OFD_SETLK(&lock_on(inode, libc::F_UNLCK)));
    }

    pub(super) fn is_shared_by_others(directory: &OwnedFd, inode: u64) -> io::Result<bool> {
        // A test for the lock that would conflict with a shared one. It is never taken.
        let mut lock = lock_on(inode, libc::F_WRLCK);
        fcntl(directory, FcntlArg::F_OFD_GETLK(&mut lock))?;
        Ok(c_int::from(lock.l_type) != libc::F_UNLCK)
    }
}

/// Where there are no such locks, every file counts as in use.
#[cfg(not(target_os = "linux"))]
mod locks {
    use std::io;
    use std::os::fd::OwnedFd;

    pub(super) fn share(_: &OwnedFd, _: u64) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn release(_: &OwnedFd, _: u64) {}

    pub(super) fn is_shared_by_others(_: &OwnedFd, _: u64) -> io::Result<bool> {
        Ok(true)
    }
}
