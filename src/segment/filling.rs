//! How far a segment is ready for appends: written with zeros, its pages mapped, in steps.
//!
//! A new file is a hole or allocated, and a recycled one holds anything: zeros are written first, to the page cache, and records
//! over them. Through the zeros the file system knows of each page before a record is stored to it, and has reserved a
//! block for it, so that a full disk is an error here, and not a signal at a store. Pages that are mapped cost an
//! append no fault; on a virtual machine, those take up to ten microseconds. No zero needs to reach the device: a sync
//! writes what has been appended.
//!
//! How much is written at a time decides how the page cache holds it, and how much a sync writes:
//!
//! - **single pages**: a small commit dirties, and `msync` writes, one page;
//! - **larger ones**, of up to half a megabyte: a tenth of the work for each byte, here, for a sync, and for later
//!   reads of the segment, but a sync writes all of a large page for the smallest record in it. So they are a sixteenth of
//!   what comes between two syncs.
//!
//! Settling writes zeros back to the device before a sync has to: a sync of blocks that have been written once needs no
//! metadata. A hint: a block that has no zeros is read as zeros. It is for small commits to a new file, and stays less than a second of commits ahead of them.
//!
//! **Nothing is ever stored beyond the end of what is filled**, so that no zero is written over a frame: appenders get their
//! room from [`Filling::room`], which leaves out the place of a seal or a close.

use std::io;
use std::ops::Range;

use crate::format::{link, segment_header};
use crate::memory::Mapping;
use crate::storage::{Storage, StorageFile};

/// The smallest page of the page cache.
pub(crate) const PAGE_LEN: usize = 4096;
/// The largest that is of use: a guest that gives free memory back to its host gives back blocks that are larger.
pub(crate) const LARGE_PAGE_LEN: usize = 512 << 10;
/// The largest in which the page cache holds what has been read: a huge page.
pub(crate) const LARGEST_PAGE_LEN: usize = 2 << 20;
/// What comes between two syncs is this many pages, at least, and so a sync writes a sixteenth more than it must, at the most.
const PAGES_PER_SYNC: usize = 16;

/// How large pages are to be for syncs of `len` bytes.
pub(crate) fn page_len_for(len: usize) -> usize {
    let share = (len / PAGES_PER_SYNC).clamp(PAGE_LEN, LARGE_PAGE_LEN);
    1 << share.ilog2()
}
/// Filled or settled at a time: a waiting appender waits no longer than that takes.
const STEP_LEN: usize = 256 << 10;
/// Pages written at a time where the page cache has them already.
const PAGES_KEPT: usize = 16;
/// Other threads may have the processor after a write that ends at a multiple of this.
const YIELD_LEN: usize = 64 << 10;
/// A commit word of zeros.
pub(super) const STOP_LEN: usize = 8;
/// More than a header, a link without much metadata, a truncation and a seal take.
const FIRST_LEN_MIN: usize = 16 << 10;
static ZEROS: [u8; LARGE_PAGE_LEN] = [0; LARGE_PAGE_LEN];

/// A segment as far as it is ready.
#[derive(Debug)]
pub(crate) struct Filling {
    size: usize,
    /// After the last byte that is ready, and after the last that is settled.
    end: usize,
    settled: usize,
    /// Where pages were used last that are larger than the smallest, and how large they are.
    large: Range<usize>,
    large_len: usize,
    /// All blocks have been written before: nothing has to be settled.
    is_written: bool,
    /// From here on, the page cache may hold some of it.
    cached: usize,
    /// In pages of this length, after the first part, which has the smallest; 0 if that is not known.
    cached_len: usize,
    /// How long the pages are that were used after the first part; 0 if of several lengths, `None` if there were none yet.
    page_len: Option<usize>,
    /// The rest is left to the appenders that need it.
    gave_up: bool,
}

impl Filling {
    /// Of a new segment of `size` bytes, that has a header. `is_written` says whether all its blocks have been written.
    pub(crate) fn new(size: u64, is_written: bool) -> Self {
        let filling = Self::going_on(size, segment_header::LEN);
        Self { cached: filling.size, is_written, ..filling }
    }

    /// Of an existing segment. What it holds from `offset` on does not count.
    pub(crate) fn going_on(size: u64, offset: usize) -> Self {
        let size = usize::try_from(size).expect("mapped, so it fits");
        Self {
            size,
            end: offset,
            settled: offset,
            large: 0..0,
            large_len: PAGE_LEN,
            is_written: false,
            cached: offset,
            cached_len: 0,
            page_len: None,
            gave_up: false,
        }
    }

    /// Of a file that has been another segment before, whose [`Self::page_len`] was `cached_len`, and has a new header. `is_written` says
    /// whether all its blocks have been written.
    pub(crate) fn over(size: u64, cached_len: usize, is_written: bool) -> Self {
        Self { is_written, cached_len, ..Self::going_on(size, segment_header::LEN) }
    }

