//! The table for people, and the same figures for programs.

use std::path::Path;

use anyhow::Result;
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use serde::Serialize;

use crate::audit::Properties;
use crate::rounds::Cell;
use crate::workload::{Better, Column};

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) version: Option<&'static str>,
    pub(crate) properties: Option<Properties>,
    /// One for each column.
    pub(crate) cells: Vec<Cell>,
    pub(crate) notes: &'static [&'static str],
}

impl Column {
    pub(crate) fn heading(&self) -> String {
        if self.table.is_some() { self.name.to_owned() } else { format!("{}, {}", self.name, self.unit) }
    }

    /// How many times as fast as `reference` a log with the figure `value` is.
    pub(crate) fn speed(&self, value: f64, reference: f64) -> f64 {
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

    /// The tables, and then their footnotes. Speeds are beside those of the first row.
    pub(crate) fn print(&self) {
        let mut footnotes = Footnotes::default();
        let mut titles: Vec<Option<&str>> = self.columns.iter().map(|column| column.table.as_deref()).collect();
        if self.rows.iter().any(|row| row.properties.is_some()) {
            titles.push(None);
        }
        // In the order of the columns, each once; the first one has no title.
        titles.sort_by_key(Option::is_some);
        let mut printed = Vec::new();
        for title in titles {
            if !printed.contains(&title) {
                printed.push(title);
                self.print_table(title, &mut footnotes);
            }
        }
        println!("(x) how many times as fast as {}", self.rows.first().map_or("nothing", |row| row.name));
        for (text, number) in footnotes.0.iter().zip(1..) {
            println!("[{number}] {text}");
        }
    }

    /// All columns that belong to a table, and all rows that have something there.
    fn print_table(&self, title: Option<&str>, footnotes: &mut Footnotes) {
        let columns: Vec<usize> =
            (0..self.columns.len()).filter(|&index| self.columns[index].table.as_deref() == title).collect();
        let audited = title.is_none() && self.rows.iter().any(|row| row.properties.is_some());
        let mut header = vec!["log".to_owned()];
        if audited {
            header.extend(["survives a kill", "sync", "damage is"].map(str::to_owned));
        }
        header.extend(columns.iter().map(|&index| self.columns[index].heading()));
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN);
        table.set_header(header);
        for row in &self.rows {
            let properties = row.properties.as_ref().filter(|_| audited);
            if properties.is_some() || columns.iter().any(|&index| !row.cells[index].is_empty()) {
                let figures = columns.iter().map(|&index| self.figure(row, index, footnotes));
                let figures: Vec<String> = figures.collect();
                table.add_row(
                    [row.title(footnotes)]
                        .into_iter()
                        .chain(properties.map_or_else(Vec::new, Properties::texts))
                        .chain(figures),
                );
            }
        }
        if let Some(title) = title {
            println!("{title}\n");
        }
        println!("{table}\n");
    }

    /// What a row shows in a column.
    fn figure(&self, row: &Row, index: usize, footnotes: &mut Footnotes) -> String {
        let cell = &row.cells[index];
        let mark = cell.remark.as_ref().map(|remark| format!(" {}", footnotes.mark(remark))).unwrap_or_default();
        let Some(value) = cell.median() else { return format!("–{mark}") };
        let reference = self.rows.first().and_then(|row| row.cells[index].median());
        let speed = reference.map(|reference| format!(" ({:.2}x)", self.columns[index].speed(value, reference)));
        format!("{}{}{mark}", three_digits(value), speed.unwrap_or_default())
    }
}

impl Row {
    fn title(&self, footnotes: &mut Footnotes) -> String {
        let marks: String = self.notes.iter().map(|note| footnotes.mark(note)).collect();
        let words = [Some(self.name), self.version, Some(marks.as_str()).filter(|marks| !marks.is_empty())];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
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

pub(crate) fn three_digits(value: f64) -> String {
    let decimals = if value < 1.0 {
        3
    } else if value < 10.0 {
        2
    } else {
        usize::from(value < 100.0)
    };
    format!("{value:.decimals$}")
}
