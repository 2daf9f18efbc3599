//! What the kernel is asked for: mounts, loop devices, and having a file system shut itself down.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

/// How often an unmount is tried that finds the file system busy, and the pause between.
const UNMOUNT_TRIES: u32 = 200;
const UNMOUNT_PAUSE: Duration = Duration::from_millis(10);
/// The largest request of a block device: no more than one write of the disk takes. The loop driver takes one that fails in
/// part for one that went well.
const REQUEST_KIBIBYTES_MAX: u32 = 128;
/// `XFS_IOC_GOINGDOWN`, which is `EXT4_IOC_SHUTDOWN` as well: `_IOR('X', 125, u32)`.
const GOING_DOWN: libc::c_ulong = 0x8004_587d;
/// `BLKFLSBUF`: `_IO(0x12, 97)`.
const FLUSH_BUFFERS: libc::c_ulong = 0x1261;
/// `BTRFS_IOC_FORGET_DEV`: `_IOW(0x94, 5, struct btrfs_ioctl_vol_args)`.
const FORGET_DEVICE: libc::c_ulong = 0x5000_9405;

/// A file as a block device.
#[derive(Debug)]
pub struct LoopDevice {
    pub path: PathBuf,
}

impl LoopDevice {
    /// The loop device over `file`.
    pub fn attach(file: &Path) -> Result<Self> {
        let shown = run(Command::new("losetup").args(["--find", "--show"]).arg(file))?;
        let path = PathBuf::from(shown.trim_end());
        let name = path.file_name().context("a loop device without a name")?;
        let limit = Path::new("/sys/block").join(name).join("queue/max_sectors_kb");
        std::fs::write(limit, REQUEST_KIBIBYTES_MAX.to_string())
            .context("cannot limit the requests of a loop device")?;
        Ok(Self { path })
    }
}

/// Detaches all loop devices whose file is in `directory`.
pub fn detach_loops(directory: &Path) -> Result<()> {
    for device in std::fs::read_dir("/sys/block")?.filter_map(Result::ok) {
        let Ok(file) = std::fs::read_to_string(device.path().join("loop/backing_file")) else { continue };
        if Path::new(file.trim_end()).starts_with(directory) {
            run(Command::new("losetup").arg("--detach").arg(Path::new("/dev").join(device.file_name())))?;
        }
    }
    Ok(())
}

/// Gives this process, which must have one thread, and its children mounts of their own.
///
/// A program that makes itself a copy of all mounts keeps each file system in use that it found; the next mount of its device
/// would then show that one again, with what it has cached of a disk that has other bytes by now.
pub fn keep_mounts_apart() -> Result<()> {
    // SAFETY: the call takes no memory.
    let done = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    ensure!(done == 0, "cannot have mounts of its own: {}", std::io::Error::last_os_error());
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).context("cannot keep mounts apart")
}

/// Runs a command to its end; returns what it says.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, said.trim_end());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub fn mount(device: &Path, place: &Path, kind: &str, options: &str) -> Result<(), Errno> {
    let options = CString::new(options).expect("options have no zero byte");
    rustix::mount::mount(device, place, kind, MountFlags::NOATIME, &*options)
}

/// Unmounts what is mounted at `place`: once nobody uses it, or, if that takes too long, out of sight.
pub fn unmount(place: &Path) -> Result<()> {
    for _ in 0..UNMOUNT_TRIES {
        match rustix::mount::unmount(place, UnmountFlags::empty()) {
            Err(Errno::BUSY) => std::thread::sleep(UNMOUNT_PAUSE),
            done => return done.with_context(|| format!("cannot unmount {}", place.display())),
        }
    }
    rustix::mount::unmount(place, UnmountFlags::DETACH)?;
    anyhow::bail!("{} stays busy", place.display())
}

/// The mount points in `directory`, the newest first.
pub fn mounts_in(directory: &Path) -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    let mut found: Vec<PathBuf> = places.filter(|place| place.starts_with(directory)).collect();
    found.reverse();
    found
}

/// Whether the file system at `place` takes no more: it became read-only, or answers with an error.
pub fn has_stopped(place: &Path) -> bool {
    rustix::fs::statvfs(place).map_or(true, |found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Drops what the system has cached of `device`, whose bytes have been changed beneath. It does so by itself once nobody has the
/// device open; but somebody else may, to look what it is.
pub fn drop_cache(device: &Path) -> std::io::Result<()> {
    let device = File::open(device)?;
    // SAFETY: the request takes no memory; the descriptor is open.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), FLUSH_BUFFERS, 0) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// How a file system stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum GoingDown {
    /// With everything written.
    Default = 0,
    /// With its journal written.
    JournalWritten = 1,
    /// As it is.
    AsItIs = 2,
}

/// Has the file system with `directory` stop, as after an error. ext4 and XFS can.
pub fn shut_down(directory: &Path, how: GoingDown) -> std::io::Result<()> {
    let directory = File::open(directory)?;
    let how = how as u32;
    // SAFETY: the request reads one `u32`, which lives through the call; the descriptor is open.
    let done = unsafe { libc::ioctl(directory.as_raw_fd(), GOING_DOWN, &raw const how) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Has the system write the dirty pages of `file`, and waits for no more than that they are on their way.
pub fn start_writing(file: &File) {
    // SAFETY: the call takes no memory; the descriptor is open.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

#[repr(C)]
struct VolumeArguments {
    descriptor: i64,
    name: [u8; 4088],
}

/// Has btrfs forget that it has seen a file system on `device`, which is on another one next.
pub fn forget_device(device: &Path) -> std::io::Result<()> {
    let control = File::options().read(true).write(true).open("/dev/btrfs-control")?;
    let mut arguments = VolumeArguments { descriptor: 0, name: [0; 4088] };
    let name = device.as_os_str().as_bytes();
    arguments.name[..name.len()].copy_from_slice(name);
    // SAFETY: the request reads a `btrfs_ioctl_vol_args`, whose layout this is; it lives through the call.
    let done = unsafe { libc::ioctl(control.as_raw_fd(), FORGET_DEVICE, &raw const arguments) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
