//! Removals of names that may not be durable yet.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;

use super::trust::Trust;

/// What has been removed from a directory.
///
/// ext4 without a journal gives the blocks of a removed file to the next one at once. After a power cut the name may be back, for a
/// file that holds what was written to the other one. So nobody takes room there until removals are durable.
#[derive(Debug)]
pub(super) struct Removals {
    directory: Arc<OwnedFd>,
    trust: Trust,
    /// Whether some may not be durable, also of a process before this one.
    pending: Mutex<bool>,
}

impl Removals {
    pub(super) fn new(directory: Arc<OwnedFd>, trust: Trust) -> Self {
        Self { directory, trust, pending: Mutex::new(true) }
    }

    /// Whether it matters: ext4 does not say whether it has a journal.
    fn matter(&self) -> bool {
        self.trust == Trust::Ext
    }

    /// Has `remove` give back room.
    pub(super) fn note<T>(&self, remove: impl FnOnce() -> T) -> T {
        let mut pending = self.pending.lock();
        *pending = true;
        remove()
    }

    /// Makes the names in the directory durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        if !self.matter() {
            return self.sync_directory();
        }
        let mut pending = self.pending.lock();
        self.sync_directory()?;
        *pending = false;
        Ok(())
    }

    /// Has `take` take room, while none is given back.
    pub(super) fn before<T>(&self, take: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if !self.matter() {
            return take();
        }
        let mut pending = self.pending.lock();
        if *pending {
            self.sync_directory()?;
            *pending = false;
        }
        take()
    }

    fn sync_directory(&self) -> io::Result<()> {
        rustix::fs::fsync(&*self.directory)?;
        self.trust.check_after_sync(&*self.directory)
    }
}
