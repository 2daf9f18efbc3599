//! `mapwal-archive restore`: a log is made from its archive.

use std::io::{self, Write};

use indicatif::BinaryBytes;
use mapwal_archive::{Archive, Error, Restorable, RestoreOptions, RestoreProgress, RestoreReport, RestoreTo};
use serde_json::json;

use crate::arguments::{Format, Restore, To};
use crate::failure::{AFTER_CONFLICT, Failure, Outcome, Result, after_damage, counted, document, is_note, shown};
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
    let rest = if report.others.is_empty() { None } else { archive.restorable(&options, None).await.ok() };
    shown(
        print(&report, &rest.unwrap_or_default(), arguments.format),
        if is_less { Outcome::Gaps } else { Outcome::Done },
    )
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
    let options = RestoreOptions::new().epoch(arguments.epoch);
    let rest = archive.restorable(&options, Some(error)).await.unwrap_or_default();
    let asked = rest.iter().find(|rest| rest.is_asked_for);
    let mut ways_out = Vec::new();
    match error {
        Error::Damaged { key, damage, .. } if !is_note(key) => ways_out.push(after_damage(damage).to_owned()),
        Error::Conflict { .. } => ways_out.push(AFTER_CONFLICT.to_owned()),
        _ => {}
    }
    if let Some(asked) = asked {
        ways_out.push(format!("--to {} restores what is before, into another directory", asked.lsns.end.0 - 1));
    } else if let Error::Gap { missing, .. } = error {
        let limits = archive.prune_limits(missing.end).await.unwrap_or_default();
        ways_out.extend(limits.gives_up.map(|least| {
            format!("a prune --before {least} --give-up-gaps gives them up, and what comes after them is restored")
        }));
    }
    if let Some(whole) = rest.iter().rev().find(|rest| !rest.is_asked_for && rest.is_whole) {
        let (epoch, first, last) = (whole.epoch, whole.lsns.start, whole.lsns.end.0 - 1);
        ways_out.push(format!("--epoch {epoch} restores records {first}..{last} of that epoch"));
    }
    // Whether an object is what its key says, reading it tells.
    if asked.is_some() || rest.iter().any(|rest| rest.is_whole) {
        ways_out.push("such a restore reads its objects first, and says if another is damaged".to_owned());
    }
    if ways_out.is_empty() { failure } else { failure.and(&ways_out.join("; ")) }
}

fn print(report: &RestoreReport, rest: &[Restorable], format: Format) -> io::Result<()> {
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
                let way = match rest.iter().find(|rest| rest.epoch == *epoch) {
                    Some(rest) if rest.is_whole => format!("which --epoch {epoch} restores"),
                    Some(rest) if rest.lsns.end == lsns.end => format!("which --epoch {epoch} --to {last} restores"),
                    Some(rest) if rest.lsns.end > lsns.start => {
                        let to = rest.lsns.end.0 - 1;
                        format!("those up to {to} of which --epoch {epoch} --to {to} restores")
                    }
                    _ => "which are damaged, or follow what is".to_owned(),
                };
                writeln!(out, "not restored: records {first}..{last} of epoch {epoch}, {way}")?;
            }
            if report.begins_late() && report.lost.is_none() {
                let epoch = report.epoch;
                writeln!(out, "late: epoch {epoch} begins after records that another epoch has")?;
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
                    "begins_late": report.begins_late(),
                    "others": others.collect::<Vec<_>>(),
                })
            )
        ),
    }
}
