//! What all pictures have in common: a background of any colour, and how text is set.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;

/// On a light background as well as on a dark one.
pub(crate) const COLOURS: [RGBColor; 4] =
    [RGBColor(46, 134, 193), RGBColor(202, 111, 30), RGBColor(40, 155, 100), RGBColor(150, 90, 180)];
pub(crate) const GRID: RGBColor = RGBColor(140, 140, 140);
const FONT: &str = "sans-serif";

pub(crate) type Drawn<'d> = DrawingArea<SVGBackend<'d>, Shift>;
pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// A picture of that size, as `draw` makes it.
pub(crate) fn picture(size: (u32, u32), draw: impl FnOnce(&Drawn<'_>) -> Result) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw(&area)?;
        area.present()?;
    }
    Ok(for_any_background(&svg))
}

/// What is drawn in black is drawn in white where readers have a dark background.
fn for_any_background(svg: &str) -> String {
    const STYLE: &str = "<style>@media (prefers-color-scheme: dark) { [fill=\"#000000\"] { fill: #e6edf3 } \
                         [stroke=\"#000000\"] { stroke: #e6edf3 } }</style>";
    svg.split_once(">\n").map_or_else(|| svg.to_owned(), |(head, rest)| format!("{head}>\n{STYLE}\n{rest}"))
}

pub(crate) fn text(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&BLACK)
}
