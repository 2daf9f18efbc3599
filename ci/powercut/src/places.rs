//! Where everything is that one lane of the laboratory sets up.

use std::path::{Path, PathBuf};

/// The first part of all names in the directory for mount points, and in the one in memory.
pub const PREFIX: &str = "powercut-";
const MOUNTS: &str = "/tmp";
const MEMORY: &str = "/dev/shm";

/// The directories of a lane.
#[derive(Debug, Clone)]
pub struct Places {
    /// Mount points.
    pub mounts: PathBuf,
    /// Files in memory.
    pub memory: PathBuf,
}

impl Places {
    /// The name of the disk in the FUSE file system.
    pub const DISK: &str = "disk";

    /// Those of a lane of the laboratory in process `pid`.
    pub fn new(pid: u32, lane: usize) -> Self {
        let name = format!("{PREFIX}{pid}-{lane}");
        Self { mounts: Path::new(MOUNTS).join(&name), memory: Path::new(MEMORY).join(name) }
    }

    /// Those that any process has left, with its number.
    pub fn left() -> Vec<(u32, Self)> {
        let entries = [MOUNTS, MEMORY].into_iter().filter_map(|directory| std::fs::read_dir(directory).ok()).flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut found: Vec<(u32, usize)> = names
            .filter_map(|name| {
                let (pid, lane) = name.strip_prefix(PREFIX)?.split_once('-')?;
                Some((pid.parse().ok()?, lane.parse().ok()?))
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|(pid, lane)| (pid, Self::new(pid, lane))).collect()
    }

    /// What the disk holds.
    pub fn content(&self) -> PathBuf {
        self.memory.join("content")
    }

    /// Where the disk is mounted.
    pub fn fuse(&self) -> PathBuf {
        self.mounts.join("fuse")
    }

    /// Where the file system is mounted.
    pub fn mount(&self) -> PathBuf {
        self.mounts.join("mount")
    }

    /// The directory of the log.
    pub fn log(&self) -> PathBuf {
        self.mount().join("log")
    }

    /// What the workload has told.
    pub fn events(&self) -> PathBuf {
        self.memory.join("events")
    }
}
