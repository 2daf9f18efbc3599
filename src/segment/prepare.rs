//! Preparing a segment: named and mapped, its name and header durable, before the first append to it. A first part of
//! it is made ready; the rest follows as it is needed.

use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use zerocopy::IntoBytes;

use crate::error::{Error, NumberSpace, Result};
use crate::format::link::SegmentEnd;
use crate::format::position::SEGMENT_NUMBER_LIMIT;
use crate::format::segment_header::{self, Layout, SegmentHeader};
use crate::format::{frame, name};
use crate::memory::Region;
use crate::segment::SegmentInfo;
use crate::segment::directory::Found;
use crate::segment::filling::{Filling, PAGE_LEN};
use crate::segment::retire::Retired;
use crate::storage::{self, Access, FileIdentity, Storage, StorageFile};

/// A segment that holds nothing yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) layout: Layout,
    pub(crate) region: Region,
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) filling: Filling,
    /// This run has made its file.
    pub(crate) is_of_this_run: bool,
}

/// A [`Prepared`] segment whose file is closed until it is needed, so that an idle log has one open file less.
///
/// Its mapping keeps the file, and the number by which it is known: so the file that is found under its name later is either the same
/// one, or has another number.
#[derive(Debug)]
pub(crate) struct Resting {
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) filling: Filling,
    layout: Layout,
    region: Region,
    is_of_this_run: bool,
    /// `None` where files cannot be told apart.
    identity: Option<FileIdentity>,
}

impl Resting {
    /// Its file, opened again; `None` if it has lost its name, or may not be opened any more, as only by other hands.
    pub(crate) fn open(&self, storage: &dyn Storage) -> Result<Option<Arc<dyn StorageFile>>> {
        use io::ErrorKind::{NotFound, PermissionDenied};
        let name = name::segment(self.number);
        // What has taken its place may be nothing that can be opened.
        let found = storage.find(&name).ok().flatten();
        if found.is_some() && found != self.identity {
            return Ok(None);
        }
        match storage.open(&name, Access::Write) {
            Ok(file) => Ok((identity(&*file) == self.identity).then(|| file.into())),
            Err(source) if matches!(source.kind(), NotFound | PermissionDenied) => Ok(None),
            Err(source) => Err(Error::io("open", &storage.path().join(name), source)),
        }
    }

    /// The same segment, to be used, with the `file` that [`Self::open`] has given.
    pub(crate) fn with(self, file: Arc<dyn StorageFile>) -> Prepared {
        let Self { number, size, filling, layout, region, is_of_this_run, .. } = self;
        Prepared { number, size, layout, region, file, filling, is_of_this_run }
    }
}

fn identity(file: &dyn StorageFile) -> Option<FileIdentity> {
    file.as_file().and_then(FileIdentity::of)
}

impl Prepared {
    /// Closes its file until it is needed.
    pub(crate) fn rest(self) -> Resting {
        let Self { number, size, layout, region, file, filling, is_of_this_run } = self;
        Resting { number, size, filling, layout, region, is_of_this_run, identity: identity(&*file) }
    }

    /// Makes it ready up to `end`. What fails is not the segment's end: the rest can be filled later.
    pub(crate) fn fill_to(&mut self, end: usize, storage: &dyn Storage, page_len: usize) -> Result<()> {
        let filled = self.filling.fill_to(end, storage, &*self.file, self.region.mapping(), page_len);
        filled.map_err(|source| failed(storage, self.number, self.size, source))
    }

    /// As far as its first frames may reach.
    fn fill_first(&mut self, storage: &dyn Storage) -> Result<()> {
        self.fill_to(self.filling.first_end(0), storage, PAGE_LEN)
    }
}

/// A file with a header, which has no segment's name yet.
struct Made {
    layout: Layout,
    file: Arc<dyn StorageFile>,
    filling: Filling,
}

/// Makes segment `number`. Its name is durable on return, and its first part ready.
pub(crate) fn prepare(storage: &dyn Storage, log_id: u128, number: u64, size: u64) -> Result<Prepared> {
    check_number(number)?;
    let temporary = name::temporary_segment(number);
    let made = make(storage, &temporary, log_id, number, size);
    put_in_place(storage, &temporary, made, number, size)
}

/// Makes segment `number` of the file of a dropped one, which no reader sees any more. As [`prepare`] otherwise; if it
/// fails, the file is gone.
pub(crate) fn renew(
    storage: &dyn Storage,
    retired: &Retired,
    log_id: u128,
    number: u64,
    size: u64,
) -> Result<Prepared> {
    check_number(number)?;
    let made = overwrite(storage, retired, log_id, number, size);
    put_in_place(storage, retired.name(), made, number, size)
}

fn check_number(number: u64) -> Result<()> {
    if number < SEGMENT_NUMBER_LIMIT { Ok(()) } else { Err(Error::Exhausted(NumberSpace::Segments)) }
}

