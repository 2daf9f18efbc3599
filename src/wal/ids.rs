//! What transactions and pages are called.

use std::fmt;

/// The number of a transaction.
///
/// [`Wal::begin`](crate::wal::Wal::begin) hands out numbers that no transaction of the log has had; a caller may as well
/// choose its own, up to [`Self::MAX_CHOSEN`], and use one again once its transaction is over.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let options = mapwal::wal::WalOptions::new().log(mapwal::Options::new().segment_size_bytes(64 << 10));
/// # let wal = unsafe { mapwal::wal::Wal::open(dir.path(), &options) }?;
/// use mapwal::wal::{PageId, TransactionId};
///
/// let mine = TransactionId(7); // for the calls of `Wal` that begin with `log_`
/// assert!(mine <= TransactionId::MAX_CHOSEN);
/// wal.log_begin(mine)?;
/// wal.log_insert(mine, None, PageId(3), b"a row")?;
/// wal.log_commit(mine, None)?.applied();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
