//! A mapping that is written once, from front to back.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use std::io;
use std::ops::Range;
use std::ptr::NonNull;

use super::atomics::{AtomicU64, AtomicUsize, Ordering, Shadow};
use super::copy::copy;
use super::mapping::Mapping;

/// Bytes of a commit word: the frame's length in its low half, a checksum in its high half, little-endian.
const COMMIT_WORD_LEN: usize = 8;
/// Frames start at multiples of this.
pub(super) const ALIGN: usize = 8;

/// How far ahead frames are fetched that are walked over, if they are as long as the one at hand.
const PREFETCH_FRAMES: usize = 6;

/// The bytes of one segment.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<u8>,
    len: usize,
    /// Bytes below this never change again. Release: a thread that moves it has acquired the commit words below it, so
    /// the acquire load in [`Region::published`] makes the frames' bytes visible.
    published: AtomicUsize,
    shadow: Shadow,
    mapping: Mapping,
}

// SAFETY: the bytes from `base` on are touched only by the module's rule, which orders every conflicting access.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

/// Why [`Region::extend`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The next commit word is zero, or the region is full: nothing there yet.
    Empty,
    /// The next commit word gives a length that cannot be.
    Length(u32),
    /// The visitor refused the frame.
    Refused,
    /// Another thread has moved on meanwhile; look again.
    Moved,
}

impl Region {
    /// A region that no thread or process writes any more.
    pub(crate) fn frozen(mapping: Mapping) -> Self {
        let len = mapping.len_bytes();
        Self::live(mapping, len)
    }

    /// A region whose first `published` bytes, up to a frame's start, will not change, and that may grow.
    pub(crate) fn live(mapping: Mapping, published: usize) -> Self {
        assert!(published <= mapping.len_bytes() && published.is_multiple_of(ALIGN));
        let (base, len) = (mapping.base(), mapping.len_bytes());
        Self { base, len, published: AtomicUsize::new(published), shadow: Shadow::of(len), mapping }
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Whether a page of it has been lost, so that what is there may be zeros, and nothing stored there counts.
    #[inline]
    pub(crate) fn has_failed(&self) -> bool {
        self.mapping.has_failed()
    }

    /// An error if a page of it has been lost.
    pub(crate) fn check_read(&self) -> io::Result<()> {
        if self.has_failed() { Err(io::Error::other("a page of a mapped file was lost: SIGBUS")) } else { Ok(()) }
    }

    pub(super) fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Lets the pages of `range` go, as far as they count as memory of this process. They stay in the page cache, and are found there
    /// when they are looked at again.
    pub(crate) fn release_pages(&self, range: Range<usize>) {
        #[cfg(target_os = "linux")]
        self.mapping.release_pages(range);
        #[cfg(not(target_os = "linux"))]
        let _ = range;
    }

    /// The end of what may be borrowed.
    pub(crate) fn published(&self) -> usize {
        self.published.load(Ordering::Acquire)
    }

    /// The bytes in `range`, which must lie below [`Self::published`].
    #[inline]
    pub(crate) fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.published() {
            return None;
        }
        self.shadow.read(range.clone());
        let start = self.at(range.start);
        // SAFETY: `range` lies in the mapping, since `published <= len`; the mapping lives as long as `self`; by the
        // module's rule nobody writes below `published` again; the acquire load above makes the bytes visible.
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), range.len()) })
    }

    /// Has the processor fetch what is at `offset`, and the two cache lines after it, if it can do that ahead of their use.
    #[inline]
    pub(crate) fn prefetch(&self, offset: usize) {
        #[cfg(target_arch = "x86_64")]
        for line in 0..3 {
            const LINE_LEN: usize = 64;
            let address = self.base.as_ptr().wrapping_add(offset + line * LINE_LEN);
            // SAFETY: a hint, for which any address will do; the program sees nothing of what it does.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast_const().cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = offset;
    }

    /// As [`Self::prefetch`], of a frame that comes some frames after the one in `frame`, if they are as long. Each is found by the length
    /// of the one before, and so would be waited for each time.
    #[inline]
    pub(crate) fn prefetch_after(&self, frame: Range<usize>) {
        self.prefetch(frame.end + PREFETCH_FRAMES * frame.len());
    }

    /// Moves `published`, which must be at `from`, over complete frames for as long as `visit` accepts them. It is given
    /// each frame with its padding.
    pub(crate) fn extend(&self, from: usize, mut visit: impl FnMut(&[u8]) -> bool) -> (usize, Stop) {
        let mut end = self.published();
        if end != from {
            return (end, Stop::Moved);
        }
        let stop = loop {
            if end + COMMIT_WORD_LEN > self.len {
                break Stop::Empty;
            }
            // `end` is where a frame starts: `published` always is, and so is the end of each frame passed since.
            let word = u64::from_le(self.commit_word(end).load(Ordering::Acquire));
            if word == 0 {
                break Stop::Empty;
            }
            let frame_len = (word & 0xffff_ffff) as usize;
            let padded = frame_len.next_multiple_of(ALIGN);
            if frame_len < COMMIT_WORD_LEN || padded > self.len - end {
                break Stop::Length((word & 0xffff_ffff) as u32);
            }
            self.shadow.read(end + COMMIT_WORD_LEN..end + padded);
            let start = self.at(end);
            self.prefetch_after(end..end + padded);
            // SAFETY: the range lies in the mapping (checked above). Its commit word is not zero, so the reservation
            // that covered it, of this length (asserted when it was published), has ended, and the acquire load pairs
            // with its release store: nobody writes these bytes again, and they are visible.
            let frame = unsafe { std::slice::from_raw_parts(start.as_ptr(), padded) };
            if !visit(frame) {
                break Stop::Refused;
            }
            end += padded;
        };
        if end != from {
            // As `fetch_max`, but in a way that sanitizers know as well. A thread that has moved it further has
            // acquired as much.
            let further = |now| (now < end).then_some(end);
            let _ = self.published.fetch_update(Ordering::AcqRel, Ordering::Acquire, further);
        }
        (end, stop)
    }

    /// Appends a whole encoded frame while no other thread can see the region.
    pub(crate) fn fill(&mut self, frame: &[u8]) {
        let start = self.published();
        assert!(frame.len().is_multiple_of(ALIGN) && frame.len() > COMMIT_WORD_LEN && frame.len() <= self.len - start);
        let (word, rest) = frame.split_first_chunk::<COMMIT_WORD_LEN>().expect("asserted above");
        let destination = self.at(start + COMMIT_WORD_LEN);
        // SAFETY: the range lies in the mapping (asserted), above `published`, and `&mut self` rules out a reservation.
        unsafe { copy(rest, destination) };
        // The acquire load in `extend`, also in another process, sees the frame's bytes once it sees this word.
        self.commit_word(start).store(u64::from_le_bytes(*word).to_le(), Ordering::Release);
        self.published.store(start + frame.len(), Ordering::Release);
    }

    /// The address of byte `offset`, at most one past the end.
    #[inline]
    pub(super) fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset <= self.len);
        // SAFETY: `offset` is within the mapping or one past its end (asserted).
        unsafe { self.base.add(offset) }
    }

    /// The commit word of a frame that starts at `offset`.
    #[inline]
    pub(super) fn commit_word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(ALIGN) && offset < self.len && COMMIT_WORD_LEN <= self.len - offset);
        let word = self.at(offset).cast();
        // SAFETY: 8 bytes in the mapping (asserted), aligned since mappings are and `offset` is (asserted); from the
        // start of a frame they are accessed as this atomic only, until the frame is published and immutable.
        unsafe { self.shadow.word(word.as_ptr(), offset / COMMIT_WORD_LEN) }
    }
}

