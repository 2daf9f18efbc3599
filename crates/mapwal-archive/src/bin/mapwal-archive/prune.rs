//! `mapwal-archive prune`: the oldest records of an archive are dropped.

use std::io::{self, Write};

use indicatif::BinaryBytes;
use mapwal::Lsn;
use mapwal_archive::{Archive, EpochFault, Error, PruneGaps, PruneLimits, PruneReport};
use serde_json::json;

use crate::arguments::{Format, Prune};
use crate::failure::{
    AFTER_CONFLICT, Failure, Outcome, Result, after_damage, counted, document, is_note, outcome_of, shown,
    tell_after_damage, tell_ways_out,
};
use crate::list::damages;

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
    // A note in a later version keeps it from nothing but that epoch, which is left as it is.
    let outcome = match outcome_of(&report.faults) {
        Outcome::Failed => Outcome::Damaged,
        outcome => outcome,
    };
    shown(printed.and_then(|()| out.flush()), outcome)
}

/// Why nothing was deleted, and what can be done.
async fn refused(error: &Error, arguments: &Prune, archive: &Archive) -> Result<Failure> {
    let limits = archive.prune_limits(Lsn(arguments.before)).await.unwrap_or_default();
    match error {
        Error::Gap { epoch, missing } => {
            let refused = json!({ "epoch": epoch, "missing": [missing.start.0, missing.end.0] });
            tell_refused(arguments, &with_limits(refused, limits), Outcome::Gaps)?;
            let why = format!("{error}, and nothing was deleted{}", ways_out(limits));
            Ok(Failure::new("records are missing", why, arguments.url.to_string()).ending_with(Outcome::Gaps))
        }
        Error::Damaged { key, damage, lsn: Some(first), .. } if !is_note(key) => {
            let epoch = key.rsplit('/').nth(1).and_then(|epoch| epoch.parse::<u64>().ok());
            let damaged = json!({ "key": key, "damage": damage.to_string() });
            let refused = with_limits(json!({ "epoch": epoch, "damaged": damaged, "from": first.0 }), limits);
            tell_refused(arguments, &refused, Outcome::Damaged)?;
            let copy = copy_of(archive, key).await;
            let why = format!("{damage}, and nothing was deleted; {copy}{}{}", after_damage(damage), ways_out(limits));
            Ok(Failure::new("damaged", why, key).ending_with(Outcome::Damaged))
        }
        Error::NotArchived { lsn, epoch, kept, .. } => {
            let refused = json!({ "epoch": epoch, "beyond": lsn.0, "kept": [kept.start.0, kept.end.0] });
            tell_refused(arguments, &with_limits(refused, limits), Outcome::Gaps)?;
            let most = limits.keeps.map_or(String::new(), |most| format!("; the most is --before {most}"));
            let why = format!("{error}, and nothing was deleted{most}");
            Ok(Failure::new("records are missing", why, arguments.url.to_string()).ending_with(Outcome::Gaps))
        }
        Error::Damaged { key, damage, .. } => {
            let refused = json!({ "damaged": { "key": key, "damage": damage.to_string() } });
            tell_refused(arguments, &refused, Outcome::Damaged)?;
            let failure = Failure::of_archive(error, &arguments.url);
            Ok(if is_note(key) { failure } else { failure.and(after_damage(damage)) })
        }
        Error::Conflict { key, other, .. } => {
            tell_refused(arguments, &with_limits(json!({ "differ": [key, other] }), limits), Outcome::Damaged)?;
            Ok(Failure::of_archive(error, &arguments.url).and(&format!("{AFTER_CONFLICT}{}", ways_out(limits))))
        }
        error => Ok(Failure::of_archive(error, &arguments.url)),
    }
}

/// Where a copy of a damaged object is, which may be sound.
async fn copy_of(archive: &Archive, damaged: &str) -> String {
    let faults = archive.list().await.map(|listing| listing.faults).unwrap_or_default();
    let copy = faults.into_iter().find_map(|fault| match fault {
        EpochFault::Copy { key, original, .. } if original == damaged => Some(key),
        _ => None,
    });
    copy.map_or(String::new(), |copy| format!("{copy} is a copy of it: if that is sound, put it in its place; "))
}

fn tell_refused(arguments: &Prune, refused: &serde_json::Value, outcome: Outcome) -> Result<()> {
    if arguments.format == Format::Json {
        let told = json!({ "segments": 0, "parts": 0, "epochs": 0, "bytes": 0, "refused": refused });
        let told = document("prune", told);
        shown(writeln!(io::stdout(), "{told}"), outcome)?;
    }
    Ok(())
}

/// How what is before the records that are missing or damaged is kept, or given up with what can be restored no more.
fn ways_out(limits: PruneLimits) -> String {
    let keeps = limits.keeps.map(|most| format!("--before {most} at most keeps the records before"));
    let gives_up = limits.gives_up.map(|least| format!("--before {least} --give-up-gaps at least gives them up"));
    let ways: Vec<String> = keeps.into_iter().chain(gives_up).collect();
    if ways.is_empty() { String::new() } else { format!("; {}", ways.join(", and ")) }
}

/// The same, with what would not be refused.
fn with_limits(mut refused: serde_json::Value, limits: PruneLimits) -> serde_json::Value {
    refused["keeps"] = limits.keeps.map(|most| most.0).into();
    refused["gives_up"] = limits.gives_up.map(|least| least.0).into();
    refused
}

fn print(out: &mut impl Write, report: &PruneReport) -> io::Result<()> {
    for fault in &report.faults {
        writeln!(out, "{fault}")?;
    }
    tell_after_damage(out, damages(&report.faults))?;
    tell_ways_out(out, &report.faults)?;
    writeln!(
        out,
        "deleted {} and {}, {}; the first record of epoch {}, the newest that can be followed, is {}",
        counted(report.segments, "segment", "segments"),
        counted(report.parts, "part", "parts"),
        BinaryBytes(report.bytes),
        report.epoch,
        report.first_lsn
    )
}

fn as_json(report: &PruneReport) -> serde_json::Value {
    let members = json!({
        "segments": report.segments,
        "parts": report.parts,
        "epochs": report.epochs,
        "bytes": report.bytes,
        "epoch": report.epoch,
        "first_lsn": report.first_lsn.0,
        "faults": report.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    document("prune", members)
}
