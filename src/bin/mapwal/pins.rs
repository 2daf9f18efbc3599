//! `mapwal pins`: named pins, listed or changed.

use std::io::Write;
use std::path::Path;
use std::str::FromStr;

use anstyle::Style;
use indicatif::{BinaryBytes, HumanCount};
use mapwal::inspect::Inspection;
use mapwal::{Error, Lsn, PinDirectory, PinState, PinStatus};
use serde_json::{Value, json};

use crate::arguments::{PinChange, Pins, ReportFormat};
use crate::failure::{Explain, Failure, Outcome, Result, Written, describe, say};
use crate::fit::{self, Column};
use crate::{json, open};

/// The first record that a pin keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PinFrom {
    Oldest,
    Now,
    Record(Lsn),
}

impl FromStr for PinFrom {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "oldest" => Ok(Self::Oldest),
            "now" => Ok(Self::Now),
            number => {
                let number =
                    number.parse().map_err(|_| "this is neither the number of a record, nor `oldest`, nor `now`")?;
                Ok(Self::Record(Lsn(number)))
            }
        }
    }
}

pub(crate) fn run(arguments: &Pins) -> Result<Outcome> {
    let directory = &*arguments.directory;
    match &arguments.change {
        None => list(directory, arguments.format)?,
        Some(_) if arguments.format != ReportFormat::Text => {
            return Err(Failure::usage("--format is for the list of pins"));
        }
        Some(change) => apply(directory, change)?,
    }
    Ok(Outcome::Done)
}

/// Changes a pin, whether a process writes to the log or not.
fn apply(directory: &Path, change: &PinChange) -> Result<()> {
    let pins = PinDirectory::open(directory).about(directory)?;
    match change {
        PinChange::Add { name, from, limit, no_limit, owner } => {
            let limit_at = |lsn| match limit {
                _ if *no_limit => Ok(None),
                Some(limit) => Ok(Some(*limit)),
                None => default_limit(directory, lsn).map(Some),
            };
            let (lsn, limit) = add(&pins, directory, (name, owner), *from, limit_at)?;
            let most =
                limit.map_or("whatever space that takes".to_owned(), |limit| format!("up to {}", BinaryBytes(limit)));
            say(&format!("{name} keeps records from {lsn} on, {most}{}", passed(&pins, name)))
                .map_err(|failure| failure.and(&format!("pin {name} is made")))
        }
        PinChange::Advance { name, lsn } => advance(&pins, directory, name, Lsn(*lsn)),
        PinChange::Drop { name } => pins.remove(name).about(directory),
    }
}

/// Moves a pin forward. Where its reader has moved it further meanwhile, that is no step back.
fn advance(pins: &PinDirectory, directory: &Path, name: &str, lsn: Lsn) -> Result<()> {
    let place = |pins: Vec<PinStatus>| pins.into_iter().find(|pin| pin.name == name).map(|pin| pin.lsn);
    match place(pins.list().about(directory)?) {
        Some(there) if there > lsn => {
            let why = format!("{name} keeps records from {there} on, and pins are moved forward only");
            return Err(Failure::new("refused", why, directory));
        }
        _ => pins.advance(name, lsn).about(directory)?,
    }
    say(&format!("{name} keeps records from {lsn} on{}", passed(pins, name)))
        .map_err(|failure| failure.and(&format!("pin {name} is moved")))
}

/// What is to be said of a pin that holds back more than its limit.
fn passed(pins: &PinDirectory, name: &str) -> String {
    let pins = pins.list().unwrap_or_default();
    match pins.iter().find(|pin| pin.name == name && pin.state == PinState::Extended) {
        None => String::new(),
        Some(pin) => {
            let held = BinaryBytes(pin.retained_bytes);
            format!("; it holds back {held} already, which is more: the next trim may take them")
        }
    }
}

/// Adds a pin, with the limit that is right for its record; the first record that it keeps, and its limit.
fn add(
    pins: &PinDirectory,
    directory: &Path,
    (name, owner): (&str, &str),
    from: PinFrom,
    limit_at: impl Fn(Lsn) -> Result<Option<u64>>,
) -> Result<(Lsn, Option<u64>)> {
    let mut looks = 0;
    loop {
        let lsn = first_of(directory, from)?;
        let limit = limit_at(lsn)?;
        looks += 1;
        match pins.create(name, owner, lsn, limit) {
            // What was the oldest record has been trimmed before the pin was there.
            Err(Error::Trimmed { .. }) if !matches!(from, PinFrom::Record(_)) && looks < open::LOOKS_MAX => {}
            created => return created.about(directory).map(|()| (lsn, limit)),
        }
    }
}

