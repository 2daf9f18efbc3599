//! An ext4 on a loop device, over a file.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Mounted until it is dropped.
pub(crate) struct LoopDevice {
    /// Holds the image, and the directory that it is mounted on.
    directory: TempDir,
}

impl LoopDevice {
    /// A new ext4 of `size` bytes; `None`, said on standard error, where none can be made and mounted.
    pub(crate) fn ext4(size: u64) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let device = Self { directory };
        File::create(device.image()).and_then(|image| image.set_len(size)).expect("an image");
        std::fs::create_dir(device.path()).expect("a place to mount it");
        let made = run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(device.image()));
        made.and_then(|()| device.mount()).map_err(|error| skip(&error)).ok()?;
        Some(device)
    }

    /// The root of the file system.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    /// What the kernel says of the device.
    pub(crate) fn sys(&self) -> PathBuf {
        let device = self.path().metadata().expect("mounted").dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        Path::new("/sys/dev/block").join(format!("{major}:{minor}"))
    }

    /// Has the file system go read-only at once, with files open for writing, as it does when it finds itself damaged.
    pub(crate) fn abort(&self) {
        run(Command::new("mount").args(["-o", "remount,abort"]).arg(self.path())).expect("an ext4 can be aborted");
    }

    fn mount(&self) -> Result<(), String> {
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(self.image()).arg(self.path()))
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // Detached, it goes as soon as its last file is closed; so does the loop device. It may not be mounted at all.
        let _ = run(Command::new("umount").arg("--lazy").arg(self.path()));
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let Output { status, stderr, .. } = super::child::run(command).map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {}", String::from_utf8_lossy(&stderr).trim())) }
}

/// Standard error is written to directly: the test harness would keep what a macro prints to itself.
fn skip(error: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {error}");
}
