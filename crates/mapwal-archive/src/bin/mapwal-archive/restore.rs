//! `mapwal-archive restore`: a log is made from its archive.

use std::io::{self, Write};

use indicatif::BinaryBytes;
use mapwal::Lsn;
use mapwal_archive::{Archive, EpochListing, Error, RestoreOptions, RestoreProgress, RestoreReport, RestoreTo};
use serde_json::json;

use crate::arguments::{Format, Restore, To};
use crate::failure::{AFTER_CONFLICT, AFTER_DAMAGE, Failure, Outcome, Result, counted, document, is_note, shown};
use crate::list::objects;
use crate::progress;
use crate::stop::Stop;

pub(crate) async fn run(arguments: &Restore) -> Result<Outcome> {
    let (store, prefix) = arguments.url.open_existing()?;
    arguments.url.check_not_in(&arguments.directory, "the log")?;
    let archive = Archive::new(store, prefix);
    let mut stop = Stop::listen()?;
    let to = match arguments.to {
        To::Latest => RestoreTo::Latest,
        To::Record(lsn) => RestoreTo::Lsn(lsn),
    };
    let options = RestoreOptions::new().epoch(arguments.epoch).parallel(arguments.parallel.into());
    let bar = progress::of_bytes("restore", 0);
    let mut show = |progress: RestoreProgress| {
        bar.set_length(progress.bytes.1);
        bar.set_position(progress.bytes.0);
    };
    let restored = tokio::select! {
        restored = archive.restore(&arguments.directory, to, &options, &mut show) => restored,
        () = stop.asked() => {
            bar.finish_and_clear();
            return Err(Failure::new("interrupted", "the same command goes on with it", &arguments.directory));
        }
    };
    bar.finish_and_clear();
    let report = match restored {
        Ok(report) => report,
        Err(error) => return Err(with_advice(&error, arguments, &archive).await),
    };
    // Where an epoch was asked for, all of it is what was asked for.
    let is_less = arguments.epoch.is_none() && (report.begins_late() || report.longer.is_some());
    let list = if report.others.is_empty() { None } else { archive.list().await.ok() };
    let epochs = list.map_or_else(Vec::new, |listing| listing.epochs);
    shown(print(&report, &epochs, arguments.format), if is_less { Outcome::Gaps } else { Outcome::Done })
}

/// What can be restored where not all can.
async fn with_advice(error: &Error, arguments: &Restore, archive: &Archive) -> Failure {
    if let Error::Busy { path } = error {
        return Failure::new("another restore", "it is at work in this directory", path);
    }
    let failure = Failure::of_archive(error, &arguments.url);
    if !matches!(error, Error::Gap { .. } | Error::Damaged { .. } | Error::Conflict { .. }) {
        return failure;
    }
    let epochs = archive.list().await.map_or_else(|_| Vec::new(), |listing| listing.epochs);
    let newest = epochs.last().map(|epoch| epoch.epoch);
    let asked = epochs.iter().find(|epoch| Some(epoch.epoch) == arguments.epoch.or(newest));
    let mut ways_out = Vec::new();
    let missing_from = match error {
        Error::Gap { missing, .. } => Some(missing.start),
        Error::Damaged { key, .. } => {
            if !is_note(key) {
                ways_out.push(AFTER_DAMAGE.to_owned());
            }
            end_without(&epochs, key)
        }
        Error::Conflict { lsn, .. } => {
            ways_out.push(AFTER_CONFLICT.to_owned());
            // Of segments the list tells: neither of them is restored.
            asked.map(|asked| asked.next_lsn.min(*lsn))
        }
        _ => None,
    };
    if let (Some(from), Some(asked)) = (missing_from, asked)
        && asked.first_lsn < from
    {
        ways_out.push(format!("--to {} restores what is before, into another directory", from.0 - 1));
    } else if let Error::Gap { missing, .. } = error {
        ways_out.push(format!(
            "a prune --before {} --give-up-gaps gives them up, and what comes after them is restored",
            missing.end
        ));
    }
    // One that can be restored to its end.
    let whole = epochs.iter().rev().filter(|epoch| Some(epoch.epoch) != asked.map(|asked| asked.epoch));
    if let Some(whole) = whole.into_iter().find(|epoch| epoch.fault.is_none() && epoch.first_lsn < epoch.next_lsn) {
        let (epoch, first, last) = (whole.epoch, whole.first_lsn, whole.next_lsn.0 - 1);
        ways_out.push(format!("--epoch {epoch} restores records {first}..{last} of that epoch"));
    }
    if ways_out.is_empty() { failure } else { failure.and(&ways_out.join("; ")) }
}

