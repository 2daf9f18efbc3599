//! The workloads, and how much of each.

use crate::task::{Outcome, Task};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    append_bytes: usize,
    append_seconds: f64,
    commit_seconds: f64,
    records: usize,
    lookups: usize,
    get_seconds: f64,
}

impl Scale {
    pub(crate) const FULL: Self = Self {
        append_bytes: 256 << 20,
        append_seconds: 5.0,
        commit_seconds: 2.0,
        records: 1_000_000,
        lookups: 500_000,
        get_seconds: 2.0,
    };
    pub(crate) const QUICK: Self = Self {
        append_bytes: 128 << 20,
        append_seconds: 1.0,
        commit_seconds: 0.3,
        records: 100_000,
        lookups: 50_000,
        get_seconds: 0.3,
    };
}

/// What is measured, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    Append128,
    Append1K,
    Commit1,
    Commit8,
    Scan,
    Get,
}

/// A figure: more is better, or less is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

impl Workload {
    pub(crate) const ALL: [Self; 6] =
        [Self::Append128, Self::Append1K, Self::Commit1, Self::Commit8, Self::Scan, Self::Get];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Append128 => "append 128 B",
            Self::Append1K => "append 1 KiB",
            Self::Commit1 => "commit 200 B, 1 thread, p50",
            Self::Commit8 => "commit 200 B, 8 threads",
            Self::Scan => "reopen and scan, 128 B",
            Self::Get => "get 128 B",
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Append128 | Self::Append1K | Self::Scan => "M/s",
            Self::Commit1 => "us",
            Self::Commit8 => "k/s",
            Self::Get => "ns",
        }
    }

    pub(crate) fn better(self) -> Better {
        match self {
            Self::Commit1 | Self::Get => Better::Less,
            _ => Better::More,
        }
    }

    /// Whether it only means something for a log whose commits reach the disk.
    pub(crate) fn is_durable(self) -> bool {
        matches!(self, Self::Commit1 | Self::Commit8)
    }

    pub(crate) fn task(self, scale: Scale) -> Task {
        let Scale { append_bytes: bytes, append_seconds, commit_seconds, records: count, lookups, get_seconds } = scale;
        match self {
            Self::Append128 => Task::Append { len: 128, bytes, seconds: append_seconds },
            Self::Append1K => Task::Append { len: 1 << 10, bytes, seconds: append_seconds },
            Self::Commit1 => Task::Commit { threads: 1, len: 200, seconds: commit_seconds },
            Self::Commit8 => Task::Commit { threads: 8, len: 200, seconds: commit_seconds },
            Self::Scan => Task::Scan,
            Self::Get => Task::Get { count, len: 128, lookups, seconds: get_seconds },
        }
    }

    /// What makes the log that it reads, if it reads one that is there.
    pub(crate) fn preparation(self, scale: Scale) -> Option<Task> {
        (self == Self::Scan).then_some(Task::Fill { count: scale.records, len: 128 })
    }

    /// How many records a scan must show.
    pub(crate) fn records(self, scale: Scale) -> Option<u64> {
        (self == Self::Scan).then_some(scale.records as u64)
    }

    /// The figure in an outcome, in this workload's unit.
    pub(crate) fn figure(self, outcome: &Outcome) -> Option<f64> {
        match (self, outcome) {
            (Self::Append128 | Self::Append1K, Outcome::Rate(rate)) => Some(rate / 1e6),
            (Self::Commit1, Outcome::Commits { p50_us, .. }) => Some(*p50_us),
            (Self::Commit8, Outcome::Commits { per_second, .. }) => Some(per_second / 1e3),
            (Self::Scan, Outcome::Read { records, seconds, .. }) => Some(*records as f64 / seconds / 1e6),
            (Self::Get, Outcome::Nanoseconds(nanoseconds)) => Some(*nanoseconds),
            _ => None,
        }
    }
}
