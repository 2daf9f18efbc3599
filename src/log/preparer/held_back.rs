//! Room that is held back for what is essential: without it, a log that has filled its disk could log nothing any more that lets
//! go of what it holds.
//!
//! `docs/design/transactions.md` says what counts as essential, and why the room is enough.

use crate::error::{Error, Result};
use crate::format::position::Position;
use crate::log::Log;
use crate::log::shared::Shared;

/// The number of segments held back, beside the spare.
const HELD_BACK: usize = 1;

impl Log {
    /// Holds room back from now on.
    pub(crate) fn hold_back(&self) {
        self.shared.preparer.hold_back(HELD_BACK);
    }

    /// Called before a record that is not essential: an error if it would use what is held back.
    #[inline]
    pub(crate) fn keep_room(&self) -> Result<()> {
        if self.shared.preparer.has_spare() { Ok(()) } else { self.shared.keep_room() }
    }
}

impl Shared {
    /// Whether half of the segment that takes appends is left.
    fn has_half(&self) -> bool {
        let (segment, reserved) = self.reserved();
        Position(reserved.position).offset() <= segment.info().size / 2
    }

    #[cold]
    fn keep_room(&self) -> Result<()> {
        self.check_call()?;
        self.check_open()?;
        let (has_room, before) = (self.has_half(), self.housekeeper.count());
        match self.preparer.complete(has_room) {
            // Once more when the files are gone of segments that were dropped.
            Err(Error::NoSpace { .. }) if self.housekeeper.finish_some(before) => self.preparer.complete(has_room),
            complete => complete,
        }
    }
}
