//! Up to where something has come: what a caller waits for.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Log;
use super::durability::Goal;
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::format::position::Position;
use crate::lsn::Lsn;

/// Up to here: a place in the stream of all that is appended, to be waited for by [`Log::wait_durable`],
/// [`Log::on_durable`] and [`Log::durable`].
///
/// Where a record is what matters, its number is enough, or the range of a batch: these calls take them as they are. What has
/// no number, metadata or a rotation, returns a mark; [`Log::mark`] is the one after everything appended so far.
///
/// A mark is reached when all that was appended before it is durable. The two kinds differ when records are truncated: one
/// that is waited for by its number is [`Error::Truncated`]; a place in the stream is reached without them, since what they
/// were is not in the log any more, and what came with them, such as metadata, is. A number is looked up when it is given to
/// a call; a place is a place of one open log, and of no other, also not of the same log when it is opened again.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::{Lsn, Mark};
///
/// let lsn = log.append(1, b"a record")?;
/// log.wait_durable(lsn)?;
///
/// let vote: Mark = log.put_meta(0, b"a vote")?;
/// log.wait_durable(vote)?; // it, and all before it
///
/// let batch = log.append_batch(&[(1, b"a".as_slice()), (1, b"b")])?;
/// let both = Mark::from(batch).and(log.put_meta(1, b"applied up to 3")?);
/// log.wait_durable(both)?;
/// log.wait_durable(log.mark())?; // everything, as a sync does
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    goal: Goal,
    /// The open log that it is a place of; [`ANY`] if it is of numbers alone.
    log: u64,
}

/// No log's.
const ANY: u64 = 0;
/// Of a mark that is of two logs.
const NONE: u64 = u64::MAX;

/// A number that no other log has that is, or was, open in this process.
pub(super) fn number_log() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(ANY);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl Mark {
    /// What is before both: a mark that is reached when both are.
    #[must_use]
    pub fn and(self, other: impl Into<Self>) -> Self {
        let other = other.into();
        let goal =
            Goal { lsn: self.goal.lsn.max(other.goal.lsn), position: self.goal.position.max(other.goal.position) };
        let log = match (self.log, other.log) {
            (log, ANY) | (ANY, log) => log,
            (log, others) if log == others => log,
            _ => NONE,
        };
        Self { goal, log }
    }
}

/// Up to this record, which is included.
impl From<Lsn> for Mark {
    #[inline]
    fn from(lsn: Lsn) -> Self {
        Self { goal: Goal { lsn, position: Position::ZERO }, log: ANY }
    }
}

/// Up to the last of these records; of an empty range, the one before.
impl From<Range<Lsn>> for Mark {
    fn from(range: Range<Lsn>) -> Self {
        range.end.previous().into()
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Goal { lsn, position } = self.goal;
        let mut out = f.debug_struct("Mark");
        if lsn != Lsn::ZERO {
            out.field("lsn", &lsn);
        }
        if position != Position::ZERO {
            out.field("segment", &position.segment()).field("offset", &position.offset());
        }
        out.finish_non_exhaustive()
    }
}

impl Log {
    /// The place after everything that has been appended so far, records and all else.
    #[must_use]
    pub fn mark(&self) -> Mark {
        // In a forked child no call waits for it.
        let end = self.shared.try_reserved().map_or(Position::ZERO, |(_, reserved)| Position(reserved.position));
        self.shared.mark_at(end)
    }
}

impl Shared {
    pub(super) fn mark_at(&self, position: Position) -> Mark {
        Mark { goal: Goal { lsn: Lsn::ZERO, position }, log: self.number }
    }

    /// What `mark` asks for.
    ///
    /// # Errors
    /// [`Error::NotAppended`]; [`Error::InvalidArgument`] when it is a place of another log.
    pub(super) fn goal_of(&self, mark: Mark) -> Result<Goal> {
        let Mark { goal, log } = mark;
        if log != ANY && log != self.number {
            let (name, value) = ("mark", goal.position.0);
            return Err(Error::InvalidArgument { name, value, expected: "a place of this log, since it was opened" });
        }
        let next = self.next_lsn();
        if goal.lsn < next { Ok(goal) } else { Err(Error::NotAppended { lsn: goal.lsn, next }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(position: u64, log: u64) -> Mark {
        Mark { goal: Goal { lsn: Lsn::ZERO, position: Position(position) }, log }
    }

    #[test]
    fn a_mark_of_two_is_the_later_of_each_kind() {
        let both = place(70, 1).and(Lsn(9)).and(place(50, 1)).and(Lsn(3)..Lsn(5));
        assert_eq!(both, Mark { goal: Goal { lsn: Lsn(9), position: Position(70) }, log: 1 });
        assert_eq!(place(70, 1).and(place(50, 2)).log, NONE);
        assert_eq!(Mark::from(Lsn(4)..Lsn(4)), Mark::from(Lsn(3)));
    }
}