/// The record that `from` means at this moment.
fn first_of(directory: &Path, from: PinFrom) -> Result<Lsn> {
    match from {
        PinFrom::Oldest => {
            let reader = open::reader(directory, false)?;
            open::again(|| reader.first_lsn()).about(directory)
        }
        PinFrom::Now => next_lsn(directory),
        PinFrom::Record(lsn) => Ok(lsn),
    }
}

/// What a pin at record `lsn` may hold back: what it holds back already, and half of what is free, so that one that is
/// forgotten does not fill the disk.
pub(crate) fn default_limit(directory: &Path, lsn: Lsn) -> Result<u64> {
    let inspection = Inspection::open(directory).about(directory)?;
    let counting: Vec<_> = inspection.segments().iter().filter(|file| file.counts).collect();
    let before = counting.partition_point(|file| file.first_lsn.is_some_and(|first| first <= lsn));
    let held: u64 = counting[before.saturating_sub(1)..].iter().map(|file| file.file_len_bytes).sum();
    let disk = rustix::fs::statvfs(directory)
        .map_err(|error| Failure::new("cannot look at the disk", describe(&error.into()), directory))?;
    Ok(held.saturating_add(disk.f_bavail.saturating_mul(disk.f_frsize) / 2))
}

fn list(directory: &Path, format: ReportFormat) -> Result<()> {
    let inspection = Inspection::open(directory).about(directory)?;
    let pins = inspection.pins().about(directory)?;
    // Of a damaged log, pins are shown all the same.
    let next = next_lsn(directory).ok();
    let mut out = anstream::stdout().lock();
    let written = match format {
        ReportFormat::Text if pins.is_empty() => Ok(()),
        ReportFormat::Text => write_table(&mut out, &pins, next),
        ReportFormat::Json => {
            let pins: Vec<Value> = pins.iter().map(|pin| json_of(pin, next)).collect();
            let next = next.map(|next| next.0);
            let directory = directory.display().to_string();
            json::write(&mut out, "pins", &json!({ "directory": directory, "next_lsn": next, "pins": pins }))
        }
    };
    written.and_then(|()| out.flush()).written()
}

/// For machines.
pub(crate) fn json_of(pin: &PinStatus, next: Option<Lsn>) -> Value {
    json!({
        "name": pin.name,
        "owner": pin.owner,
        "lsn": pin.lsn.0,
        "state": state_name(pin.state),
        "lag_records": next.map(|next| lag(pin, next)),
        "retained_bytes": pin.retained_bytes,
        "limit_bytes": pin.limit_bytes,
    })
}

/// The number of the next record.
fn next_lsn(directory: &Path) -> Result<Lsn> {
    let reader = open::reader(directory, false)?;
    Ok(open::again(|| reader.published_lsn()).about(directory)?.next())
}

const TABLE: [Column; 6] = [
    Column::left("PIN", 24),
    Column::right("LSN", 20),
    Column::left("STATE", 8),
    Column::right("LAG", 14),
    Column::right("HOLDS", 11),
    Column::left("OWNER", 0),
];

pub(crate) fn write_table(out: &mut impl Write, pins: &[PinStatus], next: Option<Lsn>) -> std::io::Result<()> {
    let rows = pins.iter().map(|pin| {
        let lag = next.map_or("-".to_owned(), |next| HumanCount(lag(pin, next)).to_string());
        let held = BinaryBytes(pin.retained_bytes).to_string();
        let (state, owner) = (state_name(pin.state).to_owned(), pin.owner.escape_debug().to_string());
        [pin.name.clone(), pin.lsn.to_string(), state, lag, held, owner].map(|text| (text, Style::new())).to_vec()
    });
    fit::write_table(out, &TABLE, &rows.collect::<Vec<_>>(), fit::columns())
}

/// Records from the pin's on.
pub(crate) fn lag(pin: &PinStatus, next: Lsn) -> u64 {
    next.0.saturating_sub(pin.lsn.0)
}

pub(crate) fn state_name(state: PinState) -> &'static str {
    match state {
        PinState::Reserved => "reserved",
        PinState::Extended => "extended",
        PinState::Lost => "lost",
        PinState::Damaged => "damaged",
        _ => "unknown",
    }
}
