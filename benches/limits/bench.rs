//! One run: its size, its files, and the rows it gathers.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use tempfile::TempDir;

use crate::compare::Earlier;
use crate::machine::Machine;
use crate::report::{self, Report, Row};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) name: &'static str,
    rounds: usize,
    /// Amounts of data and numbers of operations are divided by it.
    divisor: usize,
    /// How long it is measured what is measured by the second.
    time: Duration,
}

impl Scale {
    pub(crate) const FULL: Self = Self { name: "full", rounds: 3, divisor: 1, time: Duration::from_millis(2500) };
    pub(crate) const LONG: Self = Self { name: "long", time: Duration::from_secs(10), ..Self::FULL };
    pub(crate) const QUICK: Self = Self { name: "quick", rounds: 3, divisor: 8, time: Duration::from_millis(500) };
    /// Shows that everything still runs; the figures mean nothing.
    pub(crate) const SMOKE: Self = Self { name: "smoke", rounds: 1, divisor: 500, time: Duration::from_millis(20) };
}

#[derive(Debug)]
pub(crate) struct Bench {
    begun: Instant,
    scale: Scale,
    filters: Vec<String>,
    /// Of all cases that there are.
    names: Vec<String>,
    directory: TempDir,
    rows: Vec<Row>,
    notes: Vec<String>,
}

/// Cargo's directory for the files of benchmarks, inside of the target directory.
const TARGET_TMPDIR: &str = env!("CARGO_TARGET_TMPDIR");

impl Bench {
    pub(crate) fn new(scale: Scale, filters: Vec<String>) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(TARGET_TMPDIR)?;
        let (names, rows, notes) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { begun: Instant::now(), scale, filters, names, directory, rows, notes })
    }

    /// Whether the case of this name was asked for.
    pub(crate) fn wants(&mut self, name: &str) -> bool {
        self.names.push(name.to_owned());
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

    /// An error if there is a filter that no case has in its name.
    pub(crate) fn check_filters(&self) -> io::Result<()> {
        let is_unknown = |filter: &&String| !self.names.iter().any(|name| name.contains(filter.as_str()));
        let Some(unknown) = self.filters.iter().find(is_unknown) else { return Ok(()) };
        let why = format!("no case has {unknown:?} in its name; there are:\n  {}", self.names.join("\n  "));
        Err(io::Error::new(io::ErrorKind::InvalidInput, why))
    }

    /// Prints the table, writes the file, and compares with that of an earlier run, if there is one. `is_all`: all cases were measured that
    /// were asked for, and it was not instructions that were counted.
    pub(crate) fn finish(self, earlier: Option<&Earlier>, is_all: bool) -> io::Result<()> {
        if self.rows.is_empty() {
            return self.directory.close();
        }
        let machine = Machine::here(self.directory());
        let is_whole = is_all && self.filters.is_empty() && self.scale.name == Scale::FULL.name;
        let rows = self.rows.iter().map(Row::entry).collect();
        let report = Report { machine, is_whole, scale: Some(self.scale.name), rows, notes: self.notes };
        report::print(&report)?;
        let path = report_path();
        fs::write(&path, serde_json::to_vec_pretty(&report)?)?;
        println!("\n{}", path.display());
        if let Some(earlier) = earlier {
            earlier.print(&report);
        }
        self.directory.close()
    }
}

/// Where the rows of the last run stand.
pub(crate) fn report_path() -> PathBuf {
    let target = Path::new(TARGET_TMPDIR).parent().unwrap_or(Path::new("."));
    target.join("mapwal-bench.json")
}
