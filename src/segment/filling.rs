//! How far a segment is ready for appends: written with zeros, its pages mapped, in steps.
//!
//! It changes nothing that can be read: allocated blocks read as zeros, and zeros are written over them. It is for speed.
//! Pages that are mapped cost an append no fault; on a virtual machine, those take up to ten microseconds.
//!
//! How much is written at a time decides how the page cache holds it, and how much a sync writes:
//!
//! - **single pages**: a small commit dirties, and `msync` writes, one page;
//! - **large ones**, of 512 KiB: a tenth of the work for each byte, here and for those that read the segment later, but a sync
//!   writes all of a large page for the smallest record in it. They are for records that nobody syncs one by one.
//!
//! Settling writes zeros to the device before a sync has to: what has been written once costs that no metadata, as the first
//! write to an allocated block does. It goes slowly, since a device that is busy with zeros is not there for syncs, nor for
//! the name of the next segment.
//!
//! **Nothing is ever stored behind the end of what is filled**, so that no zero is written over a frame: appenders get their
//! room from [`Filling::room`], which leaves out the place of a seal or a close.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::format::{link, segment_header};
use crate::memory::Mapping;
use crate::sabotage::{Break, is};
use crate::storage::{Storage, StorageFile};

/// How the page cache is to hold what is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pages {
    Single,
    Large,
}

const PAGE_LEN: usize = 4096;
/// The largest page that processors map as one, where the file system keeps such pages.
pub(crate) const LARGE_PAGE_LEN: usize = 512 << 10;
/// Filled or settled at a time: who cannot wait for more is kept waiting for no longer than that takes.
const STEP_LEN: usize = 256 << 10;
/// More than a header, a link without much metadata, a truncation and a seal take.
const FIRST_LEN_MIN: usize = 16 << 10;
static ZEROS: [u8; LARGE_PAGE_LEN] = [0; LARGE_PAGE_LEN];

/// A segment as far as it is ready.
#[derive(Debug)]
pub(crate) struct Filling {
    file: Arc<dyn StorageFile>,
    size: usize,
    /// Behind the last byte that is ready, and behind the last that is settled.
    end: usize,
    settled: usize,
    /// Where large pages were used last.
    large: Range<usize>,
    /// The page cache may hold some of the rest, in pages of any size.
    is_cached: bool,
    /// The rest is left to those who need it.
    gave_up: bool,
}

impl Filling {
    /// Of a new segment of `size` bytes, that has a header.
    pub(crate) fn new(file: Arc<dyn StorageFile>, size: u64) -> Self {
        let mut filling = Self::going_on(file, size, segment_header::LEN);
        filling.is_cached = false;
        filling
    }

    /// Of a segment that is there, and holds zeros from `offset` on.
    pub(crate) fn going_on(file: Arc<dyn StorageFile>, size: u64, offset: usize) -> Self {
        let size = usize::try_from(size).expect("mapped, so it fits");
        Self { file, size, end: offset, settled: offset, large: 0..0, is_cached: true, gave_up: false }
    }

    pub(crate) fn file(&self) -> &Arc<dyn StorageFile> {
        &self.file
    }

    /// The end of what is ready.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    pub(crate) fn is_full(&self) -> bool {
        self.end == self.size
    }

    /// Whether more can be made ready, and `end` has not been reached.
    pub(crate) fn is_short_of(&self, end: usize) -> bool {
        !self.is_full() && self.end < end
    }

    /// How far appenders may go: what is ready, less the place of the seal.
    pub(crate) fn room(&self) -> usize {
        self.end - link::SEAL_FRAME_LEN
    }

    /// Where large pages were used last.
    pub(crate) fn large(&self) -> Range<usize> {
        self.large.clone()
    }

    /// What is made ready before anyone appends at `offset`: enough for the first frames of a segment.
    pub(crate) fn first_end(&self, offset: usize) -> usize {
        let len = (self.size / 32).clamp(FIRST_LEN_MIN, LARGE_PAGE_LEN);
        (offset + len).next_multiple_of(len).min(self.size)
    }

    /// Whether there is nothing left to do that nobody asks for.
    pub(crate) fn is_done(&self) -> bool {
        self.gave_up || (self.is_full() && self.settled == self.end)
    }

    /// Leaves the rest to those who need it.
    pub(crate) fn give_up(&mut self) {
        self.gave_up = true;
    }

    /// Makes a little more of it ready, if there is more.
    pub(crate) fn step(&mut self, storage: &dyn Storage, mapping: &Mapping, pages: Pages) -> io::Result<()> {
        let fits = self.end.is_multiple_of(LARGE_PAGE_LEN) && self.size - self.end >= LARGE_PAGE_LEN;
        let is_large = pages == Pages::Large && fits;
        let len = if is_large { LARGE_PAGE_LEN } else { STEP_LEN.min(self.first_end(0)) };
        let range = self.end..(self.end - self.end % len + len).min(self.size);
        if self.is_cached {
            // What was read ahead stands in pages of any size. Without effect it is only slower.
            let _ = self.file.drop_cache(range.start as u64..range.end as u64);
        }
        let unit = if is_large { LARGE_PAGE_LEN } else { PAGE_LEN };
        // The page in which a segment goes on has frames in it, and is there.
        let mut offset = range.start.next_multiple_of(PAGE_LEN);
        if is(Break::FillOverFrames) && offset > 2 * PAGE_LEN {
            offset -= PAGE_LEN;
        }
        while offset < range.end {
            let len = (unit - offset % unit).min(range.end - offset);
            self.file.write_at(&ZEROS[..len], offset as u64)?;
            offset += len;
        }
        // Not populated, the pages come one by one; but not those for which there is no room.
        match storage.populate(mapping, page_start(range.start)..range.end) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(error),
            _ => {}
        }
        self.end = range.end;
        if is_large {
            self.large = if self.large.end == range.start { self.large.start..range.end } else { range.clone() };
            // Large pages are for what will be synced together.
            self.settled = range.end;
        }
        Ok(())
    }

    /// Makes it ready up to `end`, or as far as it goes.
    pub(crate) fn fill_to(
        &mut self,
        end: usize,
        storage: &dyn Storage,
        mapping: &Mapping,
        pages: Pages,
    ) -> io::Result<()> {
        while self.end < end.min(self.size) {
            self.step(storage, mapping, pages)?;
        }
        Ok(())
    }

    /// Settles a little more of what is ready, while appends go on; false if all of it is settled.
    pub(crate) fn settle(&mut self, storage: &dyn Storage, mapping: &Mapping) -> bool {
        let range = page_start(self.settled)..(self.settled + STEP_LEN).min(self.end);
        if self.settled >= self.end {
            return false;
        }
        self.settled = range.end;
        // Hints, both. What is mapped stays in the page cache; what begins to be written is made read-only, and so
        // populated once more.
        let _ = self.file.start_writing(range.start as u64..range.end as u64);
        let _ = storage.populate(mapping, range);
        true
    }
}

fn page_start(offset: usize) -> usize {
    offset - offset % PAGE_LEN
}
