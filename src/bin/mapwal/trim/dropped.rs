//! Pins that are dropped for a trim: made anew if nothing comes of it.

use std::path::Path;

use mapwal::{Lsn, PinState, PinStatus};

use super::keepers;
use crate::failure::{Explain, Failure, Result, say};

/// Makes a pin as it was.
type Make<'a> = &'a dyn Fn(&PinStatus) -> mapwal::Result<()>;

/// Those that are gone.
pub(super) struct Dropped<'a> {
    directory: &'a Path,
    make: Make<'a>,
    pins: Vec<PinStatus>,
}

impl<'a> Dropped<'a> {
    pub(super) fn none(directory: &'a Path, make: Make<'a>) -> Self {
        Self { directory, make, pins: Vec::new() }
    }

    /// Drops those that keep records before `before`, or none.
    pub(super) fn drop_all(
        &mut self,
        pins: &[PinStatus],
        before: Lsn,
        drop: &dyn Fn(&str) -> mapwal::Result<()>,
    ) -> Result<()> {
        for pin in keepers(pins, before) {
            if let Err(failure) = drop(&pin.name).about(self.directory) {
                self.restore();
                return Err(failure);
            }
            self.pins.push(pin.clone());
        }
        Ok(())
    }

    /// Makes them anew. One that is not to be had back is told.
    pub(super) fn restore(&mut self) {
        for pin in self.pins.drain(..) {
            let why = match pin.state {
                PinState::Damaged => "it was damaged".to_owned(),
                _ => match (self.make)(&pin) {
                    Ok(()) => continue,
                    Err(error) => error.to_string(),
                },
            };
            let what = format!("pin {} dropped, which kept record {} and all after it", pin.name, pin.lsn);
            Failure::new(what, format!("and not made anew, {why}"), self.directory).tell();
        }
    }

    /// Says which are gone.
    pub(super) fn say(&self) -> Result<()> {
        self.pins.iter().try_for_each(|pin| {
            say(&format!("pin {} dropped, which kept record {} and all after it", pin.name, pin.lsn))
        })
    }
}
