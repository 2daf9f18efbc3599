//! The rows of the last whole run of each machine, for readers: tables in the documentation, and a chart.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::chart;
use crate::report::{Entry, Report, figure};

/// Between these two lines of a file its table stands.
const TABLE: [&str; 2] = ["<!-- cargo bench -- --docs writes from here -->\n", "<!-- to here -->\n"];

/// Takes the rows from the file at `report`, and keeps them beside those of other machines. Writes the full table to
/// `docs/performance.md`, that of the rows with a target to `README.md`, and the chart.
pub(crate) fn write(report: &Path) -> io::Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let figures = root.join("benches/limits/figures");
    keep(report, &figures)?;
    let texts = texts(&figures)?;
    let reports: Vec<Report<'_>> = texts.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?;
    replace_table(&root.join("docs/performance.md"), &table(&reports, |_| true))?;
    replace_table(&root.join("README.md"), &table(&reports, |entry| entry.target.is_some()))?;
    chart::draw(&root.join("docs/performance.svg"), &reports).map_err(|error| io::Error::other(error.to_string()))
}

/// Puts the file at `report` among the `figures`, in the place of one of the same machine.
fn keep(report: &Path, figures: &Path) -> io::Result<()> {
    let text = fs::read_to_string(report)?;
    let run: Report<'_> = serde_json::from_str(&text)?;
    if !run.is_whole {
        return Err(io::Error::other(format!("{} is not of a whole run", report.display())));
    }
    let simple = |it: char| if it.is_ascii_alphanumeric() { it.to_ascii_lowercase() } else { ' ' };
    let words: String = format!("{} {} cores {}", run.machine.processor, run.machine.cores, run.machine.file_system)
        .chars()
        .map(simple)
        .collect();
    let name = words.split_whitespace().collect::<Vec<_>>().join("-");
    fs::write(figures.join(name + ".json"), text)
}

/// Of all machines, by their names.
fn texts(figures: &Path) -> io::Result<Vec<String>> {
    let mut paths = fs::read_dir(figures)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    paths.iter().map(fs::read_to_string).collect()
}

/// The rows of all machines, in the order of the first one that has them, of which `is_shown`.
pub(crate) fn names<'r>(reports: &'r [Report<'_>], is_shown: impl Fn(&Entry<'_>) -> bool) -> Vec<&'r str> {
    let mut names: Vec<&str> = Vec::new();
    for entry in reports.iter().flat_map(|report| &report.rows).filter(|entry| is_shown(entry)) {
        if !names.contains(&entry.name) {
            names.push(entry.name);
        }
    }
    names
}

/// The row of that name.
pub(crate) fn row<'r>(report: &'r Report<'_>, name: &str) -> Option<&'r Entry<'r>> {
    report.rows.iter().find(|entry| entry.name == name)
}

fn table(reports: &[Report<'_>], is_shown: impl Fn(&Entry<'_>) -> bool) -> String {
    let machines: Vec<String> = reports.iter().map(|report| format!(" {} | |", report.machine.processor)).collect();
    let mut text = format!("| |{} target |\n|---|{}---|\n", machines.concat(), "---|---|".repeat(reports.len()));
    for name in names(reports, is_shown) {
        let found: Vec<Option<&Entry<'_>>> = reports.iter().map(|report| row(report, name)).collect();
        let cells: Vec<String> = found.iter().map(|entry| cells(*entry)).collect();
        let target = found.iter().rev().flatten().find_map(|entry| {
            let star = if entry.varies { " \\*" } else { "" };
            Some(format!("{}{star}", entry.target.as_ref()?))
        });
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {name} |{} {} |", cells.concat(), target.unwrap_or_default());
    }
    text
}

/// The value and what it is beside its limit, in bold where the target is missed.
fn cells(entry: Option<&Entry<'_>>) -> String {
    let Some(entry) = entry else { return " – | |".to_owned() };
    let missed = entry.met == Some(false);
    let value = format!("{} {}", figure(entry.value), entry.unit);
    let value = value.trim_end();
    let ratio = entry.limit.zip(entry.ratio).map(|(limit, ratio)| {
        if missed { format!("**{ratio:.2}** of {limit}") } else { format!("{ratio:.2} of {limit}") }
    });
    match ratio {
        Some(ratio) => format!(" {value} | {ratio} |"),
        None if missed => format!(" **{value}** | |"),
        None => format!(" {value} | |"),
    }
}

fn replace_table(path: &Path, table: &str) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    let parts = text.split_once(TABLE[0]).and_then(|(before, rest)| Some((before, rest.split_once(TABLE[1])?.1)));
    let (before, after) =
        parts.ok_or_else(|| io::Error::other(format!("no place for a table in {}", path.display())))?;
    fs::write(path, format!("{before}{}{table}{}{after}", TABLE[0], TABLE[1]))
}
