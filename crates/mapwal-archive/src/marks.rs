//! The marks that prunes leave, which tell what they have deleted from what is missing.

use mapwal::Lsn;

/// That records before one may be gone, of epochs up to a number: of those that were there when the mark was made. A later one begins with
/// what its log has, however low that is, and lacks what it does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) before: Lsn,
    pub(crate) epoch: u64,
}

impl Mark {
    /// Whether it says all that the other one says. It does if it is the same.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.before >= other.before && self.epoch >= other.epoch
    }
}

#[derive(Debug, Default)]
pub(crate) struct Marks(Vec<Mark>);

impl Marks {
    /// Those of `marks` that can have been made where record `end` comes next: a prune leaves the newest segment, so that a mark beyond all
    /// is none.
    pub(crate) fn new(mut marks: Vec<Mark>, end: Lsn) -> Self {
        marks.retain(|mark| mark.before <= end);
        Self(marks)
    }

    /// Records before it may have been pruned of `epoch`, and of what led to it.
    pub(crate) fn of(&self, epoch: u64) -> Lsn {
        self.before(|mark| mark.epoch >= epoch)
    }

    /// Records before it may have been pruned of some epoch.
    pub(crate) fn latest(&self) -> Lsn {
        self.before(|_| true)
    }

    fn before(&self, is_it: impl Fn(&Mark) -> bool) -> Lsn {
        self.0.iter().filter(|mark| is_it(mark)).map(|mark| mark.before).max().unwrap_or_default()
    }

    /// Whether one of them, which is another one, says all that `mark` says.
    pub(crate) fn supersede(&self, mark: Mark) -> bool {
        self.0.iter().any(|other| *other != mark && other.covers(mark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_covers_the_epochs_that_were_there_when_it_was_made() {
        let mark = |before, epoch| Mark { before: Lsn(before), epoch };
        let marks = Marks::new(vec![mark(700, 1), mark(300, 3), mark(200, 2), mark(901, 9)], Lsn(900));
        assert_eq!([1, 2, 3, 4].map(|epoch| marks.of(epoch)), [Lsn(700), Lsn(300), Lsn(300), Lsn(0)]);
        assert_eq!(marks.latest(), Lsn(700));
        let superseded = [mark(700, 1), mark(300, 3), mark(200, 2)].map(|mark| marks.supersede(mark));
        assert_eq!(superseded, [false, false, true]);
    }
}
