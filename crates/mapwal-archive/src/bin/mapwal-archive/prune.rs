//! `mapwal-archive prune`: the oldest records of an archive are dropped.

use std::io::{self, Write};

use indicatif::BinaryBytes;
use mapwal::Lsn;
use mapwal_archive::{Archive, Error, PruneGaps, PruneReport};
use serde_json::json;

use crate::arguments::{Format, Prune};
use crate::failure::{
    AFTER_CONFLICT, AFTER_DAMAGE, Failure, Outcome, Result, counted, document, is_note, outcome_of, shown,
    tell_ways_out,
};
use crate::list::objects;

pub(crate) async fn run(arguments: &Prune) -> Result<Outcome> {
    let (store, prefix) = arguments.url.open_existing()?;
    let gaps = if arguments.give_up_gaps { PruneGaps::GiveUp } else { PruneGaps::Refuse };
    let archive = Archive::new(store, prefix);
    let report = match archive.prune(Lsn(arguments.before), gaps).await {
        Ok(report) => report,
        Err(error) => return Err(refused(&error, arguments, &archive).await?),
    };
    let mut out = anstream::stdout().lock();
    let printed = match arguments.format {
        Format::Text => print(&mut out, &report),
        Format::Json => writeln!(out, "{}", as_json(&report)),
    };
    shown(printed.and_then(|()| out.flush()), outcome_of(&report.faults))
}

/// Why nothing was deleted, and what can be done.
async fn refused(error: &Error, arguments: &Prune, archive: &Archive) -> Result<Failure> {
    match error {
        Error::Gap { epoch, missing } => {
            let (from, to) = (missing.start.0, missing.end.0);
            let refused = json!({ "epoch": epoch, "missing": [from, to] });
            tell_refused(arguments, &refused, Outcome::Gaps)?;
            let why = format!("{error}, and nothing was deleted{}", ways_out(from, Some(to)));
            Ok(Failure::new("records are missing", why, arguments.url.to_string()).ending_with(Outcome::Gaps))
        }
        Error::Damaged { key, damage, lsn: Some(first), .. } if !is_note(key) => {
            let epochs = archive.list().await.map_or_else(|_| Vec::new(), |listing| listing.epochs);
            let all = || epochs.iter().flat_map(objects);
            let object = all().find(|object| object.key.as_ref() == key);
            // The last segment stays, and after the last part there is nothing.
            let last = all().map(|object| object.next_lsn.0).max();
            let stays =
                epochs.last().and_then(|newest| newest.segments.last()).is_some_and(|last| last.key.as_ref() == key);
            let to = object.map(|object| object.next_lsn.0).filter(|&to| !stays && Some(to) != last);
            let refused = json!({
                "epoch": object.map(|object| object.epoch),
                "damaged": { "key": key, "damage": damage.to_string() },
                "from": first.0,
            });
            tell_refused(arguments, &refused, Outcome::Damaged)?;
            let why = format!("{damage}, and nothing was deleted; {AFTER_DAMAGE}{}", ways_out(first.0, to));
            Ok(Failure::new("damaged", why, key).ending_with(Outcome::Damaged))
        }
        Error::NotArchived { lsn, epoch, kept, .. } => {
            let refused = json!({ "epoch": epoch, "beyond": lsn.0, "kept": [kept.start.0, kept.end.0] });
            tell_refused(arguments, &refused, Outcome::Gaps)?;
            let why = format!("{error}, and nothing was deleted");
            Ok(Failure::new("records are missing", why, arguments.url.to_string()).ending_with(Outcome::Gaps))
        }
        Error::Damaged { key, damage, .. } => {
            let refused = json!({ "damaged": { "key": key, "damage": damage.to_string() } });
            tell_refused(arguments, &refused, Outcome::Damaged)?;
            Ok(Failure::of_archive(error, &arguments.url))
        }
        Error::Conflict { key, other, .. } => {
            tell_refused(arguments, &json!({ "differ": [key, other] }), Outcome::Damaged)?;
            Ok(Failure::of_archive(error, &arguments.url).and(AFTER_CONFLICT))
        }
        error => Ok(Failure::of_archive(error, &arguments.url)),
    }
}

fn tell_refused(arguments: &Prune, refused: &serde_json::Value, outcome: Outcome) -> Result<()> {
    if arguments.format == Format::Json {
        let told = json!({ "segments": 0, "parts": 0, "epochs": 0, "bytes": 0, "refused": refused });
        let told = document("prune", told);
        shown(writeln!(io::stdout(), "{told}"), outcome)?;
    }
    Ok(())
}

/// How what is before record `from` is kept, or given up with what can be restored no more, up to but without record `to`.
fn ways_out(from: u64, to: Option<u64>) -> String {
    let keeps = (from > 1).then(|| format!("--before {} at most keeps the records before", from - 1));
    let gives_up = to.map(|to| format!("--before {to} --give-up-gaps at least gives them up"));
    let ways: Vec<String> = keeps.into_iter().chain(gives_up).collect();
    if ways.is_empty() { String::new() } else { format!("; {}", ways.join(", and ")) }
}

fn print(out: &mut impl Write, report: &PruneReport) -> io::Result<()> {
    for fault in &report.faults {
        writeln!(out, "{fault}")?;
    }
    tell_ways_out(out, &report.faults)?;
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
    let members = json!({
        "segments": report.segments,
        "parts": report.parts,
        "epochs": report.epochs,
        "bytes": report.bytes,
        "first_lsn": report.first_lsn.0,
        "faults": report.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    document("prune", members)
}
