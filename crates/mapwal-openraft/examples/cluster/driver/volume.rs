//! What the nodes have their files on: each a file system of its own, of a limited size, which a file can fill.
//!
//! They are mounted in a mount namespace that only the driver and its nodes are in. However these end, it ends with them, and so does all that was mounted.

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::Errno;

use crate::Outcome;

/// Room for a log, a copy of it, and two snapshots.
const BYTES: u64 = 32 << 20;
/// The smallest piece of a disk that is given away.
pub(super) const BLOCK: u64 = 4 << 10;

#[derive(Debug, Clone, Copy)]
pub(super) enum FileSystem {
    Tmpfs,
    /// In a file, by a loop device.
    Ext4,
}

/// A file system that is mounted for as long as this is there.
#[derive(Debug)]
pub(super) struct Volume {
    directory: PathBuf,
}

fn carry_out(command: &mut Command) -> Outcome {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", said.trim()).into()) }
}

/// Starts the program again in a mount namespace of its own. Returns only if that cannot be: why not.
pub(super) fn enter_namespace() -> Outcome {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]);
        command
    };
    let directory = tempfile::tempdir()?;
    carry_out(unshare().args(["mount", "-t", "tmpfs", "tmpfs"]).arg(directory.path()))?;
    directory.close()?;
    Err(unshare().arg(env::current_exe()?).args(env::args_os().skip(1)).arg("--own-mounts").exec().into())
}

impl Volume {
    /// A new file system in `directory`, which is empty.
    pub(super) fn mount(directory: &Path, kind: FileSystem) -> Outcome<Self> {
        match kind {
            FileSystem::Tmpfs => {
                let size = format!("size={BYTES}");
                carry_out(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(directory))?;
            }
            FileSystem::Ext4 => {
                let image = directory.with_extension("image");
                File::create(&image)?.set_len(BYTES)?;
                carry_out(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
                carry_out(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(directory))?;
                // The device keeps it.
                fs::remove_file(image)?;
            }
        }
        Ok(Self { directory: directory.to_owned() })
    }

    fn filler(&self) -> PathBuf {
        self.directory.join("filler")
    }

    /// Takes all room but for `left` bytes.
    pub(super) fn fill(&self, left: u64) -> io::Result<()> {
        let file = File::create(self.filler())?;
        let volume = fstatvfs(&file)?;
        let target = (volume.f_bavail * volume.f_frsize).saturating_sub(left);
        let (mut len, mut step) = (0, target);
        while step >= BLOCK {
            match fallocate(&file, FallocateFlags::empty(), len, step) {
                Ok(()) => {
                    len += step;
                    step = step.min(target - len);
                }
                // What the file system needs to note where the file is was free, too.
                Err(Errno::NOSPC) => step /= 2,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// There is room again.
    pub(super) fn free(&self) -> io::Result<()> {
        match fs::remove_file(self.filler()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // If it cannot be, the end of the namespace does it.
        let _ = carry_out(Command::new("umount").arg("--lazy").arg(&self.directory));
    }
}
