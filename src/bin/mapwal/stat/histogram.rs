//! How many records there are of which size.

/// Characters in the longest bar.
const BAR_LEN: u64 = 40;
const CLASSES: usize = 34;

/// Counts by powers of two: class 0 is of empty payloads, class `n` of those from 2ⁿ⁻¹ bytes to below 2ⁿ. The longest
/// payload is a little below 2³².
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: [u64; CLASSES],
    bytes: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; CLASSES], bytes: 0 }
    }
}

impl Histogram {
    pub(crate) fn count(&mut self, len: u64) {
        self.counts[(u64::BITS - len.leading_zeros()) as usize] += 1;
        self.bytes += len;
    }

    pub(crate) fn records(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Of all payloads together.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Smallest and largest size, and number of records, of each class that has any and those between.
    pub(crate) fn classes(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        let first = self.counts.iter().position(|&count| count > 0).unwrap_or(CLASSES);
        let last = self.counts.iter().rposition(|&count| count > 0).map_or(first, |last| last + 1);
        (first..last).map(|class| {
            let from = if class == 0 { 0 } else { 1 << (class - 1) };
            (from, (1 << class) - 1, self.counts[class])
        })
    }

    /// A bar as long as `count` is large beside the largest class.
    pub(crate) fn bar(&self, count: u64) -> String {
        let max = self.counts.iter().copied().max().unwrap_or(0).max(1);
        let len = (count * BAR_LEN).div_ceil(max);
        "#".repeat(usize::try_from(len).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_in_the_class_of_their_size() {
        let mut sizes = Histogram::default();
        for len in [0, 1, 2, 3, 4, 7, 8] {
            sizes.count(len);
        }
        let classes: Vec<_> = sizes.classes().collect();
        assert_eq!(classes, [(0, 0, 1), (1, 1, 1), (2, 3, 2), (4, 7, 2), (8, 15, 1)]);
        assert_eq!(sizes.bytes(), 25);
        assert_eq!((sizes.bar(2).len(), sizes.bar(1).len(), sizes.bar(0).len()), (40, 20, 0));
    }

    #[test]
    fn the_longest_payload_has_a_class() {
        let mut sizes = Histogram::default();
        sizes.count(u64::from(u32::MAX));
        assert_eq!(sizes.classes().next(), Some((1 << 31, u64::from(u32::MAX), 1)));
    }
}
