//! `mapwal segments`: the files of a log, and what keeps each from being trimmed.

use std::io::{self, Write};

use anstyle::Style;
use indicatif::BinaryBytes;
use mapwal::Lsn;
use mapwal::inspect::{KeptFile, SegmentFile, SegmentState};
use serde_json::{Value, json};

use crate::arguments::{ReportFormat, Segments};
use crate::failure::{Outcome, Result, counted, shown};
use crate::fit::{self, Cell, Column};
use crate::json;
use crate::keep::Keeper;
use crate::look::Look;
use crate::segment_state::{name, style_of};

const TABLE: [Column; 8] = [
    Column::right("SEGMENT", 8),
    Column::left("STATE", 10),
    Column::right("LSN", 23),
    Column::right("SIZE", 11),
    Column::right("END", 10),
    Column::right("AFTER", 8),
    Column::left("CHECKSUM", 8),
    Column::left("KEPT BY", 0),
];

/// How many are named that keep a segment.
const NAMED_MAX: usize = 3;

pub(crate) fn run(arguments: &Segments) -> Result<Outcome> {
    let look = Look::take(&arguments.directory, arguments.archive, "segments")?;
    let mut out = anstream::stdout().lock();
    let printed = match arguments.format {
        ReportFormat::Text => print(&mut out, &look),
        ReportFormat::Json => json::write(&mut out, "segments", &json_of(&look, &arguments.directory)),
    };
    shown(printed.and_then(|()| out.flush()), look.outcome())
}

/// A file, as far as it has been looked at.
struct Row<'l> {
    file: &'l SegmentFile,
    state: SegmentState,
    /// The number after its last record, and where its frames end.
    next: Option<Lsn>,
    end: Option<u64>,
    keepers: Vec<&'l Keeper>,
}

impl<'l> Row<'l> {
    fn new(look: &'l Look, file: &'l SegmentFile) -> Self {
        let tip = look.tip.as_ref().filter(|tip| tip.number == file.number);
        Self {
            file,
            state: state_of(look, file),
            next: file.next_lsn.or(tip.map(|tip| tip.next)),
            end: file.end.or(tip.map(|tip| tip.end)),
            keepers: look.keepers.of(file).collect(),
        }
    }

    /// Its first and last record.
    fn range(&self) -> Option<(Lsn, Lsn)> {
        let (first, next) = self.file.first_lsn.zip(self.next)?;
        (self.file.counts && first < next).then(|| (first, next.previous()))
    }

    fn cells(&self) -> Vec<Cell> {
        let (number, style, state) = (self.file.number, style_of(self.state), name(self.state));
        let range = self.range().map_or("-".to_owned(), |(first, last)| format!("{first}..{last}"));
        let size = BinaryBytes(self.file.file_len_bytes).to_string();
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let end = or_dash(self.end.filter(|_| self.file.counts).map(|end| end.to_string()));
        let after = or_dash(self.file.predecessor.map(|before| before.number.to_string()));
        let sum = or_dash(self.file.end_checksum.map(|sum| format!("{sum:08x}")));
        let texts = [number.to_string(), state.to_owned(), range, size, end, after, sum, kept_by(&self.keepers)];
        let styles = (0..).map(|at| if at == 1 { style } else { Style::new() });
        texts.into_iter().zip(styles).collect()
    }

    fn json(&self) -> Value {
        let keeper = |keeper: &&Keeper| json!({ "by": keeper.kind(), "name": keeper.name(), "lsn": keeper.lsn().map(|lsn| lsn.0) });
        json!({
            "number": self.file.number,
            "path": self.file.path.display().to_string(),
            "state": name(self.state),
            "first_lsn": self.file.first_lsn.map(|lsn| lsn.0),
            "next_lsn": self.next.map(|lsn| lsn.0),
            "file_len_bytes": self.file.file_len_bytes,
            "end_bytes": self.end,
            "previous": self.file.predecessor.map(|before| before.number),
            "end_checksum": self.file.end_checksum.map(|sum| format!("{sum:08x}")),
            "kept_by": self.keepers.iter().map(keeper).collect::<Vec<_>>(),
        })
    }
}

/// What the segment is, by its header and links, and by its frames if it is the newest.
fn state_of(look: &Look, file: &SegmentFile) -> SegmentState {
    let is_damaged = look.damage.iter().any(|damage| damage.path == file.path);
    let newest = look.inspection.segments().iter().rev().find(|file| file.counts);
    let newest = newest.map_or(0, |file| file.number);
    let has_more = look.tip.as_ref().is_some_and(|tip| tip.number == file.number && tip.has_more);
    match file.counts {
        _ if is_damaged => SegmentState::Damaged,
        true if file.number < newest => SegmentState::Sealed,
        true if has_more && !look.writer.is_alive() => SegmentState::Torn,
        true => SegmentState::Active,
        false if file.number < newest => SegmentState::Superseded,
        false => SegmentState::Spare,
    }
}

fn kept_by(keepers: &[&Keeper]) -> String {
    let mut texts: Vec<String> = keepers.iter().take(NAMED_MAX).map(|keeper| keeper.text()).collect();
    if let more @ 1.. = keepers.len().saturating_sub(NAMED_MAX) {
        texts.push(format!("{more} more"));
    }
    if texts.is_empty() { "-".to_owned() } else { texts.join(", ") }
}

fn print(out: &mut impl Write, look: &Look) -> io::Result<()> {
    let rows = look.inspection.segments().iter().map(|file| Row::new(look, file).cells());
    let columns = fit::columns();
    fit::write_table(out, &TABLE, &rows.collect::<Vec<_>>(), columns)?;
    let kept = look.inspection.kept_files();
    if !kept.is_empty() {
        let (bytes, read) = sums_of(kept);
        let files = counted(kept.len() as u64, "file", "files");
        let line = format!("{files} kept for further segments, {}; {read} still read", BinaryBytes(bytes));
        fit::write_folded(out, &line, columns)?;
    }
    look.print_damage(out)
}

/// The bytes of all, and how many are read.
fn sums_of(kept: &[KeptFile]) -> (u64, usize) {
    (kept.iter().map(|file| file.file_len_bytes).sum(), kept.iter().filter(|file| file.is_read).count())
}

fn json_of(look: &Look, directory: &std::path::Path) -> Value {
    let kept = look.inspection.kept_files();
    let (bytes, read) = sums_of(kept);
    json!({
        "directory": directory.display().to_string(),
        "log_id": format!("{:032x}", look.inspection.log_id()),
        "segments": look.inspection.segments().iter().map(|file| Row::new(look, file).json()).collect::<Vec<_>>(),
        "kept_files": { "count": kept.len(), "bytes": bytes, "read": read },
        "damage": look.damage.iter().map(json::of_damage).collect::<Vec<_>>(),
    })
}
