//! A mapping: a pointer and a length, from a file or from the heap.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
#[cfg(any(test, feature = "testing"))]
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

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
    keeper: Option<Keeper>,
    process: Process,
}

/// What is to live for as long as a mapping.
pub type Keeper = Arc<dyn fmt::Debug + Send + Sync>;

#[derive(Debug)]
enum Backing {
    File(MmapRaw),
    #[cfg(any(test, feature = "testing"))]
    Heap(#[expect(dead_code, reason = "keeps the memory alive")] Arc<HeapMemory>),
}

// SAFETY: a `Mapping` is an address range and what keeps it alive; it gives no access to the bytes by itself.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The mapping of a file.
    pub(crate) fn from_file(raw: MmapRaw) -> Self {
        let base = NonNull::new(raw.as_mut_ptr()).unwrap_or(NonNull::dangling());
        let slot = Some(Slot::take(base.addr().get(), raw.len()));
        Self { base, len: raw.len(), backing: Backing::File(raw), slot, keeper: None, process: Process::current() }
    }

    /// The same mapping, which keeps `keeper` until it is gone.
    #[must_use]
    pub fn keeping(mut self, keeper: Keeper) -> Self {
        self.keeper = Some(keeper);
        self
    }

    /// Zeros that no other process sees.
    pub(crate) fn in_memory(len: usize) -> std::io::Result<Self> {
        Ok(Self::from_file(MmapOptions::new().len(len).map_anon()?.into()))
    }

    /// A view of `memory`, which other views and its owner share.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn from_heap(memory: Arc<HeapMemory>) -> Self {
        let base = NonNull::new(memory.words.as_ptr().cast_mut().cast()).unwrap_or(NonNull::dangling());
        let (len, backing) = (memory.len_bytes(), Backing::Heap(memory));
        Self { base, len, backing, slot: None, keeper: None, process: Process::current() }
    }

    /// Bytes mapped.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.len
    }

    /// The mapping of a file, for advice and syncing.
    #[must_use]
    #[cfg_attr(
        not(any(test, feature = "testing")),
        expect(clippy::unnecessary_wraps, reason = "in tests it may be memory of the heap")
    )]
    pub fn as_file(&self) -> Option<&MmapRaw> {
        match &self.backing {
            Backing::File(raw) => Some(raw),
            #[cfg(any(test, feature = "testing"))]
            Backing::Heap(_) => None,
        }
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
