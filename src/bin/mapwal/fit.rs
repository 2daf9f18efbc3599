//! Text for terminals that are narrower than it: lines are folded, and tables stacked, a field a line.

use std::io::{self, IsTerminal, Write};

use anstyle::Style;

/// Where the value begins in a line that has a name before it.
const VALUE_AT: usize = 11;
/// The indent of what a long line goes on with.
const INDENT: usize = 4;

/// The columns that there are: those of the terminal, or what COLUMNS says. `None` where nothing limits them.
pub(crate) fn columns() -> Option<usize> {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let of_terminal = || io::stdout().is_terminal().then(|| rustix::termios::tcgetwinsize(io::stdout()).ok()).flatten();
    let columns = told.or_else(|| of_terminal().map(|size| usize::from(size.ws_col)));
    columns.filter(|&columns| columns > 0)
}

/// Writes `text`, with lines that do not fit into `columns` folded between words.
pub(crate) fn write_folded(out: &mut impl Write, text: &str, columns: Option<usize>) -> io::Result<()> {
    for line in text.lines() {
        match columns.filter(|&columns| width(line) > columns) {
            Some(columns) => fold(out, line, columns)?,
            None => writeln!(out, "{line}")?,
        }
    }
    Ok(())
}

fn fold(out: &mut impl Write, line: &str, columns: usize) -> io::Result<()> {
    let is_named = !line.starts_with(' ') && line.char_indices().nth(VALUE_AT).is_some();
    let (name, rest) = match line.char_indices().nth(VALUE_AT).filter(|_| is_named) {
        Some((at, _)) if line[..at].ends_with(' ') => line.split_at(at),
        _ => ("", line),
    };
    // Columns that lines have in common are given up.
    let start = if name.is_empty() { "  ".to_owned() } else { name.to_owned() };
    let first = if name.is_empty() && !line.starts_with(' ') { String::new() } else { start };
    let indent = if name.is_empty() { INDENT } else { VALUE_AT };
    let (mut folded, mut is_begun) = (first, false);
    for word in rest.split_whitespace() {
        let gap = usize::from(is_begun);
        // A word that fits nowhere begins a line further left.
        let left = [indent, INDENT].into_iter().find(|indent| indent + width(word) <= columns).unwrap_or(0);
        if width(&folded) + gap + width(word) > columns && width(&folded) > left {
            writeln!(out, "{}", folded.trim_end())?;
            folded = format!("{:left$}{word}", "");
        } else {
            folded = format!("{folded}{:gap$}{word}", "");
        }
        is_begun = true;
    }
    writeln!(out, "{folded}")
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// A column of a table.
pub(crate) struct Column {
    name: &'static str,
    /// How wide it is at least, where nothing limits the width.
    width: usize,
    is_right: bool,
}

impl Column {
    pub(crate) const fn left(name: &'static str, width: usize) -> Self {
        Self { name, width, is_right: false }
    }

    pub(crate) const fn right(name: &'static str, width: usize) -> Self {
        Self { name, width, is_right: true }
    }
}

/// What a table has in one place, and how it looks.
pub(crate) type Cell = (String, Style);

/// Writes a table: as wide as it is laid out to be, or else no wider than what it holds, or else a field a line.
pub(crate) fn write_table(
    out: &mut impl Write,
    table: &[Column],
    rows: &[Vec<Cell>],
    columns: Option<usize>,
) -> io::Result<()> {
    let held = |at: usize| rows.iter().map(|row| width(&row[at].0)).chain([width(table[at].name)]).max().unwrap_or(0);
    let wide: Vec<usize> = table.iter().enumerate().map(|(at, column)| column.width.max(held(at))).collect();
    let close: Vec<usize> = (0..table.len()).map(held).collect();
    let fits = |widths: &[usize]| {
        columns.is_none_or(|columns| widths.iter().sum::<usize>() + 2 * (widths.len() - 1) <= columns)
    };
    let Some(widths) = [wide, close].into_iter().find(|widths| fits(widths)) else {
        return write_stacked(out, table, rows, columns);
    };
    let names: Vec<Cell> = table.iter().map(|column| (column.name.to_owned(), Style::new())).collect();
    for row in std::iter::once(&names).chain(rows) {
        for (at, ((text, style), column)) in row.iter().zip(table).enumerate() {
            let gap = if at == 0 { "" } else { "  " };
            let padding = widths[at].saturating_sub(width(text));
            // Nothing comes after the last one.
            let (before, after) = match (column.is_right, at + 1 == table.len()) {
                (true, _) => (padding, 0),
                (false, false) => (0, padding),
                (false, true) => (0, 0),
            };
            write!(out, "{gap}{:before$}{style}{text}{:after$}{style:#}", "", "")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn write_stacked(out: &mut impl Write, table: &[Column], rows: &[Vec<Cell>], columns: Option<usize>) -> io::Result<()> {
    let names = table.iter().map(|column| width(column.name)).max().unwrap_or(0);
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        for ((text, style), column) in row.iter().zip(table) {
            let is_short = columns.is_none_or(|columns| names + 2 + width(text) <= columns);
            if is_short {
                writeln!(out, "{:names$}  {style}{text}{style:#}", column.name)?;
            } else {
                writeln!(out, "{}", column.name)?;
                write_folded(out, &format!("  {text}"), columns)?;
            }
        }
    }
    Ok(())
}
