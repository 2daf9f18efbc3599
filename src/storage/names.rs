//! Changes of names that only some file systems can carry out in one step.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::AtFlags;
#[cfg(target_os = "linux")]
use rustix::fs::RenameFlags;
use rustix::io::Errno;

/// Gives file `from` the name `to`, which must be free.
pub(super) fn rename(directory: &OwnedFd, from: &str, to: &str) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    match rustix::fs::renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
        // A file system without the flag: the process lock keeps other writers out, so looking first will do.
        Err(Errno::INVAL | Errno::NOSYS) => {}
        other => return Ok(other?),
    }
    match rustix::fs::statat(directory, to, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(Errno::NOENT) => Ok(rustix::fs::renameat(directory, from, directory, to)?),
        Err(error) => Err(error.into()),
    }
}

/// Gives each of two files the name of the other.
#[cfg(target_os = "linux")]
pub(super) fn exchange(directory: &OwnedFd, one: &str, other: &str) -> io::Result<()> {
    match rustix::fs::renameat_with(directory, one, directory, other, RenameFlags::EXCHANGE) {
        // A file system without the flag.
        Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
        exchanged => Ok(exchanged?),
    }
}

/// There is no such call.
#[cfg(not(target_os = "linux"))]
pub(super) fn exchange(_: &OwnedFd, _: &str, _: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
