//! `mapwal-archive prune`: the oldest records of an archive are dropped.

use std::io::{self, Write};

use indicatif::BinaryBytes;
use mapwal::Lsn;
use mapwal_archive::{Archive, Error, PruneGaps, PruneReport};
use serde_json::json;

use crate::arguments::{Format, Prune};
use crate::failure::{Failure, Outcome, Result, counted, outcome_of, shown};

pub(crate) async fn run(arguments: &Prune) -> Result<Outcome> {
    let (store, prefix) = arguments.url.open_existing()?;
    let gaps = if arguments.give_up_gaps { PruneGaps::GiveUp } else { PruneGaps::Refuse };
    let report = match Archive::new(store, prefix).prune(Lsn(arguments.before), gaps).await {
        Ok(report) => report,
        Err(error) => return Err(refused(&error, arguments)?),
    };
    let mut out = anstream::stdout().lock();
    let printed = match arguments.format {
        Format::Text => print(&mut out, &report),
        Format::Json => writeln!(out, "{}", as_json(&report)),
    };
    shown(printed.and_then(|()| out.flush()), outcome_of(&report.faults))
}

/// Why nothing was deleted, and what can be done.
fn refused(error: &Error, arguments: &Prune) -> Result<Failure> {
    let Error::Gap { epoch, missing } = error else {
        return Ok(Failure::of_archive(error, &arguments.url));
    };
    let (from, to) = (missing.start.0, missing.end.0);
    if arguments.format == Format::Json {
        let told = json!({ "segments": 0, "parts": 0, "epochs": 0, "bytes": 0, "refused": { "epoch": epoch, "missing": [from, to] } });
        shown(writeln!(io::stdout(), "{told}"), Outcome::Gaps)?;
    }
    let why = format!(
        "{error}, and nothing was deleted; --before {} at most keeps records before them, and --before {to} --give-up-gaps at \
         least gives those up",
        from.saturating_sub(1)
    );
    Ok(Failure::new("records are missing", why, arguments.url.to_string()).ending_with(Outcome::Gaps))
}

fn print(out: &mut impl Write, report: &PruneReport) -> io::Result<()> {
    for fault in &report.faults {
        writeln!(out, "{fault}")?;
    }
    writeln!(
        out,
        "deleted {} and {}, {}; the first record of the newest epoch is {}",
        counted(report.segments, "segment", "segments"),
        counted(report.parts, "part", "parts"),
        BinaryBytes(report.bytes),
        report.first_lsn
    )
}

fn as_json(report: &PruneReport) -> serde_json::Value {
    json!({
        "segments": report.segments,
        "parts": report.parts,
        "epochs": report.epochs,
        "bytes": report.bytes,
        "first_lsn": report.first_lsn.0,
        "faults": report.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
