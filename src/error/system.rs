//! What the system says of the place of a log: its files, the room left, the file system.

use std::fmt;

use crate::lsn::Lsn;

/// What a file system has left for processes without privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpaceLeft {
    /// Bytes.
    pub bytes: u64,
    /// Files that can still be made; `None` where their number has no limit.
    pub inodes: Option<u64>,
}

impl SpaceLeft {
    pub(crate) fn new(bytes: u64, inodes: Option<u64>) -> Self {
        Self { bytes, inodes }
    }
}

/// As the end of a message.
pub(super) struct Left(pub(super) Option<SpaceLeft>);

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(SpaceLeft { inodes: Some(0), .. }) => f.write_str(": no inodes left"),
            Some(SpaceLeft { bytes, .. }) => write!(f, ": {bytes} bytes left"),
        }
    }
}

/// The process that holds a lock, for a message.
pub(super) struct Holder(pub(super) Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) if pid == std::process::id() => write!(f, "by this process"),
            Some(pid) => write!(f, "by process {pid}"),
            None => write!(f, "by another process"),
        }
    }
}

/// The value of an option or argument, for a message: a mode in octal.
pub(super) struct Given<'a>(pub(super) &'a str, pub(super) u64);

impl fmt::Display for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == "file_mode" { write!(f, "{:#o}", self.1) } else { write!(f, "{}", self.1) }
    }
}

/// A record below the first of a log, for a message.
pub(super) struct Gone(pub(super) Lsn);

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Lsn::ZERO {
            write!(f, "there is no record 0")
        } else {
            write!(f, "record {} has been trimmed, or was never there", self.0)
        }
    }
}

/// Why a log cannot be written on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsupported {
    /// Other machines may write the same files, and mappings do not see it; a lock may be this machine's alone.
    Network,
    /// Another process, or the host of a virtual machine, handles mappings, locks and syncs in a way that is not known.
    Relayed,
    /// It is mounted so that syncs do nothing.
    SyncsOmitted,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "a file system across a network, whose mappings other machines do not share",
            Self::Relayed => "a file system whose mappings, locks and syncs another program relays",
            Self::SyncsOmitted => "mounted so that syncs are omitted",
        })
    }
}

/// What a name in a directory leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO, socket or device.
    Other,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Regular => "a regular file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Other => "a special file",
        })
    }
}
