//! A mapping: a pointer and a length, from a file or from the heap.

use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
#[cfg(any(test, feature = "testing"))]
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(target_os = "linux")]
use memmap2::UncheckedAdvice;
use memmap2::{MmapOptions, MmapRaw};

#[cfg(target_os = "linux")]
use super::page_size;
use super::{Process, Slot, replaced_pages};

/// Bytes that stay where they are for as long as this value lives.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    /// Dropped before `keeper`.
    backing: Backing,
    /// Where the guard finds a mapped file; given back before that is unmapped.
    slot: Option<&'static Slot>,
    /// The user to whom the file belongs, where that is known.
    owner: Option<u32>,
    keeper: Option<Keeper>,
    process: Process,
}

/// To the system's user of this number a file seems to belong whose owner this process cannot know, as in a container.
const NOBODY: u32 = 65534;

/// What is to live for as long as a mapping.
pub type Keeper = Arc<dyn fmt::Debug + Send + Sync>;

#[derive(Debug)]
enum Backing {
    /// Shared with all that have mapped the file.
    File(MmapRaw),
    /// Of this process alone.
    Anonymous(#[expect(dead_code, reason = "keeps the memory mapped")] MmapRaw),
    #[cfg(any(test, feature = "testing"))]
    Heap(#[expect(dead_code, reason = "keeps the memory alive")] Arc<HeapMemory>),
}

// SAFETY: a `Mapping` is an address range and what keeps it alive; it gives no access to the bytes by itself.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The mapping of a file that belongs to user `owner`, shared with all others of it.
    pub(crate) fn from_file(raw: MmapRaw, owner: u32) -> Self {
        let slot = Some(Slot::take(raw.as_mut_ptr().addr(), raw.len()));
        let mut mapping = Self::new(raw, slot, Backing::File);
        mapping.owner = Some(owner).filter(|&owner| owner != NOBODY);
        mapping
    }

    /// The same mapping, which keeps `keeper` until it is gone.
    #[must_use]
    pub fn keeping(mut self, keeper: Keeper) -> Self {
        self.keeper = Some(keeper);
        self
    }

    /// Zeros that no other process sees.
    pub(crate) fn in_memory(len: usize) -> std::io::Result<Self> {
        Ok(Self::new(MmapOptions::new().len(len).map_anon()?.into(), None, Backing::Anonymous))
    }

    fn new(raw: MmapRaw, slot: Option<&'static Slot>, backing: impl FnOnce(MmapRaw) -> Backing) -> Self {
        let base = NonNull::new(raw.as_mut_ptr()).unwrap_or(NonNull::dangling());
        let len = raw.len();
        Self { base, len, backing: backing(raw), slot, owner: None, keeper: None, process: Process::current() }
    }

    /// A view of `memory`, which other views and its owner share.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn from_heap(memory: Arc<HeapMemory>) -> Self {
        let base = NonNull::new(memory.words.as_ptr().cast_mut().cast()).unwrap_or(NonNull::dangling());
        let (len, backing) = (memory.len_bytes(), Backing::Heap(memory));
        Self { base, len, backing, slot: None, owner: None, keeper: None, process: Process::current() }
    }

    /// Bytes mapped.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.len
    }

    /// The mapping of a file, for advice and syncing.
    #[must_use]
    pub fn as_file(&self) -> Option<&MmapRaw> {
        match &self.backing {
            Backing::File(raw) => Some(raw),
            Backing::Anonymous(_) => None,
            #[cfg(any(test, feature = "testing"))]
            Backing::Heap(_) => None,
        }
    }

    /// Takes the pages of `range` out of the page tables. They stay in the page cache, dirty as they are, and the next access to one
    /// finds it there by a fault. Not for a few pages, for which it is not worth it.
    ///
    /// Before pages are written out, the system protects each against stores, and tells all processors that run the process,
    /// once for each page. Of this they are told once.
    #[cfg(target_os = "linux")]
    pub(crate) fn release_pages(&self, range: Range<usize>) {
        const PAGES_MIN: usize = 4;
        let page_len = page_size();
        let range = range.start - range.start % page_len..range.end.next_multiple_of(page_len).min(self.len);
        if let Backing::File(raw) = &self.backing
            && range.len() >= PAGES_MIN * page_len
            && !self.has_failed()
        {
            // If it cannot be done, syncs are slower.
            // SAFETY: the mapping is shared, so that its bytes are those of the page cache, with and without an entry in the page
            // tables. Only pages that the guard has put in their place are this process's own; they may turn to zeros, as the
            // caller of `guard_against_sigbus` has accepted, and the log does not go on.
            let _ = unsafe { raw.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
        }
    }

    /// Whether the system says of all its pages alike that they are in memory, be they or not: as it does to a process that neither owns the
    /// file nor may write it at that moment, whatever it might when it opened it.
    #[cfg(target_os = "linux")]
    pub(crate) fn hides_residency(&self) -> bool {
        self.owner != Some(rustix::process::geteuid().as_raw())
    }

    /// Whether the page cache holds all of `range`, which begins at a page and is no longer than a megabyte. No, where that cannot
    /// be found out; yes, in any case, where [`Self::hides_residency`].
    pub(crate) fn is_resident(&self, range: Range<usize>) -> bool {
        #[cfg(target_os = "linux")]
        if let Backing::File(_) = &self.backing
            && range.end <= self.len
        {
            let mut pages = [0; 256];
            let Some(pages) = pages.get_mut(..range.len().div_ceil(page_size())) else { return false };
            let start = self.base.as_ptr().wrapping_add(range.start);
            // SAFETY: the range lies within the mapping, and there is a byte for each of its pages. No byte that is mapped is accessed.
            let result = unsafe { libc::mincore(start.cast(), range.len(), pages.as_mut_ptr()) };
            return result == 0 && pages.iter().all(|page| page & 1 == 1);
        }
        let _ = range;
        false
    }

    /// Whether a page has been lost, and replaced by the guard.
    #[inline]
    pub(super) fn has_failed(&self) -> bool {
        replaced_pages() > 0 && self.slot.is_some_and(Slot::has_failed)
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // The file is unmapped after this.
        if let Some(slot) = self.slot.take() {
            slot.give_back(!self.process.is_current());
        }
    }
}

/// Memory that stands in for a file's pages, in tests.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug)]
pub struct HeapMemory {
    words: Box<[AtomicU64]>,
}

#[cfg(any(test, feature = "testing"))]
impl HeapMemory {
    /// `len` bytes of zeros; `len` is a multiple of 8.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self { words: (0..len / 8).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Bytes held.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.words.len() * 8
    }

    /// The 8 bytes at word `index`, as they are in memory.
    #[inline]
    #[must_use]
    pub fn word(&self, index: usize) -> [u8; 8] {
        u64::to_le(self.words[index].load(Ordering::Acquire)).to_le_bytes()
    }

    /// Replaces the 8 bytes at word `index`.
    #[inline]
    pub fn set_word(&self, index: usize, bytes: [u8; 8]) {
        self.words[index].store(u64::from_le(u64::from_le_bytes(bytes)), Ordering::Release);
    }
}
