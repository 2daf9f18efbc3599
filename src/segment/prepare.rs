//! Preparing a segment: allocated, zeroed, durable and mapped before anyone appends to it.
//!
//! The zeros are written a page at a time. The page cache keeps them as single pages, so that a small commit dirties, and
//! `msync` writes, one page: with larger writes the kernel builds larger folios and writes all of one for 200 bytes.
//! Written zeros also leave no unwritten extents, whose conversion would cost each first sync a metadata commit, and
//! which on ext4 lose later data after one write error.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
/// Bytes populated in one call: a stopping thread is kept waiting for no longer than that takes.
const POPULATE_BYTES: usize = 4 << 20;

/// A segment that holds nothing yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) salt: u32,
    pub(crate) region: Region,
    pub(crate) file: Arc<dyn StorageFile>,
}

/// Makes segment `number`. Its name is durable on return. `None` if `cancelled` became true meanwhile.
pub(crate) fn prepare(
    storage: &dyn Storage,
    log_id: u128,
    number: u64,
    size: u64,
    cancelled: &AtomicBool,
) -> Result<Option<Prepared>> {
    if number >= SEGMENT_NUMBER_LIMIT {
        return Err(Error::Exhausted("segment numbers"));
    }
    let (temporary, name) = (name::temporary_segment(number), name::segment(number));
    let made = make(storage, &temporary, log_id, number, size, cancelled);
    let renamed = match made {
        Ok(Some(prepared)) => storage.rename(&temporary, &name).map(|()| Some(prepared)),
        other => other,
    };
    let failed = |operation, source: io::Error| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::NoSpace { path: storage.path().to_owned(), needed_bytes: size }
        }
        _ => Error::io(operation, &storage.path().join(&name), source),
    };
    if !matches!(renamed, Ok(Some(_))) {
        // What is left of it is removed at the next open at the latest.
        let _ = storage.remove(&temporary);
    }
    let Some((salt, file)) = renamed.map_err(|source| failed("prepare", source))? else { return Ok(None) };
    let synced = if is(Break::PrepareWithoutDirectorySync) { Ok(()) } else { storage.sync_directory() };
    let mapped = synced.and_then(|()| file.map(size, Access::Write));
    let mapping = match mapped {
        Ok(mapping) => mapping,
        Err(source) => {
            let _ = storage.remove(&name);
            return Err(failed("prepare", source));
        }
    };
    populate(storage, &mapping, cancelled);
    let region = Region::live(mapping, segment_header::LEN);
    tracing::debug!(segment = number, size_bytes = size, "segment prepared");
    Ok(Some(Prepared { number, size, salt, region, file }))
}

type Made = Option<(u32, Arc<dyn StorageFile>)>;

fn make(
    storage: &dyn Storage,
    temporary: &str,
    log_id: u128,
    number: u64,
    size: u64,
    cancelled: &AtomicBool,
) -> io::Result<Made> {
    let file: Arc<dyn StorageFile> = storage.create(temporary)?.into();
    file.allocate(size)?;
    if !zero_fill(&*file, segment_header::LEN as u64, size, cancelled)? {
        return Ok(None);
    }
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
    Ok(Some((salt, file)))
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
    populate(storage, &mapping, &AtomicBool::new(false));
    Ok(Prepared { number, size, salt, region: Region::live(mapping, segment_header::LEN), file })
}

/// Has the zeros from `start` to `end`, which the file has, stand in the page cache as single pages: what has been read
/// ahead stands there in large folios, and each sync would write a whole one.
pub(crate) fn refresh(file: &dyn StorageFile, start: u64, end: u64) -> io::Result<()> {
    file.drop_cache()?;
    zero_fill(file, start, end, &AtomicBool::new(false)).map(drop)
}

/// Spares appenders the page faults: on a virtual machine a first store takes up to ten microseconds.
fn populate(storage: &dyn Storage, mapping: &Mapping, cancelled: &AtomicBool) {
    for start in (0..mapping.len_bytes()).step_by(POPULATE_BYTES) {
        let range = start..(start + POPULATE_BYTES).min(mapping.len_bytes());
        // Not populated, the pages come one by one.
        if cancelled.load(Ordering::Relaxed) || storage.populate(mapping, range).is_err() {
            return;
        }
    }
}

/// Writes zeros over `start..end` a page at a time; false if `cancelled` became true meanwhile.
fn zero_fill(file: &dyn StorageFile, start: u64, end: u64, cancelled: &AtomicBool) -> io::Result<bool> {
    let mut offset = start;
    while offset < end {
        if cancelled.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let to_page_end = ZEROS.len() as u64 - offset % ZEROS.len() as u64;
        let len = to_page_end.min(end - offset);
        // At most a page, so it fits.
        file.write_at(&ZEROS[..len as usize], offset)?;
        offset += len;
    }
    Ok(true)
}

const _: () = assert!(segment_header::LEN.is_multiple_of(frame::ALIGN));
