//! Rounds over all logs in turn, so that what the machine does meanwhile happens to all of them.

use std::path::Path;

use anyhow::{Result, bail};
use serde::Serialize;
use tempfile::TempDir;

use crate::child;
use crate::peers::Entry;
use crate::task::Outcome;
use crate::workload::{Scale, Workload};

/// What one log did with one workload.
#[derive(Debug, Serialize)]
pub(crate) struct Cell {
    /// One figure for each round; none if there is a reason.
    pub(crate) figures: Vec<f64>,
    /// Why there is no figure, or what is to be said of it.
    pub(crate) remark: Option<String>,
}

impl Cell {
    fn without(reason: impl Into<String>) -> Self {
        Self { figures: Vec::new(), remark: Some(reason.into()) }
    }

    /// Of an even number of figures, the lower one in the middle.
    pub(crate) fn median(&self) -> Option<f64> {
        let mut sorted = self.figures.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len().saturating_sub(1) / 2).copied()
    }
}

/// Measures all `entries`, in their order.
pub(crate) fn measure(
    workload: Workload,
    entries: &[Entry],
    scale: Scale,
    rounds: usize,
    within: &Path,
) -> Result<Vec<Cell>> {
    let mut lanes: Vec<Lane<'_>> =
        entries.iter().map(|entry| Lane::new(workload, entry, scale, within)).collect::<Result<_>>()?;
    for round in 1..=rounds {
        for lane in lanes.iter_mut().filter(|lane| lane.goes_on) {
            eprintln!("{}, round {round} of {rounds}: {}", workload.name(), lane.entry.facts.name);
            lane.run(workload, scale, within)?;
        }
    }
    Ok(lanes.into_iter().map(|lane| lane.cell).collect())
}

/// One log on its way through the rounds.
struct Lane<'e> {
    entry: &'e Entry,
    /// The log that it reads, if it reads one that is there.
    prepared: Option<TempDir>,
    goes_on: bool,
    cell: Cell,
}

impl<'e> Lane<'e> {
    fn new(workload: Workload, entry: &'e Entry, scale: Scale, within: &Path) -> Result<Self> {
        let mut lane = Self { entry, prepared: None, goes_on: true, cell: Cell { figures: Vec::new(), remark: None } };
        if workload.is_durable() && !entry.facts.syncs {
            lane.give_up("its flush does not reach the disk");
        } else if let Some(task) = workload.preparation(scale) {
            eprintln!("{}, filling: {}", workload.name(), entry.facts.name);
            let directory = fresh(within)?;
            match child::run(entry.facts.name, directory.path(), &task) {
                Ok(_) => lane.prepared = Some(directory),
                Err(error) => lane.give_up(format!("failed: {error:#}")),
            }
        }
        Ok(lane)
    }

    fn give_up(&mut self, reason: impl Into<String>) {
        self.goes_on = false;
        self.cell = Cell::without(reason);
    }

    fn run(&mut self, workload: Workload, scale: Scale, within: &Path) -> Result<()> {
        let made;
        let directory = if let Some(prepared) = &self.prepared {
            prepared.path()
        } else {
            made = fresh(within)?;
            made.path()
        };
        match child::run(self.entry.facts.name, directory, &workload.task(scale)) {
            Ok(outcome) => self.take(workload, &outcome, workload.records(scale))?,
            Err(error) => self.give_up(format!("failed: {error:#}")),
        }
        Ok(())
    }

    fn take(&mut self, workload: Workload, outcome: &Outcome, expected: Option<u64>) -> Result<()> {
        match outcome {
            Outcome::Cannot(reason) => self.give_up(reason.as_str()),
            Outcome::Read { error: Some(error), .. } => self.give_up(format!("failed: {error}")),
            _ => {
                let Some(figure) = workload.figure(outcome) else { bail!("{outcome:?} of {workload:?}") };
                self.cell.figures.push(figure);
            }
        }
        if let (Outcome::Read { records, error: None, .. }, Some(expected)) = (outcome, expected)
            && *records != expected
        {
            self.cell.remark = Some(format!("found {records} of {expected} records"));
        }
        Ok(())
    }
}

fn fresh(within: &Path) -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("peer-").tempdir_in(within)?)
}
