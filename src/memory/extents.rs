//! Where the bytes of a file are on its device, as the kernel tells it: needed before stores to a mapping of it.

use std::fs::File;
use std::ops::Range;

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// A stretch of a file that has blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// The blocks are there, and no other file has them.
    pub(crate) is_own: bool,
}

/// Extents asked for at a time.
const EXTENTS: usize = 32;
/// The file is synced first, so that what it says is so on the device.
const FLAG_SYNC: u32 = 1;
const EXTENT_LAST: u32 = 1;
/// The blocks are not chosen yet, or not known; they hold something else than the bytes, such as a compressed form; or they
/// are part of another structure of the file system.
const EXTENT_ELSEWHERE: u32 = 2 | 4 | 8 | 0x100 | 0x200 | 0x400;
const EXTENT_SHARED: u32 = 0x2000;

/// `struct fiemap` of `linux/fiemap.h`, followed by room for extents.
#[repr(C)]
#[derive(Clone, Copy)]
struct Request {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
    extents: [FoundExtent; EXTENTS],
}

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FoundExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

const HEADER_LEN: usize = 32;
const _: () = assert!(size_of::<FoundExtent>() == 56);
const _: () = assert!(size_of::<Request>() == HEADER_LEN + EXTENTS * size_of::<FoundExtent>());

/// `FS_IOC_FIEMAP`: its number has the length of the header alone.
const FIEMAP: Opcode = opcode::read_write::<[u64; HEADER_LEN / 8]>(b'f', 11);

/// Shows the extents of `range` of `file` to `each`, in order, until it says stop.
pub(crate) fn extents(
    file: &File,
    range: Range<u64>,
    mut each: impl FnMut(Extent) -> bool,
) -> Result<(), rustix::io::Errno> {
    let mut start = range.start;
    while start < range.end {
        let request = ask(file, start..range.end)?;
        let found = &request.extents[..(request.mapped_extents as usize).min(EXTENTS)];
        for extent in found {
            let is_own = extent.flags & (EXTENT_ELSEWHERE | EXTENT_SHARED) == 0;
            let end = extent.logical.saturating_add(extent.length);
            if !each(Extent { start: extent.logical, end, is_own }) || extent.flags & EXTENT_LAST != 0 {
                return Ok(());
            }
            start = start.max(end);
        }
        if found.is_empty() {
            return Ok(());
        }
    }
    Ok(())
}

fn ask(file: &File, range: Range<u64>) -> Result<Request, rustix::io::Errno> {
    let mut request = Request {
        start: range.start,
        length: range.end - range.start,
        flags: FLAG_SYNC,
        mapped_extents: 0,
        extent_count: EXTENTS as u32,
        reserved: 0,
        extents: [FoundExtent::default(); EXTENTS],
    };
    // SAFETY: the call of this number reads and writes a `struct fiemap`, which `Request` begins with (its layout is
    // asserted above), and writes up to `extent_count` extents after it, for which `Request` has room.
    let call = unsafe { Updater::<FIEMAP, Request>::new(&mut request) };
    // SAFETY: as above; any bytes are valid in all of its fields.
    unsafe { ioctl(file, call) }?;
    Ok(request)
}