    /// How long all pages after the first part are; 0 if there are none, or of several lengths.
    pub(crate) fn page_len(&self) -> usize {
        self.page_len.unwrap_or(0)
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

    /// How far appenders may go: what is ready, less the place of the seal, and of a word of zeros after it: a walk
    /// stops there, whatever an earlier life of the file has left beyond.
    pub(crate) fn room(&self) -> usize {
        let stop_len = if self.is_full() { 0 } else { STOP_LEN };
        self.end - link::SEAL_FRAME_LEN - stop_len
    }

    /// How far it must be ready for appends that begin at `offset`: then [`Self::room`] reaches up to there.
    pub(crate) fn end_for(offset: usize) -> usize {
        offset + link::SEAL_FRAME_LEN + STOP_LEN
    }

    /// Where pages were used last that are larger than the smallest, and how large they are.
    pub(crate) fn large(&self) -> (Range<usize>, usize) {
        (self.large.clone(), self.large_len)
    }

    /// What is made ready before the first append at `offset`: enough for the first frames of a segment.
    pub(crate) fn first_end(&self, offset: usize) -> usize {
        let len = (self.size / 32).clamp(FIRST_LEN_MIN, LARGE_PAGE_LEN);
        (offset + len).next_multiple_of(len).min(self.size)
    }

    /// Whether there is nothing left to do unasked.
    pub(crate) fn is_done(&self) -> bool {
        self.gave_up || self.is_full()
    }

    /// Leaves the rest to the appenders that need it.
    pub(crate) fn give_up(&mut self) {
        self.gave_up = true;
    }

    /// Makes a little more of it ready, if there is more, in pages of `page_len` bytes.
    pub(crate) fn step(
        &mut self,
        storage: &dyn Storage,
        file: &dyn StorageFile,
        mapping: &Mapping,
        page_len: usize,
    ) -> io::Result<()> {
        let len = STEP_LEN.min(self.first_end(0)).max(page_len);
        let range = self.end..(self.end - self.end % len + len).min(self.size);
        let mut piece = page_len;
        if self.keeps_pages_of(page_len, &range, mapping) {
            // They stay as they are, however much is written at a time.
            piece = (page_len * PAGES_KEPT).min(ZEROS.len());
        } else {
            self.let_go(file, &range);
        }
        // Zeros follow the frames in the page in which a segment goes on: recovery has looked.
        let mut offset = range.start.next_multiple_of(PAGE_LEN);
        while offset < range.end {
            let len = (piece - offset % piece).min(range.end - offset);
            file.write_at(&ZEROS[..len], offset as u64)?;
            offset += len;
            if offset.is_multiple_of(YIELD_LEN) {
                // A thread that has been woken on this processor, since its sync is over, would wait for the end of this one's
                // slice, which is some milliseconds.
                std::thread::yield_now();
            }
        }
        // Pages that are not populated come one by one. Where there is no room for them they would not come at all.
        match storage.populate(mapping, page_start(range.start)..range.end) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(error),
            _ => {}
        }
        self.end = range.end;
        self.note_pages(range.clone(), page_len);
        Ok(())
    }

    /// Whether the page cache holds `range` in pages of `page_len` bytes, as far as is known: larger ones may have taken the place of
    /// some, for a reader. Single ones are never kept, since these cost a small sync the most.
    fn keeps_pages_of(&self, page_len: usize, range: &Range<usize>, mapping: &Mapping) -> bool {
        let is_alike = page_len == self.cached_len && range.start >= self.first_end(0).max(self.cached);
        is_alike && page_len > PAGE_LEN && mapping.is_resident(range.clone())
    }

    /// Has the page cache let go of `range`, which it may hold in pages of any length: what is written there would come to lie in
    /// them, and a small sync would write all of one. A page stays that reaches beyond what is to be let go.
    fn let_go(&mut self, file: &dyn StorageFile, range: &Range<usize>) {
        if range.end <= self.cached {
            return;
        }
        let end = range.end.next_multiple_of(LARGEST_PAGE_LEN).min(self.size);
        // If this has no effect, syncs write more.
        let _ = file.drop_cache(range.start.max(self.cached) as u64..end as u64);
        self.cached = end;
    }

    fn note_pages(&mut self, range: Range<usize>, page_len: usize) {
        if range.start >= self.first_end(0) {
            let is_alike = self.page_len.is_none_or(|before| before == page_len);
            self.page_len = Some(if is_alike { page_len } else { 0 });
        }
        if page_len > PAGE_LEN {
            let goes_on = self.large.end == range.start && self.large_len == page_len;
            self.large = if goes_on { self.large.start..range.end } else { range };
            self.large_len = page_len;
        }
    }

    /// Makes it ready up to `end`, or as far as it goes.
    pub(crate) fn fill_to(
        &mut self,
        end: usize,
        storage: &dyn Storage,
        file: &dyn StorageFile,
        mapping: &Mapping,
        page_len: usize,
    ) -> io::Result<()> {
        while self.end < end.min(self.size) {
            self.step(storage, file, mapping, page_len)?;
        }
        Ok(())
    }

    /// What of `wanted` is ready and not settled.
    fn unsettled(&self, wanted: &Range<usize>) -> Range<usize> {
        let start = self.settled.max(wanted.start.next_multiple_of(PAGE_LEN));
        start..if self.is_written { start } else { wanted.end.min(self.end) }
    }

    /// Whether enough of `wanted` is ready and not settled to be settled at one time.
    pub(crate) fn is_unsettled(&self, wanted: &Range<usize>) -> bool {
        let range = self.unsettled(wanted);
        !range.is_empty() && (range.len() >= STEP_LEN || range.end == self.size)
    }

    /// Byte offset up to which it is settled.
    pub(crate) fn settled(&self) -> usize {
        if self.is_written { self.size } else { self.settled }
    }

    /// What of `wanted`, beyond which appends go on, is to be settled next: it counts as settled.
    pub(crate) fn settle(&mut self, wanted: &Range<usize>) -> Range<usize> {
        let mut range = self.unsettled(wanted);
        range.end = range.end.min(range.start + STEP_LEN);
        if !range.is_empty() {
            self.settled = range.end;
        }
        range
    }
}

/// Of the page with byte `offset`.
pub(crate) fn page_start(offset: usize) -> usize {
    offset - offset % PAGE_LEN
}
