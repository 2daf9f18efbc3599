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
/// The smallest block of any of the file systems.
const BLOCK_LEN_MIN: usize = 1024;
/// What images are copied by.
const COPY_LEN: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    Ext4WithoutJournal,
    Xfs,
    Btrfs,
    /// With `chattr +C` on its root, which every file in it inherits.
    BtrfsNocow,
    BtrfsCompressed,
    Tmpfs,
    /// Its layers are directories beside it.
    Overlayfs,
}

impl Kind {
    /// Those on a device.
    pub(crate) const ON_DEVICES: [Self; 6] =
        [Self::Ext4, Self::Ext4WithoutJournal, Self::Xfs, Self::Btrfs, Self::BtrfsNocow, Self::BtrfsCompressed];

    fn name(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Ext4WithoutJournal => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs | Self::BtrfsNocow | Self::BtrfsCompressed => "btrfs",
            Self::Tmpfs => "tmpfs",
            Self::Overlayfs => "overlay",
        }
    }

    pub(crate) fn is_btrfs(self) -> bool {
        self.name() == "btrfs"
    }

    fn size_min(self) -> u64 {
        match self {
            Self::Xfs => 20 * MIB,
            Self::Btrfs | Self::BtrfsNocow | Self::BtrfsCompressed => 114 * MIB,
            _ => 0,
        }
    }

    fn make(self, image: &Path) -> Result<(), String> {
        let (program, arguments): (_, &[&str]) = match self {
            Self::Ext4 => ("mkfs.ext4", &["-q", "-F"]),
            Self::Ext4WithoutJournal => ("mkfs.ext4", &["-q", "-F", "-O", "^has_journal"]),
            // The option is needed for small ones.
            Self::Xfs => ("mkfs.xfs", &["-q", "-f", "--unsupported"]),
            Self::Btrfs | Self::BtrfsNocow | Self::BtrfsCompressed => ("mkfs.btrfs", &["-q", "-f"]),
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
    /// Of an ext4 whose journal is on a device of its own.
    journal: Option<Device>,
}

/// A loop device over memory.
struct Device {
    memory: File,
    /// As in `/dev`.
    name: String,
}

impl Device {
    fn over(memory: File) -> Result<Self, String> {
        let shown = output(Command::new("losetup").args(["--find", "--show"]).arg(path_of(&memory)))?;
        Ok(Self { memory, name: shown.trim().trim_start_matches("/dev/").to_owned() })
    }

    fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// Has it go as soon as it is not mounted any more.
    fn detach(&self) -> Result<(), String> {
        run(Command::new("losetup").arg("--detach").arg(self.path()))
    }

    /// From now on it fails every write, and no read.
    fn fail_writes(&self) {
        rustix::fs::fcntl_add_seals(&self.memory, SealFlags::WRITE).expect("nobody has mapped it");
    }
}

impl FileSystem {
    /// A new one of `mib` MiB, or of a few more where its kind cannot be so small; `None`, said on standard error, where
    /// none can be made and mounted.
    pub(crate) fn mount(kind: Kind, mib: u64) -> Option<Self> {
        Self::try_mount(kind, (mib * MIB).max(kind.size_min())).map_err(|error| skip(&error)).ok()
    }

    /// An ext4 of `mib` MiB whose journal is on a device of its own.
    pub(crate) fn ext4_with_journal_apart(mib: u64) -> Option<Self> {
        Self::try_mount_with_journal_apart(mib * MIB).map_err(|error| skip(&error)).ok()
    }

    fn try_mount_with_journal_apart(size: u64) -> Result<Self, String> {
        const JOURNAL_LEN: u64 = 16 * MIB;
        let memory = |size| memory(size).map_err(|error| error.to_string());
        let (journal, image) = (Device::over(memory(JOURNAL_LEN)?)?, memory(size)?);
        let made =
            run(Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096", "-O", "journal_dev"]).arg(journal.path()))
                .and_then(|()| {
                    let journal = format!("device={}", journal.path().display());
                    run(Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096", "-J", &journal]).arg(path_of(&image)))
                })
                .and_then(|()| Self::on(Kind::Ext4, image));
        journal.detach()?;
        let mut made = made?;
        made.journal = Some(journal);
        Ok(made)
    }

    fn try_mount(kind: Kind, size: u64) -> Result<Self, String> {
        if matches!(kind, Kind::Tmpfs | Kind::Overlayfs) {
            let made = Self { kind, directory: directory()?, device: None, journal: None };
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
        let made = Self { kind, directory, device: Some(Device::over(memory)?), journal: None };
        let options = match kind {
            // A copy of a file system that is mounted has its identity.
            Kind::Xfs => "nouuid",
            Kind::BtrfsCompressed => "compress-force=zstd",
            _ => "defaults",
        };
        let mut mount = Command::new("mount");
        mount.args(["-t", kind.name(), "-o", options]).args([made.device().path(), made.path()]);
        let mounted = run(&mut mount);
        made.device().detach()?;
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

    /// Has it write all that it has to write: this file system alone, since others of the machine may take long.
    pub(crate) fn sync(&self) {
        rustix::fs::syncfs(File::open(self.path()).unwrap()).unwrap();
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
        self.device().fail_writes();
    }

    /// As [`Self::fail_writes`], of the journal's device alone.
    pub(crate) fn fail_journal(&self) {
        self.journal.as_ref().expect("the journal is on a device of its own").fail_writes();
    }

    /// What the device holds now, as a file system of its own: as after a power cut that loses nothing the device has. One
    /// without a journal has been checked and repaired first, as it must be after a cut.
    pub(crate) fn after_a_cut(&self) -> Self {
        let from = &self.device().memory;
        let size = from.metadata().expect("a length").len();
        let copy = memory(size).and_then(|to| copy(from, &to, size).map(|()| to)).expect("there is memory");
        if self.kind == Kind::Ext4WithoutJournal {
            // Its status says that something was repaired.
            let _ = run(Command::new("e2fsck").args(["-f", "-y"]).arg(path_of(&copy)));
        }
        Self::on(self.kind, copy).expect("it mounts again")
    }

    /// Replaces `old`, wherever it is on the device at the start of a block, by `new`, beneath the file system and all
    /// that it keeps in memory; returns in how many places.
    pub(crate) fn replace_on_device(&self, old: &[u8], new: &[u8]) -> usize {
        let image = &self.device().memory;
        let mut bytes = vec![0; image.metadata().expect("a length").len() as usize];
        image.read_exact_at(&mut bytes, 0).expect("the image can be read");
        let places = (0..bytes.len()).step_by(BLOCK_LEN_MIN).filter(|&at| bytes[at..].starts_with(old));
        places.map(|at| image.write_all_at(new, at as u64).expect("the image can be written")).count()
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

/// Makes `to` what `from` is at one moment: when a pass finds nothing to change, nothing has changed since the one before.
fn copy(from: &File, to: &File, size: u64) -> io::Result<()> {
    let (mut theirs, mut ours) = (vec![0; COPY_LEN], vec![0; COPY_LEN]);
    loop {
        let mut is_same = true;
        for at in (0..size).step_by(COPY_LEN) {
            let len = COPY_LEN.min((size - at) as usize);
            from.read_exact_at(&mut theirs[..len], at)?;
            to.read_exact_at(&mut ours[..len], at)?;
            if theirs[..len] != ours[..len] {
                to.write_all_at(&theirs[..len], at)?;
                is_same = false;
            }
        }
        if is_same {
            return Ok(());
        }
    }
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
