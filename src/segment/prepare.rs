//! Preparing a segment: allocated, named and mapped, all of it durable, before anyone appends to it; then filled, for as
//! long as nobody waits for it.
//!
//! Filling changes nothing that can be read: allocated blocks read as zeros, and zeros are written over them. It is for
//! speed. The zeros are written a page at a time: the page cache keeps them as single pages, so that a small commit dirties,
//! and `msync` writes, one page, where larger writes make larger folios of which all is written for 200 bytes. And pages
//! that are mapped cost an append no fault: on a virtual machine, those take up to ten microseconds.
//!
//! Settling writes the zeros to the device: what has been written once costs a sync no metadata, as the first write to an
//! allocated block does. It goes slowly, since a device that is busy with zeros is not there for syncs, nor for the name of
//! the next segment.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use zerocopy::IntoBytes;

use crate::error::{Error, Result};
use crate::format::position::SEGMENT_NUMBER_LIMIT;
use crate::format::segment_header::{self, SegmentHeader};
use crate::format::{frame, name};
use crate::memory::{Mapping, Region};
use crate::sabotage::{Break, is};
use crate::segment::directory::Found;
use crate::storage::{Access, Storage, StorageFile};

const ZEROS: [u8; 4096] = [0; 4096];
/// Bytes filled or settled at a time: who cannot wait for the whole is kept waiting for no longer than that takes.
pub(crate) const STEP_BYTES: usize = 256 << 10;

/// A segment that holds nothing yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) salt: u32,
    pub(crate) region: Region,
    pub(crate) file: Arc<dyn StorageFile>,
    /// Bytes filled, and of these, bytes settled.
    filled: usize,
    settled: usize,
}

impl Prepared {
    /// Fills a little more of it; false once it is full.
    pub(crate) fn fill_on(&mut self, storage: &dyn Storage) -> Result<bool> {
        let range = self.filled..(self.filled + STEP_BYTES).min(self.region.len());
        if range.is_empty() {
            return Ok(false);
        }
        // The header stands in front of the first zeros.
        let written = zero_fill(&*self.file, range.start.max(segment_header::LEN) as u64, range.end as u64);
        written.map_err(|source| failed(storage, "prepare", self.number, self.size, source))?;
        self.filled = range.end;
        // Not populated, the pages come one by one.
        let _ = storage.populate(self.region.mapping(), range);
        Ok(true)
    }

    /// All of it.
    pub(crate) fn fill(&mut self, storage: &dyn Storage) -> Result<()> {
        while self.fill_on(storage)? {}
        Ok(())
    }

    /// Settles a little more of what has been filled; false once all of it is.
    pub(crate) fn settle_on(&mut self, storage: &dyn Storage) -> bool {
        let range = self.settled..(self.settled + STEP_BYTES).min(self.filled);
        self.settled = range.end;
        settle(storage, &*self.file, self.region.mapping(), range)
    }
}

/// Has `range` of a filled segment written to the device before a sync has to. Appends may go on meanwhile. False if it
/// is empty.
pub(crate) fn settle(storage: &dyn Storage, file: &dyn StorageFile, mapping: &Mapping, range: Range<usize>) -> bool {
    if range.is_empty() {
        return false;
    }
    // Hints, both. What is mapped stays in the page cache; what begins to be written is made read-only, and so populated
    // once more.
    let _ = file.start_writing(range.start as u64..range.end as u64);
    let _ = storage.populate(mapping, range);
    true
}

/// Makes segment `number`, of which nothing has been filled yet. Its name is durable on return.
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
    let (salt, file) = renamed.map_err(|source| failed(storage, "prepare", number, size, source))?;
    let synced = if is(Break::PrepareWithoutDirectorySync) { Ok(()) } else { storage.sync_directory() };
    let mapped = synced.and_then(|()| file.map(size, Access::Write));
    let mapping = mapped.map_err(|source| {
        abandon(storage, number);
        failed(storage, "prepare", number, size, source)
    })?;
    Ok(Prepared { number, size, salt, region: Region::live(mapping, segment_header::LEN), file, filled: 0, settled: 0 })
}

/// Removes a segment that could not be prepared. If it stays, it is removed at the next open.
pub(crate) fn abandon(storage: &dyn Storage, number: u64) {
    let _ = storage.remove(&name::segment(number));
}

fn failed(storage: &dyn Storage, operation: &'static str, number: u64, size: u64, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::NoSpace { path: storage.path().to_owned(), needed_bytes: size }
        }
        _ => Error::io(operation, &storage.path().join(name::segment(number)), source),
    }
}

fn make(
    storage: &dyn Storage,
    temporary: &str,
    log_id: u128,
    number: u64,
    size: u64,
) -> io::Result<(u32, Arc<dyn StorageFile>)> {
    let file: Arc<dyn StorageFile> = storage.create(temporary)?.into();
    file.allocate(size)?;
    let salt = (storage.random() >> 32) as u32;
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let header = SegmentHeader::new(log_id, number, size, salt, u64::try_from(created).unwrap_or(0));
    if is(Break::HeaderAfterSync) {
        file.sync()?;
    }
    file.write_at(header.as_bytes(), 0)?;
    if !is(Break::PrepareWithoutSync) && !is(Break::HeaderAfterSync) {
        file.sync()?;
    }
    Ok((salt, file))
}

/// Takes over segment `found`, in which nothing has ever been written, and which an earlier run has prepared.
pub(crate) fn adopt(storage: &dyn Storage, found: &Found) -> Result<Prepared> {
    let &Found { number, size, salt, .. } = found;
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
    refresh(&*file, segment_header::LEN as u64, size).map_err(failed("write"))?;
    let mapping = file.map(size, Access::Write).map_err(failed("map"))?;
    // Not populated, the pages come one by one.
    let _ = storage.populate(&mapping, 0..mapping.len_bytes());
    let filled = mapping.len_bytes();
    Ok(Prepared { number, size, salt, region: Region::live(mapping, segment_header::LEN), file, filled, settled: 0 })
}

/// Has the zeros from `start` to `end`, which the file has, stand in the page cache as single pages: what has been read
/// ahead stands there in large folios, and each sync would write a whole one.
pub(crate) fn refresh(file: &dyn StorageFile, start: u64, end: u64) -> io::Result<()> {
    file.drop_cache()?;
    zero_fill(file, start, end)
}

/// Writes zeros over `start..end` a page at a time.
fn zero_fill(file: &dyn StorageFile, start: u64, end: u64) -> io::Result<()> {
    let mut offset = start;
    while offset < end {
        let to_page_end = ZEROS.len() as u64 - offset % ZEROS.len() as u64;
        let len = to_page_end.min(end - offset);
        // At most a page, so it fits.
        file.write_at(&ZEROS[..len as usize], offset)?;
        offset += len;
    }
    Ok(())
}

const _: () = assert!(segment_header::LEN.is_multiple_of(frame::ALIGN));
