//! The table for people, and the same rows for programs.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::samples::Samples;

/// One figure of the log, beside its limit if it has one.
#[derive(Debug)]
pub(crate) struct Row {
    name: String,
    unit: &'static str,
    samples: Samples,
    limit: Option<Limit>,
    target: Option<Target>,
    varies: bool,
}

#[derive(Debug)]
struct Limit {
    name: String,
    samples: Samples,
}

/// What the ratio to the limit is to be, or the value itself.
#[derive(Debug, Clone, Copy)]
enum Target {
    AtLeast(f64),
    AtMost(f64),
    ValueAtMost(f64),
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, samples: Samples) -> Self {
        Self { name: name.into(), unit, samples, limit: None, target: None, varies: false }
    }

    /// What was measured for the limit, in the same unit.
    pub(crate) fn limit(mut self, name: impl Into<String>, samples: Samples) -> Self {
        self.limit = Some(Limit { name: name.into(), samples });
        self
    }

    /// The share of the limit that is to be reached.
    pub(crate) fn at_least(mut self, ratio: f64) -> Self {
        self.target = Some(Target::AtLeast(ratio));
        self
    }

    /// The multiple of the limit that is not to be exceeded.
    pub(crate) fn at_most(mut self, ratio: f64) -> Self {
        self.target = Some(Target::AtMost(ratio));
        self
    }

    /// The value that is not to be exceeded.
    pub(crate) fn value_at_most(mut self, value: f64) -> Self {
        self.target = Some(Target::ValueAtMost(value));
        self
    }

    /// Whether it is met depends on the processor as well: how fast it is beside its memory, or how long it takes to wake a thread.
    pub(crate) fn varies(mut self) -> Self {
        self.varies = true;
        self
    }

    /// The row as it is written.
    pub(crate) fn entry(&self) -> Entry<'_> {
        let value = self.samples.median();
        let limit_value = self.limit.as_ref().map(|limit| limit.samples.median());
        let ratio = limit_value.filter(|&limit| limit > 0.0).map(|limit| value / limit);
        Entry {
            name: &self.name,
            value,
            unit: self.unit,
            limit: self.limit.as_ref().map(|limit| limit.name.as_str()),
            limit_value,
            ratio,
            min: self.samples.min(),
            max: self.samples.max(),
            target: self.target.map(|target| target.describe(self.unit)),
            target_ratio: self.target.and_then(Target::ratio),
            met: self.target.and_then(|target| target.is_met(value, ratio)),
            varies: self.varies,
        }
    }
}

impl Target {
    fn describe(self, unit: &str) -> String {
        match self {
            Self::AtLeast(ratio) => format!(">= {ratio} x"),
            Self::AtMost(ratio) => format!("<= {ratio} x"),
            Self::ValueAtMost(value) => format!("<= {value} {unit}").trim_end().to_owned(),
        }
    }

    /// The ratio to the limit that it asks for, if it asks for one.
    fn ratio(self) -> Option<f64> {
        match self {
            Self::AtLeast(ratio) | Self::AtMost(ratio) => Some(ratio),
            Self::ValueAtMost(_) => None,
        }
    }

    /// `None` if it is about the ratio to a limit that was not measured.
    fn is_met(self, value: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::AtLeast(least) => ratio.map(|ratio| ratio >= least),
            Self::AtMost(most) => ratio.map(|ratio| ratio <= most),
            Self::ValueAtMost(most) => Some(value <= most),
        }
    }
}

/// A row as it is written. Values are medians; the ratio is theirs.
#[derive(Serialize, Deserialize)]
pub(crate) struct Entry<'r> {
    pub(crate) name: &'r str,
    pub(crate) value: f64,
    pub(crate) unit: &'r str,
    pub(crate) limit: Option<&'r str>,
    pub(crate) limit_value: Option<f64>,
    pub(crate) ratio: Option<f64>,
    min: f64,
    max: f64,
    pub(crate) target: Option<String>,
    pub(crate) target_ratio: Option<f64>,
    pub(crate) met: Option<bool>,
    /// Whether it is met depends on the processor.
    pub(crate) varies: bool,
}

/// The file.
#[derive(Serialize, Deserialize)]
pub(crate) struct Report<'r> {
    pub(crate) machine: Machine,
    /// All cases were measured, at full scale.
    pub(crate) is_whole: bool,
    /// How much was measured. Older runs do not have it.
    #[serde(default)]
    pub(crate) scale: Option<&'r str>,
    #[serde(borrow)]
    pub(crate) rows: Vec<Entry<'r>>,
    pub(crate) notes: Vec<String>,
}

const TITLES: [&str; 9] = ["name", "value", "unit", "limit", "limit value", "ratio", "min..max", "target", "met"];
/// Of these columns the cells are aligned to the left.
const TEXT: [bool; 9] = [true, false, true, true, false, false, true, true, true];

/// Prints the rows as a table.
pub(crate) fn print(report: &Report<'_>) -> io::Result<()> {
    let rows = report.rows.iter().map(cells);
    let lines: Vec<[String; 9]> = std::iter::once(TITLES.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..TITLES.len()).map(width).collect();
    let mut out = io::stdout().lock();
    writeln!(out, "{}", report.machine)?;
    for line in &lines {
        let aligned: Vec<String> = line.iter().zip(&widths).zip(TEXT).map(align).collect();
        writeln!(out, "{}", aligned.join("  ").trim_end())?;
    }
    if report.rows.iter().any(|row| row.varies) {
        writeln!(out, "* whether it is met depends on the processor as well")?;
    }
    report.notes.iter().try_for_each(|note| writeln!(out, "{note}"))
}

fn align(((cell, &width), is_text): ((&String, &usize), bool)) -> String {
    if is_text { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
}

fn cells(row: &Entry<'_>) -> [String; 9] {
    let &Entry { name, value, unit, limit, limit_value, ratio, min, max, met, varies, .. } = row;
    let verdict = met.map(|met| if met { "yes" } else { "NO" });
    let target = row.target.as_ref().map(|target| if varies { format!("{target} *") } else { target.clone() });
    [
        name.to_owned(),
        figure(value),
        unit.to_owned(),
        limit.unwrap_or("").to_owned(),
        limit_value.map(figure).unwrap_or_default(),
        ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
        format!("{}..{}", figure(min), figure(max)),
        target.unwrap_or_default(),
        verdict.unwrap_or_default().to_owned(),
    ]
}

/// Three significant digits.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        magnitude if magnitude >= 1.0 || magnitude == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
