//! What transactions and pages are called.

use std::fmt;

/// The number of a transaction.
///
/// [`Wal::begin`](crate::wal::Wal::begin) hands out numbers that no transaction of the log has had; a caller may as well
/// choose its own, up to [`Self::MAX_CHOSEN`], and use one again once its transaction is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TransactionId(pub u64);

/// The number of a page, as the storage engine counts them. 0 is a page like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PageId(pub u64);

impl TransactionId {
    /// The largest number that a caller may choose: those above, half of all, are left for [`Wal::begin`](crate::wal::Wal::begin),
    /// which goes on after the largest that was ever used.
    pub const MAX_CHOSEN: Self = Self((1 << 63) - 1);
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for TransactionId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl From<u64> for PageId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}
