//! Room that a file has of its own: for storing in a mapping, where a full disk is a signal and no error.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use rustix::fs::IFlags;
use rustix::io::Errno;

use crate::memory::{Extent, extents};

/// What `statfs` says of btrfs.
const BTRFS_MAGIC: u64 = 0x9123_683e;
/// Of what `st_blocks` counts.
const BLOCK_LEN: u64 = 512;

/// Has the blocks of `file`, which is empty, be written over where they are. Otherwise btrfs writes each change to new
/// ones, and allocated is not reserved.
pub(super) fn overwrite_in_place(file: &File) {
    let is_btrfs = rustix::fs::fstatfs(file).is_ok_and(|stat| stat.f_type.cast_unsigned() == BTRFS_MAGIC);
    if is_btrfs {
        // Without it the log is as good as a log can be there.
        let _ =
            rustix::fs::ioctl_getflags(file).and_then(|flags| rustix::fs::ioctl_setflags(file, flags | IFlags::NOCOW));
    }
}

/// Whether `range` of `file` has blocks that no other file shares, and that are written over in place.
pub(super) fn is_reserved(file: &File, range: Range<u64>) -> io::Result<bool> {
    if range.is_empty() {
        return Ok(true);
    }
    let is_btrfs = rustix::fs::fstatfs(file)?.f_type.cast_unsigned() == BTRFS_MAGIC;
    if is_btrfs && !rustix::fs::ioctl_getflags(file)?.contains(IFlags::NOCOW) {
        return Ok(false);
    }
    let mut covered = range.start;
    let each = |extent: Extent| {
        let is_next = extent.start <= covered && extent.is_own;
        if is_next {
            covered = covered.max(extent.end);
        }
        is_next && covered < range.end
    };
    match extents(file, range.clone(), each) {
        Ok(()) => Ok(covered >= range.end),
        // Where extents are not told, blocks are not shared either, as far as anyone knows.
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL) => {
            let stat = file.metadata()?;
            Ok(stat.blocks().saturating_mul(BLOCK_LEN) >= stat.len())
        }
        Err(error) => Err(error.into()),
    }
}
