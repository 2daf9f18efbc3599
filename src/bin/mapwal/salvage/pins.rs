//! Pins, which are not copied.

use std::path::Path;

use mapwal::inspect::Inspection;

use crate::failure::{self, Failure, Outcome, Result, counted};

/// They belong to the damaged log and its readers. The outcome is that of the copy, unless they cannot be listed, which is told.
pub(super) fn say_pins_left(inspection: &Inspection, directory: &Path, outcome: Outcome) -> Result<Outcome> {
    let pins = match inspection.pins() {
        Ok(pins) => pins,
        Err(error) => {
            let failed = Failure::of_log(&error, directory).and("all else is copied, and there may be pins").tell();
            return Ok(if outcome == Outcome::Done { failed } else { outcome });
        }
    };
    let names: Vec<_> = pins.iter().map(|pin| format!("{} at record {}", pin.name, pin.lsn)).collect();
    if names.is_empty() {
        return Ok(outcome);
    }
    let count = counted(names.len() as u64, "pin", "pins");
    let said = failure::say(&format!("{count} not copied: {}", names.join(", ")));
    said.map(|()| outcome).map_err(|failure| failure.and("the copy is complete"))
}
