//! What a node's log is on: files, or a simulated disk that is loaded from files, and goes back to files when its process ends.
//!
//! Both have the same files in the end, so that a node may start with either, whatever it had before.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mapwal::testing::{DiskFailure, SimulatedDisk};
use mapwal::{Log, Options};
use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{DiskKind, Outcome};

/// How many milliseconds a sync of a simulated disk takes, as the seed says: what is said too early can be wrong.
const SYNC_MILLIS: Range<u64> = 1..40;
/// How long a file may be on a disk that is full: shorter than a snapshot or another segment.
const FULL_BYTES: u64 = 16 << 10;

pub(super) struct Disk {
    directory: PathBuf,
    simulated: Option<SimulatedDisk>,
    has_power: AtomicBool,
    /// Held for good by the thread that ends the process.
    leaving: Mutex<()>,
}

impl Disk {
    /// The disk in `directory`, and the log on it.
    pub(super) fn open(directory: &Path, kind: DiskKind, seed: u64) -> Outcome<(Self, Log)> {
        let files = directory.join("log");
        let options = Options::new().segment_size_bytes(128 << 10);
        let (simulated, log) = match kind {
            DiskKind::Files => {
                // SAFETY: the directory is on a local file system, and only this node's process writes to its files.
                let log = unsafe { Log::open(&files, &options) }?;
                (None, log)
            }
            DiskKind::Simulated => {
                fs::create_dir_all(&files)?;
                let disk = SimulatedDisk::read_from(seed, &files)?;
                disk.sync_takes(Duration::from_millis(fastrand::Rng::with_seed(seed).u64(SYNC_MILLIS)));
                let log = disk.open(&options)?;
                (Some(disk), log)
            }
        };
        let disk = Self {
            directory: directory.to_owned(),
            simulated,
            has_power: AtomicBool::new(true),
            leaving: Mutex::default(),
        };
        Ok((disk, log))
    }

    fn simulated(&self) -> io::Result<&SimulatedDisk> {
        self.simulated.as_ref().ok_or_else(|| io::Error::other("that takes a simulated disk"))
    }

    pub(super) fn has_power(&self) -> bool {
        self.has_power.load(Ordering::Relaxed)
    }

    /// From now on nothing becomes durable. Files do not know of power.
    pub(super) fn cut_power(&self) {
        if let Some(disk) = &self.simulated {
            self.has_power.store(false, Ordering::Relaxed);
            disk.end_power_after(0);
            // The operation that the power goes with.
            drop(disk.reader());
        }
    }

    /// There is no room from now on for longer files; on a simulated disk, for what one of the next operations wants.
    pub(super) fn fill(&self, after: u64) -> io::Result<()> {
        match &self.simulated {
            Some(disk) => disk.fail_after(after, DiskFailure::Full),
            None => setrlimit(Resource::Fsize, Rlimit { current: Some(FULL_BYTES), ..getrlimit(Resource::Fsize) })?,
        }
        Ok(())
    }

    /// One of the next operations fails.
    pub(super) fn fail(&self, after: u64) -> io::Result<()> {
        self.simulated()?.fail_after(after, DiskFailure::Io);
        Ok(())
    }

    /// There is room again.
    pub(super) fn free() -> io::Result<()> {
        let limit = getrlimit(Resource::Fsize);
        Ok(setrlimit(Resource::Fsize, Rlimit { current: limit.maximum, ..limit })?)
    }

    /// Leaves the files for the next process, which must be the last thing that this one does: what the end of the power has left, or what the end of
    /// a process does.
    pub(super) fn leave(&self) -> io::Result<()> {
        let lock = self.leaving.lock();
        if let Some(disk) = &self.simulated {
            let left = if self.has_power() { disk.kill() } else { disk.restart() };
            let (files, next, old) = (self.path("log"), self.path("log.next"), self.path("log.old"));
            left.write_to(&next)?;
            fs::rename(&files, &old)?;
            fs::rename(&next, &files)?;
            fs::remove_dir_all(&old)?;
        }
        std::mem::forget(lock);
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}
