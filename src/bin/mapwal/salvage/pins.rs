//! Pins, which are not copied.

use mapwal::inspect::Inspection;

use crate::failure::{self, Result, counted};

/// They belong to the damaged log and its readers.
pub(super) fn say_pins_left(inspection: &Inspection) -> Result<()> {
    // Where they cannot be read, `pins` tells why.
    let pins = inspection.pins().unwrap_or_default();
    let names: Vec<_> = pins.iter().map(|pin| format!("{} at record {}", pin.name, pin.lsn)).collect();
    if names.is_empty() {
        return Ok(());
    }
    let count = counted(names.len() as u64, "pin", "pins");
    failure::say(&format!("{count} not copied: {}", names.join(", ")))
}
