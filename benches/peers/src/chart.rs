//! The first table as a picture: a panel for each workload, and in it a bar for each log.

use std::fs;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::picture::{self, COLOURS, Drawn, GRID, picture, text};
use crate::report::{Report, Row, three_digits};
use crate::workload::Better;

const WIDTH: u32 = 960;
const PANELS_ACROSS: usize = 2;
const ROW_HEIGHT: u32 = 20;
/// Of a panel: its title above the bars.
const TITLE_HEIGHT: u32 = 44;
const LEGEND_HEIGHT: u32 = 56;
const NAMES_WIDTH: i32 = 130;
/// Right of the longest bar there is room for its figure.
const FIGURES_WIDTH: i32 = 90;

/// Draws the workloads of the first table, each with the logs that can do it, as they stand there. The longer a bar, the faster
/// the log: each panel has its own scale, from 0.
pub(crate) fn draw(path: &Path, report: &Report) -> Result<()> {
    let columns: Vec<usize> = (0..report.columns.len()).filter(|&at| report.columns[at].table.is_none()).collect();
    if columns.is_empty() {
        return Err(anyhow!("nothing has been measured that the chart shows"));
    }
    let rows = u32::try_from(report.rows.iter().filter(|row| columns.iter().any(|&at| has(row, at))).count())?;
    let height = rows * ROW_HEIGHT + TITLE_HEIGHT;
    let lines = columns.len().div_ceil(PANELS_ACROSS);
    let size = (WIDTH, LEGEND_HEIGHT + height * u32::try_from(lines)?);
    let svg = picture(size, |all| {
        let (legend, panels) = all.split_vertically(LEGEND_HEIGHT);
        legend.draw(&Text::new("mapwal beside other logs: the longer a bar, the faster", (14, 12), text(18)))?;
        legend.draw(&Text::new("each panel has a scale of its own, from 0", (14, 36), text(13)))?;
        let panels = panels.split_evenly((lines, PANELS_ACROSS));
        panels.iter().zip(&columns).try_for_each(|(area, &at)| draw_panel(area, report, at))
    });
    Ok(fs::write(path, svg.map_err(|error| anyhow!("{error}"))?)?)
}

fn has(row: &Row, at: usize) -> bool {
    row.cells[at].median().is_some()
}

fn draw_panel(area: &Drawn<'_>, report: &Report, at: usize) -> picture::Result {
    let column = &report.columns[at];
    let less = if column.better == Better::Less { ", less is better" } else { "" };
    area.draw(&Text::new(format!("{}{less}", column.heading()), (14, 16), text(14)))?;
    let reference = report.rows.iter().find_map(|row| row.cells[at].median()).unwrap_or(1.0);
    let speed = |row: &Row| row.cells[at].median().map(|value| (value, column.speed(value, reference)));
    let fastest = report.rows.iter().filter_map(speed).map(|(_, speed)| speed).fold(0.0, f64::max);
    let room = f64::from(i32::try_from(area.dim_in_pixel().0)? - NAMES_WIDTH - FIGURES_WIDTH);
    for (line, row) in report.rows.iter().filter(|row| has(row, at)).enumerate() {
        let Some((value, speed)) = speed(row) else { continue };
        let middle = i32::try_from(TITLE_HEIGHT + ROW_HEIGHT * u32::try_from(line)? + ROW_HEIGHT / 2)?;
        #[expect(clippy::cast_possible_truncation, reason = "pixels of a small picture")]
        let end = NAMES_WIDTH + (room * speed / fastest).round().max(1.0) as i32;
        let colour = if line == 0 { COLOURS[0] } else { GRID };
        let name = text(12).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new(row.name, (NAMES_WIDTH - 8, middle), name))?;
        area.draw(&Rectangle::new([(NAMES_WIDTH, middle - 6), (end, middle + 6)], colour.filled()))?;
        let figure = text(12).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(three_digits(value), (end + 6, middle), figure))?;
    }
    Ok(())
}
