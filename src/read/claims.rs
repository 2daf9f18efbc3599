//! What frames say of what was durable, for a reader whose control page does not, or is older than they are.

use super::scan::{ScanItem, SegmentScan};
use crate::error::{Error, Result};
use crate::format::name;
use crate::format::position::Position;
use crate::storage::Storage;

/// What they say, as far as it has been looked for.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// The largest claim found, when a segment of this number was the newest that there was.
    found: Option<(u64, Position)>,
}

impl Claims {
    /// The largest claim found.
    pub(super) fn largest(&self) -> Position {
        self.found.map_or(Position::ZERO, |(_, largest)| largest)
    }

    /// Looks for the largest claim in the segments of these numbers, newest first, unless that has been done since the newest came.
    pub(super) fn hear(
        &mut self,
        storage: &dyn Storage,
        numbers: impl Iterator<Item = u64> + Clone,
    ) -> Result<Position> {
        let newest = numbers.clone().next().unwrap_or(0);
        if self.found.is_none_or(|(number, _)| number != newest) {
            self.found = Some((newest, largest(storage, numbers)?));
        }
        Ok(self.largest())
    }
}

/// The largest claim in the newest segment in which an intact frame makes one, wherever it is: later frames claim more. Zero if
/// there is none.
fn largest(storage: &dyn Storage, numbers: impl Iterator<Item = u64>) -> Result<Position> {
    for number in numbers {
        let claim = largest_in(storage, number)?;
        if claim > Position::ZERO {
            return Ok(claim);
        }
    }
    Ok(Position::ZERO)
}

fn largest_in(storage: &dyn Storage, number: u64) -> Result<Position> {
    let name = name::segment(number);
    let mut scan = match SegmentScan::open_in(storage, &name, &storage.path().join(&name)) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Position::ZERO),
        opened => opened?,
    };
    let mut largest = Position::ZERO;
    while let Some(piece) = scan.next()? {
        if let ScanItem::Frame(frame) = piece {
            let claim = frame.frame().durable_then(Position::new(number, frame.offset()));
            largest = largest.max(claim.unwrap_or(Position::ZERO));
        }
    }
    Ok(largest)
}
