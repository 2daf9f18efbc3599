//! The file systems, as small as they can be made.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use rustix::fs::IFlags;

use crate::system;

/// Where a mark is in what has one.
pub const MARK_PLACE: u64 = 32;
pub const MARK_BYTES: usize = 16;

/// One way to make and mount a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Filesystem {
    Ext4,
    /// Its consistency after a crash is the work of `e2fsck`.
    Ext4NoJournal,
    Xfs,
    Btrfs,
    /// With `chattr +C` on the directory of the log: no copy on write, no checksums.
    BtrfsNocow,
}

impl Filesystem {
    pub const ALL: [Self; 5] = [Self::Ext4, Self::Ext4NoJournal, Self::Xfs, Self::Btrfs, Self::BtrfsNocow];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Ext4NoJournal => "ext4-no-journal",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::BtrfsNocow => "btrfs-nocow",
        }
    }

    /// As mount(2) calls it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Ext4NoJournal => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs | Self::BtrfsNocow => "btrfs",
        }
    }

    pub fn options(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Ext4NoJournal => "nodiscard,errors=remount-ro",
            Self::Xfs | Self::Btrfs | Self::BtrfsNocow => "nodiscard",
        }
    }

    /// The program that makes it.
    pub fn maker(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Ext4NoJournal => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
            Self::Btrfs | Self::BtrfsNocow => "mkfs.btrfs",
        }
    }

    /// The size of its disk: little more than the least that it can be made on.
    pub fn len_bytes(self) -> u64 {
        let mebibytes = match self {
            Self::Ext4 | Self::Ext4NoJournal => 16,
            Self::Xfs => 24,
            Self::Btrfs | Self::BtrfsNocow => 64,
        };
        mebibytes << 20
    }

    /// Whether it can be told to stop.
    pub fn goes_down(self) -> bool {
        self.kind() != "btrfs"
    }

    /// Makes it in `file`.
    pub fn make(self, file: &Path) -> Result<()> {
        let arguments: &[&str] = match self {
            Self::Ext4 => &["-q", "-F", "-b", "4096", "-N", "64", "-J", "size=4", "-E", "nodiscard"],
            Self::Ext4NoJournal => &["-q", "-F", "-b", "4096", "-N", "64", "-O", "^has_journal", "-E", "nodiscard"],
            Self::Xfs => &["--unsupported", "-q", "-f", "-K", "-d", "agcount=1", "-l", "size=1368b"],
            Self::Btrfs | Self::BtrfsNocow => &["-q", "-f", "-K", "-m", "single", "-d", "single"],
        };
        system::run(Command::new(self.maker()).args(arguments).arg(file)).map(drop)
    }

    /// Prepares the directory of a log on the new file system.
    pub fn prepare(self, directory: &Path) -> Result<()> {
        std::fs::create_dir(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        if self == Self::BtrfsNocow {
            rustix::fs::ioctl_setflags(&File::open(directory)?, IFlags::NOCOW)
                .context("cannot set no-copy-on-write")?;
        }
        Ok(())
    }

    /// Its superblock. It is written whole or not at all here: each of them has a checksum over all of it, and cannot be
    /// mounted after half a write, as it would be left by a disk of 512-byte sectors.
    pub fn superblock(self) -> Range<usize> {
        match self {
            Self::Ext4 | Self::Ext4NoJournal => 1024..2048,
            Self::Xfs => 0..512,
            Self::Btrfs | Self::BtrfsNocow => 64 << 10..68 << 10,
        }
    }

    /// Where its mark is: 16 bytes that all that is not data of files has as well, from [`MARK_PLACE`] on. btrfs writes so
    /// much of its own, and stops at the first error of it, that errors would hardly ever meet data.
    pub fn mark(self) -> Option<u64> {
        (self.kind() == "btrfs").then(|| self.superblock().start as u64 + MARK_PLACE)
    }

    /// Does what has to be done with the file system on `device` after a crash, before it is mounted.
    pub fn repair(self, device: &Path) -> Result<()> {
        if self == Self::Ext4NoJournal {
            // The exit status is that of what it found; whether that could be mended shows when the file system is mounted.
            Command::new("e2fsck").args(["-f", "-y"]).arg(device).output().context("cannot run e2fsck")?;
        }
        Ok(())
    }
}
