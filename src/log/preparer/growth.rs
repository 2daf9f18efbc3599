//! How large the next segment is, and when it may be made before it is needed: `docs/design/growth.md` has the rules.

use std::sync::Arc;

use crate::format::segment_header;
use crate::options::Options;
use crate::segment::Segment;

/// What any log may take.
const FREE_BYTES: u64 = 1 << 20;
/// More than the files take that are no segments.
const OTHER_BYTES: u64 = 32 << 10;

/// The sizes that segments have, in bytes: powers of two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) first: u64,
    pub(crate) max: u64,
}

impl Sizes {
    pub(crate) fn of(options: &Options) -> Self {
        let max = options.segment_size_bytes;
        // Files that are there from the start are to become each other.
        Self { first: if options.spare_segments > 0 { max } else { options.first_size_bytes() }, max }
    }

    /// The size of a segment after one of `last` bytes, in a log with `used` bytes of frames, for what takes a segment of `needed`.
    pub(crate) fn next(self, used: u64, last: u64, needed: u64) -> u64 {
        let grown = used.checked_ilog2().map_or(0, |log| 1 << log);
        grown.max(last).clamp(self.first, self.max).max(needed)
    }
}

/// What segments hold, and what they take.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extent {
    /// Bytes of their frames.
    pub(crate) used: u64,
    /// Bytes of the files that have not been given back.
    pub(crate) taken: u64,
}

impl Extent {
    /// Of segments that take no more frames.
    pub(crate) fn of(segments: &[Arc<Segment>]) -> Self {
        segments.iter().fold(Self::default(), |sum, segment| {
            let end = segment.end().map_or(0, |end| end.offset);
            Self { used: sum.used + frames_before(end), taken: sum.taken + segment.taken() }
        })
    }
}

fn frames_before(offset: u64) -> u64 {
    offset.saturating_sub(segment_header::LEN as u64)
}

/// What the size of the next segment follows from.
#[derive(Debug)]
pub(crate) struct Growth {
    sizes: Sizes,
    /// The segments before the one that takes appends.
    before: Extent,
    /// The size of that one, and how far appenders have come in it, as far as is known.
    active_size: u64,
    offset: u64,
    /// What the caller that waits for a segment needs.
    needed: u64,
    /// A spare has been taken, and takes no appends yet: until then the numbers above leave it out.
    is_between: bool,
}

impl Growth {
    /// Of a log that has no segment to append to yet, and whose last has `last_size` bytes, or 0 if there is none.
    pub(crate) fn new(sizes: Sizes, before: Extent, last_size: u64) -> Self {
        Self { sizes, before, active_size: last_size, offset: 0, needed: 0, is_between: false }
    }

    pub(super) fn size_max(&self) -> u64 {
        self.sizes.max
    }

    /// A segment of `size` bytes takes appends from byte `offset` on, after those that hold and take `before`.
    pub(super) fn begin(&mut self, size: u64, offset: usize, before: Extent) {
        (self.active_size, self.offset, self.before) = (size, offset as u64, before);
        self.is_between = false;
    }

    /// A spare has been taken.
    pub(super) fn take(&mut self) {
        (self.needed, self.is_between) = (0, true);
    }

    /// It is not used: it has been put back, or is gone.
    pub(super) fn give_up(&mut self) {
        self.is_between = false;
    }

    /// Whether a spare has been taken that may come back.
    pub(super) fn is_between(&self) -> bool {
        self.is_between
    }

    pub(super) fn note_before(&mut self, before: Extent) {
        self.before = before;
    }

    pub(super) fn reach(&mut self, offset: usize) {
        self.offset = offset as u64;
    }

    pub(crate) fn need(&mut self, size: u64) {
        self.needed = size;
    }

    pub(super) fn needed(&self) -> u64 {
        self.needed
    }

    pub(super) fn active_size(&self) -> u64 {
        self.active_size
    }

    fn used(&self) -> u64 {
        self.before.used + frames_before(self.offset)
    }

    pub(crate) fn next_size(&self) -> u64 {
        self.sizes.next(self.used(), self.active_size, self.needed)
    }

