//! The number of a record.

use std::fmt;
use std::ops::Range;

/// Log sequence number: the dense number of a record.
///
/// The first record of a log has the number the log was created with (1 unless chosen otherwise), and each record's
/// number is its predecessor's plus one, over segments, reopenings and crashes. `Lsn(0)` is no record's number: it
/// stands for "before the first" in watermarks.
///
/// # Example
/// ```
/// use mapwal::Lsn;
///
/// assert_eq!(Lsn::FIRST, Lsn(1));
/// assert_eq!(Lsn::FIRST.previous(), Lsn::ZERO); // before every record
/// assert_eq!(Lsn(7).next(), Lsn(8));
/// assert_eq!(Lsn(7).checked_add(3), Some(Lsn(10)));
/// assert!(Lsn::each(Lsn(7)..Lsn(10)).eq([Lsn(7), Lsn(8), Lsn(9)])); // as `append_batch` returns them
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before every record.
    pub const ZERO: Self = Self(0);
    /// The first record of a log that does not choose another.
    pub const FIRST: Self = Self(1);

    /// The number `count` records further on, or `None` past the end of the number space.
    #[must_use]
    pub const fn checked_add(self, count: u64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The numbers of a range, in order: a `Range<Lsn>` is no iterator by itself.
    #[must_use]
    pub fn each(range: Range<Self>) -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator + Clone {
        // A `usize` has 64 bits, and its ranges know their length.
        (range.start.0 as usize..range.end.0 as usize).map(|number| Self(number as u64))
    }

    /// The next record's number, at most `u64::MAX`.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The previous record's number, at least [`Lsn::ZERO`].
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for Lsn {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl From<Lsn> for u64 {
    fn from(lsn: Lsn) -> Self {
        lsn.0
    }
}
