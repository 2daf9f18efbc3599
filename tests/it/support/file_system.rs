//! File systems of a test's own, of every kind that the project speaks of, on devices that can be looked at and made to
//! fail.

#![allow(dead_code, reason = "a kit: each test uses what it needs")]

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::fs::{MemfdFlags, SealFlags};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
/// What the images are read and copied by.
const BLOCK_LEN: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    Ext4WithoutJournal,
    Xfs,
    Btrfs,
    /// With `chattr +C` on its root, which every file in it inherits.
    BtrfsNocow,
    Tmpfs,
    /// Its layers are directories beside it.
    Overlayfs,
}

impl Kind {
    /// Those on a device.
    pub(crate) const ON_DEVICES: [Self; 5] =
        [Self::Ext4, Self::Ext4WithoutJournal, Self::Xfs, Self::Btrfs, Self::BtrfsNocow];

    fn name(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Ext4WithoutJournal => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs | Self::BtrfsNocow => "btrfs",
            Self::Tmpfs => "tmpfs",
            Self::Overlayfs => "overlay",
        }
    }

    fn size_min(self) -> u64 {
        match self {
            Self::Xfs => 20 * MIB,
            Self::Btrfs | Self::BtrfsNocow => 114 * MIB,
            _ => 0,
        }
    }

    fn make(self, image: &Path) -> Result<(), String> {
        let (program, arguments): (_, &[&str]) = match self {
            Self::Ext4 => ("mkfs.ext4", &["-q", "-F"]),
            Self::Ext4WithoutJournal => ("mkfs.ext4", &["-q", "-F", "-O", "^has_journal"]),
            // The option is needed for small ones.
            Self::Xfs => ("mkfs.xfs", &["-q", "-f", "--unsupported"]),
            Self::Btrfs | Self::BtrfsNocow => ("mkfs.btrfs", &["-q", "-f"]),
            Self::Tmpfs | Self::Overlayfs => return Ok(()),
        };
        run(Command::new(program).args(arguments).arg(image))
    }
}

/// Mounted until it is dropped.
pub(crate) struct FileSystem {
    kind: Kind,
    /// Holds the place that it is mounted on, and the layers of an overlay.
    directory: TempDir,
    device: Option<Device>,
}

/// A loop device over memory.
struct Device {
    memory: File,
    /// As in `/dev`.
    name: String,
}

impl FileSystem {
    /// A new one of `mib` MiB, or of a few more where its kind cannot be so small; `None`, said on standard error, where
    /// none can be made and mounted.
    pub(crate) fn mount(kind: Kind, mib: u64) -> Option<Self> {
        Self::try_mount(kind, (mib * MIB).max(kind.size_min())).map_err(|error| skip(&error)).ok()
    }

    fn try_mount(kind: Kind, size: u64) -> Result<Self, String> {
        if matches!(kind, Kind::Tmpfs | Kind::Overlayfs) {
            let made = Self { kind, directory: directory()?, device: None };
            made.mount_without_device(size)?;
            return Ok(made);
        }
        let memory = memory(size).map_err(|error| error.to_string())?;
        kind.make(&path_of(&memory))?;
        let made = Self::on(kind, memory)?;
        if kind == Kind::BtrfsNocow {
            run(Command::new("chattr").arg("+C").arg(made.path()))?;
        }
        Ok(made)
    }

    /// Mounts what `memory` holds.
    fn on(kind: Kind, memory: File) -> Result<Self, String> {
        let directory = directory()?;
        let shown = output(Command::new("losetup").args(["--find", "--show"]).arg(path_of(&memory)))?;
        let name = shown.trim().trim_start_matches("/dev/").to_owned();
        let path = format!("/dev/{name}");
        let made = Self { kind, directory, device: Some(Device { memory, name }) };
        // A copy of a file system that is mounted has its identity.
        let options = if kind == Kind::Xfs { "nouuid" } else { "defaults" };
        let mounted = run(Command::new("mount").args(["-t", kind.name(), "-o", options, &path]).arg(made.path()));
        // Detached, the device goes as soon as it is not mounted any more.
        run(Command::new("losetup").args(["--detach", &path]))?;
        mounted.map(|()| made)
    }

