//! How far the answers of a file system can be trusted: that a sync has succeeded, and what the device holds.

use std::io;
use std::os::fd::AsFd;

/// The kinds that differ in what a sync or a read of the device tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    Ext,
    Xfs,
    Btrfs,
    Tmpfs,
    Other,
}

impl Trust {
    /// The kind of the file system that `file` is on.
    #[cfg(target_os = "linux")]
    pub(super) fn of(file: impl AsFd) -> io::Result<Self> {
        // Of another width and sign on some architectures; magic numbers have 32 bits.
        Ok(match rustix::fs::fstatfs(file)?.f_type.cast_unsigned() & u64::from(u32::MAX) {
            0xef53 => Self::Ext,
            0x5846_5342 => Self::Xfs,
            0x9123_683e => Self::Btrfs,
            0x0102_1994 => Self::Tmpfs,
            _ => Self::Other,
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn of(_file: impl AsFd) -> io::Result<Self> {
        Ok(Self::Other)
    }

    /// Whether a direct read of `file` is known to show what the device holds, and never the page cache.
    ///
    /// ext4 and XFS say of each file whether it can be read directly: one whose data goes through ext4's journal cannot, and
    /// is read from the page cache without a word. btrfs does the same with what is compressed, with small files, and as long as
    /// it is not done with a write to any byte of what is read, which may be a moment after the sync of it has returned. A
    /// tmpfs has no device.
    #[cfg(target_os = "linux")]
    pub(super) fn reads_device(self, file: impl AsFd) -> bool {
        use rustix::fs::{AtFlags, StatxFlags};
        match self {
            Self::Ext | Self::Xfs => rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)
                .is_ok_and(|stat| stat.stx_dio_mem_align > 0),
            Self::Tmpfs => true,
            Self::Btrfs | Self::Other => false,
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn reads_device(self, _file: impl AsFd) -> bool {
        false
    }

    /// Whether a new segment may be a hole. A tmpfs needs room for each page of one that is looked at. On ext4, which does not say
    /// whether it has a journal, a power cut may cost a hole that is being filled all of its bytes: docs/design/recycling.md.
    pub(super) fn reads_holes(self) -> bool {
        matches!(self, Self::Xfs | Self::Btrfs)
    }

    /// An error if a sync of `file` that has just succeeded may not be believed.
    ///
    /// ext4 makes allocated blocks readable, and gives names, by transactions of its journal. When one cannot be
    /// written, that is reported to the syncs that wait for it at that moment; a later sync finds no transaction to
    /// wait for, and succeeds. But whatever would begin another one is refused from the failure on: removing an
    /// attribute that is not there begins one, and changes nothing.
    ///
    /// XFS shuts itself down then, and refuses the same call from then on. That a sync can succeed meanwhile has been seen once, in the
    /// laboratory of power cuts; why is not proven.
    pub(super) fn check_after_sync(self, file: impl AsFd) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if matches!(self, Self::Ext | Self::Xfs) {
            use rustix::io::Errno;
            // Otherwise there is no such attribute, or this process may not remove one.
            if let Err(error @ (Errno::ROFS | Errno::IO)) = rustix::fs::fremovexattr(file, "user.mapwal") {
                return Err(error.into());
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = file;
        Ok(())
    }
}
