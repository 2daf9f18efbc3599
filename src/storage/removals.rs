//! Removals of names, durable before the blocks of what they named are free.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;
#[cfg(target_os = "linux")]
use rustix::fs::{Mode, OFlags};

use super::trust::Trust;

/// What has been removed from a directory.
///
/// ext4 without a journal gives the blocks of a removed file to the next one at once. After a power cut the name may be back, for a
/// file that holds what was written to the other one. A file takes its room at any time after it was written to, so
/// what is removed keeps its blocks until the removal is durable: by a handle. Temporary names may come back, with anything.
#[derive(Debug)]
pub(super) struct Removals {
    directory: Arc<OwnedFd>,
    trust: Trust,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Removals of processes before this one are durable.
    are_earlier_durable: bool,
    /// What has been removed, not durably.
    kept: Vec<OwnedFd>,
}

impl Removals {
    pub(super) fn new(directory: Arc<OwnedFd>, trust: Trust) -> Self {
        Self { directory, trust, state: Mutex::default() }
    }

    /// Whether it matters: ext4 does not say whether it has a journal.
    fn matter(&self) -> bool {
        self.trust == Trust::Ext
    }

    /// Has `remove` take `name` away from its file, and makes that durable if the name counts.
    pub(super) fn durably(&self, name: &str, remove: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let is_temporary = name.ends_with(super::TEMPORARY_SUFFIX);
        let kept = if self.matter() && !is_temporary { self.handle(name) } else { None };
        remove()?;
        let Some(kept) = kept else { return Ok(()) };
        self.state.lock().kept.push(kept);
        self.sync()
    }

    /// Makes the names in the directory durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        let kept = std::mem::take(&mut self.state.lock().kept);
        let synced = self.sync_directory();
        let mut state = self.state.lock();
        if synced.is_err() {
            state.kept.extend(kept);
        } else {
            state.are_earlier_durable = true;
            // Its blocks are freed, which takes its time.
            drop(state);
            drop(kept);
        }
        synced
    }

    /// On return what earlier processes have removed is durable: files may take room.
    #[cfg(target_os = "linux")]
    pub(super) fn settle_earlier(&self) -> io::Result<()> {
        let is_settled = !self.matter() || self.state.lock().are_earlier_durable;
        if is_settled { Ok(()) } else { self.sync() }
    }

    #[cfg(target_os = "linux")]
    fn handle(&self, name: &str) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&*self.directory, name, flags, Mode::empty()).ok()
    }

    #[cfg(not(target_os = "linux"))]
    fn handle(&self, _name: &str) -> Option<OwnedFd> {
        None
    }

    fn sync_directory(&self) -> io::Result<()> {
        rustix::fs::fsync(&*self.directory)?;
        self.trust.check_after_sync(&*self.directory)
    }
}
