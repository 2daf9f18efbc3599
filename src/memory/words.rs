//! A page of words that processes share.

use std::sync::atomic::AtomicU32;

use super::atomics::{AtomicU64, Ordering, Shadow};
use super::mapping::Mapping;

/// Mapped memory that is only ever accessed as atomic words. That of a file is only read.
#[derive(Debug)]
pub(crate) struct SharedWords {
    mapping: Mapping,
    shadow: Shadow,
}

impl SharedWords {
    /// All of `mapping`, which nothing else in this process looks at.
    pub(crate) fn new(mapping: Mapping) -> Self {
        Self { shadow: Shadow::of(mapping.len_bytes()), mapping }
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Whether the page has been lost, so that no other process sees what is stored.
    pub(crate) fn has_failed(&self) -> bool {
        self.mapping.has_failed()
    }

    /// Acquire: what its writer has written before, to this mapping or the file, is seen as well.
    #[inline]
    pub(crate) fn load(&self, index: usize) -> u64 {
        u64::from_le(self.word(index).load(Ordering::Acquire))
    }

    /// Release: pairs with [`Self::load`]. For memory of this process: a page of a file is written by system calls.
    pub(crate) fn store(&self, index: usize, value: u64) {
        self.word(index).store(value.to_le(), Ordering::Release);
    }

    /// The word at `index` as two of 32 bits, of which this is the first in memory: for waiting on. It must not be
    /// accessed by [`Self::load`] and [`Self::store`].
    pub(crate) fn half(&self, index: usize) -> &AtomicU32 {
        let word = self.at(index);
        // SAFETY: the first four bytes of a word of the mapping, aligned, valid for the life of `self`, and accessed as
        // atomics of this size only.
        unsafe { AtomicU32::from_ptr(word.cast()) }
    }

    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        // SAFETY: aligned, as mappings are, and valid for the life of `self`; a zero or any other bit pattern is a
        // valid word; all access is atomic.
        unsafe { self.shadow.word(self.at(index), index) }
    }

    #[inline]
    fn at(&self, index: usize) -> *mut u64 {
        assert!(index < self.mapping.len_bytes() / size_of::<u64>());
        let base = self.mapping.base().cast::<u64>();
        // SAFETY: the word lies in the mapping (asserted).
        let word = unsafe { base.add(index) };
        word.as_ptr()
    }
}
