//! What a segment is, in words and colours.

use anstyle::{AnsiColor, Style};
use mapwal::inspect::SegmentState;

pub(crate) fn name(state: SegmentState) -> &'static str {
    match state {
        SegmentState::Sealed => "sealed",
        SegmentState::Active => "active",
        SegmentState::Spare => "spare",
        SegmentState::Torn => "torn",
        SegmentState::Damaged => "damaged",
        SegmentState::Superseded => "superseded",
        _ => "unknown",
    }
}

pub(crate) fn style_of(state: SegmentState) -> Style {
    let colour = match state {
        SegmentState::Damaged => AnsiColor::Red,
        SegmentState::Torn => AnsiColor::Yellow,
        SegmentState::Active => AnsiColor::Cyan,
        SegmentState::Sealed => AnsiColor::Green,
        _ => AnsiColor::BrightBlack,
    };
    Style::new().fg_color(Some(colour.into()))
}
