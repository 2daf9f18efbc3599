//! The file of a segment, as recovery reads it.

use crate::error::{Error, Result};
use crate::format::name;
use crate::memory::FrozenRegion;
use crate::storage::{Access, Storage, StorageFile};

/// How much of a segment is read ahead of the walk, in one call that turns a bad sector into an error.
const LOAD_WINDOW_BYTES: usize = 1 << 20;

/// Zeros follow up to the end of this before appends go on in a page.
pub(super) const PAGE_LEN: usize = 4096;

pub(super) fn open(storage: &dyn Storage, number: u64, size: u64) -> Result<(Box<dyn StorageFile>, FrozenRegion)> {
    let name = name::segment(number);
    let failed = |operation| {
        let path = storage.path().join(&name);
        move |source| Error::io(operation, &path, source)
    };
    let file = storage.open(&name, Access::Read).map_err(failed("open"))?;
    let mapping = file.map(size, Access::Read).map_err(failed("map"))?;
    // Frozen: the lock is held, so no process writes.
    Ok((file, FrozenRegion::new(mapping)))
}

/// Reads some from byte `offset` on, but not what was given back after `limit`: to look at it takes room on some file systems. Returns
/// the end of what has been read.
pub(super) fn load(
    storage: &dyn Storage,
    number: u64,
    region: &FrozenRegion,
    offset: usize,
    limit: usize,
) -> Result<usize> {
    let start = offset - offset % LOAD_WINDOW_BYTES;
    let end = (start + LOAD_WINDOW_BYTES).min(limit.next_multiple_of(PAGE_LEN));
    let path = storage.path().join(name::segment(number));
    storage.load(region.mapping(), start..end).map_err(|source| Error::io("read", &path, source))?;
    Ok(end)
}
