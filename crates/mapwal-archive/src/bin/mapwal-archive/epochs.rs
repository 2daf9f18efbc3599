//! `mapwal-archive rebuild-note` and `forget-epoch`: what can be done about an epoch whose note is lost.

use std::io::{self, Write};

use indicatif::BinaryBytes;
use mapwal_archive::{Archive, Error};

use crate::arguments::{ForgetEpoch, RebuildNote};
use crate::failure::{Explain, Failure, Outcome, Result, counted, shown};

pub(crate) async fn rebuild_note(arguments: &RebuildNote) -> Result<Outcome> {
    let (store, prefix) = arguments.url.open_existing()?;
    let epoch = arguments.epoch;
    match Archive::new(store, prefix).rebuild_note(epoch, arguments.begins).await {
        Err(error @ Error::Unproven { .. }) => {
            let what = "if an epoch that it continues, or the first objects of this one, can be put back, do that first; with --begins it \
                        begins with the first record that is there, and of what was before that only those records are missed that come after \
                        the end of an earlier epoch";
            Err(Failure::of_archive(&error, &arguments.url).and(what))
        }
        done => {
            done.about(&arguments.url)?;
            shown(writeln!(io::stdout(), "made again: the note of epoch {epoch}"), Outcome::Done)
        }
    }
}

pub(crate) async fn forget_epoch(arguments: &ForgetEpoch) -> Result<Outcome> {
    let (store, prefix) = arguments.url.open_existing()?;
    let epoch = arguments.epoch;
    let report = Archive::new(store, prefix).forget_epoch(epoch).await.about(&arguments.url)?;
    let (segments, parts) = (counted(report.segments, "segment", "segments"), counted(report.parts, "part", "parts"));
    let told = format!("forgotten: epoch {epoch}, {segments} and {parts}, {}", BinaryBytes(report.bytes));
    shown(writeln!(io::stdout(), "{told}"), Outcome::Done)
}
