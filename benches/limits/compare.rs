//! This run beside an earlier one of the same machine: `--against`.

use std::io;
use std::path::PathBuf;

use crate::bench::Scale;
use crate::machine::Machine;
use crate::report::{Report, figure};

/// The file of an earlier run, read and checked before anything is measured: it may be the one that this run replaces.
#[derive(Debug)]
pub(crate) struct Earlier {
    path: PathBuf,
    text: String,
}

impl Earlier {
    /// An error if there is no such file, or if it is not of a run on a machine like this, of which as much was measured.
    pub(crate) fn read(path: PathBuf, machine: &Machine, scale: Scale) -> io::Result<Self> {
        let refused = |why: String| io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| refused(error.to_string()))?;
        let report: Report<'_> =
            serde_json::from_str(&text).map_err(|error| refused(format!("not figures of a run: {error}")))?;
        if !report.machine.is_like(machine) {
            return Err(refused(format!("made on another machine, {}; this one is {machine}", report.machine)));
        }
        let known = report.scale.or(report.is_whole.then_some(Scale::FULL.name));
        if let Some(known) = known.filter(|&known| known != scale.name) {
            return Err(refused(format!("of a {known} run; this one is {}", scale.name)));
        }
        Ok(Self { path, text })
    }

    /// Prints how many times each of the values of `now` is that of this run.
    pub(crate) fn print(&self, now: &Report<'_>) {
        let before: Report<'_> = serde_json::from_str(&self.text).expect("it was parsed before");
        println!("\nbeside {}: before, now, how many times; ratios to limits before, now", self.path.display());
        let mut unknown = 0;
        for entry in &now.rows {
            let Some(was) = before.rows.iter().find(|was| was.name == entry.name && was.unit == entry.unit) else {
                unknown += 1;
                continue;
            };
            let times = if was.value == 0.0 { String::from("–") } else { format!("{:.2}", entry.value / was.value) };
            let ratio = |ratio: Option<f64>| ratio.map_or(String::from("–"), |ratio| format!("{ratio:.2}"));
            let (then, now) = (figure(was.value), figure(entry.value));
            println!(
                "{}: {then}, {now} {}, {times}; {}, {}",
                entry.name,
                entry.unit,
                ratio(was.ratio),
                ratio(entry.ratio)
            );
        }
        if unknown > 0 {
            println!("not there: {unknown} of the {} rows of this run", now.rows.len());
        }
    }
}