/// Gives what was made its name, and maps it.
fn put_in_place(
    storage: &dyn Storage,
    temporary: &str,
    made: io::Result<Made>,
    number: u64,
    size: u64,
) -> Result<Prepared> {
    let renamed = made.and_then(|made| storage.rename(temporary, &name::segment(number)).map(|()| made));
    if renamed.is_err() {
        // What is left of it is removed at the next open at the latest.
        let _ = storage.remove(temporary);
    }
    let Made { layout, file, filling } = renamed.map_err(|source| failed(storage, number, size, source))?;
    let mapped = storage.sync_directory().and_then(|()| file.map(size, Access::Write));
    let mapping = mapped.map_err(|source| {
        abandon(storage, number);
        failed(storage, number, size, source)
    })?;
    let region = Region::live(mapping, segment_header::LEN);
    let mut prepared = Prepared { number, size, layout, region, file, filling, is_of_this_run: true };
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

fn make(storage: &dyn Storage, temporary: &str, log_id: u128, number: u64, size: u64) -> io::Result<Made> {
    let file: Arc<dyn StorageFile> = storage.create(temporary)?.into();
    let is_written = file.allocate(size)?;
    let header = SegmentHeader::new(log_id, number, size, now_unix_ms());
    file.write_at(header.as_bytes(), 0)?;
    file.sync()?;
    Ok(Made { layout: header.layout(), file, filling: Filling::new(size, is_written) })
}

/// The header of another segment into a file that has been one. What else it holds stays, and means nothing under the new salt.
fn overwrite(storage: &dyn Storage, retired: &Retired, log_id: u128, number: u64, size: u64) -> io::Result<Made> {
    let file: Arc<dyn StorageFile> = storage.open(retired.name(), Access::Write)?.into();
    // What has been given back is there again before anything says that it is a segment.
    let is_written = retired.is_whole() || file.allocate(size)?;
    let header = SegmentHeader::new(log_id, number, size, now_unix_ms()).recycled();
    file.write_at(header.as_bytes(), 0)?;
    file.sync()?;
    Ok(Made { layout: header.layout(), file, filling: Filling::over(size, retired.page_len(), is_written) })
}

fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    u64::try_from(since).unwrap_or(0)
}

/// Takes over segment `found`, in which nothing has ever been written, and which an earlier run has prepared; `None` if its
/// file shares blocks with another one.
pub(crate) fn adopt(storage: &dyn Storage, found: &Found) -> Result<Option<Prepared>> {
    let &Found { number, size, layout, .. } = found;
    let name = name::segment(number);
    let failed = |operation| {
        let path = storage.path().join(&name);
        move |source| Error::io(operation, &path, source)
    };
    // A process may have died between naming it and making the name durable.
    storage.sync_directory().map_err(failed("sync the directory of"))?;
    let file: Arc<dyn StorageFile> = storage.open(&name, Access::Write).map_err(failed("open"))?.into();
    if !file.is_own(0..size).map_err(failed("look at"))? {
        return Ok(None);
    }
    let mapping = file.map(size, Access::Write).map_err(failed("map"))?;
    let region = Region::live(mapping, segment_header::LEN);
    let filling = Filling::going_on(size, segment_header::LEN);
    let mut prepared = Prepared { number, size, layout, region, file, filling, is_of_this_run: false };
    prepared.fill_first(storage)?;
    Ok(Some(prepared))
}

/// A segment that was closed, opened again.
pub(crate) struct GoneOn {
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) region: Arc<Region>,
    pub(crate) filling: Filling,
}

/// Opens the segment `info`, which was closed at `end`, for what comes after; `None` if its file shares blocks with another
/// one.
pub(crate) fn go_on(storage: &dyn Storage, info: &SegmentInfo, end: SegmentEnd) -> Result<Option<GoneOn>> {
    let path = &*storage.path().join(name::segment(info.number));
    let failed = |operation| move |source| Error::io(operation, path, source);
    let offset = usize::try_from(end.offset).expect("within a segment that was mapped");
    let file: Arc<dyn StorageFile> =
        storage.open(&name::segment(info.number), Access::Write).map_err(failed("open"))?.into();
    if !file.is_own(end.offset..info.size).map_err(failed("look at"))? {
        return Ok(None);
    }
    let mapping = file.map(info.size, Access::Write).map_err(failed("map"))?;
    let mut filling = Filling::going_on(info.size, offset);
    let filled = filling.fill_to(filling.first_end(offset), storage, &*file, &mapping, PAGE_LEN);
    let needed = info.size - end.offset;
    filled.map_err(|source| storage::failed(storage, "write", path, needed, source))?;
    Ok(Some(GoneOn { file, region: Arc::new(Region::live(mapping, offset)), filling }))
}

const _: () = assert!(segment_header::LEN.is_multiple_of(frame::ALIGN));
