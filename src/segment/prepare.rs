//! Preparing a segment: allocated, named and mapped, all of it durable, before anyone appends to it. A first part of it is
//! made ready for that; the rest follows as it is needed.

use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use zerocopy::IntoBytes;

use crate::error::{Error, Result};
use crate::format::position::SEGMENT_NUMBER_LIMIT;
use crate::format::segment_header::{self, Layout, SegmentHeader};
use crate::format::{frame, name};
use crate::memory::Region;
use crate::sabotage::{Break, is};
use crate::segment::directory::Found;
use crate::segment::filling::{Filling, Pages};
use crate::storage::{self, Access, Storage, StorageFile};

/// A segment that holds nothing yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) layout: Layout,
    pub(crate) region: Region,
    pub(crate) filling: Filling,
}

impl Prepared {
    /// Makes it ready up to `end`. What fails is not the segment's end: the rest can be filled later.
    pub(crate) fn fill_to(&mut self, end: usize, storage: &dyn Storage, pages: Pages) -> Result<()> {
        let filled = self.filling.fill_to(end, storage, self.region.mapping(), pages);
        filled.map_err(|source| failed(storage, self.number, self.size, source))
    }

    /// As far as its first frames may reach.
    fn fill_first(&mut self, storage: &dyn Storage) -> Result<()> {
        self.fill_to(self.filling.first_end(0), storage, Pages::Single)
    }
}

/// Makes segment `number`. Its name is durable on return, and its first part ready.
pub(crate) fn prepare(storage: &dyn Storage, log_id: u128, number: u64, size: u64) -> Result<Prepared> {
    if number >= SEGMENT_NUMBER_LIMIT {
        return Err(Error::Exhausted("segment numbers"));
    }
    let (temporary, name) = (name::temporary_segment(number), name::segment(number));
    let made = make(storage, &temporary, log_id, number, size);
    let renamed = made.and_then(|made| storage.rename(&temporary, &name).map(|()| made));
    if renamed.is_err() {
        // What is left of it is removed at the next open at the latest.
        let _ = storage.remove(&temporary);
    }
    let (layout, file) = renamed.map_err(|source| failed(storage, number, size, source))?;
    let synced = if is(Break::PrepareWithoutDirectorySync) { Ok(()) } else { storage.sync_directory() };
    let mapped = synced.and_then(|()| file.map(size, Access::Write));
    let mapping = mapped.map_err(|source| {
        abandon(storage, number);
        failed(storage, number, size, source)
    })?;
    let region = Region::live(mapping, segment_header::LEN);
    let mut prepared = Prepared { number, size, layout, region, filling: Filling::new(file, size) };
    prepared.fill_first(storage).inspect_err(|_| abandon(storage, number))?;
    Ok(prepared)
}

/// Removes a segment that could not be prepared. If it stays, it is removed at the next open.
pub(crate) fn abandon(storage: &dyn Storage, number: u64) {
    let _ = storage.remove(&name::segment(number));
}

/// The error for what kept segment `number`, of `size` bytes, from being prepared.
pub(crate) fn failed(storage: &dyn Storage, number: u64, size: u64, source: io::Error) -> Error {
    storage::failed(storage, "prepare", &storage.path().join(name::segment(number)), size, source)
}

fn make(
    storage: &dyn Storage,
    temporary: &str,
    log_id: u128,
    number: u64,
    size: u64,
) -> io::Result<(Layout, Arc<dyn StorageFile>)> {
    let file: Arc<dyn StorageFile> = storage.create(temporary)?.into();
    file.allocate(size)?;
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let header = SegmentHeader::new(log_id, number, size, u64::try_from(created).unwrap_or(0));
    if is(Break::HeaderAfterSync) {
        file.sync()?;
    }
    file.write_at(header.as_bytes(), 0)?;
    if !is(Break::PrepareWithoutSync) && !is(Break::HeaderAfterSync) {
        file.sync()?;
    }
    Ok((header.layout(), file))
}

/// Takes over segment `found`, in which nothing has ever been written, and which an earlier run has prepared; `None` if its
/// file has no room of its own for what comes, as after a copy that left out zeros or shares them.
pub(crate) fn adopt(storage: &dyn Storage, found: &Found) -> Result<Option<Prepared>> {
    let &Found { number, size, layout, .. } = found;
    let name = name::segment(number);
    let failed = |operation| {
        let path = storage.path().join(&name);
        move |source| Error::io(operation, &path, source)
    };
    // A process may have died between naming it and making the name durable.
    if !is(Break::AdoptWithoutDirectorySync) {
        storage.sync_directory().map_err(failed("sync the directory of"))?;
    }
    let file: Arc<dyn StorageFile> = storage.open(&name, Access::Write).map_err(failed("open"))?.into();
    if !file.is_reserved(0..size).map_err(failed("look at"))? {
        return Ok(None);
    }
    let mapping = file.map(size, Access::Write).map_err(failed("map"))?;
    let region = Region::live(mapping, segment_header::LEN);
    let filling = Filling::going_on(file, size, segment_header::LEN);
    let mut prepared = Prepared { number, size, layout, region, filling };
    prepared.fill_first(storage)?;
    Ok(Some(prepared))
}

const _: () = assert!(segment_header::LEN.is_multiple_of(frame::ALIGN));
