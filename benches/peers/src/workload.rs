//! The workloads, and how much of each.

use serde::Serialize;

use crate::peers::Entry;
use crate::stream::{Amount, KIB, Lap, MIB};
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
    stream_bytes: usize,
    stream_syncs: usize,
    stream_seconds: f64,
}

impl Scale {
    pub(crate) const FULL: Self = Self {
        append_bytes: 256 << 20,
        append_seconds: 5.0,
        commit_seconds: 2.0,
        records: 1_000_000,
        lookups: 500_000,
        get_seconds: 2.0,
        stream_bytes: 128 << 20,
        stream_syncs: 6000,
        stream_seconds: 1.0,
    };
    pub(crate) const QUICK: Self = Self {
        append_bytes: 128 << 20,
        append_seconds: 1.0,
        commit_seconds: 0.3,
        records: 100_000,
        lookups: 50_000,
        get_seconds: 0.3,
        stream_bytes: 32 << 20,
        stream_syncs: 6000,
        stream_seconds: 0.2,
    };
}

/// What is measured, in the order of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    Append128,
    Append1K,
    Commit1,
    Commit8,
    Scan,
    Get,
    /// With syncs of the size that has this index in [`SYNC_SIZES`].
    Durable(Lap, usize),
}

/// How much each sync makes durable.
const SYNC_SIZES: [(usize, &str); 6] = [
    (4 * KIB, "4 KiB"),
    (16 * KIB, "16 KiB"),
    (64 * KIB, "64 KiB"),
    (256 * KIB, "256 KiB"),
    (MIB, "1 MiB"),
    (4 * MIB, "4 MiB"),
];

/// One kind of figure of a workload.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Column {
    /// The title of the table that it belongs to. None for the first table.
    pub(crate) table: Option<String>,
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    #[serde(skip)]
    pub(crate) better: Better,
}

/// A figure: more is better, or less is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

impl Lap {
    fn name(self) -> &'static str {
        match self {
            Self::First => "first lap",
            Self::Steady => "steady state",
        }
    }
}

impl Workload {
    pub(crate) fn all() -> Vec<Self> {
        let durable = |lap| (0..SYNC_SIZES.len()).map(move |size| Self::Durable(lap, size));
        let others = [Self::Append128, Self::Append1K, Self::Commit1, Self::Commit8, Self::Scan, Self::Get];
        others.into_iter().chain(durable(Lap::First)).chain(durable(Lap::Steady)).collect()
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Durable(lap, size) => format!("durable {}, {}", SYNC_SIZES[size].1, lap.name()),
            _ => self.short_name().to_owned(),
        }
    }

    /// As it heads a column.
    fn short_name(self) -> &'static str {
        match self {
            Self::Append128 => "append 128 B",
            Self::Append1K => "append 1 KiB",
            Self::Commit1 => "commit 200 B, 1 thread, p50",
            Self::Commit8 => "commit 200 B, 8 threads",
            Self::Scan => "reopen and scan, 128 B",
            Self::Get => "get 128 B",
            Self::Durable(_, size) => SYNC_SIZES[size].1,
        }
    }

    /// One for each of [`Self::figures`].
    pub(crate) fn columns(self) -> Vec<Column> {
        let name = self.short_name();
        let column = |unit, better| vec![Column { table: None, name, unit, better }];
        match self {
            Self::Append128 | Self::Append1K | Self::Scan => column("M/s", Better::More),
            Self::Commit1 => column("us", Better::Less),
            Self::Commit8 => column("k/s", Better::More),
            Self::Get => column("ns", Better::Less),
            Self::Durable(lap, _) => [
                ("MiB/s", "MiB/s", Better::More),
                ("p50 of a sync, us", "us", Better::Less),
                ("p99 of a sync, us", "us", Better::Less),
                ("bytes written for each byte appended", "", Better::Less),
            ]
            .map(|(kind, unit, better)| {
                let table = Some(format!("durable, {}: {kind}", lap.name()));
                Column { table, name, unit, better }
            })
            .into(),
        }
    }

    /// Whether it only means something for a log whose commits reach the disk.
    pub(crate) fn is_durable(self) -> bool {
        matches!(self, Self::Commit1 | Self::Commit8 | Self::Durable(..))
    }

    pub(crate) fn is_for(self, entry: &Entry) -> bool {
        if matches!(self, Self::Durable(..)) { entry.streams() } else { entry.is_log() }
    }

    pub(crate) fn task(self, scale: Scale) -> Task {
        let Scale { append_bytes: bytes, append_seconds, commit_seconds, records: count, lookups, get_seconds, .. } =
            scale;
        match self {
            Self::Append128 => Task::Append { len: 128, bytes, seconds: append_seconds },
            Self::Append1K => Task::Append { len: 1 << 10, bytes, seconds: append_seconds },
            Self::Commit1 => Task::Commit { threads: 1, len: 200, seconds: commit_seconds },
            Self::Commit8 => Task::Commit { threads: 8, len: 200, seconds: commit_seconds },
            Self::Scan => Task::Scan,
            Self::Get => Task::Get { count, len: 128, lookups, seconds: get_seconds },
            Self::Durable(lap, size) => Task::Stream(Amount {
                lap,
                sync_bytes: SYNC_SIZES[size].0,
                bytes: scale.stream_bytes,
                syncs: scale.stream_syncs,
                seconds: scale.stream_seconds,
            }),
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

    /// The figures in an outcome, in the order and the units of [`Self::columns`].
    pub(crate) fn figures(self, outcome: &Outcome) -> Option<Vec<Option<f64>>> {
        let figure = match (self, outcome) {
            (Self::Append128 | Self::Append1K, Outcome::Rate(rate)) => rate / 1e6,
            (Self::Commit1, Outcome::Commits { p50_us, .. }) => *p50_us,
            (Self::Commit8, Outcome::Commits { per_second, .. }) => per_second / 1e3,
            (Self::Scan, Outcome::Read { records, seconds, .. }) => *records as f64 / seconds / 1e6,
            (Self::Get, Outcome::Nanoseconds(nanoseconds)) => *nanoseconds,
            (Self::Durable(..), &Outcome::Stream { mib_per_second, p50_us, p99_us, amp }) => {
                return Some(vec![Some(mib_per_second), Some(p50_us), Some(p99_us), amp]);
            }
            _ => return None,
        };
        Some(vec![Some(figure)])
    }
}
