//! `mapwal-archive rebuild-note` and `forget-epoch`: what can be done about an epoch whose note is lost.

use std::io::{self, Write};

use indicatif::BinaryBytes;
use mapwal_archive::{Archive, Error};

use crate::arguments::{ForgetEpoch, RebuildNote};
use crate::failure::{Explain, Failure, Outcome, Result, counted, is_note, shown};

pub(crate) async fn rebuild_note(arguments: &RebuildNote) -> Result<Outcome> {
    let (store, prefix) = arguments.url.open_existing()?;
    let epoch = arguments.epoch;
    match Archive::new(store, prefix).rebuild_note(epoch, arguments.begins).await {
        Err(error @ Error::Unproven { .. }) => {
            let what = format!(
                "if an epoch that it continues, or the first objects of this one, can be put back, do that first; while the log has the \
                 records, `run --abandon-epoch {epoch}` archives them anew, in another epoch; with --begins it begins with the first record \
                 that is there, and of what was before that only those records are missed that come after the end of an earlier epoch"
            );
            Err(Failure::of_archive(&error, &arguments.url).and(&what))
        }
        Err(error @ Error::Conflict { .. }) => {
            let what = "both begin the epoch, and one of them is of another log or history: move that one away";
            Err(Failure::of_archive(&error, &arguments.url).and(what))
        }
        Err(error @ Error::Damaged { .. }) if !names_note(&error) => {
            let what = format!(
                "it would prove what the note said: put a sound copy in its place; or, while the log has the records, `run --abandon-epoch \
                 {epoch}` archives them anew, in another epoch; or move it out of the archive, and say --begins"
            );
            Err(Failure::of_archive(&error, &arguments.url).and(&what))
        }
        done => {
            done.about(&arguments.url)?;
            shown(writeln!(io::stdout(), "made again: the note of epoch {epoch}"), Outcome::Done)
        }
    }
}

fn names_note(error: &Error) -> bool {
    matches!(error, Error::Damaged { key, .. } if is_note(key))
}

pub(crate) async fn forget_epoch(arguments: &ForgetEpoch) -> Result<Outcome> {
    let (store, prefix) = arguments.url.open_existing()?;
    let epoch = arguments.epoch;
    let report = Archive::new(store, prefix).forget_epoch(epoch).await.about(&arguments.url)?;
    let (segments, parts) = (counted(report.segments, "segment", "segments"), counted(report.parts, "part", "parts"));
    let told = format!("forgotten: epoch {epoch}, {segments} and {parts}, {}", BinaryBytes(report.bytes));
    let lost: Vec<_> = report.lost.iter().map(|lsns| format!("{}..{}", lsns.start, lsns.end.0 - 1)).collect();
    let lost = if lost.is_empty() { String::new() } else { format!("; no other has records {}", lost.join(", ")) };
    shown(writeln!(io::stdout(), "{told}{lost}"), Outcome::Done)
}