    fn mount_without_device(&self, size: u64) -> Result<(), String> {
        let options = if self.kind == Kind::Tmpfs {
            format!("size={size}")
        } else {
            let [lower, upper, work] = ["lower", "upper", "work"].map(|layer| self.layer(layer));
            [&lower, &upper, &work].into_iter().try_for_each(fs::create_dir).map_err(|error| error.to_string())?;
            format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display())
        };
        let mut mount = Command::new("mount");
        run(mount.args(["-t", self.kind.name(), self.kind.name(), "-o", &options]).arg(self.path()))
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The root of the file system.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    /// The directory of a layer of an overlay: `lower` or `upper`.
    pub(crate) fn layer(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn device(&self) -> &Device {
        self.device.as_ref().expect("it is on a device")
    }

    /// What the kernel says of the device.
    pub(crate) fn sys(&self) -> PathBuf {
        Path::new("/sys/block").join(&self.device().name)
    }

    /// Has ext4 or XFS shut itself down at once, with files open for writing, as it does when it finds itself damaged.
    pub(crate) fn shut_down(&self) {
        let mut command = match self.kind.name() {
            "ext4" => Command::new("mount"),
            "xfs" => Command::new("xfs_io"),
            other => panic!("{other} cannot be shut down"),
        };
        match self.kind.name() {
            "ext4" => command.args(["-o", "remount,abort"]),
            _ => command.args(["-x", "-c", "shutdown"]),
        };
        run(command.arg(self.path())).expect("it can be shut down");
    }

    /// From now on the device fails every write, and no read.
    pub(crate) fn fail_writes(&self) {
        let sealed = rustix::fs::fcntl_add_seals(&self.device().memory, SealFlags::WRITE);
        sealed.expect("nobody has mapped it");
    }

    /// What the device holds now, as a file system of its own: as after a power cut that loses nothing the device has.
    pub(crate) fn after_a_cut(&self) -> Self {
        let from = &self.device().memory;
        let size = from.metadata().expect("a length").len();
        let copy = memory(size).and_then(|to| copy(from, &to, size).map(|()| to)).expect("there is memory");
        Self::on(self.kind, copy).expect("it mounts again")
    }

    /// Replaces `old`, wherever it is on the device at the start of a block, by `new`, beneath the file system and all
    /// that it keeps in memory; returns in how many places.
    pub(crate) fn replace_on_device(&self, old: &[u8], new: &[u8]) -> usize {
        let image = &self.device().memory;
        let size = image.metadata().expect("a length").len();
        let mut block = [0; BLOCK_LEN];
        let found = |at: &u64| {
            image.read_exact_at(&mut block, *at).expect("the image can be read");
            block.starts_with(old)
        };
        let places: Vec<u64> = (0..size).step_by(BLOCK_LEN).filter(found).collect();
        places.iter().for_each(|&at| image.write_all_at(new, at).expect("the image can be written"));
        places.len()
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        // Detached, it goes as soon as its last file is closed; so does the loop device. It may not be mounted at all.
        let _ = run(Command::new("umount").arg("--lazy").arg(self.path()));
    }
}

fn directory() -> Result<TempDir, String> {
    let made = tempfile::tempdir().and_then(|made| fs::create_dir(made.path().join("mounted")).map(|()| made));
    made.map_err(|error| error.to_string())
}

fn memory(size: u64) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = File::from(rustix::fs::memfd_create("mapwal-test-device", flags)?);
    memory.set_len(size)?;
    Ok(memory)
}

/// Where other programs find it.
fn path_of(memory: &File) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd()))
}

fn copy(from: &File, to: &File, size: u64) -> io::Result<()> {
    let mut block = [0; BLOCK_LEN];
    for at in (0..size).step_by(BLOCK_LEN) {
        from.read_exact_at(&mut block, at)?;
        if block != [0; BLOCK_LEN] {
            to.write_all_at(&block, at)?;
        }
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<(), String> {
    output(command).map(drop)
}

fn output(command: &mut Command) -> Result<String, String> {
    let Output { status, stdout, stderr } =
        super::child::run(command).map_err(|error| format!("{command:?}: {error}"))?;
    let mut text = String::new();
    match (if status.success() { &stdout[..] } else { &stderr[..] }).read_to_string(&mut text) {
        Ok(_) if status.success() => Ok(text),
        _ => Err(format!("{command:?}: {}", text.trim())),
    }
}

/// Standard error is written to directly: the test harness would keep what a macro prints to itself.
fn skip(error: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(io::stderr(), "SKIPPED: {test}: {error}");
}
