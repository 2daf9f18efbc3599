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
    let mut covered = range.start;
    let is_own = is_own_and(file, range.clone(), |extent| {
        let is_next = extent.start <= covered;
        if is_next {
            covered = covered.max(extent.end);
        }
        is_next
    })?;
    if let Some(is_own) = is_own {
        return Ok(is_own && covered >= range.end);
    }
    let stat = file.metadata()?;
    Ok(stat.blocks().saturating_mul(BLOCK_LEN) >= stat.len())
}

/// Whether what blocks `range` of `file` has are shared with no other file, and written over in place.
pub(super) fn is_own(file: &File, range: Range<u64>) -> io::Result<bool> {
    Ok(is_own_and(file, range, |_| true)?.unwrap_or(true))
}

/// As [`is_own`], and `each` says so of each extent, in order; `None` where extents are not told: there, blocks are not shared
/// either, as far as is known.
fn is_own_and(file: &File, range: Range<u64>, mut each: impl FnMut(Extent) -> bool) -> io::Result<Option<bool>> {
    if range.is_empty() {
        return Ok(Some(true));
    }
    let is_btrfs = rustix::fs::fstatfs(file)?.f_type.cast_unsigned() == BTRFS_MAGIC;
    if is_btrfs && !rustix::fs::ioctl_getflags(file)?.contains(IFlags::NOCOW) {
        return Ok(Some(false));
    }
    let mut is_own = true;
    let told = extents(file, range, |extent| {
        is_own &= extent.is_own && each(extent);
        is_own
    });
    match told {
        Ok(()) => Ok(Some(is_own)),
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