/// A region that no thread or process writes any more: all of its bytes can be borrowed.
#[derive(Debug)]
pub(crate) struct FrozenRegion(Region);

impl FrozenRegion {
    pub(crate) fn new(mapping: Mapping) -> Self {
        Self(Region::frozen(mapping))
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        self.0.mapping()
    }

    /// All of them.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.bytes(0..self.0.len()).expect("published to its end, which does not move back")
    }

    /// As [`Region::check_read`].
    pub(crate) fn check_read(&self) -> io::Result<()> {
        self.0.check_read()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::mapping::HeapMemory;
    use super::*;

    fn region() -> Region {
        Region::live(Mapping::from_heap(Arc::new(HeapMemory::zeroed(256))), 0)
    }

    fn frame(len: u32) -> Vec<u8> {
        let mut bytes = vec![0xab; (len as usize).next_multiple_of(ALIGN)];
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        bytes
    }

    #[test]
    fn nothing_is_lent_above_the_published_end() {
        let mut region = region();
        region.fill(&frame(24));
        assert_eq!(region.bytes(0..24).map(<[u8]>::len), Some(24));
        assert!(region.bytes(0..25).is_none() && region.bytes(24..32).is_none());
        #[expect(clippy::reversed_empty_ranges, reason = "a range turned around is what is tested")]
        let turned = 8..0;
        assert!(region.bytes(turned).is_none());
    }

    #[test]
    fn extending_stops_at_a_zero_word_a_bad_length_and_a_refusal() {
        let memory = Arc::new(HeapMemory::zeroed(256));
        let mut writer = Region::live(Mapping::from_heap(Arc::clone(&memory)), 0);
        writer.fill(&frame(24));
        writer.fill(&frame(40));
        let reader = Region::live(Mapping::from_heap(Arc::clone(&memory)), 0);
        assert_eq!(reader.extend(0, |_| false), (0, Stop::Refused));
        assert_eq!(reader.extend(0, |_| true), (64, Stop::Empty));
        assert_eq!(reader.extend(0, |_| true), (64, Stop::Moved));
        memory.set_word(8, 4096_u64.to_le_bytes());
        assert_eq!(reader.extend(64, |_| true), (64, Stop::Length(4096)));
    }
}
