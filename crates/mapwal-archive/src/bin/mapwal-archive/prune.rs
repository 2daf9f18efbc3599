//! `mapwal-archive prune`: the oldest records of an archive are dropped.

use std::io::Write;

use indicatif::BinaryBytes;
use mapwal::Lsn;
use mapwal_archive::Archive;
use serde_json::json;

use crate::arguments::{Format, Prune};
use crate::failure::{Explain, Outcome, Result, counted, shown};

pub(crate) async fn run(arguments: &Prune) -> Result<Outcome> {
    let (store, prefix) = arguments.url.open_existing()?;
    let report = Archive::new(store, prefix).prune(Lsn(arguments.before)).await.about(&arguments.url)?;
    let mut out = anstream::stdout().lock();
    let printed = match arguments.format {
        Format::Text => writeln!(
            out,
            "deleted {} and {}, {}; the first record is {}",
            counted(report.segments, "segment", "segments"),
            counted(report.parts, "part", "parts"),
            BinaryBytes(report.bytes),
            report.first_lsn
        ),
        Format::Json => writeln!(
            out,
            "{}",
            json!({
                "segments": report.segments,
                "parts": report.parts,
                "epochs": report.epochs,
                "bytes": report.bytes,
                "first_lsn": report.first_lsn.0,
            })
        ),
    };
    shown(printed, Outcome::Done)
}
