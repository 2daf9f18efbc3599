//! One run: its size, its files, and the rows it gathers.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use tempfile::TempDir;

use crate::compare;
use crate::machine::Machine;
use crate::report::{self, Report, Row};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    rounds: usize,
    /// Amounts of data and numbers of operations are divided by it.
    divisor: usize,
    /// How long it is measured what is measured by the second.
    time: Duration,
}

impl Scale {
    pub(crate) const FULL: Self = Self { rounds: 3, divisor: 1, time: Duration::from_millis(2500) };
    pub(crate) const LONG: Self = Self { time: Duration::from_secs(10), ..Self::FULL };
    pub(crate) const QUICK: Self = Self { rounds: 3, divisor: 8, time: Duration::from_millis(500) };
    /// Shows that everything still runs; the figures mean nothing.
    pub(crate) const SMOKE: Self = Self { rounds: 1, divisor: 500, time: Duration::from_millis(20) };
}

#[derive(Debug)]
pub(crate) struct Bench {
    begun: Instant,
    scale: Scale,
    filters: Vec<String>,
    directory: TempDir,
    rows: Vec<Row>,
    notes: Vec<String>,
}

/// Cargo's directory for the files of benchmarks, inside of the target directory.
const TARGET_TMPDIR: &str = env!("CARGO_TARGET_TMPDIR");

impl Bench {
    pub(crate) fn new(scale: Scale, filters: Vec<String>) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(TARGET_TMPDIR)?;
        Ok(Self { begun: Instant::now(), scale, filters, directory, rows: Vec::new(), notes: Vec::new() })
    }

    /// Whether the case of this name was asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let wanted = self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter.as_str()));
        if wanted {
            eprintln!("{:4} s: {name}", self.begun.elapsed().as_secs());
        }
        wanted
    }

    pub(crate) fn rounds(&self) -> usize {
        self.scale.rounds
    }

    /// More rounds for what takes little time and varies much.
    pub(crate) fn many_rounds(&self) -> usize {
        self.scale.rounds * 3
    }

    /// As many as targets for durable streams ask for.
    pub(crate) fn five_rounds(&self) -> usize {
        self.scale.rounds * 2 - 1
    }

    /// How long what is measured by the second is measured.
    pub(crate) fn time(&self) -> Duration {
        self.scale.time
    }

    /// `full` at full scale; never zero.
    pub(crate) fn amount(&self, full: usize) -> usize {
        (full / self.scale.divisor).max(1)
    }

    /// Where files are made.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Has a line printed after the table.
    pub(crate) fn note(&mut self, line: String) {
        self.notes.push(line);
    }

    /// Prints the table, writes the file, and compares with that of an earlier run, if there is one.
    pub(crate) fn finish(self, earlier: Option<&Path>) -> io::Result<()> {
        let machine = Machine::here(self.directory());
        let is_whole = self.filters.is_empty() && self.scale.divisor == Scale::FULL.divisor;
        let rows = self.rows.iter().map(Row::entry).collect();
        let report = Report { machine, is_whole, rows, notes: self.notes };
        report::print(&report)?;
        let path = report_path();
        fs::write(&path, serde_json::to_vec_pretty(&report)?)?;
        println!("\n{}", path.display());
        earlier.map_or(Ok(()), |earlier| compare::print(earlier, &report))?;
        self.directory.close()
    }
}

/// Where the rows of the last run stand.
pub(crate) fn report_path() -> PathBuf {
    let target = Path::new(TARGET_TMPDIR).parent().unwrap_or(Path::new("."));
    target.join("mapwal-bench.json")
}
