//! Atomics, and what a model checker has to see besides: the memory of the system, or of loom.
//!
//! In a build with `--cfg loom` the tests in `model` run this module's code in every order that the memory model
//! allows. loom knows only its own atomics and cells, so there commit words and shared words are kept beside the
//! mapping, and every eight of its bytes have a cell that notes which thread reads and writes them.

#[cfg(all(test, loom))]
pub(super) use checked::*;
#[cfg(not(all(test, loom)))]
pub(super) use plain::*;

#[cfg(not(all(test, loom)))]
mod plain {
    use std::cell::{Cell, UnsafeCell};
    pub(in super::super) use std::hint::spin_loop;
    use std::ops::Range;
    pub(in super::super) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    pub(in super::super) use std::thread::yield_now;

    thread_local! {
        static LAST: Cell<(usize, u64)> = const { Cell::new((0, 0)) };
    }

    /// Notes for this thread what it has made of a word of `owner`, an address.
    #[inline]
    pub(in super::super) fn remember(owner: usize, word: u64) {
        LAST.set((owner, word));
    }

    /// What this thread has noted last, if that was for `owner`, or another one that was at the same address.
    #[inline]
    pub(in super::super) fn recall(owner: usize) -> Option<u64> {
        let (last, word) = LAST.get();
        (last == owner).then_some(word)
    }

    /// A place that is read and written through pointers.
    pub(in super::super) struct Watched<T>(UnsafeCell<T>);

    impl<T> Watched<T> {
        pub(in super::super) fn new(value: T) -> Self {
            Self(UnsafeCell::new(value))
        }

        /// For reading.
        #[inline]
        pub(in super::super) fn read(&self) -> *const T {
            self.0.get()
        }

        /// For writing.
        #[inline]
        pub(in super::super) fn write(&self) -> *mut T {
            self.0.get()
        }
    }

    /// Nothing: the mapping is what there is.
    #[derive(Debug)]
    pub(in super::super) struct Shadow;

    #[expect(clippy::unused_self, reason = "the models have something to keep there")]
    impl Shadow {
        pub(in super::super) fn of(_len: usize) -> Self {
            Self
        }

        /// The atomic at `word`.
        ///
        /// # Safety
        /// - `word` is aligned and valid for as long as `self` is borrowed.
        /// - For as long, it is accessed as an atomic of this size only, or not written at all.
        #[inline]
        pub(in super::super) unsafe fn word(&self, word: *mut u64, _index: usize) -> &AtomicU64 {
            // SAFETY: the caller vouches for the same.
            unsafe { AtomicU64::from_ptr(word) }
        }

        #[inline]
        pub(in super::super) fn read(&self, _range: Range<usize>) {}

        #[inline]
        pub(in super::super) fn write(&self, _range: Range<usize>) {}
    }
}

#[cfg(all(test, loom))]
mod checked {
    use std::ops::Range;

    use loom::cell::UnsafeCell;
    pub(in super::super) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    pub(in super::super) use loom::thread::yield_now;

    /// Nothing: a model need not wait.
    pub(in super::super) fn spin_loop() {}

    const WORD: usize = 8;

    /// Nothing: all threads of a model, and of the models before, are one.
    pub(in super::super) fn remember(_owner: usize, _word: u64) {}

    pub(in super::super) fn recall(_owner: usize) -> Option<u64> {
        None
    }

    /// A place that is read and written through pointers.
    pub(in super::super) struct Watched<T>(UnsafeCell<T>);

    impl<T> Watched<T> {
        pub(in super::super) fn new(value: T) -> Self {
            Self(UnsafeCell::new(value))
        }

        /// For reading: a write that is not ordered before or after fails the model.
        pub(in super::super) fn read(&self) -> *const T {
            self.0.with(|place| place)
        }

        /// For writing: any other access that is not ordered before or after fails the model.
        pub(in super::super) fn write(&self) -> *mut T {
            self.0.with_mut(|place| place)
        }
    }

    /// The atomics of a mapping, and which threads have accessed its bytes.
    #[derive(Debug)]
    pub(in super::super) struct Shadow {
        words: Box<[AtomicU64]>,
        accesses: Box<[UnsafeCell<()>]>,
    }

    // SAFETY: the cells hold nothing; loom itself judges who accesses them.
    unsafe impl Sync for Shadow {}

    impl Shadow {
        pub(in super::super) fn of(len: usize) -> Self {
            let words = (0..len / WORD).map(|_| AtomicU64::new(0)).collect();
            Self { words, accesses: (0..len / WORD).map(|_| UnsafeCell::new(())).collect() }
        }

        /// As in the other build, though none is needed.
        #[expect(clippy::missing_safety_doc, reason = "it has the signature of the other build's")]
        pub(in super::super) unsafe fn word(&self, _word: *mut u64, index: usize) -> &AtomicU64 {
            &self.words[index]
        }

        pub(in super::super) fn read(&self, range: Range<usize>) {
            self.accesses[words(range)].iter().for_each(|access| access.with(|_| ()));
        }

        pub(in super::super) fn write(&self, range: Range<usize>) {
            self.accesses[words(range)].iter().for_each(|access| access.with_mut(|_| ()));
        }
    }

    fn words(range: Range<usize>) -> Range<usize> {
        range.start / WORD..range.end.div_ceil(WORD)
    }
}
