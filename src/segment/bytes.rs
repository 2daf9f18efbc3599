//! Where the bytes of a segment are: mapped while it is written, and when it is read.

use std::io;
use std::sync::{Arc, Weak};

use super::{Origin, Segment, directory};
use crate::error::{Damage, Error, Result};
use crate::format::link::SegmentEnd;
use crate::format::name;
use crate::format::segment_header;
use crate::format::walk::{Check, Place, Walk};
use crate::memory::Region;
use crate::storage::{Access, StorageFile};

/// Where the bytes of a segment are.
#[derive(Debug)]
pub(super) enum Bytes {
    /// Being written, or not yet durable.
    Live { region: Arc<Region>, file: Arc<dyn StorageFile> },
    /// On disk, mapped when it is read.
    AtRest(Weak<Region>),
    /// Its file has lost its name; the mapping lives as long as the segment.
    Kept(Arc<Region>),
}

impl Segment {
    /// Its bytes, mapped if they are not.
    pub(crate) fn region(&self) -> Result<Arc<Region>> {
        let mut bytes = self.bytes.lock();
        match &*bytes {
            Bytes::Live { region, .. } | Bytes::Kept(region) => return Ok(Arc::clone(region)),
            Bytes::AtRest(weak) => {
                if let Some(region) = weak.upgrade() {
                    return Ok(region);
                }
            }
        }
        // Mapping waits for the system with the lock held, so that a segment is never mapped twice at once; only
        // threads that want this segment wait.
        let region = Arc::new(self.map()?);
        self.cache.remember(&region);
        *bytes = Bytes::AtRest(Arc::downgrade(&region));
        Ok(region)
    }

    fn map(&self) -> Result<Region> {
        let path = self.path();
        let failed = |operation| move |source| Error::io(operation, &self.path(), source);
        let opened = self.storage.open(&name::segment(self.info.number), Access::Read);
        let file = opened.map_err(|source| match source.kind() {
            // A reader without the lock may find that the writer has trimmed the segment.
            io::ErrorKind::NotFound if self.latest.origin == Origin::Foreign => self.trimmed(),
            _ => Error::io("open", &path, source),
        })?;
        let len = file.len_bytes().map_err(failed("read the length of"))?;
        if len != self.info.size {
            return Err(Error::corrupt(&path, 0, None, Damage::FileLength { expected: self.info.size, found: len }));
        }
        let mapping = file.map(len, Access::Read).map_err(failed("map"))?;
        Ok(match self.latest.origin {
            // Its writer may still be at it: only what the commit words show may be borrowed.
            Origin::Foreign => Region::live(mapping, self.frontier().offset),
            Origin::Own | Origin::Recovered => Region::frozen(mapping),
        })
    }

    /// The error of a reader that finds its file gone: the writer has trimmed it, and maybe others after it.
    #[cold]
    pub(crate) fn trimmed(&self) -> Error {
        let lsn = self.info.base_lsn;
        let next = self.end().map_or(lsn.next(), |end| end.next_lsn);
        let first = directory::first_lsn(&*self.storage).map_or(next, |first| first.max(next));
        Error::Trimmed { lsn, first }
    }

    /// Region and file while the segment may still have to be made durable.
    pub(crate) fn unsynced(&self) -> Option<(Arc<Region>, Arc<dyn StorageFile>)> {
        match &*self.bytes.lock() {
            Bytes::Live { region, file } => Some((Arc::clone(region), Arc::clone(file))),
            Bytes::AtRest(_) | Bytes::Kept(_) => None,
        }
    }

    /// Lets go of the file once the ended segment is durable, and of the memory that its pages take; the mapping is kept for as long
    /// as it is in use.
    pub(crate) fn release_file(&self) {
        let mut bytes = self.bytes.lock();
        if let Bytes::Live { region, .. } = &*bytes {
            let region = Arc::clone(region);
            self.cache.remember(&region);
            *bytes = Bytes::AtRest(Arc::downgrade(&region));
            drop(bytes);
            region.release_pages(0..region.len());
        }
    }

    /// Pins the bytes to this value, whose file is about to lose its name.
    pub(crate) fn keep(&self) -> Result<()> {
        let region = self.region()?;
        // Otherwise the cache alone would hold the disk space.
        self.cache.forget(&Arc::downgrade(&region));
        *self.bytes.lock() = Bytes::Kept(region);
        Ok(())
    }

    /// Whether any other holder may still want its bytes.
    pub(crate) fn is_shared(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 || Arc::strong_count(&self.bytes) > 1
    }

    /// The mapping, if there is one just now.
    pub(crate) fn mapped(&self) -> Option<Arc<Region>> {
        match &*self.bytes.lock() {
            Bytes::Live { region, .. } | Bytes::Kept(region) => Some(Arc::clone(region)),
            Bytes::AtRest(weak) => weak.upgrade(),
        }
    }

    /// Takes the mapping out of the cache: it will not be looked for again.
    pub(crate) fn forget(&self) {
        if let Bytes::AtRest(weak) = &*self.bytes.lock() {
            self.cache.forget(weak);
        }
    }

    /// Where the sound frames of an ended segment end, if that is beyond what is known of them: where they contradict the end that the
    /// next segment names, a walk that finds that keeps nothing of what it has passed.
    #[cold]
    pub(crate) fn sound_end(&self, region: &Region) -> Option<SegmentEnd> {
        let end = usize::try_from(self.end()?.offset).ok()?;
        let bytes = region.bytes(0..region.published().min(end))?;
        let mut walk = Walk::new(self.info.layout, Check::Full, segment_header::LEN, self.info.base_lsn);
        while walk.place().offset < bytes.len() && walk.step(&bytes[walk.place().offset..]).is_ok() {}
        let Place { offset, next_lsn, last_crc: crc } = walk.boundary();
        (offset > self.frontier().offset).then_some(SegmentEnd { offset: offset as u64, next_lsn, crc })
    }

    /// The same bytes, up to `end` only.
    pub(crate) fn cut(&self, end: SegmentEnd) -> Self {
        let (storage, cache) = (Arc::clone(&self.storage), Arc::clone(&self.cache));
        let earlier = self.earlier.as_ref().and_then(|stretch| Some((stretch.end?, stretch.origin)));
        let origins = match earlier {
            Some((earlier, origin)) if earlier.offset >= end.offset => (None, origin),
            earlier => (earlier, self.latest.origin),
        };
        let mut cut = Self::new(self.info, Some(end), origins, Bytes::AtRest(Weak::new()), storage, cache);
        cut.is_of_this_run = self.is_of_this_run;
        cut.taken = Arc::clone(&self.taken);
        // A mapping of a foreign segment shows what one walk of it has passed, and each of the two is walked by itself.
        if self.latest.origin != Origin::Foreign {
            cut.bytes = Arc::clone(&self.bytes);
        }
        cut
    }
}
