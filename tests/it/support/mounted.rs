//! File systems of a test's own: one that is full soon, and one that cannot be written.

use std::ffi::CString;
use std::io::Write;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};
use tempfile::TempDir;

/// A file system that is unmounted when this value is dropped, with the directories that it shows.
pub(crate) struct Mounted(TempDir, #[expect(dead_code, reason = "held, not looked at")] Option<TempDir>);

impl Mounted {
    /// A file system of `size` bytes; `None`, said on standard error, where this process may not mount one.
    pub(crate) fn of_size(size: u64) -> Option<Self> {
        Self::in_memory(&format!("size={size}"))
    }

    /// As [`Self::of_size`], for so many files and directories, the root included.
    pub(crate) fn of_inodes(size: u64, inodes: u64) -> Option<Self> {
        Self::in_memory(&format!("size={size},nr_inodes={inodes}"))
    }

    fn in_memory(options: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = CString::new(options).expect("no zero byte");
        match mount("tmpfs", directory.path(), "tmpfs", MountFlags::empty(), data.as_c_str()) {
            Ok(()) => Some(Self(directory, None)),
            Err(error) => skip(error),
        }
    }

    /// A view of the directory `of` that cannot be written; `None`, said on standard error, where this process may not
    /// make one.
    pub(crate) fn read_only(of: &Path) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        if let Err(error) = mount_bind(of, directory.path()) {
            return skip(error);
        }
        let mounted = Self(directory, None);
        mount_remount(mounted.path(), MountFlags::BIND | MountFlags::RDONLY, "")
            .expect("a bind mount can be read-only");
        Some(mounted)
    }

    /// An overlay of the directories `lower` and `upper` in `parts`, with `options`; `None`, said on standard error, where
    /// this process may not make one.
    pub(crate) fn overlay(parts: TempDir, options: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| parts.path().join(name).display().to_string();
        let data = format!("lowerdir={},upperdir={},workdir={}{options}", at("lower"), at("upper"), at("work"));
        let data = CString::new(data).expect("no zero byte");
        match mount("overlay", directory.path(), "overlay", MountFlags::empty(), data.as_c_str()) {
            Ok(()) => Some(Self(directory, Some(parts))),
            Err(error) => skip(error),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Detached, it goes as soon as the last file of it is closed. Nothing could be done about a failure.
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}

/// Standard error is written to directly: the test harness would keep what a macro prints to itself.
fn skip(error: rustix::io::Errno) -> Option<Mounted> {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: cannot mount a file system: {error}");
    None
}
