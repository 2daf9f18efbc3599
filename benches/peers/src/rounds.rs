//! Rounds over all logs in turn, so that what the machine does meanwhile happens to all of them.

use std::path::Path;

use anyhow::{Result, bail};
use serde::Serialize;
use tempfile::TempDir;

use crate::child;
use crate::peers::Entry;
use crate::task::Outcome;
use crate::workload::{Scale, Workload};

/// One kind of figure of what one log did with one workload.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Cell {
    /// One figure for each round; none if there is a reason, or if the workload is not for this log.
    pub(crate) figures: Vec<f64>,
    /// Why there is no figure, or what is to be said of it.
    pub(crate) remark: Option<String>,
}

impl Cell {
    fn without(reason: impl Into<String>) -> Self {
        Self { figures: Vec::new(), remark: Some(reason.into()) }
    }

    /// Whether the workload is not for this log.
    pub(crate) fn is_empty(&self) -> bool {
        self.figures.is_empty() && self.remark.is_none()
    }

    /// Of an even number of figures, the lower one in the middle.
    pub(crate) fn median(&self) -> Option<f64> {
        let mut sorted = self.figures.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len().saturating_sub(1) / 2).copied()
    }
}

/// Measures all `entries`, in their order. Returns, for each, a cell for each of the workload's columns.
pub(crate) fn measure(
    workload: Workload,
    entries: &[Entry],
    scale: Scale,
    rounds: usize,
    within: &Path,
) -> Result<Vec<Vec<Cell>>> {
    let mut lanes: Vec<Lane<'_>> =
        entries.iter().map(|entry| Lane::new(workload, entry, scale, within)).collect::<Result<_>>()?;
    for round in 1..=rounds {
        for lane in lanes.iter_mut().filter(|lane| lane.goes_on) {
            eprintln!("{}, round {round} of {rounds}: {}", workload.name(), lane.entry.facts.name);
            lane.run(workload, scale, within)?;
        }
    }
    Ok(lanes.into_iter().map(|lane| lane.cells).collect())
}

/// One log on its way through the rounds.
struct Lane<'e> {
    entry: &'e Entry,
    /// The log that it reads, if it reads one that is there.
    prepared: Option<TempDir>,
    goes_on: bool,
    cells: Vec<Cell>,
}

impl<'e> Lane<'e> {
    fn new(workload: Workload, entry: &'e Entry, scale: Scale, within: &Path) -> Result<Self> {
        let cells = vec![Cell::default(); workload.columns().len()];
        let mut lane = Self { entry, prepared: None, goes_on: true, cells };
        if !workload.is_for(entry) {
            lane.goes_on = false;
        } else if workload.is_durable() && !entry.facts.syncs {
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
        self.cells.fill(Cell::without(reason));
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
                let Some(figures) = workload.figures(outcome) else { bail!("{outcome:?} of {workload:?}") };
                self.cells.iter_mut().zip(figures).for_each(|(cell, figure)| cell.figures.extend(figure));
            }
        }
        if let (Outcome::Read { records, error: None, .. }, Some(expected)) = (outcome, expected)
            && *records != expected
        {
            let remark = format!("found {records} of {expected} records");
            self.cells.iter_mut().for_each(|cell| cell.remark = Some(remark.clone()));
        }
        Ok(())
    }
}

fn fresh(within: &Path) -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("peer-").tempdir_in(within)?)
}
