//! `mapwal verify`: every header, link, seal and frame, and what it means where one is not as it should be.

use std::io::Write;
use std::time::Duration;

use anstyle::Style;
use indicatif::{BinaryBytes, HumanCount};
use mapwal::error::{Corruption, Evidence};
use mapwal::inspect::{Inspection, SegmentReport, SegmentState, VerifyOptions, VerifyReport};
use serde_json::{Value, json};

use crate::arguments::{ReportFormat, Verify};
use crate::failure::{Explain, Outcome, Result, counted, shown};
use crate::fit::{self, Cell, Column};
use crate::segment_state::{name, style_of};
use crate::writer::Writer;
use crate::{json, progress};

/// For a terminal that is narrower than the table is laid out to be.
const TABLE: [Column; 6] = [
    Column::right("SEGMENT", 8),
    Column::left("STATE", 10),
    Column::right("LSN", 23),
    Column::right("RECORDS", 12),
    Column::right("BYTES", 11),
    Column::right("TORN", 0),
];
const TABLE_WIDTH: usize = 72;

/// How often a log that is being written is looked at before it is called damaged.
const LOOKS_MAX: u32 = 4;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) fn run(arguments: &Verify) -> Result<Outcome> {
    let (mut report, mut writer) = look(arguments)?;
    for _ in 1..LOOKS_MAX {
        if report.damage.is_empty() || !writer.is_alive() {
            break;
        }
        // What changes meanwhile may look like damage. What is damaged stays so.
        std::thread::sleep(PAUSE);
        let before = std::mem::take(&mut report.damage);
        (report, writer) = look(arguments)?;
        report.damage.retain(|damage| before.contains(damage));
    }
    let mut out = anstream::stdout().lock();
    let printed = match arguments.format {
        ReportFormat::Text => print(&mut out, arguments, &report, writer),
        ReportFormat::Json => json::write(&mut out, "verify", &json_of(arguments, &report, writer)),
    };
    shown(printed.and_then(|()| out.flush()), outcome_of(&report))
}

fn outcome_of(report: &VerifyReport) -> Outcome {
    if !report.damage.is_empty() {
        Outcome::Damaged
    } else if report.torn_bytes() > 0 {
        Outcome::Torn
    } else {
        Outcome::Done
    }
}

fn json_of(arguments: &Verify, report: &VerifyReport, writer: Writer) -> Value {
    let segment = |segment: &SegmentReport| {
        json!({
            "number": segment.number,
            "path": segment.path.display().to_string(),
            "state": name(segment.state),
            "first_lsn": segment.first_lsn.map(|lsn| lsn.0),
            "next_lsn": segment.next_lsn.map(|lsn| lsn.0),
            "records": segment.records,
            "len_bytes": segment.len_bytes,
            "torn_bytes": segment.torn_bytes,
            "torn_records": segment.torn_records,
        })
    };
    let damage = |damage: &Corruption| {
        let mut found = json::of_damage(damage);
        found["proof"] = told_by(damage.evidence.as_ref()).into();
        found
    };
    let verdict = match outcome_of(report) {
        Outcome::Damaged => "damaged",
        Outcome::Torn => "torn",
        _ => "sound",
    };
    json!({
        "directory": arguments.directory.display().to_string(),
        "verdict": verdict,
        "records": report.records(),
        "torn_bytes": report.torn_bytes(),
        "torn_records": report.torn_records(),
        "closed": report.closed,
        "compared_segments": arguments.deep.then_some(report.compared_segments),
        "compared_bytes": arguments.deep.then_some(report.compared_bytes),
        "writer": writer.json(),
        "segments": report.segments.iter().map(segment).collect::<Vec<_>>(),
        "damage": report.damage.iter().map(damage).collect::<Vec<_>>(),
    })
}

