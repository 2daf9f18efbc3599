//! Which records a follower sees.

use crate::lsn::Lsn;

/// Which records a [`Follower`](crate::Follower) hands out.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::{Lsn, Visibility};
///
/// log.append(1, b"not durable yet")?;
/// assert!(log.follow(Lsn(1), Visibility::Durable)?.next()?.is_none());
/// assert!(log.follow(Lsn(1), Visibility::Published)?.next()?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// All that readers can see. A power failure may still take them back.
    Published,
    /// Those known to be durable: no crash takes them back.
    Durable,
}

impl Visibility {
    /// How far a follower may go as long as it does not know how far the log is durable.
    pub(super) fn limit_unknown(self) -> Lsn {
        match self {
            Self::Published => Lsn(u64::MAX),
            Self::Durable => Lsn::ZERO,
        }
    }
}
