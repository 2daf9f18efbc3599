//! What was looked at, and what was found.

use std::fmt;

use crate::filesystem::Filesystem;
use crate::model::Rule;

/// Counts of one file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Power cuts.
    pub cuts: u64,
    /// Of those, after a write error, a failed flush, or a file system that stopped.
    pub with_errors: u64,
    /// Cuts in what followed another cut, at any depth.
    pub deeper: u64,
    /// Records that had been acknowledged, over all cuts.
    pub acknowledged: u64,
    pub lost: u64,
    pub phantom: u64,
    pub gaps: u64,
    pub false_corruption: u64,
    /// Processes that died though nothing allows it.
    pub died: u64,
    /// Processes that were killed by `SIGBUS` storing to the log of a file system that had failed.
    pub bus_errors: u64,
    /// Sessions that did not come to an end.
    pub hung: u64,
    /// File systems that could not be mounted after a cut, or gave up by themselves later: their own doing.
    pub unmountable: u64,
}

/// What was found that must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    Broken(Rule),
    Died,
    Hung,
}

impl Tally {
    pub fn add(&mut self, finding: Finding) {
        *match finding {
            Finding::Broken(Rule::Lost) => &mut self.lost,
            Finding::Broken(Rule::Phantom) => &mut self.phantom,
            Finding::Broken(Rule::Gap) => &mut self.gaps,
            Finding::Broken(Rule::FalseCorruption | Rule::MissedCorruption) => &mut self.false_corruption,
            Finding::Died => &mut self.died,
            Finding::Hung => &mut self.hung,
        } += 1;
    }

    pub fn findings(&self) -> u64 {
        self.lost + self.phantom + self.gaps + self.false_corruption + self.died + self.hung
    }

    /// The line for `filesystem`.
    pub fn line(&self, filesystem: Filesystem) -> Line<'_> {
        Line(self, filesystem)
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.with_errors += other.with_errors;
        self.deeper += other.deeper;
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.phantom += other.phantom;
        self.gaps += other.gaps;
        self.false_corruption += other.false_corruption;
        self.died += other.died;
        self.bus_errors += other.bus_errors;
        self.hung += other.hung;
        self.unmountable += other.unmountable;
    }
}

/// A tally in one line.
pub struct Line<'t>(&'t Tally, Filesystem);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(tally, filesystem) = self;
        write!(f, "fs={} cuts={} with_errors={}", filesystem.name(), tally.cuts, tally.with_errors)?;
        write!(f, " deeper={} acknowledged={} lost={}", tally.deeper, tally.acknowledged, tally.lost)?;
        write!(f, " phantom={} gaps={} false_corruption={}", tally.phantom, tally.gaps, tally.false_corruption)?;
        write!(f, " died={} hung={}", tally.died, tally.hung)?;
        write!(f, " bus_errors={} unmountable={}", tally.bus_errors, tally.unmountable)
    }
}