/// Looks at all of the log, and at its writer meanwhile.
fn look(arguments: &Verify) -> Result<(VerifyReport, Writer)> {
    let directory = &*arguments.directory;
    let inspection = Inspection::open(directory).about(directory)?;
    let before = Writer::find(&inspection);
    let bar = progress::of_bytes("verify", inspection.bytes_to_verify());
    let options = VerifyOptions::new().live(before.is_alive()).device(arguments.deep).archive(arguments.archive);
    let verified = inspection.verify(options, &mut |bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let after = Writer::find(&Inspection::open(directory).about(directory)?);
    // One that came or went meanwhile has changed something.
    Ok((verified.about(directory)?, if before.is_alive() { before } else { after }))
}

fn print(out: &mut impl Write, arguments: &Verify, report: &VerifyReport, writer: Writer) -> std::io::Result<()> {
    let columns = fit::columns();
    if columns.is_some_and(|columns| columns < TABLE_WIDTH) {
        let rows: Vec<Vec<Cell>> = report.segments.iter().map(cells).collect();
        fit::write_table(out, &TABLE, &rows, columns)?;
    } else {
        writeln!(out, "{:>8}  {:<10}  {:>23}  {:>12}  {:>11}", "SEGMENT", "STATE", "LSN", "RECORDS", "BYTES")?;
        report.segments.iter().try_for_each(|segment| print_segment(out, segment))?;
    }
    for damage in &report.damage {
        fit::write_folded(out, &line_of(damage), columns)?;
    }
    if arguments.deep {
        let (all, compared) = (report.segments.len() as u64, report.compared_segments);
        let (all, bytes) = (counted(all, "segment", "segments"), BinaryBytes(report.compared_bytes));
        writeln!(out, "compared with the device: {bytes}, in {compared} of {all}")?;
    }
    let records = counted(report.records(), "record", "records");
    let segments = counted(report.segments.len() as u64, "segment", "segments");
    let style = style_of(if report.damage.is_empty() { SegmentState::Sealed } else { SegmentState::Damaged });
    let ending = match writer {
        Writer::Alive(Some(pid)) => format!("process {pid} is writing"),
        Writer::Alive(None) => "a process of an unknown number is writing".to_owned(),
        Writer::Crashed(pid) => format!("process {pid} has not closed it"),
        Writer::Closed if report.closed => "closed".to_owned(),
        Writer::Closed => "not closed".to_owned(),
    };
    let verdict = match (report.damage.len(), report.torn_bytes()) {
        (0, 0) => "sound".to_owned(),
        (0, torn) if report.closed => {
            format!("{} that are no frame after the close, where the next records go", BinaryBytes(torn))
        }
        (0, torn) => format!("torn end of {}, which the next open drops", BinaryBytes(torn)),
        (places, _) => format!("damaged in {}", counted(places as u64, "place", "places")),
    };
    fit::write_folded(out, &format!("{style}{verdict}{style:#}: {records} in {segments}, {ending}"), columns)?;
    worth_saving(report).filter(|_| report.damage.is_empty()).map_or(Ok(()), |line| writeln!(out, "{line}"))
}

/// What of a torn end is worth saving.
pub(crate) fn worth_saving(report: &VerifyReport) -> Option<String> {
    let count = report.torn_records();
    let (records, pass) = (counted(count, "record", "records"), if count == 1 { "passes its" } else { "pass their" });
    (count > 0).then(|| format!("{records} of what it drops {pass} checks: `mapwal salvage` saves them"))
}

fn cells(segment: &SegmentReport) -> Vec<Cell> {
    let plain = |text: String| (text, Style::new());
    let torn = if segment.torn_bytes > 0 { BinaryBytes(segment.torn_bytes).to_string() } else { "-".to_owned() };
    vec![
        plain(segment.number.to_string()),
        (name(segment.state).to_owned(), style_of(segment.state)),
        plain(lsns_of(segment)),
        plain(HumanCount(segment.records).to_string()),
        plain(BinaryBytes(segment.len_bytes).to_string()),
        plain(torn),
    ]
}

fn lsns_of(segment: &SegmentReport) -> String {
    match (segment.first_lsn, segment.next_lsn) {
        (Some(first), Some(next)) if first < next => format!("{first}..{}", next.previous()),
        _ => "-".to_owned(),
    }
}

fn print_segment(out: &mut impl Write, segment: &SegmentReport) -> std::io::Result<()> {
    let style = style_of(segment.state);
    let state = name(segment.state);
    let lsns = lsns_of(segment);
    let (number, records) = (segment.number, HumanCount(segment.records).to_string());
    let bytes = BinaryBytes(segment.len_bytes).to_string();
    write!(out, "{number:>8}  {style}{state:<10}{style:#}  {lsns:>23}  {records:>12}  {bytes:>11}")?;
    if segment.torn_bytes > 0 {
        write!(out, "  and {} torn", BinaryBytes(segment.torn_bytes))?;
    }
    writeln!(out)
}

fn line_of(corruption: &Corruption) -> String {
    let (path, offset) = (corruption.path.display(), corruption.offset);
    let at = corruption.lsn.map_or(String::new(), |lsn| format!(", record {lsn}"));
    format!("{path}: offset {offset}{at}: {}; {}", corruption.damage, told_by(corruption.evidence.as_ref()))
}

/// What shows that the damage is not a torn end.
fn told_by(evidence: Option<&Evidence>) -> String {
    match evidence {
        Some(evidence) => format!("it was acknowledged: {evidence}"),
        None => "no crash leaves this".to_owned(),
    }
}
