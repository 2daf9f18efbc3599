//! The table for people, and the same figures for programs.

use std::path::Path;

use anyhow::Result;
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use serde::Serialize;

use crate::audit::Properties;
use crate::rounds::Cell;
use crate::workload::{Better, Workload};

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) workloads: Vec<Column>,
    pub(crate) peers: Vec<Row>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Column {
    name: &'static str,
    unit: &'static str,
    #[serde(skip)]
    better: Better,
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) version: Option<&'static str>,
    pub(crate) properties: Option<Properties>,
    /// One for each workload.
    pub(crate) cells: Vec<Cell>,
    pub(crate) notes: &'static [&'static str],
}

impl Column {
    pub(crate) fn of(workload: Workload) -> Self {
        Self { name: workload.name(), unit: workload.unit(), better: workload.better() }
    }

    /// How many times as fast as `reference` a log with the figure `value` is.
    fn speed(&self, value: f64, reference: f64) -> f64 {
        match self.better {
            Better::More => value / reference,
            Better::Less => reference / value,
        }
    }
}

impl Report {
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        Ok(std::fs::write(path, serde_json::to_vec_pretty(self)?)?)
    }

    /// The table, and after it its footnotes. Speeds are beside those of the first row.
    pub(crate) fn print(&self) {
        let mut footnotes = Footnotes::default();
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN);
        let audited = self.peers.iter().any(|row| row.properties.is_some());
        let properties: &[&str] = if audited { &["survives a kill", "sync", "damage is"] } else { &[] };
        let titles = self.workloads.iter().map(|column| format!("{}, {}", column.name, column.unit));
        table.set_header(
            ["log"].iter().chain(properties).map(|title| (*title).to_owned()).chain(titles).collect::<Vec<_>>(),
        );
        for row in &self.peers {
            table.add_row(self.line(row, &mut footnotes));
        }
        println!("{table}\n");
        println!("(x) how many times as fast as {}", self.peers.first().map_or("nothing", |row| row.name));
        for (text, number) in footnotes.0.iter().zip(1..) {
            println!("[{number}] {text}");
        }
    }

    fn line(&self, row: &Row, footnotes: &mut Footnotes) -> Vec<String> {
        let marks: String = row.notes.iter().map(|note| footnotes.mark(note)).collect();
        let name = format!("{} {}", row.name, row.version.unwrap_or("?"));
        let mut line = vec![if marks.is_empty() { name } else { format!("{name} {marks}") }];
        if let Some(Properties { survives_kill, sync, damage }) = &row.properties {
            line.extend([survives_kill.clone(), sync.clone(), damage.clone()]);
        }
        for (index, (column, cell)) in self.workloads.iter().zip(&row.cells).enumerate() {
            let mark = cell.remark.as_ref().map(|remark| format!(" {}", footnotes.mark(remark))).unwrap_or_default();
            let figure = cell.median().map_or_else(
                || "–".to_owned(),
                |value| {
                    let reference = self.peers.first().and_then(|row| row.cells.get(index)).and_then(Cell::median);
                    let speed = reference.map(|reference| format!(" ({:.2}x)", column.speed(value, reference)));
                    format!("{}{}", three_digits(value), speed.unwrap_or_default())
                },
            );
            line.push(figure + &mark);
        }
        line
    }
}

/// Each text once, numbered.
#[derive(Debug, Default)]
struct Footnotes(Vec<String>);

impl Footnotes {
    fn mark(&mut self, text: &str) -> String {
        let index = self.0.iter().position(|known| known == text).unwrap_or_else(|| {
            self.0.push(text.to_owned());
            self.0.len() - 1
        });
        format!("[{}]", index + 1)
    }
}

fn three_digits(value: f64) -> String {
    let decimals = if value < 1.0 {
        3
    } else if value < 10.0 {
        2
    } else {
        usize::from(value < 100.0)
    };
    format!("{value:.decimals$}")
}
