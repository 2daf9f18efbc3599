//! `mapwal dump`: records in order, of a log or of one segment.

use std::path::Path;

use mapwal::error::Damage;
use mapwal::inspect::{FrameRole, ScanItem, SegmentScan};
use mapwal::{Error, LogReader, Lsn, Record};

use crate::arguments::Dump;
use crate::failure::{Explain, Failure, Outcome, Result, Written};
use crate::open;
use crate::print::Printer;

pub(crate) fn run(arguments: &Dump) -> Result<Outcome> {
    if let (Some(from), Some(to)) = (arguments.from, arguments.to)
        && to < from
    {
        return Err(Failure::usage(format!("--to {to} is before --from {from}")));
    }
    let mut printer = Printer::new(arguments.format, arguments.wal);
    let dumped = if arguments.path.is_file() {
        dump_file(arguments, &mut printer)
    } else {
        dump_log(arguments, &open::reader(&arguments.path, arguments.archive)?, &mut printer)
    };
    // What is good is printed, whatever follows.
    printer.flush().written()?;
    dumped
}

fn dump_log(arguments: &Dump, reader: &LogReader, printer: &mut Printer) -> Result<Outcome> {
    let path = &*arguments.path;
    'looks: for _ in 0..open::LOOKS_MAX {
        let snapshot = open::again(|| reader.snapshot()).about(path)?;
        let first = snapshot.first_lsn();
        let from = arguments.from.map_or(first, Lsn);
        // All that is asked for lies before what there is.
        let last = arguments.to.map_or(first, Lsn);
        if from.min(last) < first {
            return Err(Failure::of_log(&Error::Trimmed { lsn: from.min(last), first }, path));
        }
        // The next record may be asked for, by a job that has printed all before it. Beyond that it is a mistake.
        if from > snapshot.next_lsn() {
            return Err(Failure::of_log(&Error::NotAppended { lsn: from, next: snapshot.next_lsn() }, path));
        }
        let mut is_begun = arguments.from.is_some();
        for record in snapshot.range(from..=Lsn(arguments.to.unwrap_or(u64::MAX))) {
            // As long as nothing has been printed there is no gap: it begins with what is the oldest record by then.
            if matches!(record, Err(Error::Trimmed { .. })) && !is_begun {
                continue 'looks;
            }
            let record = record.about(path)?;
            is_begun = true;
            if arguments.wants(&record) {
                printer.print(&record).written()?;
            }
        }
        return Ok(Outcome::Done);
    }
    Err(Failure::new("cannot read", "records are trimmed before they can be read", path))
}

/// Prints what is sound in one segment. Without the others it cannot be known whether an unsound end is torn or
/// damaged.
fn dump_file(arguments: &Dump, printer: &mut Printer) -> Result<Outcome> {
    let path = &*arguments.path;
    let mut scan = SegmentScan::open(path).map_err(|error| match error {
        Error::Corrupt(corruption) if corruption.damage == Damage::Magic => {
            Failure::new("not a log", "the file is no segment", path)
        }
        error => Failure::of_log(&error, path),
    })?;
    let mut outcome = Outcome::Done;
    let (mut first, mut next) = (None, None);
    while let Some(piece) = scan.next().about(path)? {
        match piece {
            ScanItem::Frame(frame) => {
                if outcome == Outcome::Torn {
                    outcome = Outcome::Damaged;
                }
                let lsn = frame.lsn();
                if first.is_none() && outcome == Outcome::Done {
                    arguments.check_begins(lsn, path)?;
                }
                first = first.or(Some(lsn));
                next = Some(if frame.role() == FrameRole::Control { lsn } else { lsn.next() });
                if let Some(record) = frame.record().filter(|record| arguments.wants(record)) {
                    printer.print(&record).written()?;
                }
            }
            ScanItem::Gap { range, damage, .. } => {
                let why = format!("{damage} at offset {}", range.start);
                Failure::new(format!("{} bytes hold no record", range.end - range.start), why, path).tell();
                outcome = if outcome == Outcome::Damaged { outcome } else { Outcome::Torn };
            }
            _ => {}
        }
    }
    // As of a log: a mistake, unless something was damaged, which may be where they were.
    match (arguments.from.map(Lsn), first.zip(next)) {
        (Some(from), Some((first, next))) if outcome == Outcome::Done && from > next => {
            Err(not_in_segment(from, (first, Some(next)), path))
        }
        _ => Ok(outcome),
    }
}

fn not_in_segment(lsn: Lsn, (first, next): (Lsn, Option<Lsn>), path: &Path) -> Failure {
    let next = next.map_or(String::new(), |next| format!("; the next will be {next}"));
    let why = format!("record {lsn} is not in this segment, which begins with {first}{next}");
    Failure::new("refused", why, path)
}

impl Dump {
    /// An error if what is asked for lies before a segment that begins with record `first`.
    fn check_begins(&self, first: Lsn, path: &Path) -> Result<()> {
        let asked = self.from.or(self.to).map_or(first, Lsn);
        if asked < first { Err(not_in_segment(asked, (first, None), path)) } else { Ok(()) }
    }

    fn wants(&self, record: &Record<'_>) -> bool {
        let lsn = record.lsn().0;
        let in_range = self.from.is_none_or(|from| lsn >= from) && self.to.is_none_or(|to| lsn <= to);
        in_range && self.tag.is_none_or(|tag| record.tag() == tag)
    }
}
