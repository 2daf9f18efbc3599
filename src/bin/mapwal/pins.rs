//! `mapwal pins`: named pins, listed or changed.

use std::io::Write;
use std::path::Path;

use indicatif::{BinaryBytes, HumanCount};
use mapwal::{Inspection, Lsn, Options, PinState, PinStatus};

use crate::arguments::{PinChange, Pins};
use crate::failure::{Explain, Outcome, Result, Written};
use crate::open;

pub(crate) fn run(arguments: &Pins) -> Result<Outcome> {
    let directory = &*arguments.directory;
    match &arguments.change {
        None => list(directory)?,
        Some(change) => apply(directory, change)?,
    }
    Ok(Outcome::Done)
}

/// Changes a pin, with the log open for writing, so that no trim comes in between.
fn apply(directory: &Path, change: &PinChange) -> Result<()> {
    let log = open::writer(directory, &Options::new().create(false))?;
    match change {
        PinChange::Add { name, lsn } => log.create_pin(name, "mapwal pins", Lsn(*lsn), None),
        PinChange::Drop { name } => log.drop_pin(name),
    }
    .about(directory)?;
    log.close().about(directory)
}

fn list(directory: &Path) -> Result<()> {
    let inspection = Inspection::open(directory).about(directory)?;
    let pins = inspection.pins().about(directory)?;
    // Of a damaged log, pins are shown all the same.
    let next = next_lsn(directory).ok();
    let mut out = anstream::stdout().lock();
    if !pins.is_empty() {
        write_table(&mut out, &pins, next).and_then(|()| out.flush()).written()?;
    }
    Ok(())
}

/// The number of the next record.
fn next_lsn(directory: &Path) -> Result<Lsn> {
    Ok(open::reader(directory)?.published_lsn().about(directory)?.next())
}

pub(crate) fn write_table(out: &mut impl Write, pins: &[PinStatus], next: Option<Lsn>) -> std::io::Result<()> {
    writeln!(out, "{:<24}  {:>20}  {:<8}  {:>14}  {:>11}  OWNER", "PIN", "LSN", "STATE", "LAG", "HOLDS")?;
    for pin in pins {
        let lag = next.map_or("-".to_owned(), |next| HumanCount(lag(pin, next)).to_string());
        let held = BinaryBytes(pin.retained_bytes).to_string();
        let (name, lsn, state) = (&pin.name, pin.lsn.to_string(), state_name(pin.state));
        writeln!(out, "{name:<24}  {lsn:>20}  {state:<8}  {lag:>14}  {held:>11}  {}", pin.owner.escape_debug())?;
    }
    Ok(())
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
