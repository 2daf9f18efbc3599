//! The chart of the rows whose target is a ratio: how the log stands beside its limits, on each machine.

use std::fs;
use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::docs::{names, row};
use crate::picture::{COLOURS, Drawn, GRID, Result, picture, text};
use crate::report::{Entry, Report};

const WIDTH: u32 = 960;
const ROW_HEIGHT: u32 = 24;
/// Of a panel: its title above the rows, ticks and the name of the axis below.
const PANEL_HEIGHT: u32 = 92;
const NAMES_WIDTH: u32 = 330;
/// Of a line of the legend, and of the title above it.
const LEGEND_LINE: u32 = 22;
const TITLE_HEIGHT: u32 = 40;
/// The axis is logarithmic.
const TICKS: [f64; 8] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0];

/// Draws two panels, for what is the better the more, and the less.
pub(crate) fn draw(path: &Path, reports: &[Report<'_>]) -> Result {
    let with_target = |more: bool| {
        let is_shown = |entry: &Entry<'_>| {
            let is_of_a_limit = entry.ratio.is_some() && entry.target_ratio.is_some();
            is_of_a_limit && entry.target.as_ref().is_some_and(|it| it.starts_with('>') == more)
        };
        names(reports, is_shown)
    };
    let panels = [("more is better", with_target(true)), ("less is better", with_target(false))];
    let height = |rows: usize| u32::try_from(rows).map(|rows| rows * ROW_HEIGHT + PANEL_HEIGHT);
    let heights = [height(panels[0].1.len())?, height(panels[1].1.len())?];
    let legend_height = TITLE_HEIGHT + (u32::try_from(reports.len())? + 1) * LEGEND_LINE;
    let svg = picture((WIDTH, legend_height + heights[0] + heights[1]), |all| {
        let (legend, rest) = all.split_vertically(legend_height);
        draw_legend(&legend, reports)?;
        let (first, second) = rest.split_vertically(heights[0]);
        [first, second]
            .iter()
            .zip(&panels)
            .try_for_each(|(area, (title, names))| draw_panel(area, title, names, reports))
    })?;
    Ok(fs::write(path, svg)?)
}

/// A line for each machine, with its colour, and one for what the marks mean.
fn draw_legend(area: &Drawn<'_>, reports: &[Report<'_>]) -> Result {
    area.draw(&Text::new("mapwal as a multiple of what the machine can do at best", (14, 12), text(18)))?;
    let mut y = i32::try_from(TITLE_HEIGHT)? + 10;
    for (report, colour) in reports.iter().zip(COLOURS) {
        let name = format!("{}, {} cores", report.machine.processor, report.machine.cores);
        area.draw(&Circle::new((20, y), 5, colour.filled()))?;
        area.draw(&Text::new(name, (32, y - 7), text(13)))?;
        y += i32::try_from(LEGEND_LINE)?;
    }
    area.draw(&Circle::new((20, y), 5, BLACK.stroke_width(2)))?;
    area.draw(&Text::new("target missed", (32, y - 7), text(13)))?;
    area.draw(&PathElement::new([(150, y - 8), (150, y + 8)], BLACK.stroke_width(2)))?;
    Ok(area.draw(&Text::new("target", (160, y - 7), text(13)))?)
}

fn draw_panel(area: &Drawn<'_>, title: &str, names: &[&str], reports: &[Report<'_>]) -> Result {
    let rows = names.len() as f64;
    let axis: Range<f64> = TICKS[0].log10()..TICKS[TICKS.len() - 1].log10();
    let mut chart = ChartBuilder::on(area)
        .caption(title, text(16))
        .margin(8)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(NAMES_WIDTH)
        .build_cartesian_2d(axis.clone(), 0.0..rows)?;
    let place = |value: f64| value.log10().clamp(axis.start, axis.end);
    // The mesh of the library has ticks of its own choice.
    for tick in TICKS {
        let style =
            if (tick - 1.0).abs() < f64::EPSILON { BLACK.stroke_width(1) } else { GRID.mix(0.5).stroke_width(1) };
        chart.draw_series([PathElement::new([(place(tick), 0.0), (place(tick), rows)], style)])?;
        let (x, y) = chart.backend_coord(&(place(tick), 0.0));
        let style = text(12).pos(Pos::new(HPos::Center, VPos::Top));
        area.draw(&Text::new(format!("{tick}"), relative(area, (x, y + 5)), style))?;
    }
    let (x, y) = chart.backend_coord(&(f64::midpoint(axis.start, axis.end), 0.0));
    let style = text(13).pos(Pos::new(HPos::Center, VPos::Top));
    area.draw(&Text::new("multiple of the limit, logarithmic", relative(area, (x, y + 22)), style))?;
    for (at, name) in names.iter().enumerate() {
        let middle = rows - at as f64 - 0.5;
        let (x, y) = chart.backend_coord(&(axis.start, middle));
        let style = text(13).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new((*name).to_owned(), relative(area, (x - 10, y)), style))?;
        let line = PathElement::new([(axis.start, middle), (axis.end, middle)], GRID.mix(0.25).stroke_width(1));
        chart.draw_series([line])?;
        let found: Vec<Option<&Entry<'_>>> = reports.iter().map(|report| row(report, name)).collect();
        if let Some(target) = found.iter().flatten().find_map(|entry| entry.target_ratio).map(place) {
            let ends = [(target, middle - 0.45), (target, middle + 0.45)];
            chart.draw_series([PathElement::new(ends, BLACK.stroke_width(2))])?;
        }
        for (entry, colour) in found.iter().zip(COLOURS) {
            let Some((entry, ratio)) = entry.and_then(|entry| Some((entry, entry.ratio?))) else { continue };
            let style = if entry.met == Some(false) { colour.stroke_width(2) } else { colour.filled() };
            chart.draw_series([Circle::new((place(ratio), middle), 5, style)])?;
        }
    }
    Ok(())
}

/// A place on the whole picture as one in `area`.
fn relative(area: &Drawn<'_>, (x, y): (i32, i32)) -> (i32, i32) {
    let (left, top) = area.get_base_pixel();
    (x - left, y - top)
}