    /// The size of one that is made before it is needed, if there is room for it in the bound. From the middle of the segment on a
    /// shorter one will do, but none that is shorter than the segment, so that there is one in time. Where segments do not grow it is
    /// always made: the options ask for two of them from the start.
    pub(super) fn size_ahead(&self) -> Option<u64> {
        let (size, same) = (self.next_size(), self.sizes.next(0, self.active_size, self.needed));
        if self.sizes.first == self.sizes.max {
            return Some(size);
        }
        let least = if self.offset >= self.active_size / 2 { same.min(size) } else { size };
        let shorter = std::iter::successors(Some(size), |size| Some(size / 2)).take_while(|&size| size >= least);
        shorter.filter(|_| !self.is_between).find(|&size| self.has_room(size))
    }

    fn has_room(&self, size: u64) -> bool {
        let used = self.used();
        let bound = FREE_BYTES.max(used + used / 2 + self.active_size);
        self.before.taken + self.active_size + size + OTHER_BYTES <= bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u64 = 256 << 10;
    const MAX: u64 = 64 << 20;
    const SIZES: Sizes = Sizes { first: FIRST, max: MAX };

    #[test]
    fn segments_are_as_long_as_all_before_them_or_shorter() {
        for (used, last, next) in [
            (0, 0, FIRST),
            (FIRST, FIRST, FIRST),
            (2 * FIRST - 1, FIRST, FIRST),
            (2 * FIRST, FIRST, 2 * FIRST),
            (3 * MAX, FIRST, MAX),
        ] {
            assert_eq!(SIZES.next(used, last, 0), next, "{used} {last}");
        }
    }

    #[test]
    fn no_segment_is_shorter_than_the_one_before_unless_the_options_say_so() {
        assert_eq!(SIZES.next(0, MAX, 0), MAX);
        assert_eq!(SIZES.next(0, 4 * MAX, 0), MAX);
        assert_eq!(Sizes { first: MAX, max: MAX }.next(0, FIRST, 0), MAX);
    }

    #[test]
    fn what_is_needed_is_had() {
        assert_eq!(SIZES.next(0, FIRST, 8 * FIRST), 8 * FIRST);
        assert_eq!(SIZES.next(MAX, FIRST, 8 * FIRST), MAX);
    }

    /// A log of one record has two segments of the first size, and room for one more before it has filled one.
    #[test]
    fn a_log_that_fills_its_segments_always_has_a_spare_in_the_bound_and_two_segments_of_each_size() {
        let mut growth = Growth::new(SIZES, Extent::default(), 0);
        let (mut before, mut size) = (Extent::default(), growth.next_size());
        let mut sizes = Vec::new();
        while size < MAX {
            sizes.push(size / FIRST);
            growth.begin(size, segment_header::LEN, before);
            // As appenders ask at the least.
            let early = growth.size_ahead();
            growth.reach(usize::try_from(size / 2).expect("small"));
            let next = early.or_else(|| growth.size_ahead()).expect("a spare");
            before.used += frames_before(size);
            before.taken += size;
            size = next;
        }
        assert_eq!(sizes, [1, 1, 1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128]);
    }

    #[test]
    fn a_spare_waits_for_nothing_where_segments_do_not_grow() {
        let mut growth = Growth::new(Sizes { first: MAX, max: MAX }, Extent::default(), 0);
        assert_eq!(growth.size_ahead(), Some(MAX));
        growth.begin(MAX, segment_header::LEN, Extent::default());
        assert_eq!(growth.size_ahead(), Some(MAX));
        growth.take();
        assert_eq!(growth.size_ahead(), Some(MAX));
    }

    #[test]
    fn a_spare_waits_in_a_log_that_holds_little_beside_its_segment() {
        let mut growth = Growth::new(SIZES, Extent::default(), 0);
        growth.begin(MAX, segment_header::LEN, Extent::default());
        growth.reach(usize::try_from(MAX / 2).expect("small"));
        assert_eq!(growth.size_ahead(), None);
        growth.reach(usize::try_from(MAX / 4 * 3).expect("small"));
        assert_eq!(growth.size_ahead(), Some(MAX));
    }
}
