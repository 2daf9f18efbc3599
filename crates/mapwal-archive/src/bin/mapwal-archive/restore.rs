//! `mapwal-archive restore`: a log is made from its archive.

use std::io::{self, Write};

use indicatif::BinaryBytes;
use mapwal_archive::{Archive, Error, RestoreOptions, RestoreProgress, RestoreReport, RestoreTo};
use serde_json::json;

use crate::arguments::{Format, Restore, To};
use crate::failure::{Failure, Outcome, Result, counted, shown};
use crate::progress;
use crate::stop::Stop;

pub(crate) async fn run(arguments: &Restore) -> Result<Outcome> {
    let (store, prefix) = arguments.url.open_existing()?;
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
    let report = restored.map_err(|error| with_advice(&error, arguments))?;
    shown(print(&report, arguments.format), Outcome::Done)
}

/// What can be restored where not all can.
fn with_advice(error: &Error, arguments: &Restore) -> Failure {
    if let Error::Gap { missing, .. } = error {
        let why = format!("{error}; --to {} restores what is before them", missing.start.0.saturating_sub(1));
        return Failure::new("records are missing", why, arguments.url.to_string()).ending_with(Outcome::Gaps);
    }
    Failure::of_archive(error, &arguments.url)
}

fn print(report: &RestoreReport, format: Format) -> io::Result<()> {
    let records = report.next_lsn.0.saturating_sub(report.first_lsn.0);
    let mut out = anstream::stdout().lock();
    match format {
        Format::Text => writeln!(
            out,
            "restored {} from {} on, in {}, {}, of epoch {}",
            counted(records, "record", "records"),
            report.first_lsn,
            counted(report.segments, "segment", "segments"),
            BinaryBytes(report.bytes),
            report.epoch
        ),
        Format::Json => writeln!(
            out,
            "{}",
            json!({
                "epoch": report.epoch,
                "first_lsn": report.first_lsn.0,
                "next_lsn": report.next_lsn.0,
                "segments": report.segments,
                "resumed": report.resumed,
                "bytes": report.bytes,
            })
        ),
    }
}