/// The first record of the segment of this object that no other parts of it lead to.
fn end_without(epochs: &[EpochListing], key: &str) -> Option<Lsn> {
    let of_epoch =
        |epoch| objects(epoch).find(|object| object.key.as_ref() == key).map(|object| (epoch, object.number));
    let (epoch, number) = epochs.iter().find_map(of_epoch)?;
    let first = objects(epoch).filter(|object| object.number == number).map(|object| object.first_lsn).min()?;
    let (mut at, mut next) = (0, first);
    let others = || epoch.parts.iter().filter(|part| part.number == number && part.key.as_ref() != key);
    while let Some(part) =
        others().filter(|part| (part.part, part.first_lsn) == (Some(at), next)).max_by_key(|part| part.len_bytes)
    {
        (at, next) = (at + part.len_bytes, part.next_lsn);
    }
    Some(next)
}

fn print(report: &RestoreReport, epochs: &[EpochListing], format: Format) -> io::Result<()> {
    let others = report.others.iter();
    let others = others.map(|(epoch, lsns)| json!({ "epoch": epoch, "lsns": [lsns.start.0, lsns.end.0] }));
    let mut out = anstream::stdout().lock();
    match format {
        Format::Text => {
            let (first, last) = (report.first_lsn, report.next_lsn.0.saturating_sub(1));
            // Numbers without a record are among them.
            let lsns = if report.first_lsn < report.next_lsn { format!("{first}..{last}") } else { "none".to_owned() };
            let segments = counted(report.segments, "segment", "segments");
            let (bytes, epoch) = (BinaryBytes(report.bytes), report.epoch);
            writeln!(out, "restored: records {lsns}, in {segments}, {bytes}, of epoch {epoch}")?;
            for (epoch, lsns) in &report.others {
                let (first, last) = (lsns.start, lsns.end.0.saturating_sub(1));
                let is_broken = epochs.iter().any(|listed| listed.epoch == *epoch && listed.fault.is_some());
                let to = if is_broken { format!(" --to {last}") } else { String::new() };
                writeln!(
                    out,
                    "not restored: records {first}..{last} of epoch {epoch}, which --epoch {epoch}{to} restores"
                )?;
            }
            if let Some(longer) = report.longer {
                writeln!(
                    out,
                    "less than epoch {longer}: that has all records of epoch {epoch}, which is the newest and may be of an old copy of the log's directory, and more"
                )?;
            }
            if let Some(lost) = &report.lost {
                let (first, last) = (lost.start, lost.end.0.saturating_sub(1));
                writeln!(out, "missing: records {first}..{last}, before the first restored one")?;
            }
            Ok(())
        }
        Format::Json => writeln!(
            out,
            "{}",
            document(
                "restore",
                json!({
                    "epoch": report.epoch,
                    "first_lsn": report.first_lsn.0,
                    "next_lsn": report.next_lsn.0,
                    "segments": report.segments,
                    "resumed": report.resumed,
                    "bytes": report.bytes,
                    "lost": report.lost.as_ref().map(|lost| [lost.start.0, lost.end.0]),
                    "longer": report.longer,
                    "others": others.collect::<Vec<_>>(),
                })
            )
        ),
    }
}
