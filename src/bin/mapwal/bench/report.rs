//! The rows, as a table and as JSON, and what they say.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::BinaryBytes;
use serde_json::{Value, json};

use super::measured::{Measured, Summary, summary};
use super::{COMMIT_LEN, RECORD_LEN};
use crate::arguments::ReportFormat;
use crate::failure::{Result, Written};
use crate::json;
use crate::time::{micros, show};

/// No flush of a device's own memory to flash or disk takes less: tens of microseconds are what the fastest need.
const FLUSH_TIME_MIN: Duration = Duration::from_micros(15);
/// File systems in memory, by `f_type` of `statfs(2)`: tmpfs and ramfs.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// What is done in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Overwrite,
    Grow,
    Log { threads: u16 },
}

/// One line of the table.
#[derive(Debug)]
pub(super) struct Row {
    kind: Kind,
    /// Bytes between two syncs; 0 of commits.
    sync_len: usize,
    pub(super) measured: Vec<Measured>,
}

impl Row {
    fn new(kind: Kind, sync_len: usize) -> Self {
        Self { kind, sync_len, measured: Vec::new() }
    }

    pub(super) fn bare_commit() -> Self {
        Self::new(Kind::Overwrite, 0)
    }

    pub(super) fn commit(threads: u16) -> Self {
        Self::new(Kind::Log { threads }, 0)
    }

    pub(super) fn grow(sync_len: usize) -> Self {
        Self::new(Kind::Grow, sync_len)
    }

    pub(super) fn overwrite(sync_len: usize) -> Self {
        Self::new(Kind::Overwrite, sync_len)
    }

    pub(super) fn stream(sync_len: usize) -> Self {
        Self::new(Kind::Log { threads: 1 }, sync_len)
    }

    fn is_commit(&self) -> bool {
        self.sync_len == 0
    }

    fn name(&self) -> String {
        match self.kind {
            Kind::Overwrite => "write + fdatasync, overwriting".into(),
            Kind::Grow => "write + fdatasync, growing".into(),
            Kind::Log { threads: 1 } => "mapwal".into(),
            Kind::Log { threads } => format!("mapwal, {threads} threads"),
        }
    }
}

/// All that was measured on one disk.
pub(super) struct Report {
    directory: String,
    is_in_memory: bool,
    rows: Vec<(Row, Summary)>,
}

impl Report {
    pub(super) fn new(place: &Path, rows: Vec<Row>) -> Self {
        let file_system = rustix::fs::statfs(place).map_or(0, |found| found.f_type.cast_unsigned());
        Self {
            directory: place.display().to_string(),
            is_in_memory: IN_MEMORY.contains(&file_system),
            rows: rows.into_iter().map(|row| (summary(&row.measured), row)).map(|(sum, row)| (row, sum)).collect(),
        }
    }

    pub(super) fn print(&self, format: ReportFormat) -> Result<()> {
        let mut out = anstream::stdout().lock();
        let printed = match format {
            ReportFormat::Text => self.print_text(&mut out),
            ReportFormat::Json => json::write(&mut out, "bench", &self.json()),
        };
        printed.and_then(|()| out.flush()).written()
    }

    fn print_text(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "Commits of {COMMIT_LEN} bytes{:>28}{:>12}{:>12}{:>12}", "per second", "p50", "p99", "max")?;
        for (row, sum) in self.rows.iter().filter(|(row, _)| row.is_commit()) {
            writeln!(out, "  {:<34}{:>12.0}{}", row.name(), sum.per_second, times(sum))?;
        }
        writeln!(out, "\nRecords of {RECORD_LEN} bytes, a sync every")?;
        for (row, sum) in self.rows.iter().filter(|(row, _)| !row.is_commit()) {
            let [len, rate] = [row.sync_len as u64, whole(sum.bytes_per_second)].map(|n| BinaryBytes(n).to_string());
            writeln!(out, "  {len:>10}  {:<31}{rate:>12}/s{}", row.name(), times(sum))?;
        }
        writeln!(out)?;
        self.findings().iter().try_for_each(|finding| writeln!(out, "{finding}"))
    }

    /// What the figures mean, in sentences.
    fn findings(&self) -> Vec<String> {
        let bare = self.find(|row| row.is_commit() && row.kind == Kind::Overwrite);
        let alone = self.find(|row| row.is_commit() && row.kind == Kind::Log { threads: 1 });
        let mut findings = Vec::new();
        if self.is_in_memory {
            findings.push("This file system is in memory: nothing on it survives a loss of power.".to_owned());
        } else if bare.p50 < FLUSH_TIME_MIN {
            findings.push(format!(
                "A flush took {}, which is faster than a device can write: it has a cache with a power supply of its own, \
                 or it says that bytes are durable which are not. Find out which before you trust it.",
                show(bare.p50)
            ));
        }
        findings.push(format!(
            "A commit takes {:.2} times as long as the bare write and fdatasync (p99: {:.2}).",
            ratio(alone.p50, bare.p50),
            ratio(alone.p99, bare.p99)
        ));
        for (row, sum) in self.rows.iter().filter(|(row, _)| !row.is_commit() && matches!(row.kind, Kind::Log { .. })) {
            let [over, grow] = [Kind::Overwrite, Kind::Grow].map(|kind| {
                let limit = self.find(|other| other.sync_len == row.sync_len && other.kind == kind);
                sum.bytes_per_second / limit.bytes_per_second
            });
            let len = BinaryBytes(row.sync_len as u64);
            findings.push(format!(
                "With a sync every {len}, the log is {over:.2} times as fast as overwriting a file, {grow:.2} times as growing one."
            ));
        }
        findings
    }

    fn find(&self, is_it: impl Fn(&Row) -> bool) -> Summary {
        self.rows.iter().find(|(row, _)| is_it(row)).expect("each row has its limits beside it").1
    }

    fn json(&self) -> Value {
        let row = |(row, sum): &(Row, Summary)| {
            let (kind, threads) = match row.kind {
                Kind::Overwrite => ("overwrite", 1),
                Kind::Grow => ("grow", 1),
                Kind::Log { threads } => ("mapwal", threads),
            };
            json!({
                "workload": if row.is_commit() { "commit" } else { "stream" },
                "kind": kind,
                "threads": threads,
                "payload_bytes": if row.is_commit() { COMMIT_LEN } else { RECORD_LEN },
                "sync_bytes": (!row.is_commit()).then_some(row.sync_len),
                "syncs_per_second": sum.per_second,
                "bytes_per_second": sum.bytes_per_second,
                "p50_us": micros(sum.p50),
                "p99_us": micros(sum.p99),
                "max_us": micros(sum.max),
            })
        };
        json!({
            "directory": self.directory,
            "in_memory": self.is_in_memory,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "findings": self.findings(),
        })
    }
}

fn times(sum: &Summary) -> String {
    [sum.p50, sum.p99, sum.max].map(|time| format!("{:>12}", show(time))).concat()
}

fn ratio(of: Duration, to: Duration) -> f64 {
    of.as_secs_f64() / to.as_secs_f64().max(f64::MIN_POSITIVE)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is shown in three digits")]
fn whole(rate: f64) -> u64 {
    rate as u64
}
