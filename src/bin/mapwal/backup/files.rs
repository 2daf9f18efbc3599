//! The files of a copy: made of bytes, of shared blocks, or of a second name.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use mapwal::inspect::SegmentFile;
use rustix::fs::FallocateFlags;

use crate::failure::{Failure, Result, describe};
use crate::out;

/// An error if the user has had enough.
pub(super) type CheckStop<'a> = &'a dyn Fn() -> Result<()>;

/// Frames that are checked before it is asked again whether to stop.
pub(super) const FRAMES_BETWEEN_LOOKS: u64 = 1 << 12;

/// Under this name no log takes it for a segment.
pub(super) fn temporary(out: &Path, file: &SegmentFile) -> PathBuf {
    out.join(file.path.with_extension("tmp").file_name().expect("a segment has a name"))
}

pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// With blocks for all of it, so that a copy on a full disk is an error here and not a signal when it is used.
pub(super) fn allocate(file: &File, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(len),
        other => Ok(other?),
    }
}

/// Makes `path` share the blocks of `from`; false where the file system does not do that, between these two.
#[cfg(target_os = "linux")]
pub(super) fn reflink(from: &File, path: &Path) -> io::Result<bool> {
    let made = create(path)?;
    // btrfs shares blocks only between files of which both are written over in place, or neither is.
    if let Ok(flags) = rustix::fs::ioctl_getflags(from) {
        // Where that does not go, neither does sharing.
        let _ = rustix::fs::ioctl_setflags(&made, flags & rustix::fs::IFlags::NOCOW);
    }
    if rustix::fs::ioctl_ficlone(&made, from).is_ok() {
        return Ok(true);
    }
    fs::remove_file(path).map(|()| false)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn reflink(_from: &File, _path: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Makes `path` share all that `from` has in an earlier copy, with the owner `like` unless it has that of `from`; false where
/// nothing can be shared between these two places.
pub(super) fn share(from: &Path, path: &Path, like: &Metadata) -> Result<bool> {
    let failed = || failed("share", path);
    let file = File::open(from).map_err(failed())?;
    if reflink(&file, path).map_err(failed())? {
        out::give(path, like)?;
    } else if fs::hard_link(from, path).is_err() {
        return Ok(false);
    }
    // What a copy that was killed has left may not have been.
    file.sync_all().and_then(|()| File::open(path)?.sync_all()).map_err(failed())?;
    Ok(true)
}

pub(super) fn failed(operation: &str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::new(format!("cannot {operation}"), describe(&error), path)
}
