//! mapwal-openraft beside databend's `raft-log`, both as log stores of openraft, under the same workloads in the same run.

mod peer;
mod work;

use std::io::Cursor;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use work::Workload;

openraft::declare_raft_types!(pub(crate) Types: D = bytes::Bytes, R = ());

/// Measures both stores; a figure is the median of its rounds.
#[derive(Parser)]
struct Arguments {
    /// Only workloads with one of these words in their names.
    words: Vec<String>,
    /// Rounds over both stores.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Entries of a long log.
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,
    /// Bytes of each entry's data.
    #[arg(long, default_value_t = 200)]
    data: usize,
    /// How long each kind of appends is measured.
    #[arg(long, default_value_t = 4000, value_name = "MS")]
    time: u64,
    /// Where the logs are made.
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// Threads that compute all the time meanwhile: a machine with other work, the same each time.
    #[arg(long, default_value_t = 0, value_name = "N")]
    busy: usize,
    /// One measurement, in this process.
    #[arg(long, hide = true, num_args = 2, value_names = ["STORE", "WORKLOAD"])]
    child: Vec<String>,
}

const STORES: [&str; 2] = ["mapwal-openraft", "raft-log"];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let [store, workload] = arguments.child.as_slice() {
        let workload = Workload::named(workload).context("no such workload")?;
        println!("{}", workload.measure(store, &arguments)?);
        return Ok(());
    }
    let is_asked_for = |workload: &Workload| {
        arguments.words.is_empty() || arguments.words.iter().any(|word| workload.name().contains(word.as_str()))
    };
    for _ in 0..arguments.busy {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
    println!("{} bytes each, {} rounds, {} busy threads", arguments.data, arguments.rounds, arguments.busy);
    println!("| {:<28} | {:>16} | {:>16} | {:>6} |", "", STORES[0], STORES[1], "ratio");
    println!("|{:-<30}|{:->18}|{:->18}|{:->8}|", "", ":", ":", ":");
    for workload in Workload::ALL.iter().filter(|workload| is_asked_for(workload)) {
        let mut figures = [Vec::new(), Vec::new()];
        for _ in 0..arguments.rounds {
            for (store, figures) in STORES.iter().zip(&mut figures) {
                figures.push(measure_in_child(store, workload, &arguments)?);
            }
        }
        let [ours, theirs] = figures.map(median);
        let ratio = if workload.more_is_better() { ours / theirs } else { theirs / ours };
        let unit = workload.unit();
        println!("| {:<28} | {ours:>10.1} {unit:<5} | {theirs:>10.1} {unit:<5} | {ratio:>6.2} |", workload.name());
    }
    Ok(())
}

fn measure_in_child(store: &str, workload: &Workload, arguments: &Arguments) -> Result<f64> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--entries", &arguments.entries.to_string(), "--data", &arguments.data.to_string()]);
    command.args(["--time", &arguments.time.to_string()]).arg("--dir").arg(&arguments.dir);
    let output = command.args(["--child", store, workload.name()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim().parse() {
        Ok(figure) if output.status.success() => Ok(figure),
        _ => bail!("{store}, {}: {}", workload.name(), String::from_utf8_lossy(&output.stderr)),
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
