//! mapwal and other logs, under the same workloads on the same machine in the same minutes.

mod audit;
// What streams are measured beside, and how the bytes that reach the device are counted, is the same as in `cargo bench`.
#[path = "../../limits/durable/bare.rs"]
mod bare;
mod chart;
mod child;
#[path = "../../limits/device.rs"]
mod device;
mod peer;
mod peers;
#[path = "../../limits/picture.rs"]
mod picture;
mod report;
mod rounds;
mod stream;
mod task;
mod versions;
mod workload;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};

use crate::peers::Entry;
use crate::report::{Report, Row};
use crate::workload::{Scale, Workload};

/// Measures mapwal and other logs in turn, prints a table, and writes mapwal-peers.json to the target directory
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Measure less: about four minutes
    #[arg(long)]
    quick: bool,
    /// Try out what survives a kill and damage, and count system calls with strace; measure nothing
    #[arg(long)]
    audit: bool,
    /// Only this log and mapwal; may be given more than once
    #[arg(long, value_name = "NAME")]
    peer: Vec<String>,
    /// Rounds over all logs; figures are medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Where the logs are made [default: the target directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Draw the first table, as an SVG
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    /// Only workloads with one of these in their names
    #[arg(value_name = "WORD")]
    words: Vec<String>,
    #[command(subcommand)]
    internal: Option<Internal>,
}

#[derive(Debug, Subcommand)]
enum Internal {
    /// One measurement of one log, in a process of its own
    #[command(hide = true, name = child::COMMAND)]
    Child { peer: String, directory: PathBuf, task: String },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Internal::Child { peer, directory, task }) = &arguments.internal {
        // When the run is stopped, so are its children.
        #[cfg(target_os = "linux")]
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        let entry = peers::ALL.iter().find(|entry| entry.facts.name == peer).context("no such log")?;
        let outcome = entry.run(directory, &serde_json::from_str(task)?)?;
        println!("{}", serde_json::to_string(&outcome)?);
        return Ok(());
    }
    run(&arguments)
}

fn run(arguments: &Arguments) -> Result<()> {
    let entries = chosen(&arguments.peer)?;
    let workloads = if arguments.audit { Vec::new() } else { workloads(&arguments.words)? };
    let scale = if arguments.quick { Scale::QUICK } else { Scale::FULL };
    let target = target_directory()?;
    let place = arguments.dir.as_deref().unwrap_or(&target);
    let within = tempfile::Builder::new().prefix("peers-").tempdir_in(place)?;

    let file = target.join("mapwal-peers.json");
    let rows: Vec<Row> = entries.iter().map(|entry| row(entry, arguments, within.path())).collect();
    let mut report = Report { columns: Vec::new(), rows };
    for workload in workloads {
        let cells = rounds::measure(workload, &entries, scale, arguments.rounds.into(), within.path())?;
        report.columns.extend(workload.columns());
        report.rows.iter_mut().zip(cells).for_each(|(row, cells)| row.cells.extend(cells));
        // What is measured is kept, even if the run is stopped.
        report.write(&file)?;
    }
    report.print();
    report.write(&file)?;
    arguments.chart.as_deref().map_or(Ok(()), |file| chart::draw(file, &report))
}

/// A row with what is tried out, unless only some workloads are asked for.
fn row(entry: &Entry, arguments: &Arguments, within: &Path) -> Row {
    let examined = entry.is_log() && (arguments.audit || arguments.words.is_empty());
    let properties = examined.then(|| {
        eprintln!("trying out: {}", entry.facts.name);
        audit::examine(&entry.facts, within, arguments.audit)
    });
    let version = versions::version_of(entry.facts.name);
    Row { name: entry.facts.name, version, properties, cells: Vec::new(), notes: entry.facts.notes }
}

/// mapwal, what streams are measured beside, and the logs of these names, or all.
fn chosen(names: &[String]) -> Result<Vec<Entry>> {
    for name in names {
        ensure!(peers::ALL.iter().any(|entry| entry.facts.name == name), "no log has the name {name}");
    }
    let wanted =
        |entry: &Entry| names.is_empty() || !entry.is_log() || names.iter().any(|name| name == entry.facts.name);
    let (first, others) = peers::ALL.split_first().expect("the list is not empty");
    Ok(std::iter::once(*first).chain(others.iter().copied().filter(wanted)).collect())
}

fn workloads(words: &[String]) -> Result<Vec<Workload>> {
    let wanted =
        |workload: &Workload| words.is_empty() || words.iter().any(|word| workload.name().contains(word.as_str()));
    let workloads: Vec<Workload> = Workload::all().into_iter().filter(wanted).collect();
    ensure!(!workloads.is_empty(), "no workload has any of these words in its name");
    Ok(workloads)
}

/// Where cargo put this program: its profile's directory is below the target directory.
fn target_directory() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).context("the program is not in a target directory")?;
    Ok(target.to_owned())
}
