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
        Some(self.field(6)? * 512)
    }

    /// A field of the file, as the kernel's documentation of `/sys/block/*/stat` numbers them, from 0.
    pub(crate) fn field(&self, number: usize) -> Option<u64> {
        fs::read_to_string(&self.0).ok()?.split_whitespace().nth(number)?.parse().ok()
    }
}
