//! The same rows for readers: tables in the documentation, and a chart.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use plotters::prelude::*;

use crate::report::{Entry, Report, figure};

/// Between these two lines of a file its table stands.
const TABLE: [&str; 2] = ["<!-- cargo bench -- --docs writes from here -->\n", "<!-- to here -->\n"];
const CHART_WIDTH: u32 = 900;
const ROW_HEIGHT: u32 = 26;
const MARGIN: u32 = 60;
/// The chart's axis is logarithmic: powers of ten.
const AXIS: std::ops::Range<f64> = -1.0..1.5;

/// Takes the rows from the file at `report`. Writes the full table to `docs/performance.md`, that of the rows with a target to `README.md`, and the chart.
pub(crate) fn write(report: &Path) -> io::Result<()> {
    let text = fs::read_to_string(report)?;
    let Report { rows: entries } = serde_json::from_str(&text)?;
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let aimed: Vec<&Entry<'_>> = entries.iter().filter(|entry| entry.target.is_some()).collect();
    replace_table(&root.join("docs/performance.md"), &table(&entries.iter().collect::<Vec<_>>()))?;
    replace_table(&root.join("README.md"), &table(&aimed))?;
    let compared: Vec<&Entry<'_>> = aimed.into_iter().filter(|entry| entry.ratio.is_some()).collect();
    draw(&root.join("docs/performance.svg"), &compared).map_err(|error| io::Error::other(error.to_string()))
}

fn table(entries: &[&Entry<'_>]) -> String {
    let mut text = String::from("| | | limit | ratio | target | met |\n|---|---|---|---|---|---|\n");
    for entry in entries {
        let value = format!("{} {}", figure(entry.value), entry.unit);
        let limit = entry.limit.zip(entry.limit_value).map(|(name, value)| format!("{name} {}", figure(value)));
        let ratio = entry.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        let met = entry.met.map_or("", |met| if met { "yes" } else { "no" });
        let (limit, target) = (limit.unwrap_or_default(), entry.target.as_deref().unwrap_or_default());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} | {} | {limit} | {ratio} | {target} | {met} |", entry.name, value.trim_end());
    }
    text
}

fn replace_table(path: &Path, table: &str) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    let parts = text.split_once(TABLE[0]).and_then(|(before, rest)| Some((before, rest.split_once(TABLE[1])?.1)));
    let (before, after) =
        parts.ok_or_else(|| io::Error::other(format!("no place for a table in {}", path.display())))?;
    fs::write(path, format!("{before}{}{table}{}{after}", TABLE[0], TABLE[1]))
}

/// One bar for each row's ratio to its limit, and a line where its target is.
fn draw(path: &Path, entries: &[&Entry<'_>]) -> Result<(), Box<dyn std::error::Error>> {
    let rows = u32::try_from(entries.len())?;
    let root = SVGBackend::new(path, (CHART_WIDTH, rows * ROW_HEIGHT + 2 * MARGIN)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("mapwal beside its limits: ratio, and its target as a line", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(300)
        .build_cartesian_2d(AXIS, 0.0..f64::from(rows))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .x_labels(6)
        .x_label_formatter(&|x| format!("{:.2}", 10_f64.powf(*x)))
        .y_labels(0)
        .draw()?;
    for (row, entry) in entries.iter().enumerate() {
        let bottom = (entries.len() - 1 - row) as f64;
        let colour = if entry.met == Some(true) { RGBColor(60, 130, 90) } else { RGBColor(190, 110, 60) };
        let end = entry.ratio.unwrap_or(1.0).log10().clamp(AXIS.start, AXIS.end);
        chart.draw_series([Rectangle::new([(AXIS.start, bottom + 0.15), (end, bottom + 0.85)], colour.filled())])?;
        if let Some(target) = entry.target_ratio {
            let place = target.log10().clamp(AXIS.start, AXIS.end);
            chart.draw_series([PathElement::new([(place, bottom), (place, bottom + 1.0)], BLACK.stroke_width(2))])?;
        }
        let y = chart.backend_coord(&(AXIS.start, bottom + 0.6)).1;
        root.draw(&Text::new(entry.name.to_owned(), (15, y), ("sans-serif", 13)))?;
    }
    root.present()?;
    Ok(())
}
