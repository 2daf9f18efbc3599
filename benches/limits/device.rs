//! Bytes that reach the disk. `benches/peers` counts them with this file, too.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The block device that holds a directory.
#[derive(Debug)]
pub(crate) struct Device(PathBuf);

impl Device {
    pub(crate) fn of(directory: &Path) -> Option<Self> {
        let device = fs::metadata(directory).ok()?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let path = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
        path.exists().then_some(Self(path))
    }

    /// Bytes written to it so far, by everyone: what somebody else writes meanwhile counts as well.
    pub(crate) fn bytes_written(&self) -> Option<u64> {
        let stat = fs::read_to_string(&self.0).ok()?;
        let sectors: u64 = stat.split_whitespace().nth(6)?.parse().ok()?;
        Some(sectors * 512)
    }
}
